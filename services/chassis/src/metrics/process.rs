//! The process' own metrics, under the names every Prometheus client uses, read from `/proc` when scraped.

use prometheus::{
    Gauge,
    core::{Collector, Desc},
    proto::MetricFamily,
};

/// What `/proc` counts processor time in, on every Linux that Rust runs on (`USER_HZ`).
const TICKS_PER_SECOND: f64 = 100.0;

/// Processor time, memory, threads and file descriptors of this process.
pub(super) struct ProcessCollector {
    cpu: prometheus::Counter,
    resident: Gauge,
    threads: Gauge,
    open_fds: Gauge,
    max_fds: Gauge,
    start: Gauge,
}

impl ProcessCollector {
    pub(super) fn new() -> Result<Self, prometheus::Error> {
        Ok(Self {
            cpu: prometheus::Counter::new("process_cpu_seconds_total", "Processor time used, in seconds.")?,
            resident: Gauge::new("process_resident_memory_bytes", "Memory in use, in bytes.")?,
            threads: Gauge::new("process_threads", "Threads.")?,
            open_fds: Gauge::new("process_open_fds", "Open file descriptors.")?,
            max_fds: Gauge::new("process_max_fds", "File descriptors at most.")?,
            start: Gauge::new(
                "process_start_time_seconds",
                "When the process started, since 1970.",
            )?,
        })
    }

    fn refresh(&self) {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let stat = Stat::parse(&read("/proc/self/stat"));
        self.cpu
            .inc_by((stat.cpu_ticks / TICKS_PER_SECOND - self.cpu.get()).max(0.0));
        self.threads.set(stat.threads);
        let boot = number_after(&read("/proc/stat"), "btime");
        self.start.set(boot + stat.start_ticks / TICKS_PER_SECOND);
        self.resident
            .set(number_after(&read("/proc/self/status"), "VmRSS:") * 1024.0);
        self.max_fds
            .set(number_after(&read("/proc/self/limits"), "Max open files"));
        if let Ok(entries) = std::fs::read_dir("/proc/self/fd") {
            // One of them is the directory being read.
            let open = u32::try_from(entries.count().saturating_sub(1)).unwrap_or(u32::MAX);
            self.open_fds.set(f64::from(open));
        }
    }
}

impl Collector for ProcessCollector {
    fn desc(&self) -> Vec<&Desc> {
        let gauges = [
            &self.resident,
            &self.threads,
            &self.open_fds,
            &self.max_fds,
            &self.start,
        ];
        self.cpu
            .desc()
            .into_iter()
            .chain(gauges.into_iter().flat_map(Collector::desc))
            .collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.refresh();
        let gauges = [
            &self.resident,
            &self.threads,
            &self.open_fds,
            &self.max_fds,
            &self.start,
        ];
        self.cpu
            .collect()
            .into_iter()
            .chain(gauges.into_iter().flat_map(Collector::collect))
            .collect()
    }
}

#[derive(Debug, Default, PartialEq)]
struct Stat {
    cpu_ticks: f64,
    threads: f64,
    start_ticks: f64,
}

impl Stat {
    /// Reads `/proc/[pid]/stat`. The process' name, in parentheses, may hold anything; fields are counted after it.
    fn parse(text: &str) -> Self {
        let Some((_, rest)) = text.rsplit_once(')') else {
            return Self::default();
        };
        let fields: Vec<&str> = rest.split_whitespace().collect();
        // proc(5) numbers fields from 1, and the first after the name is the third.
        let field = |number: usize| {
            fields
                .get(number - 3)
                .and_then(|text| text.parse().ok())
                .unwrap_or(0.0)
        };
        Self {
            cpu_ticks: field(14) + field(15),
            threads: field(20),
            start_ticks: field(22),
        }
    }
}

fn number_after(text: &str, name: &str) -> f64 {
    text.lines()
        .find_map(|line| line.strip_prefix(name))
        .and_then(|rest| rest.split_whitespace().next())
        .and_then(|number| number.parse().ok())
        .unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_with_a_mean_name() {
        let text =
            "42 (a) b (c) S 1 42 42 0 -1 4194560 1 2 3 4 150 50 7 8 20 0 9 0 1234 100000 200 1844 1 1 0 0";
        assert_eq!(
            Stat::parse(text),
            Stat {
                cpu_ticks: 200.0,
                threads: 9.0,
                start_ticks: 1234.0
            }
        );
        assert_eq!(Stat::parse(""), Stat::default());
    }

    #[test]
    fn this_process_is_seen() {
        let collector = ProcessCollector::new().unwrap();
        collector.collect();
        assert!(collector.resident.get() > 100_000.0);
        assert!(collector.open_fds.get() >= 1.0);
        assert!(collector.max_fds.get() >= collector.open_fds.get());
        assert!(collector.start.get() > 1_500_000_000.0);
        assert!(collector.threads.get() >= 1.0);
    }
}

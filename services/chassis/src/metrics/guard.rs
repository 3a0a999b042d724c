//! Gauges that cannot drift: what they count is held by a guard, and given back when it is dropped, also by a task
//! that is cancelled or panics.

use prometheus::IntGauge;

/// Counts one (or some) in a gauge for as long as it lives.
#[derive(Debug)]
#[must_use = "dropping the guard takes its count back"]
pub struct GaugeGuard {
    gauge: IntGauge,
    count: i64,
}

impl GaugeGuard {
    /// Counts one.
    pub fn new(gauge: &IntGauge) -> Self {
        Self::by(gauge, 1)
    }

    /// Counts as much as `count`, such as bytes.
    pub fn by(gauge: &IntGauge, count: i64) -> Self {
        gauge.add(count);
        Self {
            gauge: gauge.clone(),
            count,
        }
    }

    /// Changes how much it counts.
    pub fn set(&mut self, count: i64) {
        self.gauge.add(count - self.count);
        self.count = count;
    }
}

impl Drop for GaugeGuard {
    fn drop(&mut self) {
        self.gauge.sub(self.count);
    }
}

//! How much waits in all queues: seen by who fills them, so that it is seen when no dispatcher lives.

use std::{sync::Arc, time::Duration};

use carillon_broker::Inspection;
use carillon_model::PartitionCount;
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::{IngestMetrics, IngestSettings};

/// How often the queues are looked at.
const EVERY: Duration = Duration::from_secs(5);

/// Looks at the queues for as long as it is polled. While the broker does not answer, what was seen last stands.
pub async fn watch_backlog(
    inspection: Arc<dyn Inspection>,
    partitions: PartitionCount,
    settings: IngestSettings,
    metrics: IngestMetrics,
) {
    let partitions: Vec<_> = partitions.partitions().collect();
    metrics.queue_limit(settings.queue_entries);
    let mut every = interval(EVERY);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        every.tick().await;
        match timeout(settings.write_timeout, inspection.backlogs(&partitions)).await {
            Ok(Ok(backlogs)) => metrics.backlogs(&backlogs),
            Ok(Err(error)) => tracing::debug!(%error, "could not look at the queues"),
            Err(_) => tracing::debug!("a look at the queues took too long"),
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use carillon_broker::{
        Append, AppendOutcome, MemoryBroker, NewMessage, Queue as _, memory::MemoryOptions,
    };
    use carillon_chassis::metrics::Metrics;
    use carillon_model::{Offset, Partition, Room};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_waits_is_seen_with_nobody_to_work_it_off() {
        let partitions = PartitionCount::new(4).unwrap();
        let broker = Arc::new(MemoryBroker::new(MemoryOptions::new(
            partitions,
            1_700_000_000_000,
        )));
        let metrics = Metrics::new().unwrap();
        let ingest = IngestMetrics::new(&metrics).unwrap();
        for (partition, count) in [(1, 3), (2, 1)] {
            let message = NewMessage {
                entries: vec![(Room::all(), Bytes::from_static(b"entry")); count],
                idempotency: None,
            };
            let append = Append {
                partition: Partition(partition),
                messages: vec![message],
                known: Offset::ZERO,
                queue_limit: 100,
                keep_keys: Duration::from_secs(1),
            };
            let outcome = broker.append(append).await.unwrap();
            assert!(matches!(outcome, AppendOutcome::Appended(_)), "{outcome:?}");
        }
        let watch = watch_backlog(broker, partitions, IngestSettings::default(), ingest);
        // Until after its third look.
        let over = timeout(Duration::from_secs(12), watch).await;
        assert!(over.is_err(), "it looks for ever");
        let text = metrics.encode().unwrap();
        for line in [
            "carillon_ingest_queue_entries 4",
            "carillon_ingest_queue_longest_entries 3",
        ] {
            assert!(text.contains(&format!("{line}\n")), "{line}\n{text}");
        }
        let limit = IngestSettings::default().queue_entries;
        assert!(
            text.contains(&format!("carillon_ingest_queue_limit_entries {limit}\n")),
            "{text}"
        );
        assert!(!text.contains("carillon_ingest_queue_age_seconds 0\n"), "{text}");
    }
}

//! Probes: does the whole path work?
//!
//! Every few seconds one message goes through one of this dispatcher's partitions, in turn, to all gateways. A gateway
//! whose probes are missing while others' arrive is unready. The probe names the partitions that make progress.

use std::sync::Arc;

use carillon_broker::{Append, AppendOutcome, Incarnation, NewMessage};
use carillon_model::{Partition, Room, wire};
use prost::Message as _;
use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval},
};
use tracing::debug;

use crate::{lives::Seen, shared::Shared};

/// Sends probes, for ever.
pub(crate) async fn send_probes(
    shared: Arc<Shared>,
    standing: watch::Receiver<Option<Incarnation>>,
    lives: watch::Receiver<Seen>,
) {
    let mut every = interval(shared.settings.probe_every);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut number = 0;
    let mut last: Option<Partition> = None;
    loop {
        every.tick().await;
        let owned = shared.board.owned();
        let next = owned
            .iter()
            .find(|partition| Some(**partition) > last)
            .or(owned.first());
        let Some(partition) = next.copied() else { continue };
        let Some(incarnation) = standing.borrow().clone() else {
            continue;
        };
        let up_since = lives.borrow().up_since;
        let stuck = shared.board.stuck(up_since, shared.settings.stuck_after);
        last = Some(partition);
        number += 1;
        let probe = wire::Probe {
            partitions: owned
                .iter()
                .filter(|partition| !stuck.contains(partition))
                .map(|partition| u32::from(partition.0))
                .collect(),
            dispatcher: incarnation.as_str().to_owned(),
            number,
        };
        let what = if send(&shared, partition, probe).await {
            "sent"
        } else {
            "failed"
        };
        shared.metrics.probes.with_label_values(&[what]).inc();
    }
}

async fn send(shared: &Shared, partition: Partition, probe: wire::Probe) -> bool {
    let entry = wire::QueueEntry::of_probe(probe).encode_to_vec();
    let append = Append {
        partition,
        messages: vec![NewMessage {
            // A probe goes to no room: it is for every gateway, and its entry says so. Nobody misses one that is lost.
            entries: vec![(
                Room::of_session("probe").unwrap_or_else(|_| Room::all()),
                entry.into(),
            )],
            idempotency: None,
        }],
        known: shared.known.of(partition),
        queue_limit: shared.settings.queue_entries,
        keep_keys: shared.settings.keep_keys,
    };
    match shared.call("append", shared.broker.append(append)).await {
        Ok(AppendOutcome::Appended(placed)) => {
            if let Some(offset) = placed.first().and_then(|placed| placed.offsets.first()) {
                shared.known.saw(partition, *offset);
            }
            true
        }
        Ok(outcome) => {
            debug!(%partition, ?outcome, "a probe was not taken");
            false
        }
        Err(error) => {
            debug!(%partition, %error, "a probe could not be sent");
            false
        }
    }
}

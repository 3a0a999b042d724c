//! What failovers and restarts dropped: the log is fed by appends and by looks at the servers, and markers are written by a
//! task of their own.

use std::{
    sync::{Arc, Weak, atomic::Ordering},
    time::Duration,
};

use async_trait::async_trait;
use carillon_model::{Offset, Partition, wire::QueueEntry};
use prost::Message as _;

use super::{RedisBroker, Shared, call::Call, reply, scripts};
use crate::{
    BrokerError, Life, Result,
    losses::{GapAppend, GapOutcome, GapQueue, Lineage, Raise, ReplicationState, Settled},
};

/// Between two tries to write markers, at first and at most.
const PAUSES: [Duration; 2] = [Duration::from_millis(20), Duration::from_secs(2)];

impl RedisBroker {
    /// The server of a partition was seen, with this identity and these replicas. Whoever looks at servers says so, each
    /// second: a change may have dropped what this process confirmed, and what all replicas have need not be remembered.
    pub fn observed(&self, partition: Partition, life: &Life, replication: Option<&ReplicationState>) {
        if self.shared.losses.observed(partition, life, replication) {
            self.settle_losses();
        }
    }

    /// How many appends are remembered because not every replica has them.
    pub fn remembered_appends(&self) -> usize {
        self.shared.losses.remembered()
    }

    /// Writes the markers that are owed, in the background, until they are written.
    pub(super) fn settle_losses(&self) {
        if self.shared.losses.unsettled().is_empty() || self.shared.settling.swap(true, Ordering::AcqRel) {
            return;
        }
        tokio::spawn(settle(Arc::downgrade(&self.shared)));
    }
}

/// Ends when nothing is owed, or with the broker.
async fn settle(shared: Weak<Shared>) {
    let [mut pause, longest] = PAUSES;
    loop {
        let Some(shared) = shared.upgrade() else { return };
        let broker = RedisBroker { shared };
        let mut failed = false;
        for partition in broker.shared.losses.unsettled() {
            match broker.shared.losses.settle(partition, &broker).await {
                Ok(Settled::Done) => {}
                Ok(Settled::Again) => failed = true,
                Err(error) => {
                    tracing::debug!(%partition, %error, "gaps could not be marked; trying again");
                    failed = true;
                }
            }
        }
        if !failed {
            broker.shared.settling.store(false, Ordering::Release);
            // What came between the last look and the store has seen a task that was about to end.
            if broker.shared.losses.unsettled().is_empty()
                || broker.shared.settling.swap(true, Ordering::AcqRel)
            {
                return;
            }
            continue;
        }
        drop(broker);
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(longest);
    }
}

#[async_trait]
impl GapQueue for RedisBroker {
    async fn lineage(&self, partition: Partition, known: Offset) -> Result<Lineage> {
        let names = [self.keys().queue(partition), self.keys().run(partition)];
        let call = Call::script(&scripts::LINEAGE, &names).arg(known.to_string());
        let [life, position, raises, forgotten] = reply::tuple(self.call(call).await?)?;
        Ok(Lineage {
            life: Life(reply::text(life)?.into()),
            position: reply::unsigned(position)?,
            raises: raises_of(&reply::text(raises)?)?,
            whole: reply::number(forgotten)? == 0,
        })
    }

    async fn append_gaps(&self, append: GapAppend) -> Result<GapOutcome> {
        let partition = append.partition;
        let names = [self.keys().queue(partition), self.keys().run(partition)];
        let mut call = Call::script(&scripts::APPEND_GAPS, &names)
            .arg(&*append.life.0)
            .arg(u8::from(append.partition_gap));
        for (room, gap) in &append.rooms {
            call = call.arg(QueueEntry::of_gap(room, *gap).encode_to_vec());
        }
        if append.partition_gap {
            call = call.arg(QueueEntry::of_partition_gap().encode_to_vec());
        }
        let Some(answer) = reply::present(self.call(call).await?) else {
            return Ok(GapOutcome::LifeChanged);
        };
        let [position, ids] = reply::tuple(answer)?;
        let offsets = reply::array(ids)?.into_iter().map(reply::offset);
        Ok(GapOutcome::Written {
            position: reply::unsigned(position)?,
            offsets: offsets.collect::<Result<_>>()?,
        })
    }
}

/// `life before raised`, one in a line, oldest first.
fn raises_of(text: &str) -> Result<Vec<Raise>> {
    let raise = |line: &str| {
        let mut parts = line.split(' ');
        Some(Raise {
            life: Life(parts.next()?.into()),
            before: parts.next()?.parse().ok()?,
            raised: parts.next()?.parse().ok()?,
        })
    };
    let raises = text.lines().map(|line| {
        raise(line).ok_or_else(|| BrokerError::Corrupt(format!("`{line}` is no raise of offsets")))
    });
    raises.collect()
}

//! Where the gateway stands: its incarnation, and the lives of the servers it reads from.
//!
//! A route, a read and a join belong to an [`Epoch`]. When the incarnation or the life of the partition's server
//! changed meanwhile, they are worth nothing and start over.

use std::sync::Arc;

use carillon_broker::{Incarnation, Life, Lives};
use carillon_model::Partition;
use tokio::sync::watch;

/// One incarnation of this gateway reading from one life of a partition's server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Epoch {
    incarnation: u64,
    life: u64,
}

/// The present state.
#[derive(Clone, Debug)]
pub(super) struct View {
    pub(super) incarnation: Incarnation,
    incarnations: u64,
    partitions: Vec<(Life, u64)>,
    channel: Option<Life>,
}

impl View {
    /// The epoch of a partition.
    pub(super) fn epoch(&self, partition: Partition) -> Epoch {
        let life = self
            .partitions
            .get(partition.index())
            .map_or(0, |(_, changes)| *changes);
        Epoch {
            incarnation: self.incarnations,
            life,
        }
    }

    /// The life of a partition's server, as far as is known.
    pub(super) fn life(&self, partition: Partition) -> Option<&Life> {
        self.partitions.get(partition.index()).map(|(life, _)| life)
    }

    /// The life of the channel's server, as far as is known.
    pub(super) fn channel_life(&self) -> Option<&Life> {
        self.channel.as_ref()
    }
}

/// What a look at the servers found changed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Changes {
    /// Partitions whose server has another life.
    pub(super) partitions: Vec<Partition>,
    /// Whether the channel's server has.
    pub(super) channel: bool,
}

/// The state, shared by the tasks of a gateway.
#[derive(Clone, Debug)]
pub(super) struct Standing(Arc<watch::Sender<Arc<View>>>);

impl Standing {
    /// The lives must be known before the first route is added, or a failover just after it would go unseen.
    pub(super) fn new(incarnation: Incarnation, lives: &Lives) -> Self {
        let partitions = lives.partitions.iter().map(|life| (life.clone(), 0)).collect();
        let view = View {
            incarnation,
            incarnations: 0,
            partitions,
            channel: lives.channel.clone(),
        };
        Self(Arc::new(watch::Sender::new(Arc::new(view))))
    }

    pub(super) fn view(&self) -> Arc<View> {
        Arc::clone(&self.0.borrow())
    }

    /// Wakes when anything changed.
    pub(super) fn watch(&self) -> watch::Receiver<Arc<View>> {
        self.0.subscribe()
    }

    /// Another incarnation: every epoch is over.
    pub(super) fn reincarnate(&self, incarnation: Incarnation, channel: Option<Life>) {
        self.0.send_modify(|view| {
            let mut next = View::clone(view);
            next.incarnation = incarnation;
            next.incarnations += 1;
            next.channel = channel;
            *view = Arc::new(next);
        });
    }

    /// Compares the servers' lives with those known; the epochs of changed partitions are over.
    pub(super) fn observe(&self, lives: &Lives) -> Changes {
        let view = self.view();
        let mut changes = Changes::default();
        let mut next = View::clone(&view);
        for (index, life) in lives.partitions.iter().enumerate() {
            if let Some((known, count)) = next.partitions.get_mut(index)
                && known != life
            {
                known.clone_from(life);
                *count += 1;
                changes
                    .partitions
                    .extend(u16::try_from(index).ok().map(Partition));
            }
        }
        if let Some(life) = &lives.channel {
            changes.channel = next.channel.as_ref().is_some_and(|known| known != life);
            next.channel = Some(life.clone());
        }
        if changes != Changes::default() {
            self.0.send_replace(Arc::new(next));
        }
        changes
    }
}

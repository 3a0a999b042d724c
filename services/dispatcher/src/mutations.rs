//! Switches for tests that prove a rule is needed: each takes one rule of DESIGN §5 away.
//!
//! The simulator turns one on and must find what it breaks. All are off in every service. Two of them need what no
//! broker offers, because nobody should have it; the simulator brings that itself, as [`Sabotage`].

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use carillon_broker::{Incarnation, Result};
use carillon_model::{Offset, Partition, Room};

/// Which rules of the dispatcher are broken on purpose.
#[derive(Clone, Default)]
pub struct DispatcherMutations {
    /// Routes are read in a call of their own, before history is written: a join in between is missed.
    pub routes_before_history: Option<Arc<dyn Sabotage>>,
    /// Reading consumes: after a failed batch the next one is read, as a consumer group would give it.
    pub consuming_read: bool,
    /// A batch is trimmed before the channels hold it.
    pub trim_before_channels: bool,
    /// Trimming checks neither token nor life, and is repeated until it is answered.
    pub unfenced_trim: Option<Arc<dyn Sabotage>>,
    /// That a channel is parked is known to its owner alone.
    pub park_in_memory: bool,
    /// That a channel is parked is written down after the batch it did not get was acknowledged.
    pub mark_after_trim: bool,
    /// What was read in an earlier lease, or before a re-read, still counts as the room's message before.
    pub keep_prev_over_lease: bool,
}

impl fmt::Debug for DispatcherMutations {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("DispatcherMutations")
            .field("routes_before_history", &self.routes_before_history.is_some())
            .field("consuming_read", &self.consuming_read)
            .field("trim_before_channels", &self.trim_before_channels)
            .field("unfenced_trim", &self.unfenced_trim.is_some())
            .field("park_in_memory", &self.park_in_memory)
            .field("mark_after_trim", &self.mark_after_trim)
            .field("keep_prev_over_lease", &self.keep_prev_over_lease)
            .finish()
    }
}

/// What a broken dispatcher would need of a broker.
#[async_trait]
pub trait Sabotage: Send + Sync {
    /// Reads the routes of rooms, outside the step that records.
    async fn read_routes(
        &self,
        partition: Partition,
        rooms: &[Room],
    ) -> Result<Vec<(Room, Arc<[Incarnation]>)>>;

    /// Trims a queue, whoever owns it.
    async fn trim_unfenced(&self, partition: Partition, upto: Offset) -> Result<()>;
}

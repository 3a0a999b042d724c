//! The dispatcher: works off the queues of the partitions (DESIGN §5).
//!
//! Several dispatchers share the partitions; each partition has one owner at a time. Follow a message:
//! - `leases` decides which partitions this process should own and keeps a task for each (`tenure`);
//! - `partition` is the owner: it reads its queue from the head, records each batch into the rooms' histories, appends
//!   the frames to the channels of the gateways that hold a target, and trims;
//! - `lists` is another door into the queues, for old producers;
//! - `membership`, `lives`, `probes` and `progress` are what keeps all of it honest; `backlog` says how much waits.
//!
//! Nothing here remembers what it has done: after any failure the owner begins again at the head of its queue.

mod backlog;
mod confirmers;
mod dispatcher;
mod leases;
mod lists;
mod lives;
mod membership;
mod metrics;
mod mutations;
mod partition;
mod patience;
mod probes;
mod progress;
mod rendezvous;
mod settings;
mod shared;
mod status;
mod tenure;

pub use dispatcher::{Dispatcher, DispatcherParts};
pub use metrics::DispatcherMetrics;
pub use mutations::{DispatcherMutations, Sabotage};
pub use settings::DispatcherSettings;
pub use status::DispatcherStatus;

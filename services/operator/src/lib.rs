//! The operator: turns custom resources into the policy in force, and says who applies it.
//!
//! A chart renders the workloads; this does what a chart can't (DESIGN §12). Reading it in the order of a round:
//!
//! 1. `operator`: the life of the process; `leader`: which of the replicas acts.
//! 2. `picture`: dereference. Watches keep what there is in memory; an object that can't be read stops only itself.
//! 3. `validate`: what the API server could not refuse: conflicts, patterns. [`resources`] holds what it can.
//! 4. `keys`: the keys of producers, as steps of a rotation; `build`: the canonical snapshot. Both are pure.
//! 5. `round`: stores the snapshot, asks who applies it, and applies what differs (`apply`); then prunes.
//! 6. `pods`: what a scale-down takes first, and how many pods there are; `status`: what is told of it all.
//!
//! It writes to Redis only the policy, and deletes nothing there: without an operator, or without a PushCluster, the last
//! policy stays in force.

mod apply;
mod build;
mod events;
mod keys;
mod leader;
mod metrics;
mod operator;
mod picture;
mod pods;
pub mod resources;
mod round;
mod status;
mod time;
mod validate;

pub use leader::LeadershipLost;
pub use metrics::OperatorMetrics;
pub use operator::{Operator, OperatorParts, OperatorSettings};

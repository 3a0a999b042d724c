//! The simulator: the real dispatcher and hub, in virtual time, on servers that fail.
//!
//! A schedule is one seed. It decides how long every call takes, which answers are lost, when a process stands still
//! or dies, when a server fails over and how much of its tail is gone. The clock is tokio's paused one: nothing waits
//! in real time, and the same seed gives the same schedule to the letter.
//!
//! - [`network`]: servers with snapshots, old primaries that still answer
//! - `connections`, `own_lane`: a process' connections, which notice late
//! - `identities`: replication IDs that change
//! - `seeds`, `primaries`: who tells who is primary, and whom a process takes for it
//! - [`broker`]: the broker's traits on top of it, one handle per process
//! - [`processes`]: gateways and dispatchers that can be stalled, killed and replaced
//! - [`client`]: clients that keep cursors, as in the client guide
//! - [`producer`]: producers that repeat with the same key until they know
//! - [`audit`]: the promises, checked at the clients
//! - [`mix`]: which faults a schedule has, and which rule of the protocol it breaks on purpose
//! - [`schedule`]: one run from seed to verdict
//! - [`directed`]: the few interleavings that chance rarely finds, step by step
//!
//! `carillon-simulator MIX SEED` replays one schedule with a trace; see `docs/simulator.md`.

pub mod audit;
pub mod broker;
pub mod client;
mod condition;
mod connections;
pub mod directed;
mod faults;
mod identities;
mod ledger;
pub mod mix;
pub mod network;
mod own_lane;
mod primaries;
pub mod processes;
pub mod producer;
mod replicas;
pub mod schedule;
mod seeds;
mod silence;

pub use directed::{Scenario, run_directed};
pub use mix::{Fault, Mix, Mutation};
pub use schedule::{Verdict, run};

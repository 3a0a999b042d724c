//! One suite that every broker must pass.
//!
//! A promise of the traits that is not a case here is no promise: the services are tested against the embedded broker
//! and run on Redis, and this is what makes the one say something about the other.
//!
//! # How to plug in a broker
//!
//! 1. Implement [`Subject`]: it makes [`Installation`]s, each empty and sharing nothing with those before (a fresh key
//!    prefix on a shared Redis will do). [`Installation::broker`] is called several times for one installation; each
//!    answer stands for another process, so give each connections of its own.
//! 2. Say in [`Subject::capabilities`] what can be done to an installation from outside, and implement the methods of
//!    [`Installation`] for them. A case that needs what a subject has not is skipped, and named in the report.
//! 3. Run it and assert how much ran. The numbers are written out, so a suite that shrinks silently fails:
//!
//! ```no_run
//! # async fn example(subject: &dyn carillon_broker::conformance::Subject) {
//! use carillon_broker::conformance;
//!
//! let report = conformance::run(subject, &conformance::cases()).await;
//! report.assert(120, &["a_partition_moves_under_load"]);
//! # }
//! ```
//!
//! For a single case while debugging: `conformance::run(subject, &conformance::cases_named("stalled"))`.
//!
//! # How to write a case
//!
//! Cases speak to the traits alone. They never wait for a fixed time: what takes time is asked for with a short
//! duration and looked at until it is so (`stage::eventually!`). Where something must *stay* alive while time passes,
//! something short-lived is started beside it, and its end is what is waited for.

// Assertions are what this module is for; it is compiled for tests only.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::missing_panics_doc,
    clippy::cloned_ref_to_slice_refs
)]

mod cases;
mod runner;
mod stage;
mod subject;

pub use cases::{cases, cases_named};
pub use runner::{Case, Report, run};
pub use subject::{Capability, Installation, Subject};

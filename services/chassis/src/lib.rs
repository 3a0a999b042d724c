//! The chassis: what every service of Carillon stands on, and none should write again.
//!
//! A service that is deployed, watched and restarted by others needs more than its own work. It must say at once what
//! is wrong with its settings; it must tell the truth about its health; it must end without dropping what it holds;
//! and whoever looks at it at night must find logs, metrics and traces that fit those of its neighbours. This crate
//! does that once. It knows nothing of Redis, of Socket.IO, or of the services: an arrow only ever points down to it.
//!
//! Reading it in the order of a process' life:
//!
//! 1. [`run`] is the frame of every `main`: it does steps 2 to 6 and calls the service in between.
//! 2. [`settings`] are read from defaults, file, environment and flags, all mistakes told at once. Each crate declares
//!    its own section; the binary joins them to a tree.
//! 3. [`telemetry`] sets up logs, and traces with W3C context in and out.
//! 4. [`health`] answers probes on the administration server, which is bound before anything is waited for; the same
//!    server gives out the [`metrics`].
//! 5. [`policy_file`] reads the policy, watches it, and swaps it under the feet of everyone who reads it through
//!    [`live`].
//! 6. [`drain`] lets the process end when everyone who holds something has handed it over, or a deadline has passed.
//!
//! [`build_info`] says what the binary was built from.

pub mod build_info;
pub mod drain;
pub mod health;
pub mod live;
pub mod metrics;
pub mod policy_file;
pub mod run;
pub mod settings;
mod signals;
pub mod telemetry;

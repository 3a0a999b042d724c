//! The transport with real connections: a real listener, a real hub, an embedded broker.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests
#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // metrics are floats

mod client;
mod fixture;
mod forwarding;
mod limits;
mod page;
mod sessions;
mod wire;

//! Ingest through a real socket. What it writes is looked at in the broker.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers are no test functions

mod accepting;
mod bounds;
mod calls;
mod cloud_events;
mod fixture;
mod hanging;
mod health;
mod keys;
mod membership;
mod openapi;
mod outcomes;
mod presence;
mod quotas;
mod refusing;
mod sockets;
mod streams;

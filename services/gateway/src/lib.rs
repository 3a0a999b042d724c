//! The push-gateway: holds the connections and brings them every message of their rooms.
//!
//! Three parts that know nothing of each other's library: the [`hub`] (rooms, sessions, recovery, outboxes) has never
//! heard of Socket.IO, the [`transport`] has never heard of Redis, and [`identity`], which says who a client is, has
//! heard of neither.

pub mod hub;
pub mod identity;
mod latency;
pub mod transport;

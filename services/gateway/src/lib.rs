//! The push-gateway: holds the connections and brings them every message of their rooms.
//!
//! Two halves that know nothing of each other's library: the [`hub`] (rooms, sessions, recovery, outboxes) has never
//! heard of Socket.IO, and the [`transport`] has never heard of Redis.

pub mod hub;
pub mod transport;

//! What the scripts do in Redis, as plain functions.
//!
//! Each takes a state and `now`, the server's clock in milliseconds, and is one atomic step. None waits, none knows a
//! lock, a connection or another server. The life a step happens in is the state's own. They may be run against any
//! state: the present one, or a copy that a simulated old primary still serves.
//!
//! Which server a key lies on is the caller's business; [`Membership`](crate::Membership) is the one role whose keys
//! lie on two (a life on the process' own server, the index of processes on the first).

pub mod append;
pub mod channels;
pub mod dead_letters;
pub mod gaps;
pub mod leases;
pub mod lists;
pub mod membership;
pub mod policy;
pub mod presence;
pub mod queue;
pub mod record;
pub mod rooms;

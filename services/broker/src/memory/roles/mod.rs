//! The broker's traits, one file each: lock the right server, run the operation, wake who waits.
//!
//! Nothing here ever has to wait for a lock for long, so a caller that loops over calls would never let others run:
//! every call takes part in tokio's budget.

mod channels;
mod dead_letters;
mod health;
mod inspection;
mod leases;
mod lists;
mod losses;
mod membership;
mod policy;
mod presence;
mod queue;
mod rooms;

use tokio::task::coop::consume_budget;

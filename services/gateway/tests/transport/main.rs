//! The transport with real connections: a real listener, a real hub, an embedded broker.

mod client;
mod fixture;
mod page;
mod sessions;
mod wire;

//! The transport with real connections: a real listener, a real hub, an embedded broker.

mod fixture;

//! Fuzz targets for every parser that outsiders reach.
//!
//! A target is a function of any bytes that fails when a rule is broken, and each knows more rules than "no panic":
//! round trips, two parsers that must agree, bounds, places of mistakes, keys that must not open what another locked.
//! `make fuzz` lets libFuzzer look for bytes that break one; the corpus beside this crate, seeds and what was found
//! since, is tried by every `cargo test`.
//!
//! To add one: a file in `targets/`, a line in [`TARGETS`], and seeds in `corpus/<name>`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a panic is a target's verdict

pub mod targets;

use targets::{
    calls, client_events, cloud_events, cookies, handshakes, heads, jwks, jwt, lines, origins, policy,
    posted, publish, rooms, websocket, wire,
};

/// A target: fails on bytes that break a rule.
pub type Target = fn(&[u8]);

/// All targets by name, in the order in which they are run.
pub const TARGETS: &[(&str, Target)] = &[
    ("publish", publish::target),
    ("lines", lines::target),
    ("calls", calls::target),
    ("cloud_events", cloud_events::target),
    ("client_events", client_events::target),
    ("heads", heads::target),
    ("origins", origins::target),
    ("handshakes", handshakes::target),
    ("cookies", cookies::target),
    ("jwt", jwt::target),
    ("jwks", jwks::target),
    ("policy", policy::target),
    ("rooms", rooms::target),
    ("wire", wire::target),
    ("websocket", websocket::target),
    ("posted", posted::target),
];

/// The target of this name.
pub fn target(name: &str) -> Option<Target> {
    let found = TARGETS.iter().find(|(known, _)| *known == name);
    found.map(|(_, target)| *target)
}

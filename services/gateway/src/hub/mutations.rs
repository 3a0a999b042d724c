//! Switches for tests that prove a check is needed: each takes one rule of DESIGN §5 away.
//!
//! The simulator turns one on and must find what it breaks. All are off in every service.

/// Which rules of the hub are broken on purpose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools)] // independent switches, one per rule
pub struct HubMutations {
    /// A join reads history before its route stands.
    pub join_reads_before_routing: bool,
    /// A re-asserted route is not a join: nothing is compared or caught up.
    pub reassert_without_catch_up: bool,
    /// Only the gateway's last offset filters, not the session's own cursor.
    pub filter_without_session_cursor: bool,
    /// Frames are delivered whatever their prev says.
    pub prev_check_removed: bool,
    /// A join is done when history has nothing more, though the room has.
    pub join_stops_at_first_late_frame: bool,
    /// Every recovery is told as incomplete.
    pub always_false: bool,
    /// Whoever missed something is told that it is lost and starts at the newest, though history holds it.
    pub false_instead_of_replay: bool,
}

//! The cases, by role. A case's name is what is promised.

macro_rules! case {
    ($name:ident $(, $need:ident)*) => {
        $crate::conformance::Case {
            name: stringify!($name),
            needs: &[$($crate::conformance::Capability::$need),*],
            run: |stage| Box::pin($name(stage)),
        }
    };
}

mod channels;
mod dead_letters;
mod failures;
mod fencing;
mod gaps;
mod histories;
mod idempotency;
mod inspection;
mod leases;
mod lists;
mod membership;
mod policy_and_health;
mod presence;
mod prev;
mod queue;
mod rooms;

use super::Case;

/// All cases.
pub fn cases() -> Vec<Case> {
    [
        queue::CASES,
        idempotency::CASES,
        prev::CASES,
        histories::CASES,
        fencing::CASES,
        rooms::CASES,
        presence::CASES,
        channels::CASES,
        membership::CASES,
        leases::CASES,
        lists::CASES,
        dead_letters::CASES,
        policy_and_health::CASES,
        inspection::CASES,
        failures::CASES,
        gaps::CASES,
    ]
    .concat()
}

/// The cases whose name contains a text.
pub fn cases_named(text: &str) -> Vec<Case> {
    let mut cases = cases();
    cases.retain(|case| case.name.contains(text));
    cases
}

//! Thousands of schedules, and the proof that they would find what they look for.

#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests

use std::{
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use carillon_simulator::{Mix, Mutation, Scenario, mix::MIXES, run, run_directed};

/// Schedules of each mix. `SIMULATED_SCHEDULES` sets another number.
const SCHEDULES: u64 = 2_000;
/// Mixes whose schedules take longest: three quarters of the number.
const LONG: [&str; 2] = ["identities", "old-primaries"];

fn schedules() -> u64 {
    std::env::var("SIMULATED_SCHEDULES")
        .ok()
        .and_then(|number| number.parse().ok())
        .unwrap_or(SCHEDULES)
}

/// Runs the seeds of all mixes on two cores and says which broke a promise.
#[test]
fn every_schedule_keeps_every_promise() {
    let each = schedules();
    let next = AtomicU64::new(0);
    let broken = Mutex::new(Vec::new());
    let work = || {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let (seed, place) = (number / MIXES.len() as u64, number % MIXES.len() as u64);
            if seed >= each {
                return;
            }
            let mix = MIXES[usize::try_from(place).unwrap()];
            if LONG.contains(&mix.name) && seed >= each * 3 / 4 {
                continue;
            }
            if let Some(first) = run(mix, seed, None, false).violations.first() {
                let line = format!("{} {seed}: {}: {}", mix.name, first.promise, first.detail);
                broken.lock().unwrap().push(line);
            }
        }
    };
    thread::scope(|scope| {
        scope.spawn(work);
        scope.spawn(work);
    });
    let broken = broken.into_inner().unwrap();
    assert!(
        broken.is_empty(),
        "replay with `cargo run -p carillon-simulator -- MIX SEED`:\n{}",
        broken.join("\n")
    );
}

/// A schedule is its seed: the same one gives the same trace to the letter.
#[test]
fn a_seed_replays_exactly() {
    for name in [
        "all",
        "partitions-fail-over",
        "gateways",
        "identities",
        "old-primaries",
    ] {
        let mix = *Mix::named(name).unwrap();
        for seed in 0..5 {
            let (one, two) = (run(mix, seed, None, true), run(mix, seed, None, true));
            assert!(!one.trace.is_empty());
            assert_eq!(one.trace, two.trace, "{name} {seed}");
        }
    }
}

/// Rules that chance needs too often to be alone: their directed scenarios catch what breaks them, with every seed.
const DIRECTED: [Mutation; 2] = [Mutation::ParkInMemory, Mutation::MarkAfterTrim];

/// For each other rule of the protocol that is taken away, a schedule that breaks, and does not with the rule.
const CAUGHT: [(Mutation, &str, u64); Mutation::ALL.len() - DIRECTED.len()] = [
    (Mutation::HistoryAfterRoutes, "churn", 33),
    (Mutation::JoinReadsBeforeRouting, "gateways", 5),
    (Mutation::ConsumingRead, "dispatchers", 3),
    (Mutation::ReassertWithoutCatchUp, "channels-fail-over", 0),
    (Mutation::FilterWithoutSessionCursor, "dispatchers", 20),
    (Mutation::TrimBeforeChannels, "dispatchers", 138),
    (Mutation::UnfencedTrim, "partitions-fail-over", 27),
    (Mutation::OffsetsNotRaised, "partitions-fail-over", 155),
    (Mutation::PrevCheckRemoved, "dispatchers", 54),
    (Mutation::PrevMapKeptOverLease, "dispatchers", 26),
    (Mutation::JoinStopsAtFirstLateFrame, "dispatchers", 426),
    (Mutation::AlwaysFalse, "calm", 0),
    (Mutation::FalseInsteadOfReplay, "calm", 3),
    (Mutation::GapsNotMarked, "partitions-fail-over", 0),
    (Mutation::EveryChangeBenign, "identities", 24),
    (Mutation::FencedByName, "identities", 51),
    (Mutation::OneAddressAsked, "old-primaries", 15),
    (Mutation::ReadersStay, "old-primaries", 2),
    (Mutation::RoleNotChecked, "partitions-fail-over", 0),
];

#[test]
fn every_broken_rule_is_caught_by_a_seed_that_is_checked_in() {
    let caught = CAUGHT.iter().map(|(mutation, ..)| *mutation);
    assert_eq!(caught.chain(DIRECTED).collect::<Vec<_>>(), Mutation::ALL);
    for mutation in DIRECTED {
        assert!(Scenario::ALL.map(Scenario::mutation).contains(&mutation));
    }
    for (mutation, name, seed) in CAUGHT {
        let mix = *Mix::named(name).unwrap();
        assert_eq!(
            run(mix, seed, None, false).violations,
            [],
            "{name} {seed} breaks without any mutation"
        );
        assert!(
            !run(mix, seed, Some(mutation), false).violations.is_empty(),
            "{mutation} is not caught by {name} {seed}"
        );
    }
}

/// Seeds of each directed scenario: they decide how long every call takes, not what happens.
const TAKES: u64 = 40;

#[test]
fn directed_scenarios_keep_every_promise_and_catch_their_mutation_each_time() {
    for scenario in Scenario::ALL {
        let mutation = scenario.mutation();
        for seed in 0..TAKES {
            let kept = run_directed(scenario, seed, None, false);
            assert_eq!(kept.violations, [], "{scenario:?} {seed}");
            let broken = run_directed(scenario, seed, Some(mutation), false);
            assert!(
                broken
                    .violations
                    .first()
                    .is_some_and(|violation| violation.promise != "scenario"),
                "{mutation} is not caught by {scenario:?} {seed}: {:?}",
                broken.violations
            );
        }
    }
}

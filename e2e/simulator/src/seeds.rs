//! Addresses that tell who is primary, as sentinels do, and may be silent or behind the others.

use std::time::Duration;

use carillon_broker::redis::{Answer, Ranges};
use parking_lot::Mutex;
use tokio::time::Instant;

/// How many there are.
const SEEDS: usize = 3;

/// What they know.
#[derive(Debug)]
pub(crate) struct Seeds(Mutex<Told>);

#[derive(Debug)]
struct Told {
    /// The primaries, by epoch.
    primaries: Vec<Ranges>,
    /// The address that accepts connections and answers nothing.
    silent: Option<usize>,
    /// One that has not heard of the last epoch yet, and until when.
    behind: Option<(usize, Instant)>,
}

impl Seeds {
    /// All know these primaries, one for each server.
    pub(crate) fn new(primaries: impl Iterator<Item = String>) -> Self {
        Self(Mutex::new(Told {
            primaries: vec![(0..).zip(primaries).collect()],
            silent: None,
            behind: None,
        }))
    }

    /// Their addresses.
    pub(crate) fn addresses() -> Vec<String> {
        (0..SEEDS).map(|seed| seed.to_string()).collect()
    }

    /// A server has another primary. One of the addresses may hear of it later than the others.
    pub(crate) fn promoted(&self, server: usize, run_id: &str, behind: Option<(usize, Duration)>) {
        let mut told = self.0.lock();
        let mut next = told.primaries.last().cloned().unwrap_or_default();
        for (held, primary) in &mut next {
            if usize::from(*held) == server {
                run_id.clone_into(primary);
            }
        }
        told.primaries.push(next);
        told.behind = behind.map(|(seed, lasts)| (seed % SEEDS, Instant::now() + lasts));
    }

    /// One address falls silent, or all answer again.
    pub(crate) fn fall_silent(&self, seed: Option<usize>) {
        self.0.lock().silent = seed.map(|seed| seed % SEEDS);
    }

    /// Whether one is silent.
    pub(crate) fn is_one_silent(&self) -> bool {
        self.0.lock().silent.is_some()
    }

    /// What an address answers, if it does.
    pub(crate) fn answer(&self, address: &str) -> Option<Answer> {
        let told = self.0.lock();
        let seed: usize = address.parse().ok()?;
        if told.silent == Some(seed) {
            return None;
        }
        let newest = told.primaries.len() - 1;
        let behind = |(late, until): (usize, Instant)| late == seed && Instant::now() < until;
        let epoch = newest - usize::from(told.behind.is_some_and(behind));
        Some(Answer {
            ranges: told.primaries[epoch].clone(),
            epoch: Some(epoch as u64),
        })
    }
}

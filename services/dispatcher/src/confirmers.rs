//! Finds out which partitions lost messages that no living process knows of.
//!
//! A process that confirms messages remembers them, and marks what a failover dropped
//! ([`losses`](carillon_broker::losses)). A process that dies together with the server cannot. So each dispatcher knows
//! which processes there are. After a server was replaced, each of them must be alive, or must have left in order. If one
//! is neither, the owner of each partition of that server marks the whole partition: its rooms say `recovered: false` once.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use carillon_broker::{Incarnation, ProcessState, ServiceKind};
use carillon_model::Partition;
use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior, interval},
};
use tracing::{debug, warn};

use crate::{lives::Seen, shared::Shared};

/// Between two looks at the ingests, by which entries of dead ones are removed: one that died long before a server did is
/// no suspect. Gateways and dispatchers are looked at more often anyway.
const CLEAN_EVERY: Duration = Duration::from_secs(5);
/// A process counts for a while after it is no longer listed: it may have confirmed something just before.
const COUNTS_FOR: Duration = Duration::from_secs(15);
/// Partitions are marked within this time, or by another dispatcher.
const MARK_WITHIN: Duration = Duration::from_secs(20);
/// Replacements that are judged at the same time; more of them are judged with the last.
const REPLACEMENTS: usize = 16;

/// Which processes there were, and which replaced servers wait to be judged.
#[derive(Debug, Default)]
struct Confirmers {
    /// When each was last listed.
    listed: BTreeMap<Incarnation, Instant>,
    replacements: Vec<Replacement>,
    /// What is to be marked, and until when.
    doubtful: BTreeMap<Partition, Instant>,
}

/// A server that was replaced.
#[derive(Debug)]
struct Replacement {
    partitions: BTreeSet<Partition>,
    confirmers: BTreeSet<Incarnation>,
    judge_at: Instant,
}

impl Confirmers {
    /// These are listed now.
    fn listed<'a>(&mut self, incarnations: impl IntoIterator<Item = &'a Incarnation>, now: Instant) {
        for incarnation in incarnations {
            self.listed.insert(incarnation.clone(), now);
        }
        self.listed.retain(|_, at| now.duration_since(*at) < COUNTS_FOR);
    }

    /// The server of these partitions was replaced.
    fn replaced(&mut self, partitions: BTreeSet<Partition>, judge_at: Instant) {
        let confirmers: BTreeSet<_> = self.listed.keys().cloned().collect();
        if self.replacements.len() < REPLACEMENTS {
            self.replacements.push(Replacement {
                partitions,
                confirmers,
                judge_at,
            });
        } else if let Some(last) = self.replacements.last_mut() {
            last.partitions.extend(partitions);
            last.confirmers.extend(confirmers);
            last.judge_at = judge_at;
        }
    }

    /// Whose state is to be asked for now.
    fn suspects(&self, now: Instant) -> Vec<Incarnation> {
        let due = self
            .replacements
            .iter()
            .filter(|replacement| replacement.judge_at <= now);
        let suspects: BTreeSet<_> = due.flat_map(|replacement| &replacement.confirmers).collect();
        suspects.into_iter().cloned().collect()
    }

    /// These of the [suspects](Self::suspects) are dead.
    fn judge(&mut self, dead: &BTreeSet<Incarnation>, now: Instant) {
        let (due, later) = std::mem::take(&mut self.replacements)
            .into_iter()
            .partition(|replacement| replacement.judge_at <= now);
        self.replacements = later;
        for replacement in due as Vec<Replacement> {
            if !replacement.confirmers.is_disjoint(dead) {
                let partitions = replacement.partitions.into_iter();
                self.doubtful
                    .extend(partitions.map(|partition| (partition, now + MARK_WITHIN)));
            }
        }
    }

    /// Which of these partitions are to be marked.
    fn owed(&mut self, owned: &[Partition], now: Instant) -> Vec<Partition> {
        self.doubtful.retain(|_, until| now < *until);
        let doubtful = |partition: &&Partition| self.doubtful.contains_key(*partition);
        owned.iter().filter(doubtful).copied().collect()
    }
}

/// Watches, for ever.
pub(crate) async fn watch_confirmers(shared: &Shared, lives: watch::Receiver<Seen>) {
    let mut every = interval(shared.settings.survey_every);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut confirmers = Confirmers::default();
    let mut changes: Vec<u64> = lives.borrow().changes().to_vec();
    let mut clean_at = Instant::now() + CLEAN_EVERY;
    loop {
        every.tick().await;
        let now = Instant::now();
        let replaced = changed(&mut changes, lives.borrow().changes());
        if !replaced.is_empty() {
            confirmers.replaced(replaced, now + shared.settings.judge_processes_after);
        }
        let takes_lists = !shared.policy.borrow().lists().is_empty();
        let listed = shared.listed.lock().clone();
        let confirming = |kind: ServiceKind| kind != ServiceKind::Dispatcher || takes_lists;
        let listed = listed.iter().filter(|(kind, _)| confirming(*kind));
        confirmers.listed(listed.map(|(_, incarnation)| incarnation), now);
        if clean_at <= now {
            clean_at = now + CLEAN_EVERY;
            let ingests = shared.broker.members(ServiceKind::Ingest);
            if let Err(error) = shared.call("members", ingests).await {
                debug!(%error, "could not look at the ingests");
            }
        }
        judge(shared, &mut confirmers).await;
        mark(shared, &mut confirmers).await;
    }
}

/// Partitions whose number of changes is another one than before, which is brought up to date.
fn changed(before: &mut Vec<u64>, now: &[u64]) -> BTreeSet<Partition> {
    before.resize(now.len(), 0);
    let pairs = (0..).zip(before.iter().zip(now));
    let changed = pairs
        .filter(|(_, (before, now))| before != now)
        .map(|(index, _)| Partition(index))
        .collect();
    before.copy_from_slice(now);
    changed
}

async fn judge(shared: &Shared, confirmers: &mut Confirmers) {
    let now = Instant::now();
    let suspects = confirmers.suspects(now);
    if suspects.is_empty() {
        confirmers.judge(&BTreeSet::new(), now);
        return;
    }
    let states = shared.broker.process_states(&suspects);
    let states = match shared.call("process_states", states).await {
        Ok(states) => states,
        Err(error) => {
            debug!(%error, "it is not known which processes are alive; asking again");
            return;
        }
    };
    let dead: BTreeSet<Incarnation> = suspects
        .into_iter()
        .zip(states)
        .filter(|(_, state)| *state == ProcessState::Dead)
        .map(|(incarnation, _)| incarnation)
        .collect();
    if !dead.is_empty() {
        warn!(
            ?dead,
            "processes died when a server was replaced; what they confirmed may be lost, and its partitions are marked"
        );
    }
    confirmers.judge(&dead, now);
}

async fn mark(shared: &Shared, confirmers: &mut Confirmers) {
    for partition in confirmers.owed(&shared.board.owned(), Instant::now()) {
        let mark = shared.broker.mark_unknown_loss(partition);
        match shared.call("mark_unknown_loss", mark).await {
            Ok(()) => {
                confirmers.doubtful.remove(&partition);
            }
            Err(error) => debug!(%partition, %error, "the partition could not be marked; trying again"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(name: &str) -> Incarnation {
        Incarnation::new(name, 1)
    }

    #[test]
    fn partitions_are_marked_iff_a_process_of_that_time_is_dead() {
        let second = Duration::from_secs(1);
        let start = Instant::now();
        let (early, there, late) = (process("early"), process("there"), process("late"));
        for (dead, marked) in [(&early, false), (&there, true), (&late, false)] {
            let mut confirmers = Confirmers::default();
            confirmers.listed([&early], start);
            let at = start + COUNTS_FOR;
            confirmers.listed([&there], at);
            let replaced = [Partition(1), Partition(2)].into();
            confirmers.replaced(replaced, at + second);
            confirmers.listed([&late], at);
            assert_eq!(confirmers.suspects(at), []);
            assert_eq!(confirmers.suspects(at + second), std::slice::from_ref(&there));
            confirmers.judge(&[dead.clone()].into(), at + second);
            assert_eq!(confirmers.suspects(at + second), [], "once");
            let owned = [Partition(2), Partition(3)];
            let expected: &[Partition] = if marked { &[Partition(2)] } else { &[] };
            assert_eq!(confirmers.owed(&owned, at + second), expected, "{dead}");
            assert_eq!(confirmers.owed(&owned, at + second + MARK_WITHIN), []);
        }
    }

    #[test]
    fn replacements_are_bounded() {
        let mut confirmers = Confirmers::default();
        let now = Instant::now();
        for partition in 0..100 {
            confirmers.replaced([Partition(partition)].into(), now);
        }
        assert_eq!(confirmers.replacements.len(), REPLACEMENTS);
        let partitions = confirmers
            .replacements
            .iter()
            .map(|replacement| replacement.partitions.len());
        assert_eq!(partitions.sum::<usize>(), 100);
    }

    #[test]
    fn changes_are_seen_once() {
        let mut before = Vec::new();
        assert_eq!(changed(&mut before, &[0, 0]), [].into());
        assert_eq!(changed(&mut before, &[0, 1]), [Partition(1)].into());
        assert_eq!(changed(&mut before, &[0, 1]), [].into());
    }
}

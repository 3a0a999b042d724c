//! How a producer's key changes, as steps without a clock or an API of their own.
//!
//! A new key is first accepted and only then shown: it is written down as `next`, its hash goes into the policy, and
//! when every ingest applies that policy it becomes `key`. So whoever reads the Secret always reads a key that is let
//! in. The former key is accepted until the overlap ends. All of this is kept in the Secret, and an operator that
//! starts anew goes on where the last one stood.

use std::time::Duration;

use k8s_openapi::jiff::Timestamp;

use super::{Key, KeyHash, NoRandomness};
use crate::time::later;

/// Former keys that are accepted at most, however often somebody asks for a new one.
const MOST_FORMER: usize = 4;

/// What is known of a producer's keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct KeyState {
    /// The key that programs use.
    pub(crate) current: Option<Key>,
    /// One that is not yet let in everywhere.
    pub(crate) next: Option<Key>,
    /// Former ones that still are, the oldest first.
    pub(crate) former: Vec<Former>,
    /// Since when the key is what it is.
    pub(crate) rotated_at: Option<Timestamp>,
    /// The last request for a new key that was met.
    pub(crate) answered: Option<String>,
}

/// A former key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Former {
    pub(crate) hash: KeyHash,
    /// It is accepted until then.
    pub(crate) until: Timestamp,
}

/// What the producer's spec wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wishes {
    /// How often the key changes by itself.
    pub(crate) interval: Option<Duration>,
    /// How long a former key is accepted.
    pub(crate) overlap: Duration,
    /// Somebody's request for a new key: a new value is a new request.
    pub(crate) request: Option<String>,
}

/// What happened in a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Happened {
    /// A key was made; it is not let in yet.
    Prepared,
    /// The first key can be used.
    Created,
    /// A new key can be used.
    Rotated,
    /// A former key is no longer accepted.
    Expired,
}

/// What a step led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Step {
    /// What is to be written down, if it differs from before.
    pub(crate) state: KeyState,
    /// What happened, in order.
    pub(crate) happened: Vec<Happened>,
}

impl KeyState {
    /// Every hash that is let in.
    pub(crate) fn hashes(&self) -> Vec<KeyHash> {
        let own = [&self.current, &self.next];
        let mut hashes: Vec<_> = own.into_iter().flatten().map(Key::hash).collect();
        hashes.extend(self.former.iter().map(|former| former.hash));
        hashes.sort();
        hashes.dedup();
        hashes
    }

    /// When the next key is due by schedule.
    pub(crate) fn due(&self, wishes: &Wishes) -> Option<Timestamp> {
        Some(later(self.rotated_at?, wishes.interval?))
    }
}

/// One step. `let_in` tells whether every ingest applies a policy with this key; `make` makes a key.
pub(crate) fn step(
    state: &KeyState,
    wishes: &Wishes,
    now: Timestamp,
    let_in: impl Fn(&KeyHash) -> bool,
    make: impl FnOnce() -> Result<Key, NoRandomness>,
) -> Result<Step, NoRandomness> {
    let mut state = state.clone();
    let mut happened = Vec::new();
    let before = state.former.len();
    state.former.retain(|former| former.until > now);
    if state.former.len() < before {
        happened.push(Happened::Expired);
    }
    if state.next.as_ref().is_some_and(|next| let_in(&next.hash())) {
        happened.push(promote(&mut state, wishes, now));
    }
    let asked = wishes.request.is_some() && wishes.request != state.answered;
    let due = state.current.is_none() || asked || state.due(wishes).is_some_and(|due| due <= now);
    if due && state.next.is_none() {
        state.next = Some(make()?);
        state.answered = wishes.request.clone().or(state.answered);
        happened.push(Happened::Prepared);
    }
    Ok(Step { state, happened })
}

/// The next key becomes the key.
fn promote(state: &mut KeyState, wishes: &Wishes, now: Timestamp) -> Happened {
    let former = std::mem::replace(&mut state.current, state.next.take());
    state.rotated_at = Some(now);
    let Some(former) = former else {
        return Happened::Created;
    };
    if !wishes.overlap.is_zero() {
        let (hash, until) = (former.hash(), later(now, wishes.overlap));
        state.former.push(Former { hash, until });
        let over = state.former.len().saturating_sub(MOST_FORMER);
        state.former.drain(..over);
    }
    Happened::Rotated
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn at(hours: u32) -> Timestamp {
        later(Timestamp::UNIX_EPOCH, HOUR * hours)
    }

    fn key(name: &str) -> Key {
        Key::read(format!("{name}-with-enough-characters").as_bytes()).unwrap()
    }

    fn wishes(interval: Option<u32>, request: Option<&str>) -> Wishes {
        Wishes {
            interval: interval.map(|hours| HOUR * hours),
            overlap: HOUR,
            request: request.map(str::to_owned),
        }
    }

    fn go(state: &mut KeyState, wishes: &Wishes, hours: u32, let_in: bool, fresh: &str) -> Vec<Happened> {
        let step = step(state, wishes, at(hours), |_| let_in, || Ok(key(fresh))).unwrap();
        *state = step.state;
        step.happened
    }

    #[test]
    fn a_key_is_shown_only_when_it_is_let_in() {
        let (mut state, wishes) = (KeyState::default(), wishes(None, None));
        assert_eq!(go(&mut state, &wishes, 0, false, "one"), [Happened::Prepared]);
        assert_eq!(
            (state.current.clone(), state.next.clone()),
            (None, Some(key("one")))
        );
        assert_eq!(go(&mut state, &wishes, 0, false, "never"), []);
        assert_eq!(state.hashes(), [key("one").hash()]);
        assert_eq!(go(&mut state, &wishes, 1, true, "never"), [Happened::Created]);
        assert_eq!(
            (state.current.clone(), state.next.clone()),
            (Some(key("one")), None)
        );
        assert_eq!(
            go(&mut state, &wishes, 1000, true, "never"),
            [],
            "no schedule, no change"
        );
    }

    #[test]
    fn a_schedule_changes_the_key_and_the_former_one_lasts_for_the_overlap() {
        let (mut state, wishes) = (KeyState::default(), wishes(Some(24), None));
        go(&mut state, &wishes, 0, false, "one");
        go(&mut state, &wishes, 0, true, "never");
        assert_eq!(state.due(&wishes), Some(at(24)));
        assert_eq!(go(&mut state, &wishes, 23, true, "never"), []);
        assert_eq!(go(&mut state, &wishes, 24, false, "two"), [Happened::Prepared]);
        assert_eq!(
            state.current,
            Some(key("one")),
            "still the one that is let in everywhere"
        );
        assert_eq!(state.hashes().len(), 2);
        assert_eq!(go(&mut state, &wishes, 25, true, "never"), [Happened::Rotated]);
        assert_eq!(state.current, Some(key("two")));
        assert_eq!(
            state.former,
            [Former {
                hash: key("one").hash(),
                until: at(26)
            }]
        );
        assert_eq!(go(&mut state, &wishes, 26, true, "never"), [Happened::Expired]);
        assert_eq!(state.hashes(), [key("two").hash()]);
    }

    #[test]
    fn a_request_is_met_once() {
        let (mut state, quiet) = (KeyState::default(), wishes(None, None));
        go(&mut state, &quiet, 0, false, "one");
        go(&mut state, &quiet, 0, true, "never");
        let asked = wishes(None, Some("monday"));
        assert_eq!(go(&mut state, &asked, 1, false, "two"), [Happened::Prepared]);
        assert_eq!(go(&mut state, &asked, 2, true, "never"), [Happened::Rotated]);
        assert_eq!(go(&mut state, &asked, 2, true, "never"), []);
        assert_eq!(
            go(&mut state, &quiet, 2, true, "never"),
            [],
            "taking the request back is none"
        );
        assert_eq!(
            go(&mut state, &asked, 2, true, "never"),
            [],
            "nor is the same one again"
        );
        assert_eq!(
            go(&mut state, &wishes(None, Some("tuesday")), 2, true, "three"),
            [Happened::Prepared]
        );
    }

    #[test]
    fn without_overlap_the_former_key_ends_at_once_and_with_it_they_are_bounded() {
        let mut state = KeyState {
            current: Some(key("one")),
            next: Some(key("two")),
            ..KeyState::default()
        };
        let none = Wishes {
            overlap: Duration::ZERO,
            ..wishes(None, None)
        };
        assert_eq!(go(&mut state, &none, 1, true, "never"), [Happened::Rotated]);
        assert_eq!(state.hashes(), [key("two").hash()]);
        for round in 0..10 {
            let asked = wishes(None, Some(&format!("request {round}")));
            go(
                &mut state,
                &asked,
                1,
                false,
                &format!("key {round}").replace(' ', "-"),
            );
            go(&mut state, &asked, 1, true, "never");
        }
        assert_eq!(state.former.len(), MOST_FORMER);
        assert_eq!(state.former[0].hash, key("key-5").hash(), "the oldest go first");
    }
}

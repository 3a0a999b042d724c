//! Looks at every object beside the others: what the API server could not refuse is said in the condition `Accepted`.

use std::collections::BTreeMap;

use crate::{
    build::{Document, check, producer_name},
    picture::{Place, Seen},
    resources::{PushClusterSpec, PushProducerSpec, PushRoomSpec, condition::Verdict},
};

/// An object, what counts of it, and why.
#[derive(Clone, Debug)]
pub(crate) struct Judged<S> {
    /// The object.
    pub(crate) seen: Seen<S>,
    /// What is in force of it; `None`: nothing.
    pub(crate) counts: Option<S>,
    /// What its condition `Accepted` says.
    pub(crate) accepted: Verdict,
}

impl<S> Judged<S> {
    fn accepted(seen: Seen<S>, spec: S) -> Self {
        let accepted = Verdict::yes("Accepted", "valid, and in conflict with no other");
        Self {
            seen,
            counts: Some(spec),
            accepted,
        }
    }

    fn refused(seen: Seen<S>, reason: &'static str, message: impl Into<String>) -> Self {
        let accepted = Verdict::no(reason, message);
        Self {
            seen,
            counts: None,
            accepted,
        }
    }

    /// An object that can't be read: what was last read of it goes on counting.
    fn unreadable(seen: Seen<S>, error: &str, last: Option<S>) -> Self {
        let meanwhile = if last.is_some() {
            "what was last read of it stays in force"
        } else {
            "nothing of it is in force"
        };
        let message = format!(
            "the spec can't be read: {error}; correct it, or bring the definitions up to date with `carillon operator crds`; {meanwhile}"
        );
        Self {
            counts: last,
            ..Self::refused(seen, "Unreadable", message)
        }
    }
}

/// What was last read of objects that can't be read now, by their identity.
pub(crate) type LastRead<S> = BTreeMap<String, S>;

/// Judges rooms, in the order in which they decide: the highest priority, then the oldest.
pub(crate) fn rooms(
    seen: Vec<Seen<PushRoomSpec>>,
    last: &LastRead<PushRoomSpec>,
) -> Vec<Judged<PushRoomSpec>> {
    let mut judged: Vec<_> = by_age(seen).into_iter().map(|seen| room(seen, last)).collect();
    let mut owners: BTreeMap<String, Place> = BTreeMap::new();
    for one in &mut judged {
        let Some(pattern) = one.counts.as_ref().map(|spec| spec.pattern.clone()) else {
            continue;
        };
        let place = one.seen.place();
        if let Some(older) = owners.get(&pattern) {
            one.accepted = Verdict::no(
                "Conflict",
                format!(
                    "PushRoom {older} is older and has the same match `{pattern}`; delete one of the two"
                ),
            );
            one.counts = None;
        } else {
            owners.insert(pattern, place);
        }
    }
    // Stable: among equals the older stays first.
    judged.sort_by_key(|one| std::cmp::Reverse(one.counts.as_ref().map_or(i32::MIN, |spec| spec.priority)));
    judged
}

fn room(seen: Seen<PushRoomSpec>, last: &LastRead<PushRoomSpec>) -> Judged<PushRoomSpec> {
    match seen.spec.clone() {
        Err(error) => {
            let last = last.get(seen.uid()).cloned();
            Judged::unreadable(seen, &error, last)
        }
        Ok(spec) => match check(&Document::of_room(&spec.rule())) {
            Ok(()) => Judged::accepted(seen, spec),
            Err(problems) => Judged::refused(seen, "Invalid", problems),
        },
    }
}

/// Judges producers. `home` is the operator's own namespace.
pub(crate) fn producers(
    seen: Vec<Seen<PushProducerSpec>>,
    last: &LastRead<PushProducerSpec>,
    home: &str,
) -> Vec<Judged<PushProducerSpec>> {
    let judge = |seen: Seen<PushProducerSpec>| match seen.spec.clone() {
        Err(error) => {
            let last = last.get(seen.uid()).cloned();
            Judged::unreadable(seen, &error, last)
        }
        Ok(spec) => {
            let name = producer_name(&seen.place(), home);
            match check(&Document::of_producer(&name, &spec)) {
                Ok(()) => Judged::accepted(seen, spec),
                Err(problems) => Judged::refused(seen, "Invalid", problems),
            }
        }
    };
    by_age(seen).into_iter().map(judge).collect()
}

/// Judges clusters: this operator answers for one of them.
pub(crate) fn clusters(
    seen: Vec<Seen<PushClusterSpec>>,
    last: &LastRead<PushClusterSpec>,
    answers_for: &Place,
) -> Vec<Judged<PushClusterSpec>> {
    let judge = |seen: Seen<PushClusterSpec>| {
        if seen.place() != *answers_for {
            let message = format!(
                "the operator in this namespace answers for the PushCluster `{}`; say these settings there, or name this one in the operator's setting operator.cluster",
                answers_for.name
            );
            return Judged::refused(seen, "NotInCharge", message);
        }
        let last = last.get(seen.uid()).cloned();
        match seen.spec.clone() {
            Err(error) => Judged::unreadable(seen, &error, last),
            Ok(spec) => match check(&Document::of_cluster(&spec.policy, spec.gateways.as_ref())) {
                Ok(()) => Judged::accepted(seen, spec),
                Err(problems) => Judged {
                    counts: last,
                    ..Judged::refused(
                        seen,
                        "Invalid",
                        format!("{problems}; what was valid before stays in force"),
                    )
                },
            },
        }
    };
    by_age(seen).into_iter().map(judge).collect()
}

fn by_age<S>(mut seen: Vec<Seen<S>>) -> Vec<Seen<S>> {
    seen.retain(|seen| !seen.is_deleted());
    seen.sort_by_key(Seen::age);
    seen
}

#[cfg(test)]
mod tests;

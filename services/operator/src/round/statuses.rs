//! Writes the statuses of rooms and producers, and tells what changed in them.

use k8s_openapi::jiff::Timestamp;
use kube::CustomResourceExt;
use serde::Serialize;
use serde_json::{Value, json};

use super::{
    Memory, Tools,
    keys::{self, KeysError},
    policy::{Keys, Outcome},
};
use crate::{
    events::Told,
    keys::Key,
    picture::Seen,
    resources::{
        PushProducer, PushProducerSpec, PushProducerStatus, PushRoom, PushRoomSpec, PushRoomStatus,
        condition::{ACCEPTED, Condition, PROGRAMMED, Verdict, find, seconds},
    },
    status::programmed::of_object,
    validate::Judged,
};

/// The conditions of an object before and after.
pub(super) struct Conditions {
    before: Vec<Condition>,
    pub(super) after: Vec<Condition>,
}

impl Conditions {
    /// `programmed` is `None` where the former condition stays.
    pub(super) fn new(
        status: &Value,
        generation: i64,
        accepted: &Verdict,
        programmed: Option<&Verdict>,
        now: Timestamp,
    ) -> Self {
        let before = read(status);
        let one = |kind, verdict: &Verdict| verdict.condition(kind, generation, find(&before, kind), now);
        let programmed = match programmed {
            Some(verdict) => Some(one(PROGRAMMED, verdict)),
            None => find(&before, PROGRAMMED).cloned(),
        };
        let after = std::iter::once(one(ACCEPTED, accepted))
            .chain(programmed)
            .collect();
        Self { before, after }
    }

    /// What a person should know of the change.
    pub(super) fn told(&self) -> Vec<Told> {
        let mut told = Vec::new();
        let (before, after) = (find(&self.before, ACCEPTED), find(&self.after, ACCEPTED));
        if let Some(after) = after {
            let changed =
                before.is_none_or(|before| (before.status, &before.reason) != (after.status, &after.reason));
            if changed && !after.status.is_true() {
                told.push(Told::warning(
                    "NotAccepted",
                    format!("{}: {}", after.reason, after.message),
                ));
            } else if changed && before.is_some() {
                told.push(Told::normal("Accepted", after.message.clone()));
            }
        }
        told
    }

    /// The reason of `Programmed`, before and after.
    pub(super) fn programmed(&self) -> (Option<&str>, Option<&str>) {
        let reason = |conditions| find(conditions, PROGRAMMED).map(|condition| &*condition.reason);
        (reason(&self.before), reason(&self.after))
    }
}

/// The conditions in a status, as far as they can be read.
pub(super) fn read(status: &Value) -> Vec<Condition> {
    let conditions = status
        .get("conditions")
        .and_then(Value::as_array)
        .into_iter()
        .flatten();
    conditions
        .filter_map(|condition| serde_json::from_value(condition.clone()).ok())
        .collect()
}

/// Writes a status if it differs from the one that is there.
pub(super) async fn write<K: CustomResourceExt, S>(
    tools: &Tools,
    memory: &mut Memory,
    seen: &Seen<S>,
    status: &impl Serialize,
    told: Vec<Told>,
) -> bool {
    let status = json!(status);
    if memory.status(seen) == status {
        return true;
    }
    match tools.applier.status::<K, S>(seen, &status).await {
        Ok(()) => {
            memory.wrote(seen, status);
            for told in told {
                tools.events.tell(&seen.reference(), told).await;
            }
            true
        }
        Err(error) => {
            tracing::warn!(kind = seen.kind, object = %seen.place(), %error, "the status could not be written; it is tried again");
            false
        }
    }
}

/// Rooms. The answer says whether all could be written.
pub(super) async fn rooms(
    tools: &Tools,
    memory: &mut Memory,
    judged: &[Judged<PushRoomSpec>],
    outcome: &Outcome,
    now: Timestamp,
) -> bool {
    let mut all = true;
    for one in judged {
        let (before, generation) = (memory.status(&one.seen), one.seen.generation());
        let conditions = read(&before);
        let accepted = one.accepted.status.is_true();
        let programmed = of_object(
            accepted,
            &outcome.overall,
            find(&conditions, PROGRAMMED),
            generation,
        );
        let conditions = Conditions::new(&before, generation, &one.accepted, programmed.as_ref(), now);
        let told = conditions.told();
        let status = PushRoomStatus {
            conditions: conditions.after,
        };
        all &= write::<PushRoom, _>(tools, memory, &one.seen, &status, told).await;
    }
    all
}

/// Producers. The answer says whether all could be written.
pub(super) async fn producers(
    tools: &Tools,
    memory: &mut Memory,
    judged: &[Judged<PushProducerSpec>],
    keys: &Keys,
    outcome: &Outcome,
    now: Timestamp,
) -> bool {
    let mut all = true;
    for one in judged {
        let before = memory.status(&one.seen);
        let former: PushProducerStatus = serde_json::from_value(before.clone()).unwrap_or_default();
        let kept = keys.get(&one.seen.place());
        let mut status = described(one, kept, &former);
        let programmed = programmed(one, kept, outcome, find(&former.conditions, PROGRAMMED));
        let generation = one.seen.generation();
        let conditions = Conditions::new(&before, generation, &one.accepted, programmed.as_ref(), now);
        let told = told(&conditions);
        status.conditions = conditions.after;
        all &= write::<PushProducer, _>(tools, memory, &one.seen, &status, told).await;
    }
    all
}

fn programmed(
    one: &Judged<PushProducerSpec>,
    kept: Option<&Result<keys::Kept, KeysError>>,
    outcome: &Outcome,
    former: Option<&Condition>,
) -> Option<Verdict> {
    let accepted = one.accepted.status.is_true();
    let suspended = one.counts.as_ref().is_some_and(|spec| spec.suspend);
    match kept {
        Some(Err(error @ KeysError::Taken(_))) if accepted => {
            Some(Verdict::no("SecretTaken", error.to_string()))
        }
        Some(Err(error)) if accepted => Some(Verdict::no("KeyFailed", error.to_string())),
        Some(Ok(kept)) if accepted && !suspended && kept.state.current.is_none() => {
            let overall = &outcome.overall;
            let why = if overall.status.is_true() {
                "not every ingest applies it yet"
            } else {
                &*overall.message
            };
            Some(Verdict::no(
                "KeyPending",
                format!("the key is made, and shown when every ingest lets it in: {why}"),
            ))
        }
        _ => {
            let verdict = of_object(accepted, &outcome.overall, former, one.seen.generation())?;
            if suspended && verdict.status.is_true() {
                return Some(Verdict::yes(
                    "Suspended",
                    "no key of it is accepted, on any ingest",
                ));
            }
            Some(verdict)
        }
    }
}

/// The status without its conditions. What can't be known now stays as it was.
fn described(
    one: &Judged<PushProducerSpec>,
    kept: Option<&Result<keys::Kept, KeysError>>,
    former: &PushProducerStatus,
) -> PushProducerStatus {
    let (Some(spec), Some(Ok(kept))) = (&one.counts, kept) else {
        return PushProducerStatus {
            conditions: Vec::new(),
            ..former.clone()
        };
    };
    let state = &kept.state;
    let wishes = keys::wishes(&one.seen, spec);
    PushProducerStatus {
        conditions: Vec::new(),
        secret_name: Some(keys::place(&one.seen, spec).name),
        fingerprint: state
            .current
            .as_ref()
            .map(Key::hash)
            .map(|hash| hash.fingerprint()),
        rotated_at: state.rotated_at.map(seconds),
        next_rotation: state.due(&wishes).filter(|_| !spec.suspend).map(seconds),
        former_until: state.former.iter().map(|former| former.until).max().map(seconds),
    }
}

fn told(conditions: &Conditions) -> Vec<Told> {
    let mut told = conditions.told();
    let (before, after) = conditions.programmed();
    let message = find(&conditions.after, PROGRAMMED).map_or("", |condition| &*condition.message);
    if before != after {
        match after {
            Some(reason @ ("SecretTaken" | "KeyFailed")) => {
                let reason = if reason == "KeyFailed" {
                    "KeyFailed"
                } else {
                    "SecretTaken"
                };
                told.push(Told::warning(reason, message));
            }
            Some("Suspended") => told.push(Told::normal("Suspended", message)),
            _ => {}
        }
    }
    told
}

//! Conditions, as the Gateway API has them.

use k8s_openapi::jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The object is valid and in conflict with no other.
pub const ACCEPTED: &str = "Accepted";
/// Every service that should know it has said that it applies it.
pub const PROGRAMMED: &str = "Programmed";

/// One statement about an object, with the generation it is made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// What it is about: `Accepted` or `Programmed`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Whether it is so.
    pub status: ConditionStatus,
    /// The generation of the object that was looked at.
    #[schemars(range(min = 0))]
    pub observed_generation: i64,
    /// Since when the status is what it is.
    pub last_transition_time: String,
    /// Why, in one word for programs.
    #[schemars(length(min = 1, max = 1024))]
    pub reason: String,
    /// Why, in a sentence for people.
    #[schemars(length(max = 32768))]
    pub message: String,
}

/// Whether a condition holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ConditionStatus {
    /// It does.
    True,
    /// It does not.
    False,
    /// It can't be known now.
    Unknown,
}

impl ConditionStatus {
    /// Whether it is [`ConditionStatus::True`].
    pub const fn is_true(self) -> bool {
        matches!(self, Self::True)
    }
}

impl From<bool> for ConditionStatus {
    fn from(holds: bool) -> Self {
        if holds { Self::True } else { Self::False }
    }
}

/// What there is to say of a condition, before it is known since when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Whether it is so.
    pub status: ConditionStatus,
    /// Why, in one word.
    pub reason: &'static str,
    /// Why, in a sentence.
    pub message: String,
}

impl Verdict {
    /// It is so.
    pub fn yes(reason: &'static str, message: impl Into<String>) -> Self {
        Self::new(ConditionStatus::True, reason, message)
    }

    /// It is not so.
    pub fn no(reason: &'static str, message: impl Into<String>) -> Self {
        Self::new(ConditionStatus::False, reason, message)
    }

    fn new(status: ConditionStatus, reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            reason,
            message: message.into(),
        }
    }

    /// The condition. The time of the former one stays if its status does.
    pub fn condition(
        &self,
        kind: &str,
        generation: i64,
        former: Option<&Condition>,
        now: Timestamp,
    ) -> Condition {
        let since = former
            .filter(|former| former.status == self.status)
            .map_or_else(|| seconds(now), |former| former.last_transition_time.clone());
        Condition {
            kind: kind.to_owned(),
            status: self.status,
            observed_generation: generation,
            last_transition_time: since,
            reason: self.reason.to_owned(),
            message: self.message.clone(),
        }
    }
}

/// The condition of a type among others.
pub fn find<'a>(conditions: &'a [Condition], kind: &str) -> Option<&'a Condition> {
    conditions.iter().find(|condition| condition.kind == kind)
}

/// A time as Kubernetes writes it, to the second.
pub fn seconds(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_is_that_of_the_last_transition() {
        let early: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let late: Timestamp = "2026-01-02T00:00:00.5Z".parse().unwrap();
        let first = Verdict::no("Pending", "1 of 2").condition(PROGRAMMED, 1, None, early);
        let still = Verdict::no("Pending", "2 of 3").condition(PROGRAMMED, 2, Some(&first), late);
        assert_eq!(
            (still.last_transition_time.as_str(), still.observed_generation),
            ("2026-01-01T00:00:00Z", 2)
        );
        let now = Verdict::yes("Programmed", "3 of 3").condition(PROGRAMMED, 2, Some(&still), late);
        assert_eq!(now.last_transition_time, "2026-01-02T00:00:00Z");
        assert_eq!(
            find(&[first, now.clone()], PROGRAMMED).map(|found| found.status),
            Some(ConditionStatus::False)
        );
        assert!(find(&[now], ACCEPTED).is_none());
    }
}

//! What the condition `Programmed` says.

use std::sync::Arc;

use super::acknowledged::{Acknowledged, listed};
use crate::resources::condition::{Condition, Verdict};

/// How far the policy has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// There is no PushCluster that counts, so nothing is compiled.
    NoCluster(String),
    /// The parts are right by themselves and wrong together.
    Wrong(String),
    /// The snapshot could not be stored, or nobody could be asked.
    RedisAway(String),
    /// The snapshot is in Redis.
    Stored {
        /// Its revision.
        revision: Arc<str>,
        /// Who says what.
        acknowledged: Acknowledged,
    },
}

impl Progress {
    /// What it means for the policy as a whole.
    pub(crate) fn verdict(&self) -> Verdict {
        match self {
            Self::NoCluster(why) => {
                Verdict::no("NoCluster", format!("{why}; the last policy stays in force"))
            }
            Self::Wrong(why) => Verdict::no("Invalid", format!("{why}; the last policy stays in force")),
            Self::RedisAway(why) => Verdict::no(
                "RedisUnavailable",
                format!("{why}; the last policy stays in force, and it is tried again"),
            ),
            Self::Stored {
                revision,
                acknowledged,
            } => {
                let (applied, pending) = acknowledged.of(revision);
                let (all, oddities) = (applied.len() + pending.len(), acknowledged.oddities());
                if all == 0 {
                    Verdict::no(
                        "NoServices",
                        format!("no gateway, dispatcher or ingest is there to apply it{oddities}"),
                    )
                } else if pending.is_empty() {
                    Verdict::yes("Programmed", format!("applied by {all} of {all}{oddities}"))
                } else {
                    Verdict::no(
                        "Pending",
                        format!(
                            "applied by {} of {all}; waiting for {}{oddities}",
                            applied.len(),
                            listed(&pending)
                        ),
                    )
                }
            }
        }
    }
}

/// What it means for one object. `None`: what its condition says stays true.
///
/// An object that was applied everywhere once stays so until it changes; otherwise every change of one object would be
/// written on all of them.
pub(crate) fn of_object(
    accepted: bool,
    overall: &Verdict,
    former: Option<&Condition>,
    generation: i64,
) -> Option<Verdict> {
    if !accepted {
        return Some(Verdict::no("NotAccepted", "the condition Accepted says why"));
    }
    let applied_once =
        former.is_some_and(|former| former.status.is_true() && former.observed_generation == generation);
    if applied_once {
        return None;
    }
    if overall.status.is_true() {
        return Some(Verdict::yes("Programmed", "every service applies it"));
    }
    Some(overall.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::condition::PROGRAMMED;

    fn progress(applied: &[(&str, &str)]) -> Progress {
        let mut acknowledged = Acknowledged::default();
        for (name, revision) in applied {
            acknowledged
                .counted
                .insert((*name).to_owned(), ("gateway", (*revision).to_owned()));
        }
        Progress::Stored {
            revision: "new".into(),
            acknowledged,
        }
    }

    #[test]
    fn all_of_them_or_not_yet() {
        let verdict = progress(&[("a", "new"), ("b", "old")]).verdict();
        assert_eq!(
            (verdict.reason, verdict.message.as_str()),
            ("Pending", "applied by 1 of 2; waiting for b")
        );
        let verdict = progress(&[("a", "new"), ("b", "new")]).verdict();
        assert!(verdict.status.is_true());
        assert_eq!(verdict.message, "applied by 2 of 2");
        assert_eq!(progress(&[]).verdict().reason, "NoServices");
        let away = Progress::RedisAway("refused".to_owned()).verdict();
        assert!(
            away.message.contains("the last policy stays in force"),
            "{}",
            away.message
        );
    }

    #[test]
    fn what_was_applied_once_stays_so_until_it_changes() {
        let (pending, done) = (
            progress(&[("a", "old")]).verdict(),
            progress(&[("a", "new")]).verdict(),
        );
        let now = k8s_openapi::jiff::Timestamp::UNIX_EPOCH;
        let applied = done.condition(PROGRAMMED, 1, None, now);
        let reason = |accepted, overall, former, generation| {
            of_object(accepted, overall, former, generation).map(|verdict| verdict.reason)
        };
        assert_eq!(reason(true, &pending, None, 1), Some("Pending"));
        assert_eq!(reason(true, &done, None, 1), Some("Programmed"));
        assert_eq!(reason(true, &pending, Some(&applied), 1), None);
        assert_eq!(reason(true, &pending, Some(&applied), 2), Some("Pending"));
        assert_eq!(reason(false, &done, Some(&applied), 1), Some("NotAccepted"));
    }
}

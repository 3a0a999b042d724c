//! Events: what a person should know, once, where `kubectl describe` shows it.

use k8s_openapi::api::core::v1::ObjectReference;
use kube::{
    Client,
    runtime::events::{Event, EventType, Recorder, Reporter},
};

/// The longest note that the API takes, in bytes.
const LONGEST_NOTE: usize = 1000;

/// Tells events.
#[derive(Clone)]
pub(crate) struct Events {
    recorder: Recorder,
}

impl std::fmt::Debug for Events {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Events")
    }
}

/// Something to tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Told {
    /// Whether somebody should look.
    pub(crate) warning: bool,
    /// In one word.
    pub(crate) reason: &'static str,
    /// In a sentence.
    pub(crate) note: String,
}

impl Told {
    /// Nothing to worry about.
    pub(crate) fn normal(reason: &'static str, note: impl Into<String>) -> Self {
        Self {
            warning: false,
            reason,
            note: note.into(),
        }
    }

    /// Somebody should look.
    pub(crate) fn warning(reason: &'static str, note: impl Into<String>) -> Self {
        Self {
            warning: true,
            reason,
            note: note.into(),
        }
    }
}

impl Events {
    /// Events that this process reports.
    pub(crate) fn new(client: Client, instance: &str) -> Self {
        let reporter = Reporter {
            controller: "carillon-operator".to_owned(),
            instance: Some(instance.to_owned()),
        };
        Self {
            recorder: Recorder::new(client, reporter),
        }
    }

    /// Tells it of an object. An Event that can't be written is in the log only: nothing depends on it.
    pub(crate) async fn tell(&self, about: &ObjectReference, told: Told) {
        let name = about.name.as_deref().unwrap_or_default();
        let kind = about.kind.as_deref().unwrap_or_default();
        if told.warning {
            tracing::warn!(kind, name, reason = told.reason, "{}", told.note);
        } else {
            tracing::info!(kind, name, reason = told.reason, "{}", told.note);
        }
        let event = Event {
            type_: if told.warning {
                EventType::Warning
            } else {
                EventType::Normal
            },
            reason: told.reason.to_owned(),
            note: Some(shortened(told.note)),
            action: "Reconcile".to_owned(),
            secondary: None,
        };
        if let Err(error) = self.recorder.publish(&event, about).await {
            tracing::debug!(kind, name, %error, "the Event could not be written");
        }
    }
}

fn shortened(mut note: String) -> String {
    if note.len() > LONGEST_NOTE {
        let mut end = LONGEST_NOTE - '…'.len_utf8();
        while !note.is_char_boundary(end) {
            end -= 1;
        }
        note.truncate(end);
        note.push('…');
    }
    note
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_note_is_cut_between_characters() {
        let note = shortened("é".repeat(900));
        assert!(
            note.len() <= LONGEST_NOTE && note.ends_with('…'),
            "{}",
            note.len()
        );
        assert_eq!(shortened("short".to_owned()), "short");
    }
}

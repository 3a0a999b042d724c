//! The memory gate of a process: who looks, and who is told.

use carillon_broker::{Growth, MemoryGate, MemoryLimits, SharedBroker};
use carillon_chassis::{health::Health, run::Chassis};
use tokio::sync::watch;

use crate::settings::Settings;

/// The gate that everything of this process asks before Redis grows. It is watched, and `/readyz` has a note while it
/// refuses something.
pub(crate) fn watched_gate(chassis: &Chassis<Settings>, broker: &SharedBroker) -> anyhow::Result<MemoryGate> {
    let limits = MemoryLimits {
        messages: chassis.settings.ingest.memory_share,
        joins: chassis.settings.gateway.memory_share,
    };
    let gate = MemoryGate::new(limits)?;
    gate.register(chassis.metrics.registry())?;
    let (watching, broker) = (gate.clone(), broker.clone());
    tokio::spawn(async move { watching.watch(&*broker).await });
    tokio::spawn(keep_noting(gate.closed(), limits, chassis.health.clone()));
    Ok(gate)
}

async fn keep_noting(mut closed: watch::Receiver<Vec<Growth>>, limits: MemoryLimits, health: Health) {
    loop {
        let note = note(&closed.borrow_and_update(), &limits);
        health.note("memory", note.map(Into::into));
        if closed.changed().await.is_err() {
            return;
        }
    }
}

fn note(refused: &[Growth], limits: &MemoryLimits) -> Option<String> {
    let words = [
        (
            Growth::Message,
            "messages of producers and clients are refused, and lists wait",
        ),
        (Growth::Room, "rooms nobody here is in are not joined"),
        (Growth::Session, "nobody is let in"),
    ];
    let told: Vec<String> = words
        .iter()
        .filter(|(growth, _)| refused.contains(growth))
        .map(|(growth, words)| format!("{words} (over {:.0} %)", limits.of(*growth) * 100.0))
        .collect();
    (!told.is_empty()).then(|| {
        format!(
            "Redis is nearly full: {}; free memory, raise maxmemory, or shorten histories",
            told.join(", ")
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_note_names_what_is_refused() {
        let limits = MemoryLimits::default();
        assert_eq!(note(&[], &limits), None);
        assert_eq!(
            note(&[Growth::Message, Growth::ListItem], &limits).unwrap(),
            "Redis is nearly full: messages of producers and clients are refused, and lists wait (over 80 %); \
             free memory, raise maxmemory, or shorten histories"
        );
        let all = note(&Growth::ALL, &limits).unwrap();
        assert!(
            all.contains("not joined (over 90 %), nobody is let in (over 95 %)"),
            "{all}"
        );
    }
}

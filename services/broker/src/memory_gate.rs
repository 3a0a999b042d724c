//! One gate before everything that makes Redis grow.
//!
//! A full Redis is refused from the outside in: first messages, then joins of rooms that nobody here is in, and at last
//! new sessions. What drains (records, channels, trims, dead letters, leases, what was joined already) never asks, and so
//! has the rest of the memory for itself.
//!
//! The gate tells what the last look at all servers saw; asking it costs nothing. [`MemoryGate::watch`] looks, and the
//! nearer memory is to the first limit, the more often. Between two looks memory can grow by what arrives in that time,
//! and by what was let through and is still on its way.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use prometheus::{Gauge, IntCounterVec, IntGaugeVec, Opts, Registry};
use tokio::{sync::watch, time::Instant};

use crate::{Health, Pressure};

/// Between two looks while there is plenty of room.
const LOOK: Duration = Duration::from_secs(1);
/// Between two looks once half of the room below the first limit is taken.
const LOOK_NEAR: Duration = Duration::from_millis(100);
/// How long a server that does not answer is taken to be as full as it was.
const REMEMBERED: Duration = Duration::from_secs(30);

/// What makes the broker's memory grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Growth {
    /// A message of a producer or a client.
    Message,
    /// An item of a plain list, on its way to a queue.
    ListItem,
    /// A route of a room that this process does not hold yet.
    Room,
    /// People who came into rooms with presence.
    Presence,
    /// A new session, with its rooms by identity and those of its cursors.
    Session,
}

impl Growth {
    /// All of them, for metrics.
    pub const ALL: [Self; 5] = [
        Self::Message,
        Self::ListItem,
        Self::Room,
        Self::Presence,
        Self::Session,
    ];

    /// The word, as a metric label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Message => "message",
            Self::ListItem => "list_item",
            Self::Room => "room",
            Self::Presence => "presence",
            Self::Session => "session",
        }
    }
}

/// Used shares of the memory, from 0 to 1, above which growth is refused.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MemoryLimits {
    /// Messages and items of lists.
    pub messages: f64,
    /// Rooms nobody here is in yet, and presence. Sessions are refused half-way from here to full.
    pub joins: f64,
}

impl MemoryLimits {
    /// Nothing is ever refused.
    pub const NONE: Self = Self {
        messages: f64::INFINITY,
        joins: f64::INFINITY,
    };

    /// The share above which this growth is refused.
    pub fn of(&self, growth: Growth) -> f64 {
        match growth {
            Growth::Message | Growth::ListItem => self.messages,
            Growth::Room | Growth::Presence => self.joins,
            Growth::Session => f64::midpoint(self.joins, 1.0).max(self.joins),
        }
    }
}

impl Default for MemoryLimits {
    fn default() -> Self {
        Self {
            messages: 0.8,
            joins: 0.9,
        }
    }
}

/// Something that would make the broker's memory grow was refused.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[error("Redis uses {:.0} % of its memory, over {:.0} % this is refused", .used * 100.0, .limit * 100.0)]
pub struct MemoryFull {
    /// Used share of the fullest server.
    pub used: f64,
    /// The share above which it is refused.
    pub limit: f64,
}

impl MemoryFull {
    /// After how long it may be tried again.
    pub const RETRY_AFTER: Duration = Duration::from_secs(5);
}

/// Asked before the broker's memory grows. Clones are one gate.
#[derive(Clone, Debug)]
pub struct MemoryGate(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    limits: MemoryLimits,
    used: watch::Sender<f64>,
    closed: watch::Sender<Vec<Growth>>,
    /// When all servers last answered.
    complete: Mutex<Option<Instant>>,
    metrics: MemoryGateMetrics,
}

#[derive(Clone, Debug)]
struct MemoryGateMetrics {
    used: Gauge,
    closed: IntGaugeVec,
    refusals: IntCounterVec,
}

impl MemoryGateMetrics {
    fn new() -> Result<Self, prometheus::Error> {
        let named = |name: &str, help: &str| Opts::new(format!("carillon_redis_memory_{name}"), help);
        let closed = named(
            "closed",
            "Whether this kind of growth is refused at the moment by Redis' memory: 1 or 0.",
        );
        let refusals = named(
            "refusals_total",
            "Times something that makes Redis grow was refused, or made to wait, by its memory.",
        );
        let metrics = Self {
            used: Gauge::with_opts(named(
                "ratio",
                "Used share of maxmemory on the fullest server as this process saw it last; 0 without a limit.",
            ))?,
            closed: IntGaugeVec::new(closed, &["growth"])?,
            refusals: IntCounterVec::new(refusals, &["growth"])?,
        };
        for growth in Growth::ALL {
            metrics.closed.with_label_values(&[growth.as_str()]);
            metrics.refusals.with_label_values(&[growth.as_str()]);
        }
        Ok(metrics)
    }
}

impl MemoryGate {
    /// A gate that is open until somebody looked. Fails only if its metrics can't be made.
    pub fn new(limits: MemoryLimits) -> Result<Self, prometheus::Error> {
        Ok(Self(Arc::new(Shared {
            limits,
            used: watch::Sender::new(0.0),
            closed: watch::Sender::default(),
            complete: Mutex::new(None),
            metrics: MemoryGateMetrics::new()?,
        })))
    }

    /// Shows what it saw and refused in a registry; fails if a name is taken.
    pub fn register(&self, registry: &Registry) -> Result<(), prometheus::Error> {
        let metrics = &self.0.metrics;
        registry.register(Box::new(metrics.used.clone()))?;
        registry.register(Box::new(metrics.closed.clone()))?;
        registry.register(Box::new(metrics.refusals.clone()))
    }

    /// Whether the broker may grow in this way. Counts what is refused.
    pub fn ask(&self, growth: Growth) -> Result<(), MemoryFull> {
        let (used, limit) = (self.used(), self.0.limits.of(growth));
        if used <= limit {
            return Ok(());
        }
        self.0
            .metrics
            .refusals
            .with_label_values(&[growth.as_str()])
            .inc();
        Err(MemoryFull { used, limit })
    }

    /// Used share of the fullest server, as it was seen last; 0 before the first look.
    pub fn used(&self) -> f64 {
        *self.0.used.borrow()
    }

    /// What is refused, as it changes.
    pub fn closed(&self) -> watch::Receiver<Vec<Growth>> {
        self.0.closed.subscribe()
    }

    /// Takes in what a look saw. Where some servers did not answer, memory is not taken to have become less for a while:
    /// the one that is silent may be the one that is full.
    pub fn saw(&self, pressure: Pressure) {
        let Shared {
            limits,
            used,
            closed,
            complete,
            metrics,
        } = &*self.0;
        let mut memory = pressure.memory;
        {
            let mut complete = complete.lock();
            let now = Instant::now();
            if pressure.complete {
                *complete = Some(now);
            } else if complete.is_some_and(|at| now.duration_since(at) < REMEMBERED) {
                memory = memory.max(self.used());
            }
        }
        used.send_replace(memory);
        metrics.used.set(memory);
        let refused: Vec<Growth> = Growth::ALL
            .into_iter()
            .filter(|growth| memory > limits.of(*growth))
            .collect();
        for growth in Growth::ALL {
            let gauge = metrics.closed.with_label_values(&[growth.as_str()]);
            gauge.set(i64::from(refused.contains(&growth)));
        }
        closed.send_if_modified(|before| {
            if *before == refused {
                return false;
            }
            let words: Vec<&str> = refused.iter().map(|growth| growth.as_str()).collect();
            if words.is_empty() {
                tracing::warn!(memory, "nothing is refused by the broker's memory any more");
            } else {
                tracing::warn!(
                    memory,
                    refused = words.join(", "),
                    "refusing by the broker's memory"
                );
            }
            *before = refused;
            true
        });
    }

    /// Looks at the broker's memory for as long as it is polled. While no server answers, what was seen last counts.
    pub async fn watch(&self, broker: &(impl Health + ?Sized)) {
        loop {
            let pause = match broker.pressure().await {
                Ok(pressure) => {
                    self.saw(pressure);
                    self.pause()
                }
                Err(error) => {
                    tracing::debug!(%error, "the broker's memory can't be looked at");
                    LOOK
                }
            };
            tokio::time::sleep(pause).await;
        }
    }

    /// How long the next look may wait.
    fn pause(&self) -> Duration {
        let limits = &self.0.limits;
        if self.used() > limits.messages.min(limits.joins) / 2.0 {
            LOOK_NEAR
        } else {
            LOOK
        }
    }
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;

    use super::*;
    use crate::{BrokerError, Incarnation, Lives};

    fn gate() -> MemoryGate {
        MemoryGate::new(MemoryLimits::default()).unwrap()
    }

    fn seen(memory: f64, complete: bool) -> Pressure {
        Pressure { memory, complete }
    }

    fn refused(gate: &MemoryGate) -> Vec<Growth> {
        let asked = Growth::ALL.into_iter();
        asked.filter(|growth| gate.ask(*growth).is_err()).collect()
    }

    #[test]
    fn a_full_server_is_refused_from_the_outside_in() {
        use Growth::{ListItem, Message, Presence, Room, Session};
        let gate = gate();
        for (memory, expected) in [
            (0.8, vec![]),
            (0.81, vec![Message, ListItem]),
            (0.91, vec![Message, ListItem, Room, Presence]),
            (0.96, vec![Message, ListItem, Room, Presence, Session]),
            (0.5, vec![]),
        ] {
            gate.saw(seen(memory, true));
            assert_eq!(refused(&gate), expected, "{memory}");
            assert_eq!(*gate.closed().borrow(), expected, "{memory}");
        }
        let full = MemoryFull {
            used: 0.851,
            limit: 0.8,
        };
        assert_eq!(
            full.to_string(),
            "Redis uses 85 % of its memory, over 80 % this is refused"
        );
    }

    #[test]
    fn limits_without_a_number_refuse_nothing() {
        let gate = MemoryGate::new(MemoryLimits::NONE).unwrap();
        gate.saw(seen(2.0, true));
        assert!(refused(&gate).is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_server_may_be_the_full_one() {
        let gate = gate();
        gate.saw(seen(0.85, true));
        gate.saw(seen(0.1, false));
        assert!(gate.ask(Growth::Message).is_err(), "the full one did not answer");
        gate.saw(seen(0.97, false));
        assert!(gate.ask(Growth::Session).is_err(), "more is believed at once");
        tokio::time::advance(REMEMBERED).await;
        gate.saw(seen(0.1, false));
        assert!(refused(&gate).is_empty(), "it does not come back");
    }

    #[derive(Default)]
    struct Filling {
        looks: Mutex<Vec<Instant>>,
        memory: Mutex<Option<f64>>,
    }

    #[async_trait]
    impl Health for Filling {
        async fn lives(&self, _: Option<&Incarnation>) -> crate::Result<Lives> {
            Err(BrokerError::Unavailable("not asked".to_owned()))
        }

        async fn pressure(&self) -> crate::Result<Pressure> {
            self.looks.lock().push(Instant::now());
            match *self.memory.lock() {
                Some(memory) => Ok(seen(memory, true)),
                None => Err(BrokerError::Unavailable("gone".to_owned())),
            }
        }

        async fn check(&self) -> crate::Result<()> {
            Ok(())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn it_looks_more_often_the_nearer_the_limit() {
        let (gate, broker) = (gate(), Filling::default());
        let looks = async |memory: Option<f64>| {
            *broker.memory.lock() = memory;
            // The first look is what changes the pace.
            let _ = tokio::time::timeout(LOOK / 2, gate.watch(&broker)).await;
            broker.looks.lock().clear();
            let span = LOOK * 10 - LOOK / 2 - LOOK_NEAR / 2;
            let _ = tokio::time::timeout(span, gate.watch(&broker)).await;
            broker.looks.lock().len()
        };
        assert_eq!(looks(Some(0.4)).await, 10);
        assert_eq!(looks(Some(0.41)).await, 95);
        assert_eq!(looks(Some(0.85)).await, 95);
        assert_eq!(looks(None).await, 10);
        assert!(gate.ask(Growth::Message).is_err(), "what was seen last counts");
    }
}

//! States to all gateways who of this one is in rooms with presence.
//!
//! Changes are gathered for a moment and stated together, one call per partition. What was not certainly stated is
//! stated again, as it is by then. Every statement has a number greater than those before, so that one that was stuck
//! on its way changes nothing when it arrives at last.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use carillon_broker::{BrokerError, Growth, Life, MemoryGate, Presence, PresenceStatement, SharedBroker};
use carillon_model::Partition;
use futures::stream::{self, StreamExt};
use tokio::{sync::Notify, time::Instant};

use super::PresenceDesk;
use crate::hub::{HubSettings, metrics::HubMetrics, standing::Standing, wake::sleep_until};

/// Calls under way at once.
const SIDE_BY_SIDE: usize = 8;
/// Rooms in one call, and people after which it is full.
const ROOMS_PER_CALL: usize = 64;
const PEOPLE_PER_CALL: usize = 5_000;
/// How long people who came wait while the broker's memory is nearly full.
const MEMORY_RETRY: Duration = Duration::from_secs(1);
/// How long changes are gathered.
const GATHER: Duration = Duration::from_millis(50);

/// The task.
pub(in crate::hub) struct PresenceKeeper {
    pub(in crate::hub) broker: SharedBroker,
    pub(in crate::hub) memory_gate: MemoryGate,
    pub(in crate::hub) desk: Arc<PresenceDesk>,
    pub(in crate::hub) standing: Standing,
    pub(in crate::hub) settings: HubSettings,
    pub(in crate::hub) metrics: HubMetrics,
    pub(in crate::hub) look_at_lives: Arc<Notify>,
}

struct Call {
    partition: Partition,
    number: u64,
    statements: Vec<PresenceStatement>,
}

impl PresenceKeeper {
    /// Runs until the gateway ends.
    pub(in crate::hub) async fn run(self) {
        let mut number = 0;
        let mut refresh: Option<Instant> = None;
        let mut retry: Option<Instant> = None;
        loop {
            let end = {
                let own = self.desk.own.lock();
                if own.is_empty() {
                    refresh = None;
                } else if refresh.is_none() {
                    refresh = Some(Instant::now() + self.settings.presence_refresh);
                }
                own.next_end()
            };
            let wake = [end, refresh, retry].into_iter().flatten().min();
            tokio::select! {
                biased;
                () = self.desk.stated.notified() => {}
                () = sleep_until(wake) => {}
            }
            tokio::time::sleep(GATHER).await;
            let now = Instant::now();
            let statements = {
                let mut own = self.desk.own.lock();
                own.let_go(now);
                if refresh.is_some_and(|at| at <= now) {
                    refresh = None;
                    own.state_whole(|_| true);
                }
                own.take_unstated()
            };
            let (statements, waiting) = self.within_memory(statements);
            let calls = self.calls(statements, &mut number);
            let failed = self.state(calls).await;
            let retries = [
                failed.then_some(self.settings.retry),
                waiting.then_some(MEMORY_RETRY),
            ];
            retry = retries
                .into_iter()
                .flatten()
                .min()
                .map(|pause| Instant::now() + pause);
            let rooms = self.desk.own.lock().len();
            self.metrics
                .presence_rooms
                .set(i64::try_from(rooms).unwrap_or(i64::MAX));
        }
    }

    /// While the broker's memory is nearly full, whoever came is stated later; who went, and what was stated before, is
    /// stated still. `true`: something waits.
    fn within_memory(&self, statements: Vec<PresenceStatement>) -> (Vec<PresenceStatement>, bool) {
        let grows = |statement: &PresenceStatement| {
            !statement.whole && statement.people.iter().any(|(_, count)| count.is_some())
        };
        if !statements.iter().any(grows) || self.memory_gate.ask(Growth::Presence).is_ok() {
            return (statements, false);
        }
        let mut own = self.desk.own.lock();
        let mut stated = Vec::new();
        for statement in statements {
            if !grows(&statement) {
                stated.push(statement);
                continue;
            }
            let PresenceStatement { room, whole, people } = statement;
            let (came, went): (Vec<_>, Vec<_>) = people.into_iter().partition(|(_, count)| count.is_some());
            let of = |room, people| PresenceStatement { room, whole, people };
            own.was_not_stated(of(room.clone(), came));
            if !went.is_empty() {
                stated.push(of(room, went));
            }
        }
        (stated, true)
    }

    fn calls(&self, statements: Vec<PresenceStatement>, number: &mut u64) -> Vec<Call> {
        let mut open: BTreeMap<Partition, Vec<PresenceStatement>> = BTreeMap::new();
        let mut calls = Vec::new();
        let mut close = |partition, statements| {
            *number += 1;
            calls.push(Call {
                partition,
                number: *number,
                statements,
            });
        };
        for statement in statements {
            let partition = self.desk.partitions.partition_of(&statement.room);
            let together = open.entry(partition).or_default();
            together.push(statement);
            let people: usize = together.iter().map(|statement| statement.people.len()).sum();
            if together.len() >= ROOMS_PER_CALL || people >= PEOPLE_PER_CALL {
                close(partition, std::mem::take(together));
            }
        }
        for (partition, statements) in open {
            if !statements.is_empty() {
                close(partition, statements);
            }
        }
        calls
    }

    /// Whether anything has to be tried again.
    async fn state(&self, calls: Vec<Call>) -> bool {
        let view = self.standing.view();
        let mut answers = stream::iter(calls)
            .map(|call| async {
                let stated = Presence::state_presence(
                    &*self.broker,
                    call.partition,
                    &view.incarnation,
                    call.number,
                    &call.statements,
                );
                (stated.await, call)
            })
            .buffer_unordered(SIDE_BY_SIDE);
        let mut failed = false;
        while let Some((answer, call)) = answers.next().await {
            failed |= !self.finish(answer, call);
        }
        failed
    }

    fn finish(&self, answer: Result<Life, BrokerError>, call: Call) -> bool {
        let mut own = self.desk.own.lock();
        match answer {
            Ok(life) if self.standing.view().life(call.partition) == Some(&life) => {
                for statement in &call.statements {
                    own.was_stated(&statement.room, Instant::now());
                }
                return true;
            }
            // Another life than the known one may lack what was stated before.
            Ok(_) => self.look_at_lives.notify_one(),
            Err(error) => {
                tracing::debug!(%error, "stating presence failed; trying again");
                self.metrics
                    .broker_errors
                    .with_label_values(&[error.kind()])
                    .inc();
            }
        }
        for statement in call.statements {
            own.was_not_stated(statement);
        }
        false
    }
}

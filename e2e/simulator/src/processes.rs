//! Gateways and dispatchers that can be stalled, killed and replaced.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use carillon_broker::{Incarnation, MemoryGate, MemoryLimits, Result, memory::ops};
use carillon_dispatcher::{
    Dispatcher, DispatcherMetrics, DispatcherMutations, DispatcherParts, DispatcherSettings, Sabotage,
};
use carillon_gateway::hub::{Hub, HubMetrics, HubMutations, HubParts, HubSettings, HubTasks};
use carillon_model::{Offset, Partition, Room, policy::Policy};
use tokio::{sync::watch, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::{
    broker::SimulatedBroker,
    mix::{Fault, Mix, Mutation},
    network::{Condition, Network},
};

/// What all processes of a schedule share.
#[derive(Debug)]
pub struct Setting {
    /// The servers.
    pub network: Arc<Network>,
    /// What is allowed and kept.
    pub policy: watch::Receiver<Arc<Policy>>,
    /// The faults.
    pub mix: Mix,
    /// The rule that is broken.
    pub mutation: Option<Mutation>,
}

/// A gateway.
#[derive(Debug)]
pub struct Gateway {
    /// Its number.
    pub number: usize,
    /// Its hub.
    pub hub: Hub,
    /// How it is doing.
    pub condition: Arc<Condition>,
    _tasks: HubTasks,
}

impl Gateway {
    /// Starts one.
    #[allow(clippy::expect_used)] // a fresh registry has no names taken
    pub fn start(setting: &Setting, number: usize, slowness: u32, random: &mut fastrand::Rng) -> Self {
        let condition = Condition::new(slowness);
        let broker = Arc::new(SimulatedBroker::new(&setting.network, &condition));
        let metrics = HubMetrics::new(&prometheus::Registry::new()).expect("a fresh registry");
        let parts = HubParts {
            broker,
            memory_gate: open_gate(),
            policy: setting.policy.clone(),
            settings: hub_settings(setting, number, random),
            metrics,
            random: fastrand::Rng::with_seed(random.u64(..)),
            mutations: hub_mutations(setting.mutation),
        };
        let (hub, tasks) = Hub::start(parts);
        Self {
            number,
            hub,
            condition,
            _tasks: tasks,
        }
    }
}

/// Simulated servers never run full.
#[allow(clippy::expect_used)] // the names of its metrics are fixed
fn open_gate() -> MemoryGate {
    MemoryGate::new(MemoryLimits::NONE).expect("a gate")
}

/// Everything that takes seconds in a service takes tenths of them here, so that a short schedule sees all of it.
fn hub_settings(setting: &Setting, number: usize, random: &mut fastrand::Rng) -> HubSettings {
    let small_outbox = setting.mix.has(Fault::SmallOutbox) && random.bool();
    // Half of the gateways keep next to nothing in memory, so that they have to read.
    let tail = if random.bool() { 0 } else { 2_000 };
    HubSettings {
        shards: 1 + random.usize(..2),
        outbox_bytes: if small_outbox { 500 } else { 1 << 20 },
        tail_bytes: tail,
        page_entries: 2,
        linger: Duration::from_millis(if setting.mix.has(Fault::Churn) { 60 } else { 500 }),
        route_refresh: Duration::from_secs(1_000_000),
        alive_for: Duration::from_millis(1500),
        renew: Duration::from_millis(300),
        look_at_lives: Duration::from_millis(150),
        second_look: Duration::from_millis(1500),
        doubt: Duration::from_millis(1200),
        report: Duration::from_secs(5),
        channel_block: Duration::from_millis(500),
        watchdog: Duration::from_secs(20),
        retry: Duration::from_millis(20),
        ..HubSettings::new(format!("gateway-{number}"))
    }
}

fn hub_mutations(mutation: Option<Mutation>) -> HubMutations {
    HubMutations {
        join_reads_before_routing: mutation == Some(Mutation::JoinReadsBeforeRouting),
        reassert_without_catch_up: mutation == Some(Mutation::ReassertWithoutCatchUp),
        filter_without_session_cursor: mutation == Some(Mutation::FilterWithoutSessionCursor),
        prev_check_removed: mutation == Some(Mutation::PrevCheckRemoved),
        join_stops_at_first_late_frame: mutation == Some(Mutation::JoinStopsAtFirstLateFrame),
        always_false: mutation == Some(Mutation::AlwaysFalse),
        false_instead_of_replay: mutation == Some(Mutation::FalseInsteadOfReplay),
    }
}

/// A dispatcher.
#[derive(Debug)]
pub struct DispatcherProcess {
    /// How it is doing.
    pub condition: Arc<Condition>,
    task: JoinHandle<()>,
}

impl DispatcherProcess {
    /// Starts one.
    #[allow(clippy::expect_used)] // a fresh registry has no names taken
    pub fn start(setting: &Setting, number: usize, slowness: u32, random: &mut fastrand::Rng) -> Self {
        let condition = Condition::new(slowness);
        let broker = SimulatedBroker::new(&setting.network, &condition);
        let settings = DispatcherSettings {
            pod: format!("dispatcher-{number}"),
            alive_for: Duration::from_millis(1500),
            renew_alive_every: Duration::from_millis(300),
            survey_every: Duration::from_millis(200),
            judge_processes_after: Duration::from_secs(3),
            lease_for: Duration::from_millis(800),
            renew_lease_every: Duration::from_millis(250),
            call_timeout: Duration::from_secs(20),
            read_block: Duration::from_millis(500),
            batch_entries: 3,
            channel_bytes: if setting.mix.has(Fault::Overrun) {
                400
            } else {
                1 << 20
            },
            channel_patience: Duration::from_millis(600),
            pause_least: Duration::from_millis(10),
            pause_most: Duration::from_millis(80),
            probe_every: Duration::from_secs(2),
            ..DispatcherSettings::default()
        };
        let metrics = DispatcherMetrics::new(&prometheus::Registry::new()).expect("a fresh registry");
        let mutations = dispatcher_mutations(setting.mutation, &broker);
        let dispatcher = Dispatcher::new(DispatcherParts {
            broker: Arc::new(broker),
            memory_gate: open_gate(),
            policy: setting.policy.clone(),
            settings,
            metrics,
            random: fastrand::Rng::with_seed(random.u64(..)),
            mutations,
        });
        let task = tokio::spawn(dispatcher.run(CancellationToken::new()));
        Self { condition, task }
    }
}

impl Drop for DispatcherProcess {
    /// A killed process does nothing more.
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn dispatcher_mutations(mutation: Option<Mutation>, broker: &SimulatedBroker) -> DispatcherMutations {
    let saboteur = || Some(Arc::new(Saboteur(broker.clone())) as Arc<dyn Sabotage>);
    DispatcherMutations {
        routes_before_history: (mutation == Some(Mutation::HistoryAfterRoutes))
            .then(saboteur)
            .flatten(),
        consuming_read: mutation == Some(Mutation::ConsumingRead),
        trim_before_channels: mutation == Some(Mutation::TrimBeforeChannels),
        unfenced_trim: (mutation == Some(Mutation::UnfencedTrim))
            .then(saboteur)
            .flatten(),
        park_in_memory: mutation == Some(Mutation::ParkInMemory),
        mark_after_trim: mutation == Some(Mutation::MarkAfterTrim),
        keep_prev_over_lease: mutation == Some(Mutation::PrevMapKeptOverLease),
    }
}

/// What broken dispatchers need of a broker and no broker offers.
struct Saboteur(SimulatedBroker);

#[async_trait]
impl Sabotage for Saboteur {
    async fn read_routes(
        &self,
        partition: Partition,
        rooms: &[Room],
    ) -> Result<Vec<(Room, Arc<[Incarnation]>)>> {
        let server = self.0.of_partition(partition);
        self.0
            .connections()
            .read(server, |state, now| {
                ops::rooms::routes(state, now, partition, rooms)
            })
            .await
    }

    async fn trim_unfenced(&self, partition: Partition, upto: Offset) -> Result<()> {
        let server = self.0.of_partition(partition);
        self.0
            .connections()
            .write(server, |state, now| {
                ops::queue::trim_unfenced(state, now, partition, upto)
            })
            .await
    }
}

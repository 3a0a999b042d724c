//! One run, from seed to verdict.

use std::{sync::Arc, time::Duration};

use carillon_model::{MessageId, Offset, PartitionCount, Room, policy::Policy};
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};

use crate::{
    audit::{Audit, Violation},
    broker::SimulatedBroker,
    client::Client,
    mix::{Fault, Mix, Mutation},
    network::{Condition, Manners, Network},
    processes::{DispatcherProcess, Gateway, Setting},
    producer,
};

/// What came of a schedule.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// Promises broken; none is what we want.
    pub violations: Vec<Violation>,
    /// Recoveries told complete.
    pub trues: u64,
    /// Gaps told.
    pub falses: u64,
    /// Gaps told to a client that missed nothing.
    pub needless: u64,
    /// Messages accepted.
    pub accepted: usize,
    /// Everything that happened, if asked for.
    pub trace: Vec<String>,
}

/// Runs one schedule in virtual time.
pub fn run(mix: Mix, seed: u64, mutation: Option<Mutation>, trace: bool) -> Verdict {
    runtime().block_on(async { Schedule::new(mix, seed, mutation, trace).run().await })
}

/// Virtual time: the clock jumps to whatever is awaited next.
#[allow(clippy::expect_used)] // without a runtime there is no test
pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime")
}

pub(crate) const CLIENTS: usize = 3;
/// How long producers are waited for when faults are over.
const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) struct Schedule {
    pub(crate) setting: Setting,
    pub(crate) random: fastrand::Rng,
    pub(crate) audit: Arc<Audit>,
    pub(crate) rooms: Vec<Room>,
    pub(crate) gateways: Vec<Gateway>,
    pub(crate) dispatchers: Vec<DispatcherProcess>,
    pub(crate) clients: Vec<Client>,
    pub(crate) started: Instant,
    /// In some schedules a third of the processes is much slower than the rest.
    pub(crate) lame: bool,
    numbers: usize,
    pub(crate) failovers: u32,
    /// Whether servers may lose writes; then a needless `false` proves nothing.
    pub(crate) loses_writes: bool,
    /// Primaries that fell silent, and when each is replaced.
    pub(crate) silent: std::collections::BTreeMap<usize, Instant>,
    /// When each server failed over last.
    pub(crate) failed_over: std::collections::BTreeMap<usize, Instant>,
}

/// `a` keeps little, `b` keeps much but not for long, `n` keeps nothing.
#[allow(clippy::expect_used)] // a constant
fn policy(enough: bool) -> Policy {
    let (size, age) = if enough { (1000, "12h") } else { (3, "700ms") };
    Policy::parse_yaml(&format!(
        "anonymous: {{ sessions: true, producers: true }}\n\
         rooms:\n\
         - {{ match: a, join: anyone, history: {{ size: {size}, age: 12h }} }}\n\
         - {{ match: b, join: anyone, history: {{ size: 50, age: {age} }} }}\n\
         - {{ match: n, join: anyone, history: {{ size: 0 }} }}\n"
    ))
    .expect("a valid policy")
}

#[allow(clippy::expect_used)] // constants
pub(crate) fn room(name: &str) -> Room {
    Room::new(name).expect("a valid room")
}

impl Schedule {
    #[allow(clippy::expect_used)] // constants
    pub(crate) fn new(mix: Mix, seed: u64, mutation: Option<Mutation>, trace: bool) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let partitions = PartitionCount::new(if random.u8(..4) == 0 { 2 } else { 1 }).expect("in range");
        let loses_writes = mix.loses_writes() && !(mix.has(Fault::PromotedBack) && random.bool());
        let manners = Manners {
            latency: Duration::from_millis(8),
            lost_answers: if mix.has(Fault::LostAnswers) { 50 } else { 0 },
            split: if mix.has(Fault::Split) {
                Duration::from_secs(1)
            } else {
                Duration::ZERO
            },
            tail: if loses_writes { 25 } else { 0 },
            offsets_not_raised: mutation == Some(Mutation::OffsetsNotRaised),
            gaps_not_marked: matches!(
                mutation,
                // Without raises nobody can tell what was taken back.
                Some(Mutation::GapsNotMarked | Mutation::OffsetsNotRaised)
            ),
            identities_change: mix.has(Fault::FirstReplica),
            every_change_benign: mutation == Some(Mutation::EveryChangeBenign),
            fenced_by_name: mutation == Some(Mutation::FencedByName),
            seeds: mix.has(Fault::SilentAddress),
            one_address_asked: mutation == Some(Mutation::OneAddressAsked),
            readers_stay: mutation == Some(Mutation::ReadersStay),
            role_not_checked: mutation == Some(Mutation::RoleNotChecked),
        };
        let network = Network::new(partitions, manners, fastrand::Rng::with_seed(random.u64(..)));
        let enough = !loses_writes && random.bool() || matches!(mix.name, "calm" | "churn" | "slow-readers");
        let (_, policy) = watch::channel(Arc::new(policy(enough)));
        let lame = random.u8(..10) < 6;
        Self {
            setting: Setting {
                network,
                policy,
                mix,
                mutation,
            },
            random,
            audit: Arc::new(Audit::new(trace)),
            rooms: vec![room("a"), room("b"), room("n")],
            gateways: Vec::new(),
            dispatchers: Vec::new(),
            clients: (0..CLIENTS).map(Client::new).collect(),
            started: Instant::now(),
            lame,
            numbers: 0,
            failovers: 0,
            loses_writes,
            silent: std::collections::BTreeMap::new(),
            failed_over: std::collections::BTreeMap::new(),
        }
    }

    pub(crate) fn note(&self, line: impl FnOnce() -> String) {
        let at = self.started.elapsed().as_millis();
        self.audit.note(|| format!("{at:>7} ms  {}", line()));
    }

    fn slowness(&mut self) -> u32 {
        if self.lame && self.random.u8(..10) < 3 {
            16
        } else {
            1
        }
    }

    fn next_number(&mut self) -> usize {
        self.numbers += 1;
        self.numbers
    }

    pub(crate) fn start_gateway(&mut self) {
        let (number, slowness) = (self.next_number(), self.slowness());
        self.note(|| format!("gateway {number} starts, {slowness} times slow"));
        let gateway = Gateway::start(&self.setting, number, slowness, &mut self.random);
        self.gateways.push(gateway);
    }

    pub(crate) fn start_dispatcher(&mut self) {
        let (number, slowness) = (self.next_number(), self.slowness());
        self.note(|| format!("dispatcher {number} starts, {slowness} times slow"));
        let dispatcher = DispatcherProcess::start(&self.setting, number, slowness, &mut self.random);
        self.dispatchers.push(dispatcher);
    }

    pub(crate) fn healthy_broker(&self) -> SimulatedBroker {
        SimulatedBroker::new(&self.setting.network, &Condition::new(1))
    }

    pub(crate) fn partitions(&self) -> PartitionCount {
        carillon_broker::Broker::partitions(&self.setting.network.servers)
    }

    async fn run(mut self) -> Verdict {
        for _ in 0..2 {
            self.start_gateway();
            self.start_dispatcher();
        }
        let mut producers = tokio::task::JoinSet::new();
        for number in 0..2 {
            let (count, pause) = (self.random.usize(3..8), [30, 300, 900][self.random.usize(..3)]);
            producers.spawn(producer::produce(
                self.healthy_broker(),
                self.partitions(),
                Arc::clone(&self.audit),
                format!("p{number}"),
                self.rooms.clone(),
                count,
                Duration::from_millis(pause),
                fastrand::Rng::with_seed(self.random.u64(..)),
            ));
        }
        let least = Instant::now() + Duration::from_secs(3);
        let most = Instant::now() + Duration::from_secs(60);
        while (!producers.is_empty() || Instant::now() < least) && Instant::now() < most {
            tokio::time::sleep(Duration::from_millis(self.random.u64(5..80))).await;
            while producers.try_join_next().is_some() {}
            self.act();
        }
        self.calm_down();
        let taken = async { while producers.join_next().await.is_some() {} };
        // A broken rule may leave a producer without an answer for good.
        let _ = timeout(PATIENCE, taken).await;
        let drained = self.drained().await;
        self.finish(drained, CLIENTS).await
    }

    pub(crate) fn cut(&mut self, client: usize) {
        let audit = Arc::clone(&self.audit);
        self.clients[client].cut(&audit);
    }

    pub(crate) fn connect(&mut self, client: usize) {
        let running: Vec<usize> = (0..self.gateways.len())
            .filter(|index| !self.gateways[*index].condition.is_stalled())
            .collect();
        if running.is_empty() {
            return;
        }
        let index = running[self.random.usize(..running.len())];
        self.connect_to(client, index);
    }

    pub(crate) fn connect_to(&mut self, client: usize, index: usize) {
        let gateway = &self.gateways[index];
        let random = fastrand::Rng::with_seed(self.random.u64(..));
        let network = &self.setting.network;
        self.clients[client].connect(
            gateway.number,
            &gateway.hub,
            &self.audit,
            network,
            &self.rooms,
            random,
        );
    }

    /// Faults end; who was cut off comes back.
    pub(crate) fn calm_down(&mut self) {
        self.note(|| "quiet".to_owned());
        self.setting.network.heal();
        self.replace_silent(true);
        self.resume_dispatchers();
        for gateway in &self.gateways {
            gateway.condition.stall(false);
        }
        for client in 0..CLIENTS {
            if !self.clients[client].is_connected() {
                self.connect(client);
            }
        }
    }

    /// Waits, for a bounded time, until everything accepted is handled and what heals by itself has healed.
    pub(crate) async fn drained(&mut self) -> bool {
        let servers = &self.setting.network.servers;
        // A lease outlives its owner by as much as the server's clock went back.
        let deadline = Instant::now() + Duration::from_secs(60);
        let empty = || {
            self.partitions().partitions().all(|partition| {
                let server = servers.server_of(partition);
                servers.server_state(server).queue(partition).is_empty()
            })
        };
        loop {
            while !empty() {
                if Instant::now() >= deadline {
                    return false;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            // Longer than the second look after a failover, and than the slowest process needs for a join.
            tokio::time::sleep(Duration::from_secs(8)).await;
            // Markers of what a failover took back come after it, and may wait for a lease to run out.
            if empty() {
                return true;
            }
        }
    }

    /// First what was promised of the past, then whether everything is alive: a message to each room reaches
    /// all of these clients, counted from the first.
    pub(crate) async fn finish(mut self, drained: bool, clients: usize) -> Verdict {
        let lost = self.setting.network.ever_lost();
        let judge_falses = !self.loses_writes && self.keeps_enough();
        let mut violations = self.audit.violations(clients, &self.rooms, &lost, judge_falses);
        violations.extend(
            self.setting
                .network
                .needless_deaths()
                .into_iter()
                .map(|who| Violation {
                    promise: "alive",
                    detail: format!("{who} was declared dead, and its primary was there to be reached"),
                }),
        );
        if !drained {
            violations.push(Violation {
                promise: "liveness",
                detail: "a queue was not worked off".to_owned(),
            });
        }
        let (trues, falses) = self.audit.told_counts();
        let needless = self.audit.needless_falses(&lost);
        let accepted = self.audit.accepted_count();
        if violations.is_empty() {
            violations.extend(self.alive(clients).await);
        }
        Verdict {
            violations,
            trues,
            falses,
            needless,
            accepted,
            trace: self.audit.trace(),
        }
    }

    /// Whether histories are large and old enough to hold everything ever sent, so that nothing may be told missing.
    fn keeps_enough(&self) -> bool {
        let (policy, sent) = (self.setting.policy.borrow(), self.audit.accepted_count());
        let mut kept = self.rooms.iter().map(|room| policy.room(room).history);
        kept.all(|history| {
            !history.keeps_any() || history.size >= sent.max(50) as u64 && history.age.as_secs() >= 3600
        })
    }

    async fn alive(&mut self, clients: usize) -> Vec<Violation> {
        let broker = self.healthy_broker();
        let mut known = vec![Offset::ZERO; usize::from(self.partitions().get())];
        for (number, room) in self.rooms.clone().iter().enumerate() {
            let (partitions, random) = (self.partitions(), &mut self.random);
            let sent = producer::send(
                &broker,
                partitions,
                &self.audit,
                "last",
                number,
                room,
                &mut known,
                random,
            );
            if timeout(PATIENCE, sent).await.is_err() {
                return vec![Violation {
                    promise: "liveness",
                    detail: format!("a message to {room:?} is not taken"),
                }];
            }
        }
        let wanted: Vec<MessageId> = (0..self.rooms.len())
            .map(|number| MessageId::of_idempotency_key("last", &format!("last.{number}")))
            .collect();
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let missing: Vec<(usize, usize)> = (0..clients)
                .flat_map(|client| (0..wanted.len()).map(move |number| (client, number)))
                .filter(|(client, number)| !self.audit.has(*client, wanted[*number]))
                .collect();
            if missing.is_empty() {
                return Vec::new();
            }
            if Instant::now() >= deadline {
                let told = missing.iter().map(|(client, number)| Violation {
                    promise: "liveness",
                    detail: format!(
                        "client {client} does not get what comes in {:?}",
                        self.rooms[*number]
                    ),
                });
                return told.collect();
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

//! One process' way to the broker, which can stall, fail or lose answers at a chosen call.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use carillon_broker::{
    Append, AppendOutcome, Backlog, Broker, BrokerError, ChannelAppend, ChannelReader, Channels, DeadLetter,
    DeadLetterId, DeadLetterSource, DeadLetters, Fenced, FencingToken, Grant, HeadRead, Health, HistoryPage,
    HistoryQuery, Incarnation, Inspection, LeaseName, Leases, Life, Lists, Lives, Member, MemberList,
    Membership, NewestPage, NewestQuery, PartitionGrant, PolicySnapshot, PolicyStore, Presence, PresenceRead,
    PresenceStatement, PresenceVersion, Pressure, ProcessState, Queue, QueueRead, QueueReader, Record,
    RecordOutcome, Result, Rooms, RoomsCursor, RoomsPage, RoomsState, ServiceKind, SharedBroker, TakeOutcome,
};
use carillon_model::{Offset, Partition, PartitionCount, Room};
use tokio::sync::watch;

/// What to do at a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The process stands still before the call is made, and so do all its other calls, until released.
    StallBefore,
    /// As before, but the call was made and only its answer waits.
    StallAfter,
    /// The call is not made.
    Unavailable,
    /// The call is made and its answer lost.
    LoseAnswer,
    /// This call alone never ends.
    Hang,
    /// A channel says it has what it never got.
    Pretend,
    /// The broker finds something wrong with what is there.
    Corrupt,
    /// The broker refuses the call, and nobody knows why.
    Rejected,
    /// The broker can't hold the message.
    Unstorable,
    /// The server takes no writes.
    NotWritable,
    /// The call is made, and too few replicas have what it wrote.
    Unreplicated,
}

/// Where the faults of one process are planned.
#[derive(Clone, Debug)]
pub struct Plan(Arc<PlanInner>);

#[derive(Debug)]
struct PlanInner {
    state: Mutex<State>,
    stalled: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct State {
    faults: BTreeMap<&'static str, (Fault, usize)>,
    counts: BTreeMap<&'static str, u64>,
    deadly: Option<&'static [u8]>,
    mute: BTreeSet<Incarnation>,
}

impl Plan {
    fn new() -> Self {
        Self(Arc::new(PlanInner {
            state: Mutex::default(),
            stalled: watch::Sender::new(false),
        }))
    }

    /// The next `times` calls of this name meet this fault.
    pub fn set(&self, call: &'static str, fault: Fault, times: usize) {
        self.0.state.lock().unwrap().faults.insert(call, (fault, times));
    }

    /// No more faults.
    pub fn clear(&self) {
        self.0.state.lock().unwrap().faults.clear();
    }

    /// The process stands still before it records a message of exactly these bytes.
    pub fn stall_at_entry(&self, bytes: &'static [u8]) {
        self.0.state.lock().unwrap().deadly = Some(bytes);
    }

    /// The server of a gateway's channel answers this process no more.
    pub fn mute(&self, gateway: &Incarnation) {
        self.0.state.lock().unwrap().mute.insert(gateway.clone());
    }

    /// All servers answer again.
    pub fn unmute(&self) {
        self.0.state.lock().unwrap().mute.clear();
    }

    async fn heard_of(&self, gateway: &Incarnation) {
        let mute = self.0.state.lock().unwrap().mute.contains(gateway);
        if mute {
            std::future::pending::<()>().await;
        }
    }

    fn pretends(&self) -> bool {
        let state = self.0.state.lock().unwrap();
        matches!(state.faults.get("append_channel"), Some((Fault::Pretend, _)))
    }

    fn is_deadly(&self, record: &Record) -> bool {
        let deadly = self.0.state.lock().unwrap().deadly;
        deadly.is_some_and(|deadly| record.entries.iter().any(|entry| entry.message == deadly))
    }

    /// Waits until the process stands still.
    pub async fn stalled(&self) {
        self.0
            .stalled
            .subscribe()
            .wait_for(|stalled| *stalled)
            .await
            .unwrap();
    }

    /// Lets it go on.
    pub fn release(&self) {
        self.0.stalled.send_replace(false);
    }

    /// Stands still from now on.
    pub fn stall(&self) {
        self.0.stalled.send_replace(true);
    }

    /// How often each call was made.
    pub fn counts(&self) -> BTreeMap<&'static str, u64> {
        self.0.state.lock().unwrap().counts.clone()
    }

    fn fault(&self, call: &'static str) -> Option<Fault> {
        let mut state = self.0.state.lock().unwrap();
        *state.counts.entry(call).or_default() += 1;
        let (fault, times) = state.faults.get_mut(call)?;
        if *times == 0 {
            return None;
        }
        *times -= 1;
        Some(*fault)
    }

    async fn while_stalled(&self) {
        self.0
            .stalled
            .subscribe()
            .wait_for(|stalled| !*stalled)
            .await
            .unwrap();
    }

    async fn through<T>(&self, call: &'static str, made: impl Future<Output = Result<T>>) -> Result<T> {
        let fault = self.fault(call);
        match fault {
            Some(Fault::Unavailable) => return Err(BrokerError::Unavailable("planned".into())),
            Some(Fault::Corrupt) => return Err(BrokerError::Corrupt("planned".into())),
            Some(Fault::Rejected) => {
                return Err(BrokerError::Rejected {
                    reason: "planned".into(),
                    half_done: false,
                });
            }
            Some(Fault::Unstorable) => return Err(BrokerError::Unstorable("planned".into())),
            Some(Fault::NotWritable) => return Err(BrokerError::NotWritable("planned".into())),
            Some(Fault::Hang) => std::future::pending().await,
            Some(Fault::StallBefore) => self.stall(),
            _ => {}
        }
        self.while_stalled().await;
        let answer = made.await;
        if fault == Some(Fault::StallAfter) {
            self.stall();
        }
        self.while_stalled().await;
        if fault == Some(Fault::Unreplicated) {
            return Err(BrokerError::Unreplicated {
                acknowledged: 0,
                asked: 1,
            });
        }
        if fault == Some(Fault::LoseAnswer) {
            return Err(BrokerError::Unknown("planned".into()));
        }
        answer
    }
}

/// A broker seen through a plan.
pub struct Faulty {
    inner: SharedBroker,
    plan: Plan,
}

impl Faulty {
    pub fn around(inner: SharedBroker) -> (SharedBroker, Plan) {
        let plan = Plan::new();
        let faulty = Self {
            inner,
            plan: plan.clone(),
        };
        (Arc::new(faulty), plan)
    }
}

impl fmt::Debug for Faulty {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Faulty")
    }
}

impl Broker for Faulty {
    fn partitions(&self) -> PartitionCount {
        self.inner.partitions()
    }
}

/// Passes a call on through the plan.
macro_rules! through {
    ($self:ident.$call:ident($($argument:expr),*)) => {
        $self.plan.through(stringify!($call), $self.inner.$call($($argument),*)).await
    };
}

#[async_trait]
impl Queue for Faulty {
    async fn append(&self, append: Append) -> Result<AppendOutcome> {
        through!(self.append(append))
    }
    async fn open_queue(&self, partition: Partition) -> Result<Box<dyn QueueReader>> {
        let inner = through!(self.open_queue(partition))?;
        Ok(Box::new(FaultyReader {
            inner,
            plan: self.plan.clone(),
        }))
    }
    async fn record(&self, record: Record) -> Result<Fenced<RecordOutcome>> {
        if self.plan.is_deadly(&record) {
            self.plan.stall();
        }
        through!(self.record(record))
    }
    async fn trim(
        &self,
        partition: Partition,
        token: FencingToken,
        life: &Life,
        upto: Offset,
        parked: &[Incarnation],
    ) -> Result<Fenced<()>> {
        through!(self.trim(partition, token, life, upto, parked))
    }
    async fn unpark(
        &self,
        partition: Partition,
        token: FencingToken,
        life: &Life,
        gateways: &[Incarnation],
    ) -> Result<Fenced<()>> {
        through!(self.unpark(partition, token, life, gateways))
    }
    async fn count_try(
        &self,
        partition: Partition,
        token: FencingToken,
        head: Offset,
    ) -> Result<Fenced<u32>> {
        through!(self.count_try(partition, token, head))
    }
    async fn take_back_try(&self, partition: Partition, token: FencingToken) -> Result<()> {
        through!(self.take_back_try(partition, token))
    }
    async fn mark_unknown_loss(&self, partition: Partition) -> Result<()> {
        through!(self.mark_unknown_loss(partition))
    }
}

struct FaultyReader {
    inner: Box<dyn QueueReader>,
    plan: Plan,
}

#[async_trait]
impl QueueReader for FaultyReader {
    async fn read_head(&mut self, token: FencingToken, limit: usize) -> Result<HeadRead> {
        self.plan
            .through("read_head", self.inner.read_head(token, limit))
            .await
    }
    async fn read_after(&mut self, after: Offset, limit: usize, block: Duration) -> Result<QueueRead> {
        self.plan
            .through("read_after", self.inner.read_after(after, limit, block))
            .await
    }
}

#[async_trait]
impl Rooms for Faulty {
    async fn add_routes(
        &self,
        partition: Partition,
        rooms: &[Room],
        route: &Incarnation,
    ) -> Result<RoomsState> {
        through!(self.add_routes(partition, rooms, route))
    }
    async fn remove_routes(&self, partition: Partition, rooms: &[Room], route: &Incarnation) -> Result<()> {
        through!(self.remove_routes(partition, rooms, route))
    }
    async fn read_history(&self, room: &Room, query: HistoryQuery) -> Result<HistoryPage> {
        through!(self.read_history(room, query))
    }
    async fn read_newest(&self, room: &Room, query: NewestQuery) -> Result<NewestPage> {
        through!(self.read_newest(room, query))
    }
}

#[async_trait]
impl Presence for Faulty {
    async fn state_presence(
        &self,
        partition: Partition,
        gateway: &Incarnation,
        number: u64,
        statements: &[PresenceStatement],
    ) -> Result<Life> {
        through!(self.state_presence(partition, gateway, number, statements))
    }
    async fn read_presence(
        &self,
        partition: Partition,
        rooms: &[(Room, Option<PresenceVersion>)],
    ) -> Result<PresenceRead> {
        through!(self.read_presence(partition, rooms))
    }
    async fn forget_presence(&self, partition: Partition, rooms: &[Room], dead: &Incarnation) -> Result<()> {
        through!(self.forget_presence(partition, rooms, dead))
    }
    async fn living(&self, incarnations: &[Incarnation]) -> Result<Vec<bool>> {
        for gateway in incarnations {
            self.plan.heard_of(gateway).await;
        }
        through!(self.living(incarnations))
    }
}

#[async_trait]
impl Channels for Faulty {
    async fn append_channel(&self, gateway: &Incarnation, entry: Bytes, limit: u64) -> Result<ChannelAppend> {
        self.plan.heard_of(gateway).await;
        if self.plan.pretends() {
            return Ok(ChannelAppend::Kept);
        }
        through!(self.append_channel(gateway, entry, limit))
    }
    async fn open_channel(&self, gateway: &Incarnation) -> Result<Box<dyn ChannelReader>> {
        through!(self.open_channel(gateway))
    }
}

#[async_trait]
impl Membership for Faulty {
    async fn register(&self, member: &Member, alive_for: Duration) -> Result<()> {
        through!(self.register(member, alive_for))
    }
    async fn register_again(&self, member: &Member, alive_for: Duration, former: &Incarnation) -> Result<()> {
        through!(self.register_again(member, alive_for, former))
    }
    async fn renew(&self, incarnation: &Incarnation, alive_for: Duration) -> Result<bool> {
        through!(self.renew(incarnation, alive_for))
    }
    async fn report(&self, member: &Member) -> Result<()> {
        through!(self.report(member))
    }
    async fn deregister(&self, incarnation: &Incarnation) -> Result<()> {
        through!(self.deregister(incarnation))
    }
    async fn list_members(&self, kind: ServiceKind) -> Result<MemberList> {
        self.plan.through("members", self.inner.list_members(kind)).await
    }
    async fn process_states(&self, incarnations: &[Incarnation]) -> Result<Vec<ProcessState>> {
        through!(self.process_states(incarnations))
    }
}

#[async_trait]
impl Leases for Faulty {
    async fn acquire_partition(
        &self,
        partition: Partition,
        owner: &Incarnation,
        lasts: Duration,
        known: Offset,
    ) -> Result<Option<PartitionGrant>> {
        through!(self.acquire_partition(partition, owner, lasts, known))
    }
    async fn acquire_list(&self, list: &str, owner: &Incarnation, lasts: Duration) -> Result<Option<Grant>> {
        through!(self.acquire_list(list, owner, lasts))
    }
    async fn renew_lease(&self, lease: &LeaseName, token: FencingToken, lasts: Duration) -> Result<bool> {
        through!(self.renew_lease(lease, token, lasts))
    }
    async fn release_lease(&self, lease: &LeaseName, token: FencingToken) -> Result<()> {
        through!(self.release_lease(lease, token))
    }
}

#[async_trait]
impl Lists for Faulty {
    async fn take(&self, list: &str, token: FencingToken, limit: usize) -> Result<TakeOutcome> {
        through!(self.take(list, token, limit))
    }
    async fn settle(&self, list: &str, numbers: &[u64]) -> Result<()> {
        through!(self.settle(list, numbers))
    }
}

#[async_trait]
impl DeadLetters for Faulty {
    async fn bury_head(
        &self,
        partition: Partition,
        token: FencingToken,
        life: &Life,
        head: Offset,
        reason: &str,
    ) -> Result<Fenced<()>> {
        through!(self.bury_head(partition, token, life, head, reason))
    }
    async fn bury(
        &self,
        partition: Partition,
        source: DeadLetterSource,
        entry: Bytes,
        reason: &str,
    ) -> Result<()> {
        through!(self.bury(partition, source, entry, reason))
    }
    async fn dead_letters(
        &self,
        partition: Partition,
        after: Option<Offset>,
        limit: usize,
    ) -> Result<Vec<DeadLetter>> {
        through!(self.dead_letters(partition, after, limit))
    }
    async fn dead_letter(&self, id: DeadLetterId) -> Result<Option<DeadLetter>> {
        through!(self.dead_letter(id))
    }
    async fn drop_dead_letters(&self, partition: Partition, letters: &[Offset]) -> Result<u64> {
        through!(self.drop_dead_letters(partition, letters))
    }
    async fn cap_dead_letters(&self, partition: Partition, keep: u64) -> Result<u64> {
        through!(self.cap_dead_letters(partition, keep))
    }
}

#[async_trait]
impl PolicyStore for Faulty {
    async fn load_policy(&self) -> Result<Option<PolicySnapshot>> {
        through!(self.load_policy())
    }
    async fn store_policy(&self, snapshot: &PolicySnapshot) -> Result<()> {
        through!(self.store_policy(snapshot))
    }
}

#[async_trait]
impl Inspection for Faulty {
    async fn routes(&self, room: &Room) -> Result<Vec<Incarnation>> {
        through!(self.routes(room))
    }
    async fn held_rooms(&self, after: Option<&RoomsCursor>, limit: usize) -> Result<RoomsPage> {
        through!(self.held_rooms(after, limit))
    }
    async fn backlogs(&self, partitions: &[Partition]) -> Result<Vec<Backlog>> {
        through!(self.backlogs(partitions))
    }
}

#[async_trait]
impl Health for Faulty {
    async fn lives(&self, channel: Option<&Incarnation>) -> Result<Lives> {
        through!(self.lives(channel))
    }
    async fn pressure(&self) -> Result<Pressure> {
        through!(self.pressure())
    }
    async fn check(&self) -> Result<()> {
        through!(self.check())
    }
}

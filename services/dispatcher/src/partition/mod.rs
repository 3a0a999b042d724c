//! The owner of a partition: reads it from the head, strictly in order, and passes everything on (DESIGN §5).
//!
//! A batch goes through three steps, and nothing may overtake anything:
//! 1. *record*: into the rooms' histories and, in the same atomic step, read who holds the rooms;
//! 2. *channels*: one append for each gateway that holds a target;
//! 3. *trim*: the acknowledgement, once every channel has answered.
//!
//! Whatever goes wrong on the way, the answer is the same: drop the batch, forget what was read, and begin again at the
//! head of the queue. What was done already is done twice then, and receivers drop what they know. That is why this
//! loop needs no memory of how far it came, and why an owner that stalled for an hour can do no harm: its token is
//! worth nothing any more, and what it still writes into channels is known there.

mod batch;
mod frames;
mod prev;
mod reads;

use std::sync::Arc;

use carillon_broker::{
    BrokerError, ChannelAppend, Fenced, FencingToken, Incarnation, Life, PartitionGrant, QueueItem,
    QueueRead, Record, RecordEntry, RecordOutcome, ServiceKind,
};
use carillon_model::{Offset, Partition, Room};
use futures::{StreamExt as _, stream};
use parking_lot::Mutex;
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use self::{batch::Batch, frames::Parcel, reads::Reads};
use crate::{lives::Seen, metrics::Burial, patience::Pauses, progress::Progress, shared::Shared};

pub(crate) use prev::PrevMemory;

/// How an owner's work ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OwnerEnd {
    /// It was asked to hand over, and has finished the batch in hand.
    HandedOver,
    /// Another one has the partition.
    Lost,
}

/// Why a partition has to be read again from its head.
#[derive(Debug)]
enum Interruption {
    /// A call failed; it will work later.
    Broker(BrokerError),
    /// Token or life are not those of the partition any more.
    Lost,
    /// The head can't be handled.
    Unhandled {
        head: Offset,
        why: Burial,
        reason: String,
    },
    /// The broker refuses something in this batch; entry by entry it shows what.
    RefusedTogether { entries: usize },
    /// The head was buried.
    Buried,
}

impl From<BrokerError> for Interruption {
    fn from(error: BrokerError) -> Self {
        Self::Broker(error)
    }
}

/// What holds between two reads from the head.
#[derive(Clone, Debug)]
struct Stand {
    life: Life,
    horizon: Offset,
    /// Everything up to it was read.
    position: Offset,
}

/// The owner of one partition, for as long as one lease.
#[derive(Debug)]
pub(crate) struct Owner {
    shared: Arc<Shared>,
    partition: Partition,
    token: FencingToken,
    life: Life,
    lives: watch::Receiver<Seen>,
    prevs: Arc<Mutex<PrevMemory>>,
    progress: Progress,
    pauses: Pauses,
    /// Whether the head may be one that killed the owner before.
    after_takeover: bool,
    /// The entry whose try is written down and not yet over.
    counted: Option<Offset>,
    /// So many entries are handled one at a time, each one's try written down first.
    wary: usize,
    /// So many entries are handled one at a time.
    alone: usize,
    /// The head that could not be handled, and how often it was tried.
    attempts: Option<(Offset, u32)>,
    /// Only for [`DispatcherMutations::consuming_read`](crate::DispatcherMutations::consuming_read).
    consumed: Option<Offset>,
}

impl Owner {
    pub(crate) fn new(
        shared: Arc<Shared>,
        partition: Partition,
        grant: &PartitionGrant,
        lives: watch::Receiver<Seen>,
    ) -> Self {
        let random = shared.fork_random();
        let settings = &shared.settings;
        Self {
            partition,
            token: grant.token,
            life: grant.life.clone(),
            lives,
            prevs: shared.prev_memory(partition),
            progress: shared.board.enter(partition),
            pauses: Pauses::new(settings.pause_least, settings.pause_most, random),
            after_takeover: true,
            counted: None,
            wary: 0,
            alone: 0,
            attempts: None,
            consumed: None,
            shared,
        }
    }

    /// Works until the partition is lost or asked for.
    pub(crate) async fn run(&mut self, handover: &CancellationToken) -> OwnerEnd {
        let mut failing = false;
        while !handover.is_cancelled() {
            let changes = self.lives.borrow_and_update().changes_of(self.partition);
            let mut lives = self.lives.clone();
            let partition = self.partition;
            let interruption = tokio::select! {
                biased;
                // The server's life changed, and no answer has said so yet.
                Ok(_) = lives.wait_for(|seen| seen.changes_of(partition) != changes) => {
                    Interruption::Broker(BrokerError::LifeChanged)
                }
                outcome = self.work_from_head(handover) => match outcome {
                    Ok(()) => return OwnerEnd::HandedOver,
                    Err(interruption) => interruption,
                },
            };
            let temporary = match interruption {
                Interruption::Lost => {
                    self.shared.metrics.fenced.inc();
                    return OwnerEnd::Lost;
                }
                Interruption::Broker(error) => Some(error),
                Interruption::Buried => None,
                Interruption::RefusedTogether { entries } => {
                    self.alone = entries;
                    None
                }
                Interruption::Unhandled { head, why, reason } => {
                    match self.tried(head, why, &reason, handover).await {
                        Ok(()) => None,
                        Err(Interruption::Broker(error)) => Some(error),
                        Err(_) => return OwnerEnd::Lost,
                    }
                }
            };
            if let Some(error) = temporary {
                if failing {
                    debug!(partition = %self.partition, %error, "the broker failed again; reading again from the head");
                } else {
                    info!(partition = %self.partition, %error, "the broker failed; reading again from the head");
                }
                failing = true;
                tokio::select! {
                    biased;
                    () = handover.cancelled() => {}
                    () = self.pauses.pause() => {}
                }
            } else {
                failing = false;
            }
        }
        OwnerEnd::HandedOver
    }

    /// Before the lease is given back with work undone: that was no try of the head, so it does not count as one.
    pub(crate) async fn forget_try(&mut self) {
        if self.counted.take().is_some() {
            // Counting a try of any other entry forgets those of the head.
            let call = self
                .shared
                .broker
                .count_try(self.partition, self.token, Offset::ZERO);
            if let Err(error) = self.shared.call("count_try", call).await {
                debug!(partition = %self.partition, %error, "a try that was none stays written down");
            }
        }
    }

    /// Reads from the head and works on from there, until something interrupts it. `Ok`: asked to hand over.
    async fn work_from_head(&mut self, handover: &CancellationToken) -> Result<(), Interruption> {
        self.progress.busy();
        let shared = Arc::clone(&self.shared);
        let limit = shared.settings.batch_entries;
        let open = shared.broker.open_queue(self.partition);
        let mut reader = shared.call("open_queue", open).await?;
        let head = shared
            .call("read_head", reader.read_head(self.token, limit))
            .await?;
        if !head.owned {
            return Err(Interruption::Lost);
        }
        shared.metrics.rereads.inc();
        if !shared.mutations.keep_prev_over_lease {
            self.prevs.lock().clear();
        }
        self.life = head.life.clone();
        let mut stand = Stand {
            life: head.life,
            horizon: head.handled,
            position: head.handled,
        };
        let mut items = head.items;
        if self.after_takeover {
            self.take_over(&items).await?;
        }
        if shared.mutations.consuming_read
            && let Some(consumed) = self.consumed
        {
            stand.position = consumed;
            items.clear();
        }
        let settings = &shared.settings;
        let mut reads = Reads::new(reader, limit, settings.read_block, settings.call_timeout);
        loop {
            if items.is_empty() {
                self.pauses.reset();
                self.progress.idle();
                items = self.read_on(&mut reads, &mut stand, handover).await?;
                if handover.is_cancelled() {
                    return Ok(());
                }
                continue;
            }
            if handover.is_cancelled() {
                return Ok(());
            }
            self.progress.busy();
            items = self.handle_items(items, &mut reads, &mut stand, handover).await?;
        }
    }

    /// Waits for what comes next.
    async fn read_on(
        &mut self,
        reads: &mut Reads,
        stand: &mut Stand,
        handover: &CancellationToken,
    ) -> Result<Vec<QueueItem>, Interruption> {
        reads.start(stand.position);
        let read = tokio::select! {
            biased;
            () = handover.cancelled() => return Ok(Vec::new()),
            read = reads.advance() => read,
        };
        self.accept(read, stand)
    }

    fn accept(
        &self,
        read: Result<QueueRead, BrokerError>,
        stand: &Stand,
    ) -> Result<Vec<QueueItem>, Interruption> {
        let read = read.inspect_err(|error| {
            self.shared.metrics.failed(error);
            if matches!(error, BrokerError::Unknown(_)) {
                self.shared.metrics.watchdog.inc();
            }
        })?;
        if read.life != stand.life {
            return Err(BrokerError::LifeChanged.into());
        }
        Ok(read.items)
    }

    /// Handles what was read, or its first part, and answers what comes after.
    async fn handle_items(
        &mut self,
        mut items: Vec<QueueItem>,
        reads: &mut Reads,
        stand: &mut Stand,
        handover: &CancellationToken,
    ) -> Result<Vec<QueueItem>, Interruption> {
        let full = items.len() >= self.shared.settings.batch_entries;
        let rest = if self.wary > 0 || self.alone > 0 {
            items.split_off(1)
        } else {
            Vec::new()
        };
        if let Some(last) = items.last() {
            self.consumed = Some(rest.last().unwrap_or(last).offset);
        }
        if let Some(head) = items.first().map(|item| item.offset)
            && self.wary > 0
            && self.counted != Some(head)
        {
            self.count_try(head).await?;
        }
        let partitions = self.shared.broker.partitions();
        let batch = Batch::decode(self.partition, partitions, items);
        let Some(last) = batch.last() else {
            return match batch.unreadable {
                Some((head, reason)) => Err(Interruption::Unhandled {
                    head,
                    why: Burial::Unreadable,
                    reason,
                }),
                None => Ok(rest),
            };
        };
        // A full batch means that more waits: it is read while this one is handled.
        let ahead = full && rest.is_empty() && batch.unreadable.is_none();
        if ahead {
            reads.start(last);
        }
        let mut arrived = None;
        {
            let handling = self.handle(&batch, stand);
            let mut handling = std::pin::pin!(handling);
            loop {
                tokio::select! {
                    biased;
                    outcome = &mut handling => break outcome?,
                    read = reads.advance(), if ahead && arrived.is_none() => arrived = Some(read),
                }
            }
        }
        stand.position = last;
        self.settled(&batch);
        if let Some(read) = arrived {
            return self.accept(read, stand);
        }
        if ahead {
            return self.read_on(reads, stand, handover).await;
        }
        if batch.unreadable.is_some() {
            // It is at the head now; the next read begins with it.
            return Ok(Vec::new());
        }
        Ok(rest)
    }

    /// A batch is done.
    fn settled(&mut self, batch: &Batch) {
        self.counted = None;
        self.attempts = None;
        self.wary = self.wary.saturating_sub(batch.entries.len());
        self.alone = self.alone.saturating_sub(batch.entries.len());
        self.pauses.reset();
        self.progress.moved();
    }

    /// The three steps.
    async fn handle(&self, batch: &Batch, stand: &Stand) -> Result<(), Interruption> {
        let started = Instant::now();
        let metrics = &self.shared.metrics;
        let trim_first = self.shared.mutations.trim_before_channels;
        let recorded = self.record(batch, stand).await?;
        if let Some(last) = batch.last() {
            self.shared.known.saw(self.partition, last);
        }
        if trim_first {
            self.trim(batch, stand).await?;
        }
        let (frames, gateways) = self.send(batch, &recorded).await?;
        if !trim_first {
            self.trim(batch, stand).await?;
        }
        let repeats = recorded.entries.iter().filter(|entry| entry.repeated).count();
        metrics.messages.inc_by(recorded.entries.len() as u64);
        metrics.repeats.inc_by(repeats as u64);
        metrics.frames.inc_by(frames as u64);
        let probes = batch.entries.len() - recorded.entries.len();
        metrics
            .probes
            .with_label_values(&["passed_on"])
            .inc_by(probes as u64);
        metrics.batch(started.elapsed());
        debug!(
            partition = %self.partition, messages = recorded.entries.len(), repeats, frames, gateways, probes,
            last = %batch.last().unwrap_or_default(), "a batch was passed on"
        );
        Ok(())
    }

    async fn record(&self, batch: &Batch, stand: &Stand) -> Result<RecordOutcome, Interruption> {
        let policy = self.shared.policy.borrow().clone();
        let entries: Vec<RecordEntry> = {
            let mut prevs = self.prevs.lock();
            batch
                .messages()
                .map(|(offset, room, message)| RecordEntry {
                    room: room.clone(),
                    offset,
                    prev: room.has_offsets().then(|| prevs.replace(room, offset)).flatten(),
                    message: message.clone(),
                    history: policy.room(room).history,
                })
                .collect()
        };
        if entries.is_empty() {
            return Ok(RecordOutcome {
                entries: Vec::new(),
                routes: Vec::new(),
            });
        }
        let early_routes = match &self.shared.mutations.routes_before_history {
            Some(sabotage) => {
                let rooms: indexmap::IndexSet<Room> =
                    entries.iter().map(|entry| entry.room.clone()).collect();
                let rooms: Vec<Room> = rooms.into_iter().collect();
                Some(sabotage.read_routes(self.partition, &rooms).await?)
            }
            None => None,
        };
        let record = Record {
            partition: self.partition,
            token: self.token,
            life: stand.life.clone(),
            horizon: stand.horizon,
            entries,
        };
        match self
            .shared
            .call("record", self.shared.broker.record(record))
            .await
        {
            Ok(Fenced::Done(mut outcome)) => {
                if let Some(routes) = early_routes {
                    outcome.routes = routes;
                }
                Ok(outcome)
            }
            Ok(Fenced::Lost) => Err(Interruption::Lost),
            Err(BrokerError::Corrupt(reason)) => match &batch.entries[..] {
                [(head, _)] => Err(Interruption::Unhandled {
                    head: *head,
                    why: Burial::Refused,
                    reason,
                }),
                entries => Err(Interruption::RefusedTogether {
                    entries: entries.len(),
                }),
            },
            Err(error) => Err(error.into()),
        }
    }

    /// Step 2. Answers how many frames went to how many gateways, after every channel has answered.
    async fn send(&self, batch: &Batch, recorded: &RecordOutcome) -> Result<(usize, usize), Interruption> {
        let living: Vec<Incarnation> = if batch.has_probes() {
            let members = self.shared.broker.members(ServiceKind::Gateway);
            let members = self.shared.call("members", members).await?;
            members.into_iter().map(|member| member.incarnation).collect()
        } else {
            Vec::new()
        };
        let parcels = frames::parcels(batch, &recorded.entries, &recorded.routes, &living);
        let sends: Vec<_> = parcels.iter().map(|parcel| self.send_one(batch, parcel)).collect();
        let outcomes: Vec<Result<usize, BrokerError>> = stream::iter(sends)
            .buffered(self.shared.settings.channels_at_once.max(1))
            .collect()
            .await;
        let mut frames = 0;
        for outcome in outcomes {
            frames += outcome?;
        }
        Ok((frames, parcels.len()))
    }

    async fn send_one(&self, batch: &Batch, parcel: &Parcel) -> Result<usize, BrokerError> {
        let broker = &self.shared.broker;
        let limit = self.shared.settings.channel_bytes;
        let append = broker.append_channel(&parcel.gateway, parcel.entry.clone(), limit);
        let outcome = self.shared.call("append_channel", append).await;
        self.shared
            .metrics
            .channel_append(outcome.as_ref().map(|outcome| *outcome).map_err(|_| ()));
        match outcome? {
            ChannelAppend::Kept => Ok(parcel.frames),
            ChannelAppend::Overrun => {
                info!(gateway = %parcel.gateway, "the channel was full; its gateway catches up from history");
                Ok(0)
            }
            ChannelAppend::Dead => {
                let rooms = parcel.rooms(batch);
                if !rooms.is_empty() {
                    debug!(gateway = %parcel.gateway, rooms = rooms.len(), "removing routes of a dead gateway");
                    let remove = broker.remove_routes(self.partition, &rooms, &parcel.gateway);
                    self.shared.call("remove_routes", remove).await?;
                    self.shared.metrics.dead_routes.inc_by(rooms.len() as u64);
                }
                Ok(0)
            }
        }
    }

    /// Step 3.
    async fn trim(&self, batch: &Batch, stand: &Stand) -> Result<(), Interruption> {
        let Some(last) = batch.last() else { return Ok(()) };
        if let Some(sabotage) = &self.shared.mutations.unfenced_trim {
            while let Err(error) = sabotage.trim_unfenced(self.partition, last).await {
                debug!(partition = %self.partition, %error, "trimming again");
                sleep(self.shared.settings.pause_least).await;
            }
            return Ok(());
        }
        let trim = self
            .shared
            .broker
            .trim(self.partition, self.token, &stand.life, last);
        match self.shared.call("trim", trim).await? {
            Fenced::Done(()) => Ok(()),
            Fenced::Lost => Err(Interruption::Lost),
        }
    }

    /// The first read of a lease: a head that was tried before may have killed its owner, and so may those after it.
    async fn take_over(&mut self, items: &[QueueItem]) -> Result<(), Interruption> {
        if let Some(head) = items.first()
            && self.count_try(head.offset).await? > 1
        {
            self.wary = items.len();
        }
        self.after_takeover = false;
        Ok(())
    }

    /// Writes a try of the head down before it is handled, and buries it if there were enough.
    async fn count_try(&mut self, head: Offset) -> Result<u32, Interruption> {
        let call = self.shared.broker.count_try(self.partition, self.token, head);
        let tries = match self.shared.call("count_try", call).await {
            Ok(Fenced::Done(tries)) => tries,
            Ok(Fenced::Lost) => return Err(Interruption::Lost),
            Err(error) => {
                if matches!(error, BrokerError::Unknown(_)) {
                    // It may stand there: counted once is enough. Whether it was the first, nobody knows.
                    self.after_takeover = false;
                    self.counted = Some(head);
                    self.wary = self.shared.settings.batch_entries;
                }
                return Err(error.into());
            }
        };
        self.counted = Some(head);
        let most = self.shared.settings.tries;
        if tries > most {
            self.after_takeover = false;
            let reason = format!("its owner ended {most} times while it was handled");
            self.bury(head, Burial::Killer, &reason).await?;
            self.wary = self.shared.settings.batch_entries;
            return Err(Interruption::Buried);
        }
        Ok(tries)
    }

    /// The head could not be handled: try it again a little later, or bury it.
    async fn tried(
        &mut self,
        head: Offset,
        why: Burial,
        reason: &str,
        handover: &CancellationToken,
    ) -> Result<(), Interruption> {
        let tries = match self.attempts {
            Some((tried, tries)) if tried == head => tries + 1,
            _ => 1,
        };
        self.attempts = Some((head, tries));
        let settings = &self.shared.settings;
        if tries >= settings.tries {
            return self.bury(head, why, reason).await;
        }
        debug!(partition = %self.partition, offset = %head, tries, reason, "a message can't be handled");
        tokio::select! {
            biased;
            () = handover.cancelled() => {}
            () = sleep(settings.tries_within / settings.tries.max(1)) => {}
        }
        Ok(())
    }

    async fn bury(&mut self, head: Offset, why: Burial, reason: &str) -> Result<(), Interruption> {
        let broker = &self.shared.broker;
        let bury = broker.bury_head(self.partition, self.token, &self.life, head, reason);
        match self.shared.call("bury_head", bury).await? {
            Fenced::Done(()) => {
                warn!(partition = %self.partition, offset = %head, reason, "a message became a dead letter");
                self.shared.metrics.buried(why);
                self.attempts = None;
                self.counted = None;
                self.progress.moved();
                Ok(())
            }
            Fenced::Lost => Err(Interruption::Lost),
        }
    }
}

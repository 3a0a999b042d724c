//! A shard: one task that owns its sessions and what they know of their rooms, outright.
//!
//! Nothing on the way of a message takes a lock that another shard could hold. Frames, answers of Redis and requests
//! of sessions arrive through bounded queues; what a shard itself wants (a route, a page of history) it leaves in
//! sets that never block, so no two tasks can wait for each other.
//!
//! - [`room`]: what a shard knows of a room
//! - [`tail`]: the newest messages of a room, in memory
//! - [`member`]: where a session stands in a room
//! - [`sessions`]: connecting, joining, leaving
//! - [`closing`]: which sessions are told to go
//! - [`fan_out`]: frames to members, in slices
//! - [`looking_back`]: sessions that read history, and joins that rewind
//! - [`relief`]: what is done while outboxes fill the memory set for them
//! - [`presence`]: who of it is in rooms with presence
//! - [`recovery`]: answers of Redis: routes, pages, catch-ups
//! - [`reading`], [`judgement`], [`positions`], [`doubts`]: what an answer means, for a session and for a room

mod closing;
mod doubts;
mod fan_out;
mod judgement;
mod looking_back;
mod member;
mod positions;
mod presence;
mod reading;
mod recovery;
mod relief;
mod room;
mod sessions;
mod signals;
mod tail;

use std::{
    collections::VecDeque,
    sync::{Arc, Weak},
    time::Duration,
};

use carillon_broker::MemoryGate;
use carillon_model::{
    PartitionCount, Room,
    collections::LookupMap,
    policy::{Policy, RoomPattern},
};
use indexmap::IndexMap;
use tokio::{
    sync::{Notify, mpsc, oneshot, watch},
    time::MissedTickBehavior,
};

pub(super) use looking_back::HistoryReply;
pub(super) use signals::{SessionKey, Signals};

use self::{fan_out::FanOut, room::ShardRoom, sessions::Session, signals::Raised};
use super::{
    HubSettings,
    budget::OutboxBudget,
    history::{HistoryRequests, Page},
    metrics::HubMetrics,
    mutations::HubMutations,
    newest::{Found, Look, NewestRequests},
    outbox::{CloseReason, Outbox},
    presence::{PresenceDesk, PresenceWish},
    route_table::RouteTable,
    routes::RoomState,
    session::{Identity, Joined, Refusal, Start},
    standing::{Epoch, Standing},
    ticks::Ticks,
    traces::Arrival,
};

/// What sessions ask of their shard.
#[derive(Debug)]
pub(super) enum Request {
    Connect {
        session: SessionKey,
        id: Arc<str>,
        identity: Identity,
        since: Vec<(Room, carillon_model::Offset)>,
        outbox: Outbox,
        /// Gone if the session ended before the shard heard of it.
        alive: Weak<()>,
    },
    Join {
        session: SessionKey,
        room: Room,
        start: Start,
        reply: oneshot::Sender<Result<Joined, Refusal>>,
    },
    ChangeRooms {
        session: SessionKey,
        rooms: Arc<[RoomPattern]>,
    },
    Leave {
        session: SessionKey,
        room: Room,
        reply: oneshot::Sender<Result<(), Refusal>>,
    },
    History {
        session: SessionKey,
        look: Look,
        entries: usize,
        reply: HistoryReply,
    },
    Presence {
        session: SessionKey,
        room: Room,
        wish: PresenceWish,
    },
    /// Asks for up to so many sessions that are here longest.
    Longest {
        count: usize,
        reply: oneshot::Sender<Vec<SessionKey>>,
    },
    /// Closes sessions; the answer is how many were told to go.
    Close {
        sessions: Vec<SessionKey>,
        reason: CloseReason,
        reply: oneshot::Sender<usize>,
    },
}

/// What a shard learns from Redis.
#[derive(Clone, Debug)]
pub(super) enum Answer {
    /// A room's route stands in this epoch. With a state, also where the room is.
    Routed {
        room: Room,
        epoch: Epoch,
        state: Option<RoomState>,
    },
    /// A room's route is gone.
    Forget { room: Room },
    /// A page of a room's history.
    Page(Arc<Page>),
    /// The newest messages of a room, for those who look back.
    Newest(Arc<Found>),
}

/// The queues into all shards.
#[derive(Clone, Debug)]
pub(super) struct Shards(Arc<[ShardQueues]>);

#[derive(Debug)]
pub(super) struct ShardQueues {
    pub(super) requests: mpsc::Sender<Request>,
    answers: mpsc::Sender<Answer>,
    frames: mpsc::Sender<Vec<Arrival>>,
    pub(super) signals: Arc<Signals>,
}

impl Shards {
    /// How many.
    pub(super) fn count(&self) -> usize {
        self.0.len()
    }

    /// The shard of a session.
    #[allow(clippy::cast_possible_truncation)] // below the number of shards
    pub(super) fn of(&self, session: SessionKey) -> &ShardQueues {
        &self.0[(session.0 % self.0.len() as u64) as usize]
    }

    /// Answers every shard whose bit is set.
    pub(super) async fn answer_all(&self, shards: u64, answer: impl Fn() -> Answer) {
        for (index, queues) in self.0.iter().enumerate() {
            if shards & (1 << index) != 0 {
                // A shard that is gone needs no answer: the gateway is ending.
                let _ = queues.answers.send(answer()).await;
            }
        }
    }

    /// Hands frames to one shard; waits while it has more than it can take.
    pub(super) async fn deliver(&self, shard: usize, frames: Vec<Arrival>) {
        if let Some(queues) = self.0.get(shard) {
            let _ = queues.frames.send(frames).await;
        }
    }
}

/// The queues' other ends.
pub(super) struct ShardInbox {
    requests: mpsc::Receiver<Request>,
    answers: mpsc::Receiver<Answer>,
    frames: mpsc::Receiver<Vec<Arrival>>,
    signals: Arc<Signals>,
}

/// Makes the queues of `count` shards.
pub(super) fn queues(count: usize) -> (Shards, Vec<ShardInbox>) {
    let (queues, inboxes): (Vec<_>, Vec<_>) = (0..count)
        .map(|_| {
            let (requests, requests_inbox) = mpsc::channel(1024);
            let (answers, answers_inbox) = mpsc::channel(1024);
            let (frames, frames_inbox) = mpsc::channel(16);
            let signals = Arc::new(Signals::default());
            (
                ShardQueues {
                    requests,
                    answers,
                    frames,
                    signals: Arc::clone(&signals),
                },
                ShardInbox {
                    requests: requests_inbox,
                    answers: answers_inbox,
                    frames: frames_inbox,
                    signals,
                },
            )
        })
        .unzip();
    (Shards(queues.into()), inboxes)
}

/// What a shard shares with the rest of its gateway.
#[derive(Clone)]
pub(super) struct Surroundings {
    pub(super) partitions: PartitionCount,
    pub(super) policy: watch::Receiver<Arc<Policy>>,
    pub(super) routes: Arc<RouteTable>,
    pub(super) memory_gate: MemoryGate,
    /// What all outboxes share.
    pub(super) outboxes: Arc<OutboxBudget>,
    pub(super) presence: Arc<PresenceDesk>,
    pub(super) history: Arc<HistoryRequests>,
    pub(super) newest: Arc<NewestRequests>,
    pub(super) standing: Standing,
    pub(super) ticks: Ticks,
    pub(super) settings: HubSettings,
    pub(super) mutations: HubMutations,
    pub(super) metrics: HubMetrics,
    /// Raised when what was read does not fit what is known.
    pub(super) look_at_lives: Arc<Notify>,
}

/// A shard.
pub(super) struct Shard {
    index: usize,
    around: Surroundings,
    sessions: IndexMap<SessionKey, Session>,
    rooms: LookupMap<Room, ShardRoom>,
    fan_outs: VecDeque<FanOut>,
    /// Sessions that are owed a note on messages passed over.
    passed_over: indexmap::IndexSet<SessionKey>,
    /// Rooms and sessions whose place has to be read a second time.
    doubted_rooms: indexmap::IndexSet<Room>,
    doubted_sessions: VecDeque<(tokio::time::Instant, SessionKey, Room)>,
}

/// Requests taken between two slices or feeds, so that neither side starves the other.
const REQUESTS_IN_A_ROW: usize = 64;

impl Shard {
    pub(super) fn new(index: usize, around: Surroundings) -> Self {
        Self {
            index,
            around,
            sessions: IndexMap::new(),
            rooms: LookupMap::default(),
            fan_outs: VecDeque::new(),
            passed_over: indexmap::IndexSet::new(),
            doubted_rooms: indexmap::IndexSet::new(),
            doubted_sessions: VecDeque::new(),
        }
    }

    /// Runs until every queue is closed.
    pub(super) async fn run(mut self, mut inbox: ShardInbox) {
        let mut notes = tokio::time::interval(Duration::from_secs(1));
        notes.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut in_a_row = 0;
        loop {
            tokio::select! {
                biased;
                raised = inbox.signals.take() => self.raised(raised),
                _ = notes.tick() => {
                    self.tell_passed_over();
                    self.relieve_memory();
                    self.look_again();
                    self.review_presence();
                }
                Some(request) = inbox.requests.recv(), if in_a_row < REQUESTS_IN_A_ROW => {
                    in_a_row += 1;
                    self.request(request);
                    continue;
                }
                Some(answer) = inbox.answers.recv() => self.answer(answer),
                () = std::future::ready(()), if !self.fan_outs.is_empty() => {
                    self.slice();
                    // Writers get their turn: without it a wide room starves them for seconds.
                    tokio::task::yield_now().await;
                }
                frames = inbox.frames.recv(), if self.fan_outs.is_empty() => match frames {
                    Some(frames) => self.frames(frames),
                    None => return,
                },
                () = std::future::ready(()), if in_a_row >= REQUESTS_IN_A_ROW => {}
            }
            in_a_row = 0;
        }
    }

    fn request(&mut self, request: Request) {
        match request {
            Request::Connect {
                session,
                id,
                identity,
                since,
                outbox,
                alive,
            } => {
                if alive.strong_count() > 0 {
                    self.connect(session, id, identity, since, outbox);
                }
            }
            Request::Join {
                session,
                room,
                start,
                reply,
            } => self.join_on_request(session, &room, start, reply),
            Request::ChangeRooms { session, rooms } => {
                if let Some(session) = self.sessions.get_mut(&session) {
                    session.identity.rooms = rooms;
                }
            }
            Request::Leave { session, room, reply } => {
                let _ = reply.send(self.leave_on_request(session, &room));
            }
            Request::History {
                session,
                look,
                entries,
                reply,
            } => self.history_on_request(session, look, entries, reply),
            Request::Presence { session, room, wish } => self.grant_presence(session, &room, wish),
            Request::Longest { count, reply } => {
                let _ = reply.send(self.longest(count));
            }
            Request::Close {
                sessions,
                reason,
                reply,
            } => {
                let _ = reply.send(self.close_sessions(&sessions, reason));
            }
        }
    }

    fn answer(&mut self, answer: Answer) {
        match answer {
            Answer::Routed { room, epoch, state } => self.routed(&room, epoch, state),
            Answer::Forget { room } => self.forget(&room),
            Answer::Page(page) => self.page(&page),
            Answer::Newest(found) => self.found(&found),
        }
    }

    fn raised(&mut self, raised: Raised) {
        for (session, reason) in raised.gone {
            self.disconnect(session, reason);
        }
        for session in raised.drained {
            self.drained(session);
        }
    }
}

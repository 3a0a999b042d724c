//! Sessions that look back: `history`, and joins that rewind.
//!
//! Both need the newest messages of a room, which the [newest](crate::hub::newest) reader reads. A session is authorized
//! here first. It has one read at a time under way; what else it asks for waits, bounded.

use std::{collections::VecDeque, sync::Arc};

use carillon_model::{Offset, Room};
use tokio::sync::oneshot;

use super::{SessionKey, Shard};
use crate::hub::{
    delivery::Delivery,
    newest::{Found, Look},
    session::{Joined, Refusal, RefusalCode},
};

/// Requests of one session that may wait for their read. The transport asks for fewer side by side.
const WAITING: usize = 64;

/// When a refusal because of all others is worth another try.
const TRY_AGAIN: std::time::Duration = std::time::Duration::from_secs(1);

/// The answer to `history`, newest first.
pub(in crate::hub) type HistoryReply = oneshot::Sender<Result<Vec<Arc<Delivery>>, Refusal>>;

/// What a session looks back at, the first of it under way.
#[derive(Debug, Default)]
pub(super) struct LookingBack(VecDeque<Asked>);

#[derive(Debug)]
struct Asked {
    look: Look,
    entries: usize,
    wish: Wish,
}

#[derive(Debug)]
enum Wish {
    History(HistoryReply),
    Rewind(Vec<oneshot::Sender<Result<Joined, Refusal>>>),
}

impl Wish {
    fn refuse(self, refusal: &Refusal) {
        match self {
            Self::History(reply) => {
                let _ = reply.send(Err(refusal.clone()));
            }
            Self::Rewind(replies) => {
                for reply in replies {
                    let _ = reply.send(Err(refusal.clone()));
                }
            }
        }
    }
}

impl LookingBack {
    /// Rooms that the session joins when it is known how far it rewinds.
    pub(super) fn rewinding(&self) -> impl Iterator<Item = &Room> {
        let rewinds = |asked: &&Asked| matches!(asked.wish, Wish::Rewind(_));
        self.0.iter().filter(rewinds).map(|asked| &asked.look.room)
    }

    /// Who else waits for the same join.
    fn rewind_of(&mut self, room: &Room) -> Option<&mut Vec<oneshot::Sender<Result<Joined, Refusal>>>> {
        self.0.iter_mut().find_map(|asked| match &mut asked.wish {
            Wish::Rewind(replies) if asked.look.room == *room => Some(replies),
            _ => None,
        })
    }
}

impl Shard {
    /// The newest messages of a room the session is in.
    pub(super) fn history_on_request(
        &mut self,
        key: SessionKey,
        look: Look,
        entries: usize,
        reply: HistoryReply,
    ) {
        let room = &look.room;
        let keeps_history = self.keeps_history(room);
        let Some(session) = self.sessions.get(&key) else {
            let _ = reply.send(Err(Refusal::gone()));
            return;
        };
        if !session.rooms.contains_key(room) {
            let message = format!("join `{room}` before reading its history");
            let _ = reply.send(Err(Refusal::new(RefusalCode::NotJoined, message)));
            return;
        }
        if !keeps_history || look.below == Some(Offset::ZERO) {
            let _ = reply.send(Ok(Vec::new()));
            return;
        }
        self.look_back(key, look, entries, Wish::History(reply));
    }

    /// A join that starts with up to so many of the messages that are there. The session may join the room.
    pub(super) fn rewind(
        &mut self,
        key: SessionKey,
        room: Room,
        entries: usize,
        reply: oneshot::Sender<Result<Joined, Refusal>>,
    ) {
        let look = Look { room, below: None };
        self.look_back(key, look, entries, Wish::Rewind(vec![reply]));
    }

    /// A join of a room to which a rewind is under way waits for that. Gives the reply back if there is none.
    pub(super) fn wait_for_rewind(
        &mut self,
        key: SessionKey,
        room: &Room,
        reply: oneshot::Sender<Result<Joined, Refusal>>,
    ) -> Option<oneshot::Sender<Result<Joined, Refusal>>> {
        let rewind = self
            .sessions
            .get_mut(&key)
            .and_then(|session| session.looking_back.rewind_of(room));
        match rewind {
            Some(replies) => {
                replies.push(reply);
                None
            }
            None => Some(reply),
        }
    }

    fn look_back(&mut self, key: SessionKey, look: Look, entries: usize, wish: Wish) {
        let Some(session) = self.sessions.get_mut(&key) else {
            return wish.refuse(&Refusal::gone());
        };
        let waiting = &mut session.looking_back.0;
        if waiting.len() >= WAITING {
            let message = format!("{WAITING} requests of this session wait for history already");
            self.count_refused(1);
            return wish.refuse(&Refusal::new(RefusalCode::TooManyRequests, message));
        }
        waiting.push_back(Asked { look, entries, wish });
        if waiting.len() == 1 {
            self.ask_next(key);
        }
    }

    /// Asks for the read of a session's first request.
    fn ask_next(&mut self, key: SessionKey) {
        while let Some(session) = self.sessions.get_mut(&key)
            && let Some(Asked { look, entries, .. }) = session.looking_back.0.front()
        {
            if self.around.newest.ask(look, *entries, key, self.index) {
                return;
            }
            let message =
                "too many clients of this gateway read history at this moment; try again a little later";
            let refusal = Refusal::new(RefusalCode::Busy, message).retry_after(TRY_AGAIN);
            if let Some(asked) = session.looking_back.0.pop_front() {
                self.count_refused(1);
                asked.wish.refuse(&refusal);
            }
        }
    }

    fn count_refused(&self, count: u64) {
        self.around
            .metrics
            .history_requests
            .with_label_values(&["refused"])
            .inc_by(count);
    }

    /// A read has ended, for those of the sessions that are here.
    pub(super) fn found(&mut self, found: &Found) {
        for key in &found.sessions {
            let first = self.sessions.get_mut(key).and_then(|session| {
                // It may have withdrawn while it was read.
                session
                    .looking_back
                    .0
                    .pop_front_if(|asked| asked.look == found.look)
            });
            let Some(asked) = first else { continue };
            match (&found.outcome, asked.wish) {
                (Err(refusal), wish) => wish.refuse(refusal),
                (Ok(messages), Wish::History(reply)) => {
                    let messages = messages.iter().take(asked.entries).cloned().collect();
                    let _ = reply.send(Ok(messages));
                }
                (Ok(messages), Wish::Rewind(replies)) => {
                    let oldest = messages.iter().take(asked.entries).next_back();
                    let since = oldest.and_then(|oldest| oldest.prev);
                    self.join_rewound(*key, &asked.look.room, since, replies);
                }
            }
            self.ask_next(*key);
        }
    }

    /// It is known where a join that rewinds starts. Policy may have changed since it was asked for.
    fn join_rewound(
        &mut self,
        key: SessionKey,
        room: &Room,
        since: Option<Offset>,
        replies: Vec<oneshot::Sender<Result<Joined, Refusal>>>,
    ) {
        if let Err(refusal) = self.may_join(key, room) {
            return Wish::Rewind(replies).refuse(&refusal);
        }
        self.join_from(key, room, since, replies);
    }

    /// The session leaves a room; whether it was about to join it.
    pub(super) fn forget_rewind(&mut self, key: SessionKey, room: &Room) -> bool {
        let Some(session) = self.sessions.get_mut(&key) else {
            return false;
        };
        let is_it = |asked: &Asked| matches!(asked.wish, Wish::Rewind(_)) && asked.look.room == *room;
        let Some(place) = session.looking_back.0.iter().position(is_it) else {
            return false;
        };
        if let Some(asked) = session.looking_back.0.remove(place) {
            if place == 0 {
                self.around.newest.withdraw(&asked.look, key);
            }
            asked.wish.refuse(&Refusal::new(
                RefusalCode::NotJoined,
                "left before the join was done",
            ));
        }
        if place == 0 {
            self.ask_next(key);
        }
        true
    }

    /// The session is gone.
    pub(super) fn stop_looking_back(&self, key: SessionKey, looking_back: &LookingBack) {
        if let Some(asked) = looking_back.0.front() {
            self.around.newest.withdraw(&asked.look, key);
        }
    }
}

//! Who is in a room, for those who ask and those who watch.
//!
//! Presence is state, not messages: it takes no place in queues, histories or offsets, and stands beside the way of a
//! message, so a room without it pays nothing. Each gateway [states](keeper) who of its [own](own) sessions is in a
//! room. Gateways with watchers [look](watcher) at what all of them stated, once a second, and tell the difference to
//! the [picture](picture) they told before. Whatever fails in between, the next look finds what is so; nobody keeps a
//! log of joins that could have a hole.
//!
//! A user counts once, with however many sessions on however many gateways. One whose last session lost its connection
//! stays for a grace time, so that a reload or a bad network is no leave and join: the gateway that had the session
//! keeps the user stated. Where that gateway died, its alive time has hidden reconnects.

mod keeper;
mod note;
mod own;
mod picture;
mod watcher;
mod watches;

use std::sync::Arc;

use carillon_model::{Partition, PartitionCount, Room};
use parking_lot::Mutex;
use tokio::{
    sync::{Notify, oneshot},
    time::Instant,
};

pub(super) use keeper::PresenceKeeper;
pub use note::{PresenceNote, PresenceSummary};
pub(super) use watcher::PresenceWatcher;

use self::{own::OwnRooms, watches::Watches};
use super::{
    HubSettings,
    outbox::Outbox,
    session::{Refusal, RefusalCode},
    shard::SessionKey,
};

/// Where shards leave who is in rooms with presence, and who wants to know. Never waits.
#[derive(Debug)]
pub(super) struct PresenceDesk {
    partitions: PartitionCount,
    own: Mutex<OwnRooms>,
    stated: Notify,
    watches: Mutex<Watches>,
    asked: Notify,
}

/// What a session wants of a room's presence.
#[derive(Debug)]
pub(super) enum PresenceWish {
    /// To hear of it from now on.
    Watch(oneshot::Sender<Result<(), Refusal>>),
    /// Not any more.
    Unwatch(oneshot::Sender<Result<(), Refusal>>),
    /// To know it once.
    Look(oneshot::Sender<Result<Arc<PresenceSummary>, Refusal>>),
}

impl PresenceWish {
    /// It is not granted.
    pub(super) fn refuse(self, refusal: Refusal) {
        match self {
            Self::Watch(reply) | Self::Unwatch(reply) => {
                let _ = reply.send(Err(refusal));
            }
            Self::Look(reply) => {
                let _ = reply.send(Err(refusal));
            }
        }
    }
}

impl PresenceDesk {
    pub(super) fn new(partitions: PartitionCount, settings: &HubSettings) -> Self {
        Self {
            partitions,
            own: Mutex::new(OwnRooms::new(settings.presence_users, settings.presence_grace)),
            stated: Notify::new(),
            watches: Mutex::default(),
            asked: Notify::new(),
        }
    }

    /// A session is in a room with presence. Saying it again changes nothing.
    pub(super) fn enter(&self, room: &Room, session: SessionKey, user: Option<&Arc<str>>) {
        if self.own.lock().enter(room, session, user) {
            self.stated.notify_one();
        }
    }

    /// A session is in a room no more; fine if it never was in one with presence. `may_return`: its connection ended.
    pub(super) fn leave(&self, room: &Room, session: SessionKey, may_return: bool) {
        self.watches.lock().unwatch(room, session);
        if self.own.lock().leave(room, session, may_return, Instant::now()) {
            self.stated.notify_one();
        }
    }

    /// Policy keeps no presence of a room any more.
    pub(super) fn end(&self, room: &Room, session: SessionKey) {
        if let Some(outbox) = self.watches.lock().unwatch(room, session) {
            let refusal = none_kept(room);
            outbox.push_presence(&Arc::new(PresenceNote::ended(room, &refusal)));
        }
        self.leave(room, session, false);
    }

    /// Grants what a session wants of a room that it is in and that has presence.
    pub(super) fn grant(&self, room: &Room, session: SessionKey, outbox: &Outbox, wish: PresenceWish) {
        let mut watches = self.watches.lock();
        match wish {
            PresenceWish::Watch(reply) => {
                watches.watch(room, session, outbox.clone());
                let _ = reply.send(Ok(()));
            }
            PresenceWish::Unwatch(reply) => {
                watches.unwatch(room, session);
                let _ = reply.send(Ok(()));
                return;
            }
            PresenceWish::Look(reply) => watches.ask(room, reply),
        }
        drop(watches);
        self.asked.notify_one();
    }

    /// Everything of these partitions is to be stated again: they may have lost it, or we are another incarnation.
    pub(super) fn reassert(&self, partitions: impl IntoIterator<Item = Partition>) {
        let mut own = self.own.lock();
        if own.is_empty() {
            return;
        }
        let partitions: std::collections::BTreeSet<Partition> = partitions.into_iter().collect();
        own.state_whole(|room| partitions.contains(&self.partitions.partition_of(room)));
        drop(own);
        self.stated.notify_one();
    }
}

/// The answer where policy says nothing of presence.
pub(super) fn none_kept(room: &Room) -> Refusal {
    Refusal::new(
        RefusalCode::Forbidden,
        format!("policy keeps no presence of `{room}` (`presence: true` in its rule)"),
    )
}

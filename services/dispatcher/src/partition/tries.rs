//! Messages that can't be handled, and messages that kill.
//!
//! The first kind fails where we can see it: it is tried a few times, then buried. The second kind takes the process
//! with it. So after a takeover the head's try is written down, under the owner's token, before it is handled. A head
//! that was tried before is suspect, and so is what was read together with it: these are handled one by one, each with
//! its own tries.
//!
//! What counts is that an owner never came back to say that it lives. Every other end takes the try back: a lease that
//! was lost or handed over, a broker that failed or refused on the way. Where the broker is away, that is done as soon as
//! it answers, by whoever the process is then. So a message is blamed only for owners that died while they handled it.

use std::{sync::Arc, time::Duration};

use carillon_broker::{Fenced, FencingToken, QueueItem};
use carillon_model::{Offset, Partition};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::{Interruption, Owner};
use crate::{metrics::Burial, patience::Pauses, shared::Shared};

impl Owner {
    /// The first read of a lease: a head that was tried before may have killed its owner, and so may those after it.
    pub(super) async fn take_over(&mut self, items: &[QueueItem]) -> Result<(), Interruption> {
        if let Some(head) = items.first()
            && self.count_try(head.offset).await? > 1
        {
            self.wary = items.len();
        }
        self.after_takeover = false;
        Ok(())
    }

    /// Writes a try of the head down before it is handled, and buries it if there were enough.
    pub(super) async fn count_try(&mut self, head: Offset) -> Result<u32, Interruption> {
        // Before the call: it may be written although no answer comes, or nobody waits for it any more.
        self.counted = Some(head);
        let call = self.shared.broker.count_try(self.partition, self.token, head);
        let Fenced::Done(tries) = self.shared.call("count_try", call).await? else {
            return Err(Interruption::Lost);
        };
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

    /// The broker failed while the head was tried: that was none, and the next one is counted anew.
    pub(super) async fn interrupted_try(&mut self) {
        let Some(open) = self.open_try() else { return };
        if open.take_back().await {
            self.counted = None;
            self.after_takeover = true;
        }
    }

    /// The try that stands written down, if there is one.
    pub(crate) fn open_try(&self) -> Option<OpenTry> {
        self.counted.map(|_| OpenTry {
            shared: Arc::clone(&self.shared),
            partition: self.partition,
            token: self.token,
        })
    }

    /// The head could not be handled: try it again a little later, or bury it.
    pub(super) async fn tried(
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

    pub(super) async fn bury(&mut self, head: Offset, why: Burial, reason: &str) -> Result<(), Interruption> {
        let broker = &self.shared.broker;
        let bury = broker.bury_head(self.partition, self.token, &self.life, head, reason);
        match self.shared.call("bury_head", bury).await? {
            Fenced::Done(()) => {
                warn!(partition = %self.partition, offset = %head, reason, "a message became a dead letter");
                self.shared.metrics.buried(why);
                self.attempts = None;
                self.counted = None;
                self.progress.moved();
                self.shared.cap_dead_letters(self.partition).await;
                Ok(())
            }
            Fenced::Lost => Err(Interruption::Lost),
        }
    }
}

/// A try that stands written down although its owner lives.
#[derive(Debug)]
pub(crate) struct OpenTry {
    shared: Arc<Shared>,
    partition: Partition,
    token: FencingToken,
}

impl OpenTry {
    /// Takes it back; whether that is known to be done.
    pub(crate) async fn take_back(&self) -> bool {
        let call = self.shared.broker.take_back_try(self.partition, self.token);
        let taken_back = self.shared.call("take_back_try", call).await;
        if let Err(error) = &taken_back {
            debug!(partition = %self.partition, %error, "a try that was none stays written down");
        }
        taken_back.is_ok()
    }

    /// Takes it back as soon as the broker answers, or gives up after a time or when told to hurry.
    pub(crate) async fn take_back_within(self, limit: Duration, hurry: CancellationToken) {
        let settings = &self.shared.settings;
        let mut pauses = Pauses::new(
            settings.pause_least,
            settings.pause_most,
            self.shared.fork_random(),
        );
        let deadline = Instant::now() + limit;
        while !self.take_back().await && Instant::now() < deadline {
            tokio::select! {
                biased;
                () = hurry.cancelled() => return,
                () = pauses.pause() => {}
            }
        }
    }
}

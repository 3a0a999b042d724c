//! Messages that can't be handled, and messages that kill.
//!
//! The first kind fails where we can see it: it is tried a few times, then buried. The second kind takes the process
//! with it. So after a takeover the head's try is written down before it is handled. A head that was tried before is
//! suspect, and so is what was read together with it: these are handled one by one, each with its own tries.

use carillon_broker::{BrokerError, Fenced, QueueItem};
use carillon_model::Offset;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::{Interruption, Owner};
use crate::metrics::Burial;

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
                Ok(())
            }
            Fenced::Lost => Err(Interruption::Lost),
        }
    }
}

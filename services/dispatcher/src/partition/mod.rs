//! The owner of a partition: reads it from the head, strictly in order, and passes everything on (DESIGN §5).
//!
//! A batch goes through three steps, and nothing may overtake anything:
//! 1. *record*: into the rooms' histories and, in the same atomic step, read who holds the rooms;
//! 2. *channels*: one append for each gateway that holds a target;
//! 3. *trim*: the acknowledgement, once every channel has answered. One that does not is [parked](parking).
//!
//! Whatever goes wrong on the way, the answer is the same: drop the batch, forget what was read, and begin again at the
//! head of the queue. What was done already is done twice then, and receivers drop what they know. That is why this
//! loop needs no memory of how far it came, and why an owner that stalled for an hour can do no harm: its token is
//! worth nothing any more, and what it still writes into channels is known there.

mod batch;
mod frames;
mod parking;
mod passing;
mod prev;
mod reading;
mod reads;
mod sending;
mod traces;
mod tries;
mod unparking;

use std::sync::Arc;

use carillon_broker::{BrokerError, FencingToken, Life, PartitionGrant};
use carillon_model::{Offset, Partition};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::{
    lives::Seen,
    metrics::{Burial, Counted},
    patience::Pauses,
    progress::Progress,
    shared::Shared,
};

use parking::Parking;
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
    /// Channels that do not answer.
    parking: Parking,
    /// The entry whose try is, or may be, written down and not yet over.
    counted: Option<Offset>,
    /// While the broker refuses its calls for a reason that waiting alone does not end.
    refused: Option<Counted>,
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
            parking: Parking::default(),
            counted: None,
            refused: None,
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
                self.progress.failed(error.is_said_by_server());
                let refused = error.needs_help();
                if refused && self.refused.is_none() {
                    warn!(partition = %self.partition, %error, "the broker refuses the partition's calls; its messages wait");
                    self.refused = Some(self.shared.metrics.refused());
                } else if failing {
                    debug!(partition = %self.partition, %error, "the broker failed again; reading again from the head");
                } else {
                    info!(partition = %self.partition, %error, "the broker failed; reading again from the head");
                }
                if !refused {
                    self.refused = None;
                }
                failing = true;
                self.interrupted_try().await;
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
}

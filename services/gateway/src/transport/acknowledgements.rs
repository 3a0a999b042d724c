//! Asking clients whether a message has come.
//!
//! A client that said `acknowledge` when it connected is asked for Socket.IO's acknowledgement of a message, where that
//! message's trace is recorded and its write got a span: then the trace goes on to the client and back. Nobody waits
//! for the answer, and nothing is sent again for want of it: what a client has is told by its cursors.

use std::{collections::VecDeque, sync::Arc};

use carillon_chassis::telemetry::trace_context::{self, HOP};
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tracing::{Span, field::Empty, info_span};

/// Messages of one session whose acknowledgement is awaited; of more, the oldest is given up.
const AWAITED: usize = 16;
/// As [`AWAITED`], of all sessions of a process: a few MiB of open spans. Above that nobody is asked.
const AWAITED_IN_ALL: usize = 4_096;

/// What a session's client was asked to acknowledge, and has not yet.
#[derive(Debug)]
pub(super) struct Acknowledgements {
    awaited: Mutex<Awaited>,
    places: Arc<Semaphore>,
}

/// Places for what the sessions of a process wait for.
pub(super) fn places() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(AWAITED_IN_ALL))
}

#[derive(Debug, Default)]
struct Awaited {
    /// The id of the message before.
    last: u64,
    /// By id, in its order.
    messages: VecDeque<(u64, Awaiting)>,
}

/// The span `acknowledge`: from the write of a message to the client's answer, or to when that is given up.
#[derive(Debug)]
struct Awaiting {
    span: Span,
    acknowledged: bool,
    _place: OwnedSemaphorePermit,
}

impl Awaiting {
    fn begin(write: &Span, session: &str, place: OwnedSemaphorePermit) -> Self {
        let span = info_span!(
            target: HOP, parent: None, "acknowledge",
            otel.kind = "client", session, acknowledged = Empty,
        );
        // By its context only: a child of the other kind would keep the write from ending.
        let write = trace_context::traceparent_of(write);
        trace_context::set_parent(&span, trace_context::from_traceparent(&write));
        Self {
            span,
            acknowledged: false,
            _place: place,
        }
    }
}

impl Drop for Awaiting {
    fn drop(&mut self) {
        self.span.record("acknowledged", self.acknowledged);
    }
}

impl Acknowledgements {
    pub(super) fn new(places: &Arc<Semaphore>) -> Self {
        Self {
            awaited: Mutex::default(),
            places: Arc::clone(places),
        }
    }

    /// The id under which the client is to acknowledge the message that is written under this span; `None` if that is not
    /// recorded, or too many are awaited.
    pub(super) fn ask(&self, write: &Span, session: &str) -> Option<u64> {
        if write.is_disabled() {
            return None;
        }
        // Spans begin and end outside of the lock: whoever hears of that takes locks, too.
        let given_up = self.give_up_oldest();
        drop(given_up);
        let place = Arc::clone(&self.places).try_acquire_owned().ok()?;
        let awaiting = Awaiting::begin(write, session, place);
        let mut awaited = self.awaited.lock();
        awaited.last += 1;
        let id = awaited.last;
        awaited.messages.push_back((id, awaiting));
        Some(id)
    }

    fn give_up_oldest(&self) -> Option<(u64, Awaiting)> {
        let messages = &mut self.awaited.lock().messages;
        (messages.len() == AWAITED)
            .then(|| messages.pop_front())
            .flatten()
    }

    /// The client has acknowledged a message. What nobody asked for changes nothing.
    pub(super) fn acknowledged(&self, id: u64) {
        let answered = {
            let messages = &mut self.awaited.lock().messages;
            let place = messages.binary_search_by_key(&id, |(asked, _)| *asked);
            place.ok().and_then(|place| messages.remove(place))
        };
        if let Some((_, mut awaiting)) = answered {
            awaiting.acknowledged = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use tracing::subscriber::with_default;
    use tracing_subscriber::Registry;

    use super::*;

    fn awaited(acknowledgements: &Acknowledgements) -> Vec<u64> {
        let awaited = acknowledgements.awaited.lock();
        awaited.messages.iter().map(|(id, _)| *id).collect()
    }

    #[test]
    fn only_what_is_recorded_is_asked_for() {
        let acknowledgements = Acknowledgements::new(&places());
        assert_eq!(acknowledgements.ask(&Span::none(), "s"), None);
        assert!(awaited(&acknowledgements).is_empty());
    }

    #[test]
    fn each_answer_ends_its_own_wait() {
        with_default(Registry::default(), || {
            let acknowledgements = Acknowledgements::new(&places());
            for id in 1..=4 {
                assert_eq!(acknowledgements.ask(&info_span!("write"), "s"), Some(id));
            }
            acknowledgements.acknowledged(3);
            acknowledgements.acknowledged(3);
            acknowledgements.acknowledged(7);
            assert_eq!(awaited(&acknowledgements), [1, 2, 4]);
        });
    }

    #[test]
    fn a_client_that_never_answers_is_not_waited_for_without_end() {
        with_default(Registry::default(), || {
            let acknowledgements = Acknowledgements::new(&places());
            for _ in 0..AWAITED + 10 {
                acknowledgements.ask(&info_span!("write"), "s");
            }
            assert_eq!(awaited(&acknowledgements), (11..=26).collect::<Vec<_>>());
        });
    }

    #[test]
    fn all_sessions_together_wait_for_so_many() {
        with_default(Registry::default(), || {
            let places = Arc::new(Semaphore::new(3));
            let (one, other) = (Acknowledgements::new(&places), Acknowledgements::new(&places));
            let ask = |of: &Acknowledgements| of.ask(&info_span!("write"), "s");
            assert_eq!((ask(&one), ask(&one), ask(&other)), (Some(1), Some(2), Some(1)));
            assert_eq!((ask(&one), ask(&other)), (None, None));
            one.acknowledged(1);
            assert_eq!(ask(&other), Some(2));
            drop(one);
            assert_eq!(ask(&other), Some(3));
        });
    }
}

//! Asking clients whether a message has come.
//!
//! A client that said `acknowledge` when it connected is asked for Socket.IO's acknowledgement of a message, where that
//! message's trace is recorded and its write got a span: then the trace goes on to the client and back. Nobody waits
//! for the answer, and nothing is sent again for want of it: what a client has is told by its cursors.

use std::collections::VecDeque;

use carillon_chassis::telemetry::trace_context::{self, HOP};
use parking_lot::Mutex;
use tracing::{Span, field::Empty, info_span};

/// Messages of one session whose acknowledgement is awaited; of more, the oldest is given up.
const AWAITED: usize = 64;

/// What a session's client was asked to acknowledge, and has not yet.
#[derive(Debug, Default)]
pub(super) struct Acknowledgements(Mutex<Awaited>);

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
}

impl Awaiting {
    fn begin(write: &Span, session: &str) -> Self {
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
        }
    }
}

impl Drop for Awaiting {
    fn drop(&mut self) {
        self.span.record("acknowledged", self.acknowledged);
    }
}

impl Acknowledgements {
    /// The id under which the client is to acknowledge the message that is written under this span; `None` if it is not
    /// recorded.
    pub(super) fn ask(&self, write: &Span, session: &str) -> Option<u64> {
        if write.is_disabled() {
            return None;
        }
        let mut awaited = self.0.lock();
        if awaited.messages.len() == AWAITED {
            awaited.messages.pop_front();
        }
        awaited.last += 1;
        let id = awaited.last;
        awaited.messages.push_back((id, Awaiting::begin(write, session)));
        Some(id)
    }

    /// The client has acknowledged a message. What nobody asked for changes nothing.
    pub(super) fn acknowledged(&self, id: u64) {
        let mut awaited = self.0.lock();
        let place = awaited.messages.binary_search_by_key(&id, |(asked, _)| *asked);
        if let Ok(place) = place
            && let Some((_, mut awaiting)) = awaited.messages.remove(place)
        {
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
        let awaited = acknowledgements.0.lock();
        awaited.messages.iter().map(|(id, _)| *id).collect()
    }

    #[test]
    fn only_what_is_recorded_is_asked_for() {
        let acknowledgements = Acknowledgements::default();
        assert_eq!(acknowledgements.ask(&Span::none(), "s"), None);
        assert!(awaited(&acknowledgements).is_empty());
    }

    #[test]
    fn each_answer_ends_its_own_wait() {
        with_default(Registry::default(), || {
            let acknowledgements = Acknowledgements::default();
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
            let acknowledgements = Acknowledgements::default();
            for _ in 0..AWAITED + 10 {
                acknowledgements.ask(&info_span!("write"), "s");
            }
            assert_eq!(awaited(&acknowledgements), (11..=74).collect::<Vec<_>>());
        });
    }
}

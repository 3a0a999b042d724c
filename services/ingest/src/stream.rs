//! Streams of messages: what NDJSON and gRPC have in common.
//!
//! A stream is worked off in windows. A window is what has arrived when the one before it is done: one message where the
//! sender is slow, up to [`WINDOW`] where it is fast. Its messages are written together, in their order, and then answered
//! one by one. The next window is not begun before its answers are asked for, and the transports ask only when there is
//! room for them: so a sender that does not read its answers is not read either, and no stream holds more than a window.

use std::{sync::Arc, time::Duration};

use carillon_chassis::metrics::GaugeGuard;
use carillon_model::{policy::Policy, publish::Publish};
use futures::FutureExt;
use http::HeaderMap;
use tokio::{sync::watch, time::Instant};

use crate::{
    Ingest,
    answer::Accepted,
    body::Held,
    metrics::Door,
    problem::{Kind, Problem},
    producer::Caller,
    standing::{Standing, drained},
};

/// Messages written together at most.
const WINDOW: usize = 128;

/// No more is added to a window of so many bytes.
const WINDOW_BYTES: usize = 256 << 10;

/// A message as it came.
pub(crate) struct Arrived {
    /// Its place in the stream, as its answer says it.
    pub(crate) place: u64,
    pub(crate) publish: Result<Publish, Problem>,
    /// How many bytes it had.
    pub(crate) bytes: usize,
}

/// What comes next.
pub(crate) enum Arrival {
    Message(Arrived),
    /// Nothing more, and why if it should have been otherwise.
    End(Option<Problem>),
}

/// Where a stream's messages come from.
pub(crate) trait Arrivals: Send {
    const DOOR: Door;

    /// The next message. Cancel safe. Is not called again after the end.
    fn next(&mut self) -> impl Future<Output = Arrival> + Send;

    /// Hands over the bytes that are held for the messages that arrived.
    fn hand_over(&mut self) -> Held;
}

/// The answer to one message.
pub(crate) struct Answer {
    pub(crate) place: u64,
    pub(crate) result: Result<Accepted, Problem>,
}

/// What a stream has to say next.
pub(crate) enum Turn {
    /// Answers to the next messages, at least one.
    Answers(Vec<Answer>),
    /// There are no more, and why if the sender should know.
    End(Option<Problem>),
}

/// Who opened a stream, and may be asked again: policy changes while streams are open.
struct Opener {
    headers: HeaderMap,
    policy: Arc<Policy>,
    caller: Caller,
}

/// A stream being worked off.
pub(crate) struct Stream<A> {
    ingest: Ingest,
    pub(crate) arrivals: A,
    opener: Opener,
    traceparent: String,
    standing: watch::Receiver<Standing>,
    end: Option<Option<Problem>>,
    _open: GaugeGuard,
}

impl<A: Arrivals> Stream<A> {
    /// A stream that was opened with these headers; who opened it is known by them already.
    pub(crate) fn new(
        ingest: &Ingest,
        arrivals: A,
        headers: HeaderMap,
        policy: Arc<Policy>,
        caller: Caller,
        traceparent: String,
    ) -> Self {
        Self {
            arrivals,
            opener: Opener {
                headers,
                policy,
                caller,
            },
            traceparent,
            standing: ingest.shared.standing.subscribe(),
            end: None,
            _open: GaugeGuard::new(&ingest.shared.metrics.streams_open),
            ingest: ingest.clone(),
        }
    }

    /// Takes the next window, writes it, and gives its answers.
    pub(crate) async fn turn(&mut self) -> Turn {
        let window = match self.end.take() {
            Some(end) => return Turn::End(end),
            None => self.window().await,
        };
        if window.is_empty() {
            return Turn::End(self.end.take().flatten());
        }
        if let Err(problem) = self.opener.known(&self.ingest) {
            return Turn::End(Some(problem));
        }
        let began = Instant::now();
        let mut held = self.arrivals.hand_over();
        let bytes: usize = window.iter().map(|arrived| arrived.bytes).sum();
        let (places, asked): (Vec<u64>, Vec<_>) = window
            .into_iter()
            .map(|arrived| (arrived.place, arrived.publish))
            .unzip();
        let results = self
            .ingest
            .accept_each(&self.opener.caller, asked, &self.traceparent, &mut held)
            .await;
        self.count(&results, bytes, began.elapsed());
        let answers = places.into_iter().zip(results);
        Turn::Answers(answers.map(|(place, result)| Answer { place, result }).collect())
    }

    /// Waits for a message, and takes what came with it.
    async fn window(&mut self) -> Vec<Arrived> {
        let mut window = Vec::new();
        let mut bytes = 0;
        let first = tokio::select! {
            biased;
            () = drained(&mut self.standing) => Arrival::End(Some(ending())),
            first = self.arrivals.next() => first,
        };
        let mut next = Some(first);
        while let Some(arrival) = next {
            match arrival {
                Arrival::Message(arrived) => {
                    bytes += arrived.bytes;
                    window.push(arrived);
                }
                Arrival::End(end) => {
                    self.end = Some(end);
                    break;
                }
            }
            if window.len() >= WINDOW || bytes >= WINDOW_BYTES {
                break;
            }
            next = self.arrivals.next().now_or_never();
        }
        window
    }

    fn count(&self, results: &[Result<Accepted, Problem>], bytes: usize, took: Duration) {
        let metrics = &self.ingest.shared.metrics;
        for result in results {
            metrics.told(A::DOOR, result.as_ref().err());
            metrics.request_seconds.observe(took.as_secs_f64());
        }
        metrics.bytes.inc_by(bytes as u64);
    }
}

impl Opener {
    /// Whether who opened the stream still may.
    fn known(&mut self, ingest: &Ingest) -> Result<(), Problem> {
        let policy = Arc::clone(&ingest.shared.policy.borrow());
        if !Arc::ptr_eq(&policy, &self.policy) {
            self.caller = Caller::of(&self.headers, &policy)?;
            self.policy = policy;
        }
        Ok(())
    }
}

/// What a stream is told when the process is about to end.
fn ending() -> Problem {
    let detail = "this process is ending, so the stream ends here; what has no answer was not read: send it on a new \
                  stream";
    Problem::new(Kind::Unavailable, detail)
        .with("outcome", "refused")
        .retry_after(1)
}

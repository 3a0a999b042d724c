//! Streams of calls: their messages as they arrive, and what is said of them.

use prost::Message as _;
use tonic::{Code, Status, Streaming};

use super::{metered::Meter, pb, service, status};
use crate::{
    Ingest,
    accept::described,
    body::Held,
    metrics::Door,
    problem::{Kind, Problem},
    stream::{Answer, Arrival, Arrivals, Arrived, Stream, Turn},
};

/// So many refusals are told in a summary; the rest is only counted.
const TOLD: usize = 100;

/// The messages of a stream.
pub(crate) struct Calls {
    ingest: Ingest,
    messages: Streaming<pb::PublishRequest>,
    meter: Meter,
    next: u64,
}

impl Calls {
    pub(crate) fn new(ingest: &Ingest, messages: Streaming<pb::PublishRequest>, meter: Meter) -> Self {
        Self {
            ingest: ingest.clone(),
            messages,
            meter,
            next: 0,
        }
    }
}

impl Arrivals for Calls {
    const DOOR: Door = Door::Grpc;

    async fn next(&mut self) -> Arrival {
        let settings = &self.ingest.shared.settings;
        match self.messages.message().await {
            Ok(Some(message)) => {
                let place = self.next;
                self.next += 1;
                let bytes = message.encoded_len();
                let asked = service::asked(message, &settings.limits);
                Arrival::Message(Arrived {
                    place,
                    publish: asked.map_err(|errors| described(&errors)),
                    bytes,
                })
            }
            Ok(None) => Arrival::End(None),
            Err(status) => Arrival::End(Some(broken(&status, settings.body_bytes))),
        }
    }

    fn hand_over(&mut self) -> Held {
        self.meter.hand_over()
    }
}

/// Why a stream can't be read on.
fn broken(status: &Status, limit: usize) -> Problem {
    let why = status.message();
    match status.code() {
        Code::OutOfRange => {
            let detail =
                format!("a message of a stream has at most {limit} bytes; the stream ends here: {why}");
            Problem::too_large("ingest.body", limit, detail)
        }
        Code::Unavailable => Held::exhausted(),
        _ => Problem::new(Kind::Malformed, format!("the stream can't be read on: {why}")),
    }
}

/// The next answers of a stream, and the stream if it goes on.
pub(crate) async fn answers(
    stream: Option<Stream<Calls>>,
) -> Option<(Vec<Result<pb::PublishAnswer, Status>>, Option<Stream<Calls>>)> {
    let mut stream = stream?;
    match stream.turn().await {
        Turn::Answers(answers) => Some((answers.into_iter().map(answer).map(Ok).collect(), Some(stream))),
        Turn::End(None) => None,
        Turn::End(Some(problem)) => Some((vec![Err(problem.into())], None)),
    }
}

fn answer(Answer { place, result }: Answer) -> pb::PublishAnswer {
    use pb::publish_answer::Answer;
    let answer = match result {
        Ok(accepted) => Answer::Published(service::published(&accepted)),
        Err(problem) => Answer::Problem(status::told(&problem)),
    };
    pb::PublishAnswer {
        index: place,
        answer: Some(answer),
    }
}

/// What became of a stream's messages so far.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    accepted: u64,
    refused: u64,
    unknown: u64,
    problems: Vec<pb::Refusal>,
}

impl Tally {
    pub(crate) fn count(&mut self, answers: Vec<Answer>) {
        for Answer { place, result } in answers {
            let Err(problem) = result else {
                self.accepted += 1;
                continue;
            };
            let problem = status::told(&problem);
            match problem.outcome() {
                pb::Outcome::Partial | pb::Outcome::Unknown => self.unknown += 1,
                _ => self.refused += 1,
            }
            if self.problems.len() < TOLD {
                self.problems.push(pb::Refusal {
                    index: place,
                    problem: Some(problem),
                });
            }
        }
    }

    pub(crate) fn summary(self, ended: Option<Problem>) -> pb::PublishSummary {
        pb::PublishSummary {
            messages: self.accepted + self.refused + self.unknown,
            accepted: self.accepted,
            refused: self.refused,
            unknown: self.unknown,
            problems: self.problems,
            ended: ended.as_ref().map(status::told),
        }
    }
}

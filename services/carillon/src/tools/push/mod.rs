//! `carillon push`: sends messages as a producer does, and does not rest before it knows what became of each.

mod messages;
mod pace;
mod sender;

use std::{path::PathBuf, process::ExitCode, time::Duration};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;
use tokio::time::Instant;

use self::{
    messages::{Outgoing, Source},
    pace::{Pace, Rate},
    sender::{Outcome, Sender},
};
use super::{
    Ended, ToolArguments,
    printer::{BAD, FAINT, GOOD, Printer, styled, tell},
    run,
};
use crate::settings::Settings;

/// What to send, where and how.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct PushArguments {
    #[command(flatten)]
    pub(super) target: Target,
    /// The event that clients listen for
    #[arg(long, default_value = "message")]
    event: String,
    /// The data: JSON, or any text. Without it and --file, each line of standard input is a message
    #[arg(conflicts_with = "file", allow_negative_numbers = true)]
    data: Option<String>,
    /// A file that is the data of one message: JSON, text or bytes
    #[arg(long)]
    file: Option<PathBuf>,
    /// Send everything as text, even if it looks like JSON
    #[arg(long)]
    text: bool,
    /// Send so many at most, as in 100/s, 30/m or 5000/h
    #[arg(long, value_name = "N/UNIT")]
    rate: Option<Rate>,
    /// Where ingest listens [default: the setting client.ingest, http://127.0.0.1:8080]
    #[arg(long)]
    url: Option<String>,
    /// The producer's key; the setting client.key (`CARILLON_CLIENT__KEY`) keeps it out of the list of processes
    #[arg(long)]
    key: Option<String>,
    /// Your own name for what is sent: repeating the command with it sends nothing twice
    #[arg(long, value_name = "NAME")]
    idempotency_key: Option<String>,
    /// How long a message is tried for before giving up
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = humantime::parse_duration)]
    patience: Duration,
    #[command(flatten)]
    tool: ToolArguments,
}

/// To whom.
#[derive(clap::Args, Clone, Debug)]
#[group(required = true, multiple = false)]
pub(crate) struct Target {
    /// To a room; several with several --room
    #[arg(long)]
    room: Vec<String>,
    /// To all sessions of a user; several with several --user
    #[arg(long)]
    user: Vec<String>,
    /// To one session
    #[arg(long)]
    session: Option<String>,
    /// To everybody
    #[arg(long)]
    all: bool,
}

/// So many messages, or bytes of them, go in one request at most.
const TOGETHER: (usize, usize) = (100, 256 << 10);

pub(crate) fn push(arguments: PushArguments) -> ExitCode {
    let tool = arguments.tool.clone();
    run("carillon push", &tool, |settings, printer| async move {
        Push::new(&arguments, &settings, printer)?.finish().await
    })
}

struct Push {
    source: Source,
    sender: Sender,
    pace: Pace,
    bar: ProgressBar,
    printer: Printer,
    began: Instant,
    accepted: u64,
    refused: u64,
    unknown: u64,
}

impl Push {
    fn new(arguments: &PushArguments, settings: &Settings, printer: Printer) -> anyhow::Result<Self> {
        let url = arguments.url.as_ref().unwrap_or(&settings.client.ingest);
        let key = settings.client.key.as_ref().map(|key| key.expose().to_owned());
        let sender = Sender::new(url, arguments.key.clone().or(key), arguments.patience)?;
        let source = Source::open(arguments)?;
        Ok(Self {
            bar: bar(&source),
            source,
            sender,
            pace: Pace::new(arguments.rate),
            printer,
            began: Instant::now(),
            accepted: 0,
            refused: 0,
            unknown: 0,
        })
    }

    async fn finish(mut self) -> anyhow::Result<Ended> {
        let sent = self.send_all().await;
        self.bar.finish_and_clear();
        // What was sent until then is worth knowing when the rest fails, too.
        if !self.source.one || self.refused + self.unknown > 0 {
            tell(&self.summary());
        }
        let went_on = sent?;
        if went_on && self.refused + self.unknown == 0 {
            return Ok(Ended::Well);
        }
        Ok(Ended::Badly)
    }

    /// `false`: it was given up before the end.
    async fn send_all(&mut self) -> anyhow::Result<bool> {
        while let Some(first) = self.source.messages.recv().await {
            let batch = self.batch(first?)?;
            self.pace.wait(batch.len()).await;
            let outcomes = self.sender.send(&batch).await?;
            for (message, outcome) in batch.iter().zip(&outcomes) {
                self.count(message, outcome)?;
            }
            if let Some(Outcome::GivenUp { why, .. }) = outcomes.first() {
                // The next ones would wait as long and fail as well, and could arrive before this one.
                tell(&format!(
                    "gave up: {why}\nWith --idempotency-key NAME the same command can be repeated and sends nothing twice."
                ));
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn batch(&mut self, first: Outgoing) -> anyhow::Result<Vec<Outgoing>> {
        let most = self.pace.together(TOGETHER.0);
        let mut bytes = first.body.len();
        let mut batch = vec![first];
        while batch.len() < most && bytes < TOGETHER.1 {
            let Ok(next) = self.source.messages.try_recv() else {
                break;
            };
            let next = next?;
            bytes += next.body.len();
            batch.push(next);
        }
        Ok(batch)
    }

    fn count(&mut self, message: &Outgoing, outcome: &Outcome) -> anyhow::Result<()> {
        let line = message.number;
        self.bar.inc(if self.source.bytes.is_some() {
            message.read
        } else {
            1
        });
        let (object, text) = match outcome {
            Outcome::Accepted(answer) => {
                self.accepted += 1;
                let object = json!({ "line": line, "outcome": "accepted", "id": answer["id"], "rooms": answer["rooms"] });
                (object, accepted(answer))
            }
            Outcome::Refused(problem) => {
                self.refused += 1;
                let detail = problem["detail"].as_str().unwrap_or("no reason was given");
                let text = format!("{} line {line}: {detail}", styled(BAD, "refused"));
                (
                    json!({ "line": line, "outcome": "refused", "problem": problem }),
                    text,
                )
            }
            Outcome::GivenUp { why, unknown } => {
                let what = if *unknown { "unknown" } else { "refused" };
                *(if *unknown {
                    &mut self.unknown
                } else {
                    &mut self.refused
                }) += 1;
                let text = format!("{} line {line}: gave up", styled(BAD, what));
                (json!({ "line": line, "outcome": what, "detail": why }), text)
            }
        };
        // One of thousands that was accepted is nothing to read.
        let silent = !self.source.one && matches!(outcome, Outcome::Accepted(_));
        let printer = self.printer;
        self.bar
            .suspend(|| printer.item(&object, || if silent { String::new() } else { text }))
    }

    fn summary(&self) -> String {
        let seconds = self.began.elapsed().as_secs_f64().max(0.001);
        let mut text = styled(GOOD, format!("{} accepted", self.accepted));
        for (count, what) in [(self.refused, "refused"), (self.unknown, "unknown")] {
            if count > 0 {
                text = format!("{text}, {}", styled(BAD, format!("{count} {what}")));
            }
        }
        #[allow(clippy::cast_precision_loss)] // for people
        let rate = self.accepted as f64 / seconds;
        format!(
            "{text} {}",
            styled(FAINT, format!("in {seconds:.1} s, {rate:.0}/s"))
        )
    }
}

fn accepted(answer: &serde_json::Value) -> String {
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let rooms: Vec<String> = answer["rooms"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|room| format!("{} {}", text(&room["room"]), styled(FAINT, text(&room["offset"]))))
        .collect();
    format!(
        "{} {} in {}",
        styled(GOOD, "accepted"),
        text(&answer["id"]),
        rooms.join(", ")
    )
}

/// A bar over the bytes of a file, a count where the end is not known, and nothing for one message or without a terminal.
fn bar(source: &Source) -> ProgressBar {
    if source.one {
        return ProgressBar::hidden();
    }
    let (bar, template) = match source.bytes {
        Some(bytes) => (
            ProgressBar::new(bytes),
            "{wide_bar} {bytes} of {total_bytes}, {eta} left",
        ),
        None => (ProgressBar::new_spinner(), "{spinner} {pos} sent, {per_sec}"),
    };
    bar.set_draw_target(ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar
}

//! `carillon tail`: shows rooms as clients see them, and misses nothing over lost connections and gateways that die.
//!
//! It keeps the cursors of the client guide: where it is in each room goes with every reconnect, to whichever gateway, and
//! what could not be recovered is told.

mod connection;
mod cursors;
mod packet;
mod show;

use std::{path::PathBuf, pin::pin, process::ExitCode, time::Duration};

use anyhow::bail;
use carillon_model::Offset;
use serde_json::{Map, Value, json, value::RawValue};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::{Interval, interval, sleep},
};

use self::{
    connection::{Connection, Incoming, Trouble},
    cursors::Cursors,
    show::Meta,
};
use super::{
    Ended, ToolArguments,
    printer::{BAD, FAINT, Printer, styled, tell},
    run,
};
use crate::settings::Settings;

/// What to listen to, and from where on.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct TailArguments {
    /// Rooms to join, separated by commas. `all` and the token's own user come without asking
    #[arg(long, value_delimiter = ',', value_name = "ROOM")]
    rooms: Vec<String>,
    /// Begin after a place in a room, as ROOM=OFFSET; what comes right after it is shown first
    #[arg(long, value_name = "ROOM=OFFSET", value_parser = cursor)]
    since: Vec<(String, Offset)>,
    /// Begin so many messages back in each room of --rooms
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100))]
    rewind: Option<u32>,
    /// Keep the cursors in this file, so that the next run goes on where this one ended
    #[arg(long, value_name = "FILE")]
    cursor_file: Option<PathBuf>,
    /// Show and count messages of this event only; several with several --event
    #[arg(long, value_name = "EVENT")]
    event: Vec<String>,
    /// End after so many messages
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// Gateways, separated by commas; one after the other is tried [default: the setting client.gateways,
    /// `http://127.0.0.1:3000`]
    #[arg(long, value_delimiter = ',', value_name = "URL")]
    url: Vec<String>,
    /// The token to connect with; the setting client.token (`CARILLON_CLIENT__TOKEN`) keeps it out of the list of processes
    #[arg(long)]
    token: Option<String>,
    #[command(flatten)]
    tool: ToolArguments,
}

fn cursor(text: &str) -> Result<(String, Offset), String> {
    let parsed = text
        .rsplit_once('=')
        .and_then(|(room, offset)| Some((room.to_owned(), offset.parse().ok()?)));
    parsed.ok_or_else(|| format!("`{text}` is no cursor; it looks like lobby=1732377600000-0"))
}

pub(crate) fn tail(arguments: TailArguments) -> ExitCode {
    let tool = arguments.tool.clone();
    run("carillon tail", &tool, |settings, printer| async move {
        let mut tail = Tail::new(arguments, &settings, printer)?;
        let ended = tail.listen().await;
        // What was shown is behind us, however this ended.
        tail.cursors.save()?;
        ended
    })
}

/// How often cursors are written down at most.
const SAVE: Duration = Duration::from_millis(200);
/// Pauses between tries to connect.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

struct Tail {
    gateways: Vec<String>,
    token: Option<String>,
    rooms: Vec<String>,
    rewind: Option<u32>,
    /// What is shown; empty is everything.
    events: Vec<String>,
    left: Option<u64>,
    cursors: Cursors,
    printer: Printer,
    stop: (Signal, Signal),
    save: Interval,
}

/// Why listening stopped.
enum Stopped {
    /// It was asked to, or has shown what was asked for.
    Done,
    /// The connection is lost.
    Lost(Trouble),
}

impl From<Trouble> for Stopped {
    fn from(trouble: Trouble) -> Self {
        Self::Lost(trouble)
    }
}

impl Tail {
    fn new(arguments: TailArguments, settings: &Settings, printer: Printer) -> anyhow::Result<Self> {
        let token = settings
            .client
            .token
            .as_ref()
            .map(|token| token.expose().to_owned());
        let gateways = if arguments.url.is_empty() {
            settings.client.gateways.clone()
        } else {
            arguments.url
        };
        Ok(Self {
            gateways,
            token: arguments.token.or(token),
            rooms: arguments.rooms,
            rewind: arguments.rewind,
            events: arguments.event,
            left: arguments.count,
            cursors: Cursors::load(arguments.cursor_file, &arguments.since)?,
            printer,
            stop: (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?),
            save: interval(SAVE),
        })
    }

    async fn listen(&mut self) -> anyhow::Result<Ended> {
        let mut pause = PAUSES.0;
        let mut told = false;
        for attempt in 0.. {
            let Some(gateway) = self.gateways.get(attempt % self.gateways.len().max(1)).cloned() else {
                bail!("client.gateways names no gateway; set --url");
            };
            let opened = self.open(&gateway).await;
            let lost = match opened {
                Ok(mut connection) => {
                    if told {
                        tell(&styled(FAINT, format!("connected to {gateway}")));
                    }
                    (told, pause) = (false, PAUSES.0);
                    let stopped = self.follow(&mut connection).await?;
                    if let Stopped::Lost(trouble) = stopped {
                        trouble
                    } else {
                        connection.close().await;
                        return Ok(Ended::Well);
                    }
                }
                Err(Stopped::Done) => return Ok(Ended::Well),
                Err(Stopped::Lost(trouble)) => trouble,
            };
            match lost {
                Trouble::Refused(why) => bail!("{gateway} refuses: {why}{}", advice(&why)),
                Trouble::Away(why) if !told => {
                    told = true;
                    tell(&styled(
                        FAINT,
                        format!("{gateway}: {why}; trying again, Ctrl-C ends"),
                    ));
                }
                Trouble::Away(_) => {}
            }
            tokio::select! {
                biased;
                _ = self.stop.0.recv() => return Ok(Ended::Well),
                _ = self.stop.1.recv() => return Ok(Ended::Well),
                () = sleep(pause) => {}
            }
            pause = (pause * 2).min(PAUSES.1);
        }
        Ok(Ended::Well)
    }

    async fn open(&mut self, gateway: &str) -> Result<Connection, Stopped> {
        let mut auth = json!({ "since": self.cursors.all() });
        if let Some(token) = &self.token {
            auth["token"] = json!(token);
        }
        tokio::select! {
            biased;
            _ = self.stop.0.recv() => Err(Stopped::Done),
            _ = self.stop.1.recv() => Err(Stopped::Done),
            opened = Connection::open(gateway, &auth) => Ok(opened?),
        }
    }

    /// Shows what comes until the connection is lost or it is enough. An error ends the tool.
    async fn follow(&mut self, connection: &mut Connection) -> anyhow::Result<Stopped> {
        if self.left == Some(0) {
            return Ok(Stopped::Done);
        }
        let mut questions = Vec::new();
        for room in &self.rooms {
            // Rooms with a cursor are joined again by themselves, and `all` always is.
            if room == "all" || self.cursors.of(room).is_some() {
                continue;
            }
            let mut question = json!({ "room": room });
            if let Some(rewind) = self.rewind {
                question["rewind"] = json!(rewind);
            }
            match connection.ask("join", &question).await {
                Ok(number) => questions.push((number, room.clone())),
                Err(trouble) => return Ok(trouble.into()),
            }
        }
        loop {
            // One read to its end: half an event must not be dropped because cursors are written.
            let mut next = pin!(connection.next());
            let incoming = loop {
                tokio::select! {
                    biased;
                    _ = self.stop.0.recv() => return Ok(Stopped::Done),
                    _ = self.stop.1.recv() => return Ok(Stopped::Done),
                    incoming = &mut next => break incoming,
                    _ = self.save.tick() => self.cursors.save()?,
                }
            };
            match incoming {
                Err(trouble) => return Ok(trouble.into()),
                Ok(Incoming::Answer(number, answer)) => {
                    let asked = questions.iter().find(|(asked, _)| *asked == number);
                    if let Some((_, room)) = asked
                        && answer["ok"] != true
                        && let Some(stopped) = not_joined(room, &answer["error"])?
                    {
                        return Ok(stopped);
                    }
                }
                Ok(Incoming::Event(arguments, bytes)) => {
                    if self.event(&arguments, &bytes)? {
                        return Ok(Stopped::Done);
                    }
                }
            }
        }
    }

    /// Something came. `true`: it was the last that was asked for.
    fn event(&mut self, arguments: &[Box<RawValue>], bytes: &[Vec<u8>]) -> anyhow::Result<bool> {
        let [event, data, rest @ ..] = arguments else {
            return Ok(false);
        };
        let event: String = serde_json::from_str(event.get())?;
        if event == "cursors" {
            let notes: Map<String, Value> = serde_json::from_str(data.get())?;
            for (room, note) in &notes {
                self.note(room, note)?;
            }
            return Ok(false);
        }
        let meta = rest.first().map(|meta| serde_json::from_str::<Meta>(meta.get()));
        let Some(Ok(meta)) = meta else {
            return Ok(false);
        };
        // What is not shown is behind us all the same.
        self.cursors.moved(&meta.room, &meta.offset);
        if !self.events.is_empty() && !self.events.contains(&event) {
            return Ok(false);
        }
        show::message(self.printer, &event, data, bytes, &meta)?;
        self.left = self.left.map(|left| left.saturating_sub(1));
        Ok(self.left == Some(0))
    }

    /// The gateway says where a room goes on.
    fn note(&mut self, room: &str, note: &Value) -> anyhow::Result<()> {
        let Some(offset) = note["offset"].as_str() else {
            self.cursors.forget(room);
            let error = &note["error"];
            if !error.is_null() && !room.starts_with("session:") {
                let text = format!("{room} was not joined: {}", said(error));
                let object = json!({ "note": "not_joined", "room": room, "error": error });
                self.attention(&object, &text)?;
            }
            return Ok(());
        };
        if note["recovered"] == false {
            let text = match self.cursors.of(room) {
                Some(since) => format!("{room}: something between {since} and {offset} was not recovered"),
                None => format!("{room}: something before {offset} was not recovered"),
            };
            let object = json!({ "note": "not_recovered", "room": room, "since": self.cursors.of(room), "offset": offset });
            self.attention(&object, &text)?;
        }
        self.cursors.moved(room, offset);
        Ok(())
    }

    /// What a person reads on standard error, and a program among the messages.
    fn attention(&self, object: &Value, text: &str) -> anyhow::Result<()> {
        if self.printer.is_json() {
            self.printer.item(object, String::new)
        } else {
            tell(&styled(BAD, text));
            Ok(())
        }
    }
}

/// A room that could not be joined: for good, or for now.
fn not_joined(room: &str, error: &Value) -> anyhow::Result<Option<Stopped>> {
    let text = format!("cannot join {room}: {}", said(error));
    match error["code"].as_str() {
        Some("unavailable" | "too_many_requests" | "busy") => Ok(Some(Trouble::Away(text).into())),
        Some("forbidden") => {
            bail!(
                "{text}; `carillon policy explain {room}` says which rule decides (with --policy.file, if the gateway has \
                 one), and --token who you are"
            )
        }
        _ => bail!(text),
    }
}

fn said(error: &Value) -> String {
    let text = |name: &str| error[name].as_str().unwrap_or("?").to_owned();
    format!("{}: {}", text("code"), text("message"))
}

/// What to do after a refusal.
fn advice(why: &str) -> &'static str {
    match why.split(':').next().unwrap_or_default() {
        "anonymous_refused" => {
            "; give it a token with --token, or let policy say `anonymous: { sessions: true }`"
        }
        "token_invalid" | "token_expired" => "; get another token for --token",
        "bad_since" => "; mend --since, or remove the file of --cursor-file",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_names_its_room() {
        assert_eq!(cursor("a=b=5-1"), Ok(("a=b".to_owned(), Offset::new(5, 1))));
        assert!(cursor("lobby").is_err_and(|why| why.contains("lobby=")));
    }

    #[test]
    fn a_room_that_is_not_for_us_ends_the_tool() {
        let away = json!({ "code": "unavailable", "message": "later" });
        assert!(matches!(not_joined("r", &away), Ok(Some(Stopped::Lost(_)))));
        let forbidden = json!({ "code": "forbidden", "message": "no" });
        assert!(
            not_joined("r", &forbidden).is_err_and(|error| error.to_string().contains("policy explain r"))
        );
    }
}

//! Where the messages of `carillon push` come from, and how each is put.

use std::io::{BufRead as _, Read as _};

use anyhow::{Context as _, bail};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde::Serialize;
use serde_json::{Value, value::RawValue};
use tokio::sync::mpsc;

use super::PushArguments;

/// A message as it is sent.
#[derive(Clone, Debug)]
pub(super) struct Outgoing {
    /// Which one of this run, from 1: the line it stood in.
    pub(super) number: u64,
    /// Its JSON. Repeating means sending these very bytes.
    pub(super) body: String,
    /// What it was read from, in bytes.
    pub(super) read: u64,
}

/// What all messages of a run have in common.
#[derive(Clone, Debug)]
pub(super) struct Template {
    to: Value,
    event: String,
    text: bool,
    key: String,
    one: bool,
}

#[derive(Serialize)]
struct Body<'a> {
    to: &'a Value,
    event: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data_base64: Option<String>,
    idempotency_key: String,
}

impl Template {
    pub(super) fn new(arguments: &PushArguments) -> Self {
        let target = &arguments.target;
        let to = match (&target.room[..], &target.user[..], &target.session) {
            ([room], [], None) => serde_json::json!({ "room": room }),
            (rooms @ [_, ..], [], None) => serde_json::json!({ "rooms": rooms }),
            ([], [user], None) => serde_json::json!({ "user": user }),
            ([], users @ [_, ..], None) => serde_json::json!({ "users": users }),
            ([], [], Some(session)) => serde_json::json!({ "session": session }),
            _ => Value::from("all"),
        };
        let key = arguments.idempotency_key.clone();
        Self {
            to,
            event: arguments.event.clone(),
            text: arguments.text,
            key: key.unwrap_or_else(|| uuid::Uuid::now_v7().to_string()),
            one: arguments.data.is_some() || arguments.file.is_some(),
        }
    }

    /// A message of this text: JSON as it is, anything else as a JSON string.
    fn of_text(&self, number: u64, text: &str) -> anyhow::Result<Outgoing> {
        let json = serde_json::from_str::<Box<RawValue>>(text.trim());
        let data = match json {
            Ok(json) if !self.text => json,
            _ => serde_json::value::to_raw_value(text)?,
        };
        self.outgoing(number, Some(data), None, text.len())
    }

    /// A message of what a file holds, which may be bytes.
    fn of_bytes(&self, bytes: &[u8]) -> anyhow::Result<Outgoing> {
        match std::str::from_utf8(bytes) {
            Ok(text) => self.of_text(1, text),
            Err(_) => self.outgoing(1, None, Some(BASE64_STANDARD.encode(bytes)), bytes.len()),
        }
    }

    fn outgoing(
        &self,
        number: u64,
        data: Option<Box<RawValue>>,
        data_base64: Option<String>,
        read: usize,
    ) -> anyhow::Result<Outgoing> {
        let idempotency_key = if self.one {
            self.key.clone()
        } else {
            format!("{}-{number}", self.key)
        };
        let body = serde_json::to_string(&Body {
            to: &self.to,
            event: &self.event,
            data,
            data_base64,
            idempotency_key,
        })?;
        Ok(Outgoing {
            number,
            body,
            read: read as u64 + 1,
        })
    }
}

/// So many lines wait for being sent at most.
const WAITING: usize = 1000;

/// Where messages come from.
pub(super) struct Source {
    pub(super) messages: mpsc::Receiver<anyhow::Result<Outgoing>>,
    /// How many bytes there are to read, where that is known.
    pub(super) bytes: Option<u64>,
    /// Whether there is one message, which was given as a whole.
    pub(super) one: bool,
}

impl Source {
    /// Opens what the command line names. A file is read at once, standard input line by line on a thread of its own.
    pub(super) fn open(arguments: &PushArguments) -> anyhow::Result<Self> {
        let template = Template::new(arguments);
        let (sender, messages) = mpsc::channel(WAITING);
        let one = template.one;
        if let Some(text) = &arguments.data {
            sender.try_send(template.of_text(1, text))?;
        } else if let Some(file) = &arguments.file {
            let read = std::fs::read(file);
            let bytes = read.with_context(|| format!("cannot read {}; is --file right?", file.display()))?;
            sender.try_send(template.of_bytes(&bytes))?;
        } else {
            std::thread::Builder::new()
                .name("lines".to_owned())
                .spawn(move || read_lines(&template, &sender))
                .context("cannot start a thread that reads standard input")?;
        }
        let bytes = (!one).then(bytes_of_input).flatten();
        Ok(Self { messages, bytes, one })
    }
}

/// The longest line, which no ingest would take anyway.
const LINE: u64 = 64 << 20;

fn read_lines(template: &Template, sender: &mpsc::Sender<anyhow::Result<Outgoing>>) {
    let mut input = std::io::stdin().lock();
    for number in 1.. {
        let mut line = Vec::new();
        let read = input.by_ref().take(LINE).read_until(b'\n', &mut line);
        let message = match read {
            Ok(0) => return,
            Ok(_) => line_of(template, number, &line),
            Err(error) => Err(anyhow::Error::from(error).context("cannot read standard input")),
        };
        let wrong = message.is_err();
        // Nobody sends any more: the tool ends.
        if sender.blocking_send(message).is_err() || wrong {
            return;
        }
    }
}

fn line_of(template: &Template, number: u64, line: &[u8]) -> anyhow::Result<Outgoing> {
    let Ok(text) = std::str::from_utf8(line) else {
        bail!("line {number} is not UTF-8; send bytes with --file, one message each");
    };
    let text = text.strip_suffix('\n').unwrap_or(text);
    template.of_text(number, text.strip_suffix('\r').unwrap_or(text))
}

/// The length of standard input, if it is a file.
fn bytes_of_input() -> Option<u64> {
    let input = std::fs::metadata("/dev/stdin").ok()?;
    input.is_file().then_some(input.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template(one: bool, text: bool) -> Template {
        Template {
            to: Value::from("all"),
            event: "e".to_owned(),
            text,
            key: "k".to_owned(),
            one,
        }
    }

    fn body(template: &Template, line: &[u8]) -> String {
        line_of(template, 3, line).unwrap().body
    }

    #[test]
    fn json_stays_as_it_was_written_and_text_becomes_a_string() {
        let lines = template(false, false);
        assert_eq!(
            body(&lines, b"{\"eur\": 1.00}\n"),
            r#"{"to":"all","event":"e","data":{"eur": 1.00},"idempotency_key":"k-3"}"#
        );
        assert!(body(&lines, b"hello \"you\"\r\n").contains(r#""data":"hello \"you\"""#));
        assert!(body(&template(false, true), b"42\n").contains(r#""data":"42""#));
        assert!(line_of(&lines, 1, b"\xff\n").is_err());
    }

    #[test]
    fn a_file_of_bytes_is_sent_as_bytes() {
        let message = template(true, false).of_bytes(&[0xff, 0]).unwrap();
        assert_eq!(
            message.body,
            r#"{"to":"all","event":"e","data_base64":"/wA=","idempotency_key":"k"}"#
        );
    }
}

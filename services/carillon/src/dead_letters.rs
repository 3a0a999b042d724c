//! `carillon dlq`: messages that could not be handled, for a person to decide.

use std::{process::ExitCode, time::Duration};

use anyhow::{Context as _, bail};
use bytes::Bytes;
use carillon_broker::{
    Append, AppendOutcome, DeadLetter, DeadLetterId, IdempotencyKey, NewMessage, SharedBroker,
};
use carillon_chassis::{
    run::{SettingsFlags, exit},
    settings::{Loader, Request},
};
use carillon_model::{Offset, Partition, Room, wire};
use clap::Subcommand;
use prost::Message as _;
use serde_json::json;

use crate::{broker, settings::Settings};

/// What to do with dead letters.
#[derive(Debug, Subcommand)]
pub(crate) enum DeadLetterCommand {
    /// Lists them, one JSON object a line
    ///
    /// Example: carillon dlq list --redis.url redis://redis:6379
    List(SettingsFlags),
    /// Sends one again, as a new message, and removes it from the dead letters
    ///
    /// Example: carillon dlq replay 12/1732377600000-0
    Replay {
        /// Which one, as `list` shows it: `partition/offset`.
        id: String,
        #[command(flatten)]
        settings: SettingsFlags,
    },
    /// Removes one for good
    ///
    /// Example: carillon dlq drop 12/1732377600000-0
    Drop {
        /// Which one, as `list` shows it: `partition/offset`.
        id: String,
        #[command(flatten)]
        settings: SettingsFlags,
    },
}

pub(crate) fn run(command: DeadLetterCommand) -> ExitCode {
    let flags = match &command {
        DeadLetterCommand::List(flags) => flags,
        DeadLetterCommand::Replay { settings, .. } | DeadLetterCommand::Drop { settings, .. } => settings,
    };
    let loader = Loader::new("carillon dlq")
        .environment()
        .arguments(flags.flags.clone());
    let settings = match loader.load::<Settings>() {
        Ok(Request::Run(loaded)) => loaded.settings,
        Ok(Request::Print(text)) => return say(&mut std::io::stdout(), &text, 0),
        Err(errors) => return say(&mut std::io::stderr(), &errors.to_string(), exit::BAD_USAGE),
    };
    let done = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")
        .and_then(|runtime| runtime.block_on(work(&command, &settings)));
    match done {
        Ok(text) => say(&mut std::io::stdout(), &text, 0),
        Err(error) => say(&mut std::io::stderr(), &format!("{error:#}"), exit::FAILED),
    }
}

fn say(to: &mut dyn std::io::Write, text: &str, code: u8) -> ExitCode {
    let ending = if text.is_empty() || text.ends_with('\n') {
        ""
    } else {
        "\n"
    };
    match write!(to, "{text}{ending}") {
        Ok(()) => ExitCode::from(code),
        Err(_) => ExitCode::from(exit::FAILED),
    }
}

async fn work(command: &DeadLetterCommand, settings: &Settings) -> anyhow::Result<String> {
    let broker = broker::redis(settings)?;
    match command {
        DeadLetterCommand::List(_) => list(&broker).await,
        DeadLetterCommand::Replay { id, .. } => replay(&broker, settings, parse(id)?).await,
        DeadLetterCommand::Drop { id, .. } => {
            let id = parse(id)?;
            if !broker.drop_dead_letter(id).await? {
                bail!("there is no dead letter {id}; `carillon dlq list` shows those there are");
            }
            Ok(json!({ "dropped": id.to_string() }).to_string())
        }
    }
}

/// So many are read at once.
const PAGE: usize = 100;

async fn list(broker: &SharedBroker) -> anyhow::Result<String> {
    let mut lines = String::new();
    for partition in broker.partitions().partitions() {
        let mut after = None;
        loop {
            let page = broker.dead_letters(partition, after, PAGE).await?;
            for letter in &page {
                lines.push_str(&shown(letter).to_string());
                lines.push('\n');
            }
            after = page.last().map(|letter| letter.id.offset);
            if page.len() < PAGE {
                break;
            }
        }
    }
    Ok(lines)
}

fn shown(letter: &DeadLetter) -> serde_json::Value {
    let room = room_message(&letter.entry).map(|message| message.room);
    json!({
        "id": letter.id.to_string(),
        "reason": letter.reason,
        "source": letter.source,
        "room": room,
        "bytes": letter.entry.len(),
        "buried_at": letter.buried_at,
    })
}

fn room_message(entry: &Bytes) -> Option<wire::RoomMessage> {
    match wire::QueueEntry::decode(entry.clone()).ok()?.content? {
        wire::queue_entry::Content::Message(message) => Some(message),
        wire::queue_entry::Content::Probe(_) => None,
    }
}

async fn replay(broker: &SharedBroker, settings: &Settings, id: DeadLetterId) -> anyhow::Result<String> {
    let letter = broker.dead_letter(id).await?;
    let letter = letter.with_context(|| {
        format!("there is no dead letter {id}; `carillon dlq list` shows those there are")
    })?;
    let message = room_message(&letter.entry).with_context(|| {
        format!(
            "{id} can't be read as a message ({}); drop it, or send it anew",
            letter.reason
        )
    })?;
    carillon_model::Message::decode(message.message.clone())
        .with_context(|| format!("{id} holds no readable message; drop it, or send it anew"))?;
    let room = Room::new(&message.room)?;
    let append = Append {
        partition: broker.partitions().partition_of(&room),
        messages: vec![NewMessage {
            entries: vec![(room, letter.entry.clone())],
            // Repeating a replay whose answer was lost sends nothing twice.
            idempotency: Some(IdempotencyKey {
                producer: "dlq".to_owned(),
                key: id.to_string(),
                fingerprint: Bytes::from_static(b"replay"),
            }),
        }],
        known: Offset::ZERO,
        queue_limit: settings.ingest.queue,
        keep_keys: Duration::from_secs(86_400),
    };
    match broker.append(append).await? {
        AppendOutcome::Appended(placed) => {
            broker.drop_dead_letter(id).await?;
            let offset = placed.first().and_then(|placed| placed.offsets.first());
            Ok(json!({ "replayed": id.to_string(), "offset": offset }).to_string())
        }
        AppendOutcome::QueueFull { length } => {
            bail!("the queue is full ({length} messages wait); try again later")
        }
        AppendOutcome::KeyReused { .. } => bail!("{id} was replayed before as something else; drop it"),
    }
}

fn parse(id: &str) -> anyhow::Result<DeadLetterId> {
    let parsed = id.split_once('/').and_then(|(partition, offset)| {
        Some(DeadLetterId {
            partition: Partition(partition.parse().ok()?),
            offset: offset.parse().ok()?,
        })
    });
    parsed.with_context(|| {
        format!("`{id}` is no dead letter's id; `carillon dlq list` shows them, like 12/1732377600000-0")
    })
}

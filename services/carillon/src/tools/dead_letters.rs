//! `carillon dlq`: messages that could not be handled, for a person to decide.

use std::{process::ExitCode, time::Duration};

use anyhow::{Context as _, bail};
use bytes::Bytes;
use carillon_broker::{
    Append, AppendOutcome, DeadLetter, DeadLetterId, IdempotencyKey, NewMessage, SharedBroker,
};
use carillon_chassis::run::Misconfigured;
use carillon_model::{Offset, Partition, Room, time::wall_clock_milliseconds, wire};
use clap::Subcommand;
use prost::Message as _;
use serde_json::json;

use super::{
    Ended, ToolArguments, examples,
    printer::{BAD, FAINT, NAME, Printer, styled},
    run,
};
use crate::{broker, settings::Settings};

/// What to do with dead letters.
#[derive(Debug, Subcommand)]
pub(crate) enum DeadLetterCommand {
    /// Lists them
    #[command(after_help = examples::DLQ_LIST)]
    List(#[command(flatten)] ToolArguments),
    /// Sends one again, as a new message, and removes it from the dead letters
    #[command(after_help = examples::DLQ_REPLAY)]
    Replay(Named),
    /// Removes one, or all of a kind, for good
    #[command(after_help = examples::DLQ_DROP)]
    Drop(Drop),
}

/// A dead letter.
#[derive(clap::Args, Debug)]
pub(crate) struct Named {
    /// Which one, as `list` shows it: partition/offset
    id: String,
    #[command(flatten)]
    tool: ToolArguments,
}

/// Dead letters to remove: one by its id, or all that everything said here is true of.
#[derive(clap::Args, Debug)]
#[command(group = clap::ArgGroup::new("which").required(true).multiple(true))]
pub(crate) struct Drop {
    /// Which one, as `list` shows it: partition/offset
    #[arg(group = "which", conflicts_with_all = ["all", "partition", "reason", "older_than"])]
    id: Option<String>,
    /// All there are
    #[arg(long, group = "which")]
    all: bool,
    /// All of one partition
    #[arg(long, group = "which", value_name = "PARTITION")]
    partition: Option<u16>,
    /// All whose reason contains this
    #[arg(long, group = "which", value_name = "TEXT")]
    reason: Option<String>,
    /// All that are older than this
    #[arg(long, group = "which", value_name = "DURATION", value_parser = humantime::parse_duration)]
    older_than: Option<Duration>,
    #[command(flatten)]
    tool: ToolArguments,
}

impl Drop {
    fn takes(&self, letter: &DeadLetter, now: u64) -> bool {
        let age = Duration::from_millis(now.saturating_sub(letter.buried_at));
        let old = self.older_than.is_none_or(|limit| age > limit);
        let reason = self.reason.as_deref();
        old && reason.is_none_or(|text| letter.reason.contains(text))
    }
}

pub(crate) fn dead_letters(command: DeadLetterCommand) -> ExitCode {
    let tool = match &command {
        DeadLetterCommand::List(tool) => tool,
        DeadLetterCommand::Replay(named) => &named.tool,
        DeadLetterCommand::Drop(drop) => &drop.tool,
    };
    run("carillon dlq", &tool.clone(), |settings, printer| async move {
        work(&command, &settings, printer).await?;
        Ok(Ended::Well)
    })
}

async fn work(command: &DeadLetterCommand, settings: &Settings, printer: Printer) -> anyhow::Result<()> {
    let broker = broker::redis(settings)?;
    match command {
        DeadLetterCommand::List(_) => list(&broker, printer).await,
        DeadLetterCommand::Replay(Named { id, .. }) => {
            let offset = replay(&broker, settings, parse(id)?).await?;
            let text = || {
                format!(
                    "{id} was sent again, and is at {}",
                    offset.map_or_else(String::new, |offset| offset.to_string())
                )
            };
            printer.item(&json!({ "replayed": id, "offset": offset }), text)
        }
        DeadLetterCommand::Drop(Drop { id: Some(id), .. }) => {
            let DeadLetterId { partition, offset } = parse(id)?;
            if broker.drop_dead_letters(partition, &[offset]).await? == 0 {
                bail!("there is no dead letter {id}; `carillon dlq list` shows those there are");
            }
            printer.item(&json!({ "dropped": id }), || format!("{id} is gone"))
        }
        DeadLetterCommand::Drop(drop) => drop_many(&broker, drop, printer).await,
    }
}

/// A page is read, and what is meant of it removed, so no call does more than a page's work.
async fn drop_many(broker: &SharedBroker, drop: &Drop, printer: Printer) -> anyhow::Result<()> {
    let now = wall_clock_milliseconds();
    let partitions = broker.partitions();
    if let Some(named) = drop.partition
        && named >= partitions.get()
    {
        let text = format!(
            "there is no partition {named}; they are 0 to {}",
            partitions.get() - 1
        );
        return Err(Misconfigured(text).into());
    }
    let mut none = true;
    for partition in partitions.partitions() {
        if drop.partition.is_some_and(|named| named != partition.0) {
            continue;
        }
        let (mut after, mut dropped) = (None, 0);
        loop {
            let page = broker.dead_letters(partition, after, PAGE).await?;
            after = page.last().map(|letter| letter.id.offset);
            let meant: Vec<Offset> = page
                .iter()
                .filter(|letter| drop.takes(letter, now))
                .map(|letter| letter.id.offset)
                .collect();
            dropped += broker.drop_dead_letters(partition, &meant).await?;
            if page.len() < PAGE {
                break;
            }
        }
        if dropped > 0 {
            none = false;
            let object = json!({ "partition": partition.0, "dropped": dropped });
            printer.item(&object, || format!("partition {partition}: {dropped} are gone"))?;
        }
    }
    if none && !printer.is_json() {
        super::printer::tell("There are no such dead letters.");
    }
    Ok(())
}

/// So many are read at once.
const PAGE: usize = 100;

async fn list(broker: &SharedBroker, printer: Printer) -> anyhow::Result<()> {
    let mut none = true;
    for partition in broker.partitions().partitions() {
        let mut after = None;
        loop {
            let page = broker.dead_letters(partition, after, PAGE).await?;
            for letter in &page {
                none = false;
                show(letter, printer)?;
            }
            after = page.last().map(|letter| letter.id.offset);
            if page.len() < PAGE {
                break;
            }
        }
    }
    if none && !printer.is_json() {
        super::printer::tell("There are no dead letters.");
    }
    Ok(())
}

fn show(letter: &DeadLetter, printer: Printer) -> anyhow::Result<()> {
    let room = room_message(&letter.entry).map(|message| message.room);
    let object = json!({
        "id": letter.id.to_string(),
        "reason": letter.reason,
        "source": letter.source,
        "room": room,
        "bytes": letter.entry.len(),
        "buried_at": letter.buried_at,
    });
    printer.item(&object, || {
        let room = room.as_deref().unwrap_or("(unreadable)");
        let bytes = styled(FAINT, format!("{} bytes", letter.entry.len()));
        format!(
            "{} {} {} {bytes}",
            letter.id,
            styled(NAME, room),
            styled(BAD, &letter.reason)
        )
    })
}

fn room_message(entry: &Bytes) -> Option<wire::RoomMessage> {
    match wire::QueueEntry::decode(entry.clone()).ok()?.content? {
        wire::queue_entry::Content::Message(message) => Some(message),
        wire::queue_entry::Content::Probe(_) => None,
    }
}

async fn replay(
    broker: &SharedBroker,
    settings: &Settings,
    id: DeadLetterId,
) -> anyhow::Result<Option<Offset>> {
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
            broker.drop_dead_letters(id.partition, &[id.offset]).await?;
            Ok(placed.first().and_then(|placed| placed.offsets.first()).copied())
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
    parsed.ok_or_else(|| {
        let text =
            format!("`{id}` is no dead letter's id; `carillon dlq list` shows them, like 12/1732377600000-0");
        Misconfigured(text).into()
    })
}

//! Producers that repeat with the same key until they know.

use std::{sync::Arc, time::Duration};

use carillon_broker::{Append, AppendOutcome, IdempotencyKey, NewMessage, Queue};
use carillon_model::{
    Data, EventName, Message, MessageId, Offset, PartitionCount, Room, Sender, wire::QueueEntry,
};
use prost::Message as _;

use crate::{audit::Audit, broker::SimulatedBroker};

/// Sends `count` messages to random rooms, with random pauses up to `pause`.
#[allow(clippy::too_many_arguments)] // a producer's whole state
pub async fn produce(
    broker: SimulatedBroker,
    partitions: PartitionCount,
    audit: Arc<Audit>,
    name: String,
    rooms: Vec<Room>,
    count: usize,
    pause: Duration,
    mut random: fastrand::Rng,
) {
    let mut known = vec![Offset::ZERO; usize::from(partitions.get())];
    if broker.changes_lives() {
        // It watches on when everything is sent: what is confirmed can be lost later.
        tokio::spawn(broker.clone().watch_losses());
    }
    for number in 0..count {
        let room = rooms[random.usize(..rooms.len())].clone();
        send(
            &broker,
            partitions,
            &audit,
            &name,
            number,
            &room,
            &mut known,
            &mut random,
        )
        .await;
        let limit = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
        tokio::time::sleep(Duration::from_millis(random.u64(1..=limit.max(1)))).await;
    }
}

/// Sends one message and does not rest before it is known to be kept.
#[allow(clippy::too_many_arguments)] // a producer's whole state
pub async fn send(
    broker: &SimulatedBroker,
    partitions: PartitionCount,
    audit: &Audit,
    name: &str,
    number: usize,
    room: &Room,
    known: &mut [Offset],
    random: &mut fastrand::Rng,
) {
    let partition = partitions.partition_of(room);
    let key = format!("{name}.{number}");
    let id = MessageId::of_idempotency_key(name, &key);
    let message = Message {
        id,
        event: event(),
        data: Data::text(&key),
        accepted_at: 0,
        copies: 1,
        sender: Sender::Producer(name.to_owned()),
        traceparent: String::new(),
    };
    let entry = QueueEntry::of_message(room, message.encode()).encode_to_vec();
    audit.sending(id, &key, room);
    loop {
        let append = Append {
            partition,
            messages: vec![NewMessage {
                entries: vec![(room.clone(), entry.clone().into())],
                idempotency: Some(IdempotencyKey {
                    producer: name.to_owned(),
                    key: key.clone(),
                    fingerprint: bytes::Bytes::from_static(b"same"),
                }),
            }],
            known: known[partition.index()],
            queue_limit: 10_000,
            keep_keys: Duration::from_secs(600),
        };
        match Queue::append(broker, append).await {
            Ok(AppendOutcome::Appended(placed)) => {
                let offset = placed[0].offsets[0];
                known[partition.index()] = known[partition.index()].max(offset);
                audit.accepted(name, id, room, offset);
                return;
            }
            _ => tokio::time::sleep(Duration::from_millis(random.u64(1..100))).await,
        }
    }
}

#[allow(clippy::expect_used)] // a constant
fn event() -> EventName {
    EventName::new("simulated").expect("a valid name")
}

//! What is appended is read, in order, by whoever reads.

use std::time::Duration;

use bytes::Bytes;
use carillon_model::Offset;

use crate::{
    AppendOutcome, Fenced, NewMessage, QueueItem,
    conformance::{
        Case,
        stage::{KEPT, Stage, append_to, entries, entry, eventually, message, one, placed, request},
    },
};

pub(super) const CASES: &[Case] = &[
    case!(offsets_grow_and_reads_are_contiguous),
    case!(reading_takes_nothing_away),
    case!(an_empty_queue_stands_at_its_birth_and_then_at_its_last_id),
    case!(one_message_may_go_to_several_rooms),
    case!(a_partition_is_apart_from_the_others),
    case!(trimming_acknowledges_up_to_an_offset),
    case!(appending_is_all_or_nothing_when_the_queue_fills),
    case!(a_read_waits_for_an_entry),
    case!(a_read_that_waits_in_vain_ends),
    case!(tasks_that_append_at_once_keep_their_order),
    case!(every_byte_survives),
    case!(large_entries_survive),
    case!(
        an_entry_written_past_the_broker_is_read_and_can_be_buried,
        WriteRaw
    ),
    case!(a_full_server_refuses_and_recovers, LimitMemory),
];

async fn offsets_grow_and_reads_are_contiguous(stage: Stage) {
    let mut appended = Vec::new();
    for number in 0..25 {
        appended.push(stage.append(&stage.room(number % 3), &number.to_string()).await);
    }
    assert!(appended.is_sorted_by(|a, b| a < b), "{appended:?}");
    let mut owner = stage.own("owner").await;
    let head = owner.read_head(10).await.unwrap();
    assert!(head.owned);
    assert_eq!(head.handled, appended[0].just_below());
    let mut read: Vec<Offset> = offsets(&head.items);
    assert_eq!(read.len(), 10);
    while read.len() < 25 {
        let after = *read.last().unwrap();
        let more = owner.read_after(after, 4, Duration::ZERO).await.unwrap();
        assert!(!more.items.is_empty() && more.items.len() <= 4);
        assert_eq!(more.life, head.life);
        read.extend(offsets(&more.items));
    }
    assert_eq!(read, appended);
}

async fn reading_takes_nothing_away(stage: Stage) {
    for number in 0..5 {
        stage.append(&stage.room(0), &number.to_string()).await;
    }
    let mut owner = stage.own("owner").await;
    let first = owner.read().await;
    assert_eq!(first.len(), 5);
    assert_eq!(owner.read().await, first);
    assert_eq!(stage.queue().await, first);
}

async fn an_empty_queue_stands_at_its_birth_and_then_at_its_last_id(stage: Stage) {
    let room = stage.room(0);
    let born = stage.look(&room).await.partition;
    assert!(born.handled >= born.birth);
    assert!(born.queue_last >= born.birth);
    let first = stage.append(&room, "first").await;
    let second = stage.append(&room, "second").await;
    assert!(first > born.handled, "{first} is not above {}", born.handled);
    assert!(first > born.queue_last);
    let waiting = stage.look(&room).await.partition;
    assert_eq!(waiting.handled, first.just_below());
    assert_eq!(waiting.queue_last, second);
    assert!(first > waiting.birth, "everything is younger than the birth");

    let mut owner = stage.own("owner").await;
    assert_eq!(owner.horizon, first.just_below());
    owner.drain().await;
    let done = stage.look(&room).await.partition;
    assert_eq!((done.handled, done.queue_last), (second, second));
    assert_eq!(done.birth, waiting.birth);
    let head = owner.read_head(10).await.unwrap();
    assert_eq!((head.handled, head.items), (second, Vec::new()));
}

async fn one_message_may_go_to_several_rooms(stage: Stage) {
    let rooms = [stage.room(0), stage.room(1), stage.room(2)];
    let placed = one(stage.append_all(vec![message(&rooms, "to three")]).await);
    assert!(!placed.repeated);
    assert!(placed.offsets.is_sorted_by(|a, b| a < b));
    let queue = stage.queue().await;
    assert_eq!(offsets(&queue), placed.offsets);
    for (item, room) in queue.iter().zip(&rooms) {
        assert_eq!(item.entry, entry(room, "to three"));
    }
}

async fn a_partition_is_apart_from_the_others(stage: Stage) {
    let other = stage.broker.partitions().partitions().next().unwrap();
    assert_ne!(other, stage.partition, "the suite needs two partitions");
    append_to(&stage.broker, &stage.room_of(other, 0), "there").await;
    assert_eq!(stage.queue().await, Vec::new());
    let mut owner = stage.own("here").await;
    assert_eq!(owner.read().await, Vec::new());
}

async fn trimming_acknowledges_up_to_an_offset(stage: Stage) {
    let mut appended = Vec::new();
    for number in 0..5 {
        appended.push(stage.append(&stage.room(0), &number.to_string()).await);
    }
    let mut owner = stage.own("owner").await;
    assert_eq!(owner.trim(appended[1]).await, Fenced::Done(()));
    assert_eq!(offsets(&owner.read().await), appended[2..]);
    // Again, and below: nothing more.
    assert_eq!(owner.trim(appended[0]).await, Fenced::Done(()));
    assert_eq!(offsets(&owner.read().await), appended[2..]);
    assert_eq!(
        stage.look(&stage.room(0)).await.partition.handled,
        appended[2].just_below()
    );
}

async fn appending_is_all_or_nothing_when_the_queue_fills(stage: Stage) {
    let room = [stage.room(0)];
    let some = |count: usize| {
        let mut append = request(stage.partition, vec![message(&room, "some"); count]);
        append.queue_limit = 5;
        append
    };
    placed(stage.broker.append(some(3)).await.unwrap());
    let refused = stage.broker.append(some(3)).await.unwrap();
    assert_eq!(refused, AppendOutcome::QueueFull { length: 3 });
    assert_eq!(stage.queue().await.len(), 3);
    placed(stage.broker.append(some(2)).await.unwrap());
    let refused = stage.broker.append(some(1)).await.unwrap();
    assert_eq!(refused, AppendOutcome::QueueFull { length: 5 });

    let mut owner = stage.own("owner").await;
    owner.drain().await;
    placed(stage.broker.append(some(5)).await.unwrap());
}

async fn a_read_waits_for_an_entry(stage: Stage) {
    let first = stage.append(&stage.room(0), "first").await;
    let mut owner = stage.own("owner").await;
    let reading = tokio::spawn(async move { owner.read_after(first, 10, Duration::from_secs(60)).await });
    tokio::task::yield_now().await;
    let second = stage.append(&stage.room(0), "second").await;
    let read = tokio::time::timeout(Duration::from_secs(15), reading)
        .await
        .expect("the reader woke up")
        .unwrap()
        .unwrap();
    assert_eq!(offsets(&read.items), [second]);
}

async fn a_read_that_waits_in_vain_ends(stage: Stage) {
    let mut owner = stage.own("owner").await;
    let read = owner
        .read_after(owner.horizon, 10, Duration::from_millis(50))
        .await
        .unwrap();
    assert_eq!(read.items, Vec::new());
    assert_eq!(read.life, owner.life);
}

async fn tasks_that_append_at_once_keep_their_order(stage: Stage) {
    const TASKS: usize = 8;
    const EACH: usize = 25;
    let mut tasks = Vec::new();
    for task in 0..TASKS {
        let (broker, room) = (stage.another().await, stage.room(task % 2));
        tasks.push(tokio::spawn(async move {
            let mut offsets = Vec::new();
            for number in 0..EACH {
                offsets.push(append_to(&broker, &room, &format!("{task}/{number}")).await);
            }
            offsets
        }));
    }
    let mut all = Vec::new();
    for task in tasks {
        let offsets = task.await.unwrap();
        assert!(offsets.is_sorted_by(|a, b| a < b), "{offsets:?}");
        all.extend(offsets);
    }
    all.sort_unstable();
    assert_eq!(offsets(&stage.queue().await), all);
}

async fn every_byte_survives(stage: Stage) {
    let bytes: Bytes = (0..=255).chain([0, 13, 10, 0]).collect::<Vec<u8>>().into();
    let room = stage.room(0);
    let message = NewMessage {
        entries: vec![(room.clone(), bytes.clone())],
        idempotency: None,
    };
    let offset = one(stage.append_all(vec![message]).await).offsets[0];
    survives(&stage, offset, &bytes).await;
}

async fn large_entries_survive(stage: Stage) {
    let bytes: Bytes = (0..300_000_u32)
        .map(|i| i.to_le_bytes()[i as usize % 2])
        .collect::<Vec<u8>>()
        .into();
    let room = stage.room(0);
    let message = NewMessage {
        entries: vec![(room.clone(), bytes.clone())],
        idempotency: None,
    };
    let offset = one(stage.append_all(vec![message]).await).offsets[0];
    survives(&stage, offset, &bytes).await;
}

/// Follows bytes through queue, history, channel and dead letters.
async fn survives(stage: &Stage, offset: Offset, bytes: &Bytes) {
    let room = stage.room(0);
    let mut owner = stage.own("owner").await;
    let items = owner.read().await;
    assert_eq!(
        items,
        [QueueItem {
            offset,
            entry: bytes.clone()
        }]
    );
    let mut record = entries(
        &[QueueItem {
            offset,
            entry: entry(&room, ""),
        }],
        KEPT,
    );
    record[0].message = bytes.clone();
    owner.must_record(record).await;
    assert_eq!(stage.history(&room, Offset::ZERO).await.items[0].message, bytes);
    assert_eq!(
        stage.newest(&room, None, 1, usize::MAX).await.items[0].message,
        bytes
    );

    let gateway = stage.gateway("gateway").await;
    stage
        .broker
        .append_channel(&gateway, bytes.clone(), 1 << 30)
        .await
        .unwrap();
    let mut channel = stage.broker.open_channel(&gateway).await.unwrap();
    let read = channel.read(10, Duration::from_secs(10)).await.unwrap();
    assert_eq!(read.items, [crate::ChannelItem::Entry(bytes.clone())]);

    let buried = owner
        .broker
        .bury_head(stage.partition, owner.token, &owner.life, offset, "no reason")
        .await;
    assert_eq!(buried, Ok(Fenced::Done(())));
    let letters = stage
        .broker
        .dead_letters(stage.partition, None, 10)
        .await
        .unwrap();
    assert_eq!(letters[0].entry, bytes);
}

async fn an_entry_written_past_the_broker_is_read_and_can_be_buried(stage: Stage) {
    let before = stage.append(&stage.room(0), "before").await;
    stage
        .installation
        .write_raw(stage.partition, Bytes::from_static(b"\xffnonsense"))
        .await;
    let after = stage.append(&stage.room(0), "after").await;
    let mut owner = stage.own("owner").await;
    let items = owner.read().await;
    assert_eq!(items.len(), 3);
    let raw = items[1].offset;
    assert!(before < raw && raw < after);
    assert_eq!(owner.trim(before).await, Fenced::Done(()));
    let buried = owner
        .broker
        .bury_head(stage.partition, owner.token, &owner.life, raw, "nonsense")
        .await;
    assert_eq!(buried, Ok(Fenced::Done(())));
    assert_eq!(offsets(&owner.read().await), [after]);
    let letters = stage
        .broker
        .dead_letters(stage.partition, None, 10)
        .await
        .unwrap();
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0].entry, items[1].entry);
}

async fn a_full_server_refuses_and_recovers(stage: Stage) {
    let mut owner = stage.own("owner").await;
    stage.installation.limit_memory(Some(1 << 20)).await;
    let text = "x".repeat(32 << 10);
    let mut kept = 0;
    let refused = loop {
        let append = request(stage.partition, vec![message(&[stage.room(0)], &text)]);
        match stage.broker.append(append).await {
            Ok(outcome) => {
                placed(outcome);
                kept += 1;
            }
            Err(refused) => break refused,
        }
        assert!(kept < 64, "the limit is never reached");
    };
    assert_eq!(refused.kind(), "out_of_memory", "{refused}");
    assert_eq!(stage.queue().await.len(), kept, "a refused append wrote nothing");
    let pressure = stage.broker.pressure().await.unwrap().memory;
    assert!(pressure > 0.5, "{pressure}");
    // Acknowledging works on a full server, and makes room.
    let items = owner.read().await;
    assert_eq!(owner.trim(items.last().unwrap().offset).await, Fenced::Done(()));
    eventually!("there is room again", {
        let append = request(stage.partition, vec![message(&[stage.room(0)], "small")]);
        stage.broker.append(append).await.ok()
    });
    stage.installation.limit_memory(None).await;
}

fn offsets(items: &[QueueItem]) -> Vec<Offset> {
    items.iter().map(|item| item.offset).collect()
}

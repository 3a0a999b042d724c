//! What the embedded broker's servers are for the simulator: states that are copied, kept, replaced and bounded.

#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests

use std::time::Duration;

use bytes::Bytes;
use carillon_broker::{
    Append, AppendOutcome, BrokerError, Fenced, Incarnation, Leases, Life, MemoryBroker, MemoryOptions,
    NewMessage, PartitionGrant, Queue, Record, RecordEntry, memory::ops,
};
use carillon_model::{Offset, Partition, PartitionCount, Room, policy::HistoryLimits};

const ONLY: Partition = Partition(0);
const START: u64 = 1_800_000_000_000;

fn broker(change: impl FnOnce(&mut MemoryOptions)) -> MemoryBroker {
    let mut options = MemoryOptions::new(PartitionCount::new(1).unwrap(), START);
    change(&mut options);
    MemoryBroker::new(options)
}

fn append(entry: impl Into<Bytes>) -> Append {
    let message = NewMessage {
        entries: vec![(Room::all(), entry.into())],
        idempotency: None,
    };
    Append {
        partition: ONLY,
        messages: vec![message],
        known: Offset::ZERO,
        queue_limit: u64::MAX,
        keep_keys: Duration::from_secs(600),
    }
}

async fn send(broker: &MemoryBroker, entry: &'static str) -> Offset {
    placed(broker.append(append(entry)).await.unwrap())
}

fn placed(outcome: AppendOutcome) -> Offset {
    match outcome {
        AppendOutcome::Appended(placed) => placed[0].offsets[0],
        refused => panic!("{refused:?}"),
    }
}

async fn own(broker: &MemoryBroker) -> PartitionGrant {
    let owner = Incarnation::new("owner", "1");
    let lasts = Duration::from_secs(3600);
    broker
        .acquire_partition(ONLY, &owner, lasts, Offset::ZERO)
        .await
        .unwrap()
        .unwrap()
}

fn record(grant: &PartitionGrant, room: &Room, offset: Offset, history: HistoryLimits) -> Record {
    Record {
        partition: ONLY,
        token: grant.token,
        life: grant.life.clone(),
        horizon: grant.handled,
        entries: vec![RecordEntry {
            room: room.clone(),
            offset,
            prev: None,
            message: vec![7; 1000].into(),
            gap: None,
            history,
        }],
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_keeps_the_state_before_each_of_its_last_writes() {
    let broker = broker(|options| options.recent_versions = 3);
    let mut sent = Vec::new();
    for text in ["a", "b", "c", "d", "e"] {
        sent.push(send(&broker, text).await);
    }
    let lengths: Vec<usize> = broker
        .recent_states(0)
        .iter()
        .map(|state| state.queue(ONLY).len())
        .collect();
    assert_eq!(lengths, [2, 3, 4]);
    // Reading is no write.
    let mut reader = broker.open_queue(ONLY).await.unwrap();
    reader.read_after(Offset::ZERO, 10, Duration::ZERO).await.unwrap();
    assert_eq!(broker.recent_states(0).len(), 3);

    // Two writes are lost, and the clock goes back.
    let older = broker.recent_states(0).swap_remove(1);
    broker.replace_server_state(0, older, Life("second".into()), -1000);
    assert_eq!(broker.now(0), START - 1000);
    assert!(
        broker.recent_states(0).is_empty(),
        "another life has another past"
    );
    let next = send(&broker, "next").await;
    assert!(next > sent[4]);
    let read = reader.read_after(Offset::ZERO, 10, Duration::ZERO).await.unwrap();
    let offsets: Vec<Offset> = read.items.iter().map(|item| item.offset).collect();
    assert_eq!(offsets[..4], [sent[0], sent[1], sent[2], next]);
    assert_eq!(offsets.len(), 5, "what was lost is marked behind it");
    assert_eq!(read.life, Life("second".into()));
}

#[tokio::test(start_paused = true)]
async fn an_old_primary_lives_on_in_a_copy() {
    let broker = broker(|_| ());
    send(&broker, "before").await;
    let mut ghost = broker.server_state(0);
    let written = placed(ops::append::append(&mut ghost, START, &append("only there")).unwrap());
    assert_eq!(ghost.queue_last(ONLY), Some(written));
    assert_eq!(ghost.queue(ONLY).len(), 2);
    assert_eq!(broker.server_state(0).queue(ONLY).len(), 1);
    send(&broker, "only here").await;
    assert_eq!(ghost.queue(ONLY)[1].entry, "only there");
    assert_eq!(broker.server_state(0).queue(ONLY)[1].entry, "only here");
}

#[tokio::test(start_paused = true)]
async fn the_clock_is_the_runtimes_and_skew_is_a_servers_own() {
    let broker = broker(|options| {
        options.partitions = PartitionCount::new(2).unwrap();
        options.servers = 2;
    });
    tokio::time::advance(Duration::from_millis(1234)).await;
    broker.set_skew(1, 500);
    assert_eq!((broker.now(0), broker.now(1)), (START + 1234, START + 1734));
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_looks_again_when_a_server_is_replaced() {
    let broker = broker(|_| ());
    let mut state = broker.server_state(0);
    ops::append::append(&mut state, START, &append("from the replica")).unwrap();
    let mut reader = broker.open_queue(ONLY).await.unwrap();
    let reading = tokio::spawn(async move {
        reader
            .read_after(Offset::ZERO, 10, Duration::from_secs(3600))
            .await
    });
    tokio::task::yield_now().await;
    broker.replace_server_state(0, state, Life("second".into()), 0);
    let read = reading.await.unwrap().unwrap();
    assert_eq!(read.items[0].entry, "from the replica");
    assert!(broker.now(0) < START + 1000, "it woke up, it did not time out");
}

#[tokio::test(start_paused = true)]
async fn a_read_waits_no_longer_than_asked_and_does_not_poll() {
    let broker = broker(|_| ());
    let mut reader = broker.open_queue(ONLY).await.unwrap();
    let began = tokio::time::Instant::now();
    let read = reader
        .read_after(Offset::ZERO, 10, Duration::from_secs(5))
        .await
        .unwrap();
    assert!(read.items.is_empty());
    // A paused clock jumps from timer to timer: a poll in between would show as an uneven time.
    assert_eq!(began.elapsed(), Duration::from_secs(5));
}

#[tokio::test(start_paused = true)]
async fn memory_is_bounded_and_there_is_room_to_drain() {
    const LIMIT: u64 = 1 << 20;
    let broker = broker(|options| options.memory_limit = LIMIT);
    let grant = own(&broker).await;
    let mut waiting = Vec::new();
    let refused = loop {
        match broker.append(append(vec![7; 1000])).await {
            Ok(outcome) => waiting.push(placed(outcome)),
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, BrokerError::OutOfMemory(_)), "{refused}");
    let room = Room::all();
    for offset in waiting {
        let recorded = broker
            .record(record(&grant, &room, offset, HistoryLimits::DEFAULT))
            .await;
        assert!(matches!(recorded, Ok(Fenced::Done(_))), "{recorded:?}");
        assert!(broker.server_state(0).used() <= LIMIT);
        let trimmed = broker.trim(ONLY, grant.token, &grant.life, offset, &[]).await;
        assert_eq!(trimmed, Ok(Fenced::Done(())));
    }
    placed(broker.append(append(vec![7; 1000])).await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn what_is_over_is_freed() {
    let broker = broker(|_| ());
    let empty = broker.server_state(0).used();
    let grant = own(&broker).await;
    for number in 0..500 {
        let mut append = append("text");
        append.messages[0].idempotency = Some(carillon_broker::IdempotencyKey {
            producer: "p".to_owned(),
            key: number.to_string(),
            fingerprint: Bytes::new(),
        });
        let offset = placed(broker.append(append).await.unwrap());
        let room = Room::new(format!("room-{number}")).unwrap();
        let limits = HistoryLimits::DEFAULT;
        broker
            .record(record(&grant, &room, offset, limits))
            .await
            .unwrap();
        broker
            .trim(ONLY, grant.token, &grant.life, offset, &[])
            .await
            .unwrap();
    }
    let full = broker.server_state(0).used();
    assert!(full > 500 * 1000, "{full}");
    let sweep = async |after: Duration| {
        tokio::time::advance(after).await;
        let last = send(&broker, "sweep").await;
        let grant = match broker
            .acquire_partition(ONLY, &Incarnation::new("o", "1"), Duration::from_millis(1), last)
            .await
        {
            Ok(Some(grant)) => grant,
            other => panic!("{other:?}"),
        };
        broker
            .trim(ONLY, grant.token, &grant.life, last, &[])
            .await
            .unwrap();
        broker.server_state(0).used()
    };
    // Histories after ten minutes, keys too; last offsets after a day.
    let quiet = sweep(Duration::from_secs(2 * 3600)).await;
    assert!(quiet < full / 4, "{quiet} of {full}");
    assert_eq!(sweep(Duration::from_secs(24 * 3600)).await, empty);
}

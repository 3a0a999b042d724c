//! A slot that takes long to move. While its keys lie on two servers, neither can run a script over them, and that may
//! last longer than any call: nothing may be written in halves, taken for lost, or blamed on a message.

use std::time::Duration;

use carillon_broker::{
    Append, AppendOutcome, Broker as _, BrokerError, Fenced, Incarnation, Leases as _, NewMessage,
    Queue as _, Record, RecordEntry,
    redis::{Mode, RedisBroker, RedisOptions},
};
use carillon_model::{Offset, Room, policy::HistoryLimits};

use crate::{
    server::{self, SlotMove},
    subject::options,
};

/// Rooms whose keys are moved one after the other.
const ROOMS: usize = 300;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_move_of_a_slot_is_waited_out() {
    let servers = server::cluster();
    let options = RedisOptions {
        timeout: Duration::from_millis(300),
        ..options(servers[0].url(), Mode::Cluster)
    };
    let broker = RedisBroker::new(options).unwrap();
    let partitions = broker.partitions();
    let partition = partitions.partitions().next().unwrap();
    let rooms: Vec<Room> = (0..)
        .map(|number| Room::new(format!("room-{number}")).unwrap())
        .filter(|room| partitions.partition_of(room) == partition)
        .take(ROOMS)
        .collect();
    let append = |texts: &[&str]| {
        let message = |text: &&str| NewMessage {
            entries: vec![(rooms[0].clone(), (*text).to_owned().into())],
            idempotency: None,
        };
        broker.append(Append {
            partition,
            messages: texts.iter().map(message).collect(),
            known: Offset::ZERO,
            queue_limit: 1_000,
            keep_keys: Duration::from_secs(600),
        })
    };
    let AppendOutcome::Appended(first) = append(&["first"]).await.unwrap() else {
        panic!("not appended")
    };
    let owner = Incarnation::new("dispatcher-0", "1");
    let grant = broker.acquire_partition(partition, &owner, Duration::from_secs(600), Offset::ZERO);
    let grant = grant.await.unwrap().unwrap();
    let entry = |room: &Room, offset| RecordEntry {
        room: room.clone(),
        offset,
        prev: None,
        message: "message".into(),
        gap: None,
        history: HistoryLimits::DEFAULT,
    };
    let record = |entries| {
        broker.record(Record {
            partition,
            token: grant.token,
            life: grant.life.clone(),
            horizon: grant.handled,
            entries,
        })
    };
    let offset = first[0].offsets[0];
    let everywhere = rooms.iter().map(|room| entry(room, offset)).collect();
    assert!(matches!(record(everywhere).await.unwrap(), Fenced::Done(_)));

    let queue = broker.queue_key(partition);
    let mut moving = SlotMove::begin(&servers, &queue);
    // From here on the queue is on one server, and what belongs to it on another.
    moving.keys(&[&queue.replace(":q:", ":run:")]);
    let mut reader = broker.open_queue(partition).await.unwrap();
    for _ in 0..2 {
        let refused = [
            append(&["second"]).await.map(drop),
            record(vec![entry(&rooms[0], offset)]).await.map(drop),
            reader.read_head(grant.token, 10).await.map(drop),
        ];
        for error in refused.map(Result::unwrap_err) {
            assert!(matches!(error, BrokerError::Unavailable(_)), "{error:?}");
        }
    }
    // Whatever is where meanwhile: it works or it waits.
    while moving.some_keys() {
        for outcome in [
            append(&["on the way"]).await.map(drop),
            reader.read_head(grant.token, 10).await.map(drop),
        ] {
            let waits = matches!(outcome, Err(BrokerError::Unavailable(_)));
            assert!(outcome.is_ok() || waits, "{outcome:?}");
        }
    }
    moving.finish();

    assert!(matches!(
        append(&["last"]).await.unwrap(),
        AppendOutcome::Appended(_)
    ));
    // On another server: what was granted on the old one is found to be worth nothing, and taken anew.
    assert_eq!(
        record(vec![entry(&rooms[0], offset)]).await.unwrap(),
        Fenced::Lost
    );
    let head = reader.read_head(grant.token, 1_000).await.unwrap();
    let texts: Vec<&[u8]> = head.items.iter().map(|item| &item.entry[..]).collect();
    assert_eq!((texts[0], texts[texts.len() - 1]), (&b"first"[..], &b"last"[..]));
    assert!(
        !texts.contains(&&b"second"[..]),
        "what was refused was not written"
    );
}

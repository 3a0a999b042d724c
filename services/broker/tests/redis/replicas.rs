//! What only several servers have: a replica that Sentinel promotes, and writes that wait for replicas.

use std::time::Duration;

use carillon_broker::{
    Append, AppendOutcome, BrokerError, ChannelAppend, Channels as _, DeadLetterSource, DeadLetters as _,
    FencingToken, Health as _, IdempotencyKey, Incarnation, Leases as _, Life, Membership as _, NewMessage,
    Queue as _, Record, RecordEntry,
    redis::{Mode, RedisBroker, RedisOptions},
};
use carillon_model::{Offset, Partition, Room, policy::HistoryLimits};

use crate::{
    server::{Server, until},
    subject::{gateway_member, options},
};

fn room() -> Room {
    Room::new("arrivals").unwrap()
}

pub(crate) fn partition(broker: &RedisBroker) -> Partition {
    use carillon_broker::Broker as _;
    broker.partitions().partition_of(&room())
}

/// Appends one message, with an idempotency key; asks once.
pub(crate) async fn append(broker: &RedisBroker, key: &str) -> Result<Offset, BrokerError> {
    let request = Append {
        partition: partition(broker),
        messages: vec![NewMessage {
            entries: vec![(room(), key.to_owned().into())],
            idempotency: Some(IdempotencyKey {
                producer: "tests".to_owned(),
                key: key.to_owned(),
                fingerprint: key.to_owned().into(),
            }),
        }],
        known: Offset::ZERO,
        queue_limit: 1_000,
        keep_keys: Duration::from_secs(600),
    };
    match broker.append(request).await? {
        AppendOutcome::Appended(appended) => Ok(appended[0].offsets[0]),
        other => panic!("{other:?}"),
    }
}

/// Appends one message as a producer does: the same again until it is known to be kept.
pub(crate) async fn append_at_last(broker: &RedisBroker, key: &str) -> Offset {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    loop {
        match append(broker, key).await {
            Ok(offset) => return offset,
            Err(error) => assert!(tokio::time::Instant::now() < deadline, "in vain: {error}"),
        }
    }
}

async fn life(broker: &RedisBroker) -> Life {
    let mut reader = broker.open_queue(partition(broker)).await.unwrap();
    reader.read_head(FencingToken(0), 10).await.unwrap().life
}

pub(crate) fn sentinel(sentinel: &Server) -> RedisOptions {
    let master = "mymaster".to_owned();
    options(sentinel.url(), Mode::Sentinel { master })
}

#[tokio::test]
async fn a_promoted_replica_is_found_and_gives_no_offset_twice() {
    let mut primary = Server::start(&[]);
    let replica = Server::replica_of(&primary);
    let watching = Server::sentinel_of(&primary, "");
    until("the sentinel to know the replica", || {
        watching
            .cli(&["SENTINEL", "REPLICAS", "mymaster"])
            .contains(&replica.port.to_string())
    });
    let broker = RedisBroker::new(sentinel(&watching)).unwrap();
    broker.check().await.unwrap();
    let before = append_at_last(&broker, "before").await;
    let life_before = life(&broker).await;
    until("the replica to have it", || {
        replica.cli(&["DBSIZE"]) == primary.cli(&["DBSIZE"])
    });

    primary.kill();
    let after = append_at_last(&broker, "after").await;

    assert!(replica.cli(&["ROLE"]).starts_with("master"));
    assert!(after > before, "{after:?} was given after {before:?}");
    assert_ne!(life(&broker).await, life_before, "everybody has to notice");
    assert_eq!(
        append_at_last(&broker, "before").await,
        before,
        "the replica had the key"
    );
}

#[tokio::test]
async fn a_master_that_no_sentinel_knows_is_named() {
    let primary = Server::start(&[]);
    let watching = Server::sentinel_of(&primary, "");
    let master = "another".to_owned();
    let broker = RedisBroker::new(options(watching.url(), Mode::Sentinel { master })).unwrap();
    let text = broker.check().await.unwrap_err().to_string();
    assert!(text.contains("another"), "{text}");
    assert!(text.contains(&watching.port.to_string()), "{text}");
}

#[tokio::test]
async fn sentinels_and_servers_are_each_told_their_own_password() {
    let primary = Server::start(&["--requirepass", "of-the-server"]);
    let watching = Server::sentinel_of(
        &primary,
        "requirepass of-the-sentinel\nsentinel auth-pass mymaster of-the-server",
    );
    let url = format!("redis://:of-the-server@127.0.0.1:{}", watching.port);
    let right = RedisOptions {
        url,
        sentinel_password: Some("of-the-sentinel".to_owned()),
        ..sentinel(&watching)
    };
    RedisBroker::new(right.clone()).unwrap().check().await.unwrap();
    let none = RedisOptions {
        sentinel_password: None,
        ..right
    };
    let text = RedisBroker::new(none)
        .unwrap()
        .check()
        .await
        .unwrap_err()
        .to_string();
    assert!(text.contains("redis.sentinel.password"), "{text}");
}

/// A broker that does not wait long for the one replica that every write has to reach.
fn waiting_for_one_replica(primary: &Server) -> RedisBroker {
    RedisBroker::new(RedisOptions {
        wait_replicas: 1,
        timeout: Duration::from_millis(500),
        ..options(primary.url(), Mode::Standalone)
    })
    .unwrap()
}

#[tokio::test]
async fn every_step_of_a_message_waits_for_replicas() {
    let primary = Server::start(&[]);
    let mut replica = Server::replica_of(&primary);
    let broker = waiting_for_one_replica(&primary);
    let (alive, partition) = (Duration::from_secs(60), partition(&broker));
    let [gateway, owner] = ["gateway", "dispatcher"].map(|pod| Incarnation::new(pod, 1));
    broker.register(&gateway_member(&gateway), alive).await.unwrap();
    let offset = append(&broker, "held").await.unwrap();
    let grant = broker
        .acquire_partition(partition, &owner, alive, Offset::ZERO)
        .await;
    let grant = grant.unwrap().unwrap();
    replica.kill();

    let entry = RecordEntry {
        room: Room::new("arrivals").unwrap(),
        offset,
        prev: None,
        message: "message".into(),
        gap: None,
        history: HistoryLimits::DEFAULT,
    };
    let record = Record {
        partition,
        token: grant.token,
        life: grant.life.clone(),
        horizon: Offset::ZERO,
        entries: vec![entry],
    };
    let recorded = broker.record(record).await.map(drop);
    let source = DeadLetterSource::Queue(offset);
    let buried = broker
        .bury(partition, source, "bytes".into(), "in a test")
        .await
        .map(drop);
    let trimmed = broker
        .trim(partition, grant.token, &grant.life, offset, &[])
        .await
        .map(drop);
    // A channel is caught up from history, and its server may be another one.
    let sent = broker.append_channel(&gateway, "entry".into(), 1 << 20).await;
    assert_eq!(sent, Ok(ChannelAppend::Kept));
    for (step, outcome) in [("record", recorded), ("bury", buried), ("trim", trimmed)] {
        assert!(
            matches!(outcome, Err(BrokerError::Unreplicated { .. })),
            "{step}: {outcome:?}"
        );
    }
}

#[tokio::test]
async fn a_write_that_too_few_replicas_hold_is_unknown_and_its_repeat_finds_it() {
    let primary = Server::start(&[]);
    let mut replica = Server::replica_of(&primary);
    let broker = waiting_for_one_replica(&primary);
    let held = append(&broker, "held").await.unwrap();

    replica.kill();
    let outcome = append(&broker, "alone").await;
    assert!(
        matches!(
            &outcome,
            Err(BrokerError::Unreplicated {
                acknowledged: 0,
                asked: 1
            })
        ),
        "{outcome:?}"
    );

    replica.run();
    let offset = append_at_last(&broker, "alone").await;
    assert!(offset > held);
    assert_eq!(append_at_last(&broker, "alone").await, offset);
    let length = primary.cli(&["XLEN", &broker.queue_key(partition(&broker))]);
    assert_eq!(
        length.trim(),
        "2",
        "one entry for each message, however often it was sent"
    );
}

//! What a promotion drops of what was confirmed, on real servers: it is marked in exactly the rooms that lost.

use std::time::Duration;

use carillon_broker::{
    Append, AppendOutcome, Broker as _, BrokerError, FencingToken, Health as _, IdempotencyKey, NewMessage,
    Queue as _,
    redis::{Mode, RedisBroker, RedisOptions},
};
use carillon_model::{Gap, Offset, Partition, PartitionCount, Room, wire::QueueEntry};
use prost::Message as _;

use crate::{
    server::{Server, until},
    subject::options,
};

const P: Partition = Partition(0);

fn room(name: &str) -> Room {
    Room::new(name).unwrap()
}

/// A sentinel that is told who the primary is, and a broker of one partition that asks it.
struct Stage {
    watching: Server,
    broker: RedisBroker,
}

impl Stage {
    fn new(primary: &Server, wait_replicas: u32) -> Self {
        // It decides nothing by itself during a test.
        let watching = Server::sentinel_of(primary, "sentinel down-after-milliseconds mymaster 600000");
        let master = "mymaster".to_owned();
        let broker = RedisBroker::new(RedisOptions {
            partitions: PartitionCount::new(1).unwrap(),
            wait_replicas,
            ..options(watching.url(), Mode::Sentinel { master })
        });
        Self {
            watching,
            broker: broker.unwrap(),
        }
    }

    /// From now on this one is the primary.
    fn primary_is(&self, primary: &Server) {
        self.watching.cli(&["SENTINEL", "REMOVE", "mymaster"]);
        let port = primary.port.to_string();
        self.watching
            .cli(&["SENTINEL", "MONITOR", "mymaster", "127.0.0.1", &port, "1"]);
        let address = ["SENTINEL", "GET-MASTER-ADDR-BY-NAME", "mymaster"];
        until("the sentinel to say so", || {
            self.watching.cli(&address).contains(&port)
        });
    }

    async fn append(&self, name: &str, key: &str) -> Result<Offset, BrokerError> {
        let message = NewMessage {
            entries: vec![(
                room(name),
                QueueEntry::of_message(&room(name), key.to_owned().into())
                    .encode_to_vec()
                    .into(),
            )],
            idempotency: Some(IdempotencyKey {
                producer: "tests".to_owned(),
                key: key.to_owned(),
                fingerprint: key.to_owned().into(),
            }),
        };
        let append = Append {
            partition: P,
            messages: vec![message],
            known: Offset::ZERO,
            queue_limit: 1_000_000,
            keep_keys: Duration::from_secs(600),
        };
        match self.broker.append(append).await? {
            AppendOutcome::Appended(placed) => Ok(placed[0].offsets[0]),
            other => panic!("{other:?}"),
        }
    }

    /// What lies in the queue: offsets of messages, and gaps.
    async fn queue(&self) -> (Vec<Offset>, Vec<(String, Gap)>) {
        let mut reader = self.broker.open_queue(P).await.unwrap();
        let items = reader.read_head(FencingToken(0), 1_000_000).await.unwrap().items;
        let (mut messages, mut gaps) = (Vec::new(), Vec::new());
        for item in items {
            match QueueEntry::decode(item.entry).unwrap().gap {
                Some(gap) => gaps.push((gap.room.clone(), Gap::from(&gap))),
                None => messages.push(item.offset),
            }
        }
        (messages, gaps)
    }

    /// Looks at the servers until somebody has asked this one what it has.
    async fn settled_on(&self, server: &Server) {
        let run = self.broker.queue_key(P).replace(":q:", ":run:");
        let id = replication_id(server);
        let asked = || server.cli(&["HGET", &run, "life"]).contains(&id);
        let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
        while !asked() {
            assert!(
                tokio::time::Instant::now() < deadline,
                "nobody asked the new primary"
            );
            let _ = self.broker.lives(None).await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

fn information(server: &Server, name: &str) -> String {
    let found = server.cli(&["INFO", "replication"]);
    let line = found
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or_default().trim().to_owned()
}

fn replication_id(server: &Server) -> String {
    information(server, "master_replid")
}

fn follow(replica: &Server, primary: &Server) {
    replica.cli(&["REPLICAOF", "127.0.0.1", &primary.port.to_string()]);
}

fn until_caught_up(primary: &Server, replicas: &[&Server]) {
    until("the replicas to have everything", || {
        let offset = information(primary, "master_repl_offset");
        replicas
            .iter()
            .all(|replica| information(replica, "slave_repl_offset") == offset)
    });
}

/// The timeline of a loss: one replica is promoted, the old primary still has the other, takes messages, and that replica
/// acknowledges them; then both follow the new primary, and the messages are gone.
async fn promoted_beside_an_old_primary(wait_replicas: u32) {
    let old = Server::start(&[]);
    let (promoted, other) = (Server::replica_of(&old), Server::replica_of(&old));
    let stage = Stage::new(&old, wait_replicas);
    let kept = stage.append("kept", "kept").await.unwrap();
    let before = stage.append("lost", "before").await.unwrap();
    stage.broker.lives(None).await.unwrap();
    until_caught_up(&old, &[&promoted, &other]);

    promoted.cli(&["REPLICAOF", "NO", "ONE"]);
    until("the old primary to miss it", || {
        information(&old, "connected_slaves") == "1"
    });
    let lost = stage.append("lost", "lost").await;
    let confirmed = lost.is_ok();
    assert_eq!(confirmed, wait_replicas < 2, "{lost:?}");
    until_caught_up(&old, &[&other]);
    // The watcher sees that every replica that is attached has it.
    stage.broker.lives(None).await.unwrap();
    stage.primary_is(&promoted);
    follow(&other, &promoted);
    follow(&old, &promoted);
    stage.settled_on(&promoted).await;

    let losses = stage.broker.metrics().losses();
    if let Ok(lost) = lost {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
        while stage.queue().await.1.is_empty() {
            assert!(tokio::time::Instant::now() < deadline, "no gap was marked");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let (messages, gaps) = stage.queue().await;
        assert_eq!(messages, [kept, before]);
        let [(name, gap)] = &gaps[..] else {
            panic!("{gaps:?}")
        };
        assert_eq!((name.as_str(), gap.lost_upto), ("lost", lost));
        assert_eq!((losses.lost(), losses.unknown()), (1, 0));
    } else {
        let (messages, gaps) = stage.queue().await;
        assert_eq!((messages, gaps), (vec![kept, before], vec![]));
        assert_eq!((losses.lost(), losses.unknown()), (0, 0));
    }
    // The key went with the message: the producer's repeat is written again.
    until_caught_up(&promoted, &[&other, &old]);
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    let again = loop {
        match stage.append("lost", "lost").await {
            Ok(offset) => break offset,
            Err(error) => assert!(tokio::time::Instant::now() < deadline, "{error}"),
        }
    };
    assert!(again > before);
}

#[tokio::test]
async fn a_promotion_without_waiting_leaves_gaps_in_exactly_the_rooms_that_lost() {
    promoted_beside_an_old_primary(0).await;
}

#[tokio::test]
async fn a_promotion_beside_the_one_replica_that_was_waited_for_leaves_the_same_gaps() {
    promoted_beside_an_old_primary(1).await;
}

#[tokio::test]
async fn waiting_for_all_replicas_confirms_nothing_that_a_promotion_drops() {
    promoted_beside_an_old_primary(2).await;
}

#[tokio::test]
async fn a_planned_failover_loses_nothing_and_marks_nothing() {
    let old = Server::start(&[]);
    let replica = Server::replica_of(&old);
    let stage = Stage::new(&old, 0);
    let mut confirmed = Vec::new();
    for number in 0..100 {
        confirmed.push(stage.append("kept", &format!("before {number}")).await.unwrap());
    }
    old.cli(&["FAILOVER", "TO", "127.0.0.1", &replica.port.to_string()]);
    // What is confirmed while it hands over counts as well.
    for number in 0..20 {
        confirmed.extend(stage.append("kept", &format!("meanwhile {number}")).await.ok());
        if information(&replica, "role") == "master" {
            break;
        }
    }
    until("the failover to end", || {
        information(&replica, "role") == "master"
    });
    stage.primary_is(&replica);
    stage.settled_on(&replica).await;
    let (messages, gaps) = stage.queue().await;
    let losses = stage.broker.metrics().losses();
    assert_eq!((gaps, losses.lost(), losses.unknown()), (vec![], 0, 0));
    assert_eq!(
        confirmed.iter().find(|offset| !messages.contains(offset)),
        None,
        "confirmed and gone"
    );
}

#[tokio::test]
async fn a_restart_from_the_append_only_file_marks_nothing() {
    // With `everysec` Redis may answer up to 2 s before it writes, while the disk is busy; then it does lose it.
    let mut server = Server::start(&["--appendfsync", "always"]);
    let broker = RedisBroker::new(RedisOptions {
        partitions: PartitionCount::new(1).unwrap(),
        ..options(server.url(), Mode::Standalone)
    });
    let stage = Stage {
        watching: Server::start(&[]),
        broker: broker.unwrap(),
    };
    let offset = stage.append("kept", "kept").await.unwrap();
    server.kill();
    server.run();
    stage.settled_on(&server).await;
    assert_eq!(stage.queue().await, (vec![offset], vec![]));
    assert_eq!(stage.broker.metrics().losses().unknown(), 0);
    assert_eq!(stage.broker.partitions().get(), 1);
}

/// WAIT of a newer Redis waits for what its own connection wrote.
#[tokio::test]
async fn a_repeat_writes_its_key_again() {
    let server = Server::start(&[]);
    let stage = Stage::new(&server, 0);
    let offset = stage.append("kept", "key").await.unwrap();
    let keys = server.cli(&["--scan", "--pattern", "*idem*"]);
    let key = keys.trim();
    server.cli(&["PEXPIRE", key, "60000"]);
    assert_eq!(stage.append("kept", "key").await.unwrap(), offset);
    let left: u64 = server.cli(&["PTTL", key]).trim().parse().unwrap();
    assert!(left > 500_000, "{left} ms");
}

//! Whose data an answer is: replicas that attach, primaries that are demoted or replaced, addresses that stay silent.

use std::{
    collections::VecDeque,
    io::{BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    sync::Arc,
    thread,
    time::Duration,
};

use bytes::Bytes;
use carillon_broker::{
    BrokerError, ChannelItem, Channels as _, Health as _, Incarnation, Membership as _, NewestQuery,
    Presence as _, PresenceStatement, Queue as _, Rooms as _,
    redis::{Mode, RedisBroker, RedisOptions},
};
use carillon_model::{Offset, Partition, Room};
use parking_lot::Mutex;

use crate::{
    modes::command,
    replicas::{append, append_at_last, partition, sentinel},
    server::{Server, until},
    subject::{gateway_member, options},
};

const ALIVE: Duration = Duration::from_secs(60);

fn standalone(server: &Server) -> RedisBroker {
    RedisBroker::new(options(server.url(), Mode::Standalone)).unwrap()
}

fn replication_id(server: &Server) -> String {
    let information = server.cli(&["INFO", "replication"]);
    let mut lines = information.lines();
    lines
        .find_map(|line| line.strip_prefix("master_replid:"))
        .unwrap()
        .trim()
        .to_owned()
}

/// An address that accepts connections and never answers.
fn silent() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    (listener, address)
}

#[tokio::test]
async fn a_first_replica_is_no_failover() {
    let primary = Server::start(&[]);
    let broker = standalone(&primary);
    let gateway = Incarnation::new("gateway", 1);
    broker.register(&gateway_member(&gateway), ALIVE).await.unwrap();
    let before = broker.lives(Some(&gateway)).await.unwrap();
    let id = replication_id(&primary);
    let mut queue = broker.open_queue(partition(&broker)).await.unwrap();
    let mut channel = broker.open_channel(&gateway).await.unwrap();
    channel.read(10, Duration::ZERO).await.unwrap();

    let _replica = Server::replica_of(&primary);
    assert_ne!(replication_id(&primary), id, "the first replica changes the ID");

    // Whoever meets the new ID first: a script, a read, or the next look.
    let known = Some(&before.partitions[partition(&broker).index()]);
    let rooms = [Room::new("arrivals").unwrap()];
    let state = broker
        .add_routes(partition(&broker), &rooms, &gateway)
        .await
        .unwrap();
    assert_eq!(Some(&state.partition.life), known);
    append(&broker, "one").await.unwrap();
    let read = queue
        .read_after(Offset::ZERO, 10, Duration::from_secs(5))
        .await
        .unwrap();
    assert_eq!((read.items.len(), Some(&read.life)), (1, known));
    let read = channel.read(10, Duration::ZERO).await.unwrap();
    assert_eq!(Some(read.life), before.channel);
    assert_eq!(broker.lives(Some(&gateway)).await.unwrap(), before);
}

/// The last replica went, and nobody came back while the backlog was kept.
#[tokio::test]
async fn a_backlog_that_expires_is_no_failover() {
    let primary = Server::start(&["--repl-backlog-ttl", "1"]);
    let mut replica = Server::replica_of(&primary);
    let broker = standalone(&primary);
    append(&broker, "one").await.unwrap();
    let before = broker.lives(None).await.unwrap();
    let id = replication_id(&primary);
    replica.kill();
    until("the backlog to expire", || replication_id(&primary) != id);
    append(&broker, "two").await.unwrap();
    assert_eq!(broker.lives(None).await.unwrap(), before);
    assert_eq!(before.problem, None);
}

/// A proxy that sends what comes on one connection to two servers in turn.
fn spreading(servers: [u16; 2]) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            std::thread::spawn(move || spread(client, servers));
        }
    });
    port
}

/// What is sent at once is answered before anything else is sent.
fn spread(mut client: TcpStream, servers: [u16; 2]) -> std::io::Result<()> {
    let mut buffer = [0; 1 << 16];
    let [mut one, mut other] = servers.map(|port| TcpStream::connect(("127.0.0.1", port)).unwrap());
    loop {
        let count = client.read(&mut buffer)?;
        if count == 0 {
            return Ok(());
        }
        one.write_all(&buffer[..count])?;
        one.set_read_timeout(None)?;
        while let Ok(count @ 1..) = one.read(&mut buffer) {
            client.write_all(&buffer[..count])?;
            one.set_read_timeout(Some(Duration::from_millis(20)))?;
        }
        std::mem::swap(&mut one, &mut other);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_that_shares_a_connection_among_servers_is_refused() {
    let servers = [Server::start(&[]), Server::start(&[])];
    let port = spreading([servers[0].port, servers[1].port]);
    let broker = RedisBroker::new(options(format!("redis://127.0.0.1:{port}"), Mode::Standalone)).unwrap();
    let mut told = Vec::new();
    for _ in 0..5 {
        let problem = match broker.lives(None).await {
            Ok(lives) => lives.problem,
            Err(error) => Some(error),
        };
        told.extend(problem.map(|error| error.to_string()));
    }
    assert!(
        told.iter().any(|text| text.contains("reached two servers")),
        "{told:?}"
    );
}

#[tokio::test]
async fn a_demoted_primary_answers_nobody() {
    let primary = Server::start(&[]);
    let broker = standalone(&primary);
    append(&broker, "one").await.unwrap();
    let mut queue = broker.open_queue(partition(&broker)).await.unwrap();
    queue.read_after(Offset::ZERO, 10, Duration::ZERO).await.unwrap();
    let id = replication_id(&primary);

    primary.cli(&["REPLICAOF", "127.0.0.1", "1"]);
    assert_eq!(replication_id(&primary), id, "it looks like the same data");

    let read = queue.read_after(Offset::ZERO, 10, Duration::ZERO).await;
    assert!(matches!(read, Err(BrokerError::Unavailable(_))), "{read:?}");
    let query = NewestQuery {
        below: None,
        entries: 1,
        bytes: 1,
    };
    let page = broker.read_newest(&Room::new("arrivals").unwrap(), query).await;
    assert!(page.is_err(), "{page:?}");
    let lives = broker.lives(None).await.unwrap();
    assert!(
        lives
            .problem
            .is_some_and(|problem| problem.to_string().contains("not a primary"))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_leaves_a_primary_that_was_replaced_and_never_heard_of_it() {
    let old = Server::start(&[]);
    let new = Server::replica_of(&old);
    let watching = Server::sentinel_of(&old, "");
    let broker = RedisBroker::new(sentinel(&watching)).unwrap();
    let gateway = Incarnation::new("gateway", 1);
    broker.register(&gateway_member(&gateway), ALIVE).await.unwrap();
    let before = broker.lives(Some(&gateway)).await.unwrap();
    let mut channel = broker.open_channel(&gateway).await.unwrap();
    channel.read(10, Duration::ZERO).await.unwrap();
    until("the replica to have the channel's account", || {
        new.cli(&["DBSIZE"]) == old.cli(&["DBSIZE"])
    });
    let waiting = tokio::spawn(async move {
        let read = channel.read(10, Duration::from_secs(120)).await;
        (channel, read)
    });
    until("the reader to wait", || {
        old.cli(&["INFO", "clients"]).contains("blocked_clients:1")
    });

    // The sentinel is told of another primary; the old one goes on as if nothing had happened.
    new.cli(&["REPLICAOF", "NO", "ONE"]);
    let port = new.port.to_string();
    watching.cli(&["SENTINEL", "REMOVE", "mymaster"]);
    watching.cli(&["SENTINEL", "MONITOR", "mymaster", "127.0.0.1", &port, "1"]);
    let after = broker.lives(Some(&gateway)).await.unwrap();
    assert_ne!(after.channel, before.channel);
    assert!(old.cli(&["ROLE"]).starts_with("master"));

    let (mut channel, cut) = waiting.await.unwrap();
    assert!(matches!(cut, Err(BrokerError::Unavailable(_))), "{cut:?}");
    let entry = Bytes::from_static(b"through the new primary");
    broker
        .append_channel(&gateway, entry.clone(), 1 << 20)
        .await
        .unwrap();
    let read = channel.read(10, Duration::from_secs(10)).await.unwrap();
    assert_eq!(read.items, [ChannelItem::Entry(entry)]);
    assert_eq!(Some(read.life), after.channel);
}

#[tokio::test]
async fn silent_addresses_cost_nobody_the_answer_of_the_others() {
    let (_held, silent_address) = silent();
    let primary = Server::start(&[]);
    let watching = Server::sentinel_of(&primary, "");
    let behind_sentinels = RedisOptions {
        url: format!("redis://{silent_address}"),
        nodes: vec![watching.address()],
        ..sentinel(&watching)
    };
    let nodes = crate::server::cluster();
    let cluster = RedisOptions {
        nodes: nodes.iter().map(Server::address).collect(),
        ..options(format!("redis://{silent_address}"), Mode::Cluster)
    };
    for options in [behind_sentinels, cluster] {
        let broker = RedisBroker::new(options).unwrap();
        broker.check().await.unwrap();
        assert_eq!(broker.lives(None).await.unwrap().problem, None);
        append_at_last(&broker, "one").await;
    }
}

/// Answers as a Sentinel does: with the first of these primaries, and with the next one from then on, as long as there is one.
fn sentinel_that_names(primaries: &Arc<Mutex<VecDeque<u16>>>) -> String {
    let (listener, address) = silent();
    let primaries = Arc::clone(primaries);
    let answer = move |words: &[String]| match words.get(1).map(String::as_str) {
        Some("GET-MASTER-ADDR-BY-NAME") => {
            let mut primaries = primaries.lock();
            let named = primaries[0].to_string();
            if primaries.len() > 1 {
                primaries.pop_front();
            }
            format!("*2\r\n$9\r\n127.0.0.1\r\n${}\r\n{named}\r\n", named.len())
        }
        Some("MASTER") => "-NOPERM not for you\r\n".to_owned(),
        _ => "+OK\r\n".to_owned(),
    };
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let answer = answer.clone();
            thread::spawn(move || {
                let mut stream = BufReader::new(stream);
                while let Some(words) = command(&mut stream) {
                    if stream.get_mut().write_all(answer(&words).as_bytes()).is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

/// A look that began before another server was promoted does not wait for the old one, and finds the new one.
#[tokio::test]
async fn a_promotion_is_seen_while_the_old_primary_is_silent() {
    let (old, new) = (Server::start(&[]), Server::start(&[]));
    let primaries = Arc::new(Mutex::new(VecDeque::from([old.port])));
    let master = "mymaster".to_owned();
    let url = format!("redis://{}", sentinel_that_names(&primaries));
    let broker = RedisBroker::new(options(url, Mode::Sentinel { master })).unwrap();
    let before = broker.lives(None).await.unwrap();
    old.cli(&["CLIENT", "PAUSE", "60000", "ALL"]);
    *primaries.lock() = [old.port, new.port].into();
    let after = broker.lives(None).await.unwrap();
    assert_eq!(after.problem, None);
    assert_ne!(after.partitions, before.partitions);
}

#[tokio::test]
async fn what_is_made_anew_after_a_failover_does_not_wait_for_replicas() {
    let primary = Server::start(&[]);
    let broker = RedisBroker::new(RedisOptions {
        wait_replicas: 1,
        timeout: Duration::from_millis(500),
        ..options(primary.url(), Mode::Standalone)
    })
    .unwrap();
    let gateway = Incarnation::new("gateway", 1);
    broker.register(&gateway_member(&gateway), ALIVE).await.unwrap();
    assert_eq!(broker.renew(&gateway, ALIVE).await, Ok(true));
    let rooms = [Room::new("arrivals").unwrap()];
    broker
        .add_routes(partition(&broker), &rooms, &gateway)
        .await
        .unwrap();
    broker
        .remove_routes(partition(&broker), &rooms, &gateway)
        .await
        .unwrap();
    use carillon_broker::Leases as _;
    let grant = broker
        .acquire_partition(Partition(0), &gateway, ALIVE, Offset::ZERO)
        .await
        .unwrap()
        .unwrap();
    let lease = carillon_broker::LeaseName::Partition(Partition(0));
    assert_eq!(broker.renew_lease(&lease, grant.token, ALIVE).await, Ok(true));
    let statement = PresenceStatement {
        room: rooms[0].clone(),
        whole: false,
        people: vec![(Some("ann".into()), Some(1))],
    };
    broker
        .state_presence(partition(&broker), &gateway, 1, &[statement])
        .await
        .unwrap();
    // A message does.
    let outcome = append(&broker, "alone").await;
    assert!(
        matches!(outcome, Err(BrokerError::Unreplicated { .. })),
        "{outcome:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_renewal_does_not_wait_for_a_connection_of_the_pool() {
    let primary = Server::start(&[]);
    let broker = RedisBroker::new(RedisOptions {
        connections: 1,
        wait_replicas: 1,
        timeout: Duration::from_secs(20),
        ..options(primary.url(), Mode::Standalone)
    })
    .unwrap();
    let gateway = Incarnation::new("gateway", 1);
    broker.register(&gateway_member(&gateway), ALIVE).await.unwrap();
    let busy = broker.clone();
    // It waits ten seconds for a replica that there is not, on the only connection.
    let waiting = tokio::spawn(async move { append(&busy, "alone").await });
    until("the connection to be taken", || {
        primary.cli(&["INFO", "clients"]).contains("blocked_clients:1")
    });
    assert_eq!(broker.renew(&gateway, ALIVE).await, Ok(true));
    assert!(broker.lives(Some(&gateway)).await.is_ok());
    assert!(!waiting.is_finished());
    waiting.abort();
}

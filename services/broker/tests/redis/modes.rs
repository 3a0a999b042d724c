//! A server of another mode than the one that is set: a sentence that says what to change, nothing written there, and no
//! storm of calls.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use carillon_broker::{
    Append, Broker as _, BrokerError, Health as _, Incarnation, Inspection as _, NewMessage, Queue as _,
    Rooms as _,
    redis::{Mode, RedisBroker, RedisOptions},
};
use carillon_model::{Offset, Room};
use parking_lot::Mutex;

use crate::{
    secured::complaint,
    server::{self, Server},
    subject::options,
};

const CLUSTER_IS_THERE: &str = "it is a node of a cluster; set redis.mode to cluster";
const NO_CLUSTER_IS_THERE: &str = "it is no cluster; set redis.mode to standalone or sentinel";
const A_SENTINEL_IS_THERE: &str = "it is a sentinel; set redis.mode to sentinel";
const NO_SENTINEL_IS_THERE: &str = "it is no sentinel; set redis.mode to standalone or cluster";

fn room() -> Room {
    Room::new("arrivals").unwrap()
}

fn sentinel_mode() -> Mode {
    Mode::Sentinel {
        master: "mymaster".to_owned(),
    }
}

/// What each way into a broker says that nobody has checked before.
async fn every_way_in(options: &RedisOptions) -> Vec<BrokerError> {
    let broker = || RedisBroker::new(options.clone()).unwrap();
    let partition = broker().partitions().partition_of(&room());
    let append = Append {
        partition,
        messages: vec![NewMessage {
            entries: vec![(room(), vec![b'x'].into())],
            idempotency: None,
        }],
        known: Offset::ZERO,
        queue_limit: 1_000,
        keep_keys: Duration::from_secs(600),
    };
    let mut reader = broker().open_queue(partition).await.unwrap();
    let route = Incarnation::new("gateway-0", "1");
    vec![
        broker().check().await.unwrap_err(),
        broker().append(append).await.unwrap_err(),
        broker()
            .add_routes(partition, &[room()], &route)
            .await
            .unwrap_err(),
        broker().lives(None).await.unwrap_err(),
        broker().held_rooms(None, 10).await.unwrap_err(),
        reader
            .read_after(Offset::ZERO, 1, Duration::from_millis(1))
            .await
            .unwrap_err(),
    ]
}

fn assert_all_say(errors: &[BrokerError], sentence: &str) {
    for error in errors {
        assert!(
            matches!(error, BrokerError::Misconfigured(text)
                if text.contains(&format!(": {sentence}")) && text.starts_with("Redis at 127.0.0.1:")),
            "{error:?} instead of: {sentence}"
        );
    }
}

#[tokio::test]
async fn a_node_of_a_cluster_is_refused_by_a_standalone_setting_whatever_it_holds() {
    let servers = server::cluster();
    let holds_meta = |server: &Server| !server.cli(&["EXISTS", "carillon:meta"]).contains("MOVED");
    let holders = servers.iter().filter(|server| holds_meta(server)).count();
    assert_eq!(holders, 1, "one of them would take what is written first");
    for server in &servers {
        server.cli(&["CONFIG", "RESETSTAT"]);
        let options = options(server.url(), Mode::Standalone);
        let errors = every_way_in(&options).await;
        assert_all_say(&errors, CLUSTER_IS_THERE);
        assert!(errors[0].to_string().contains(&server.address()), "{}", errors[0]);
        let findings = RedisBroker::new(options).unwrap().diagnose().await.unwrap();
        let problems: Vec<_> = findings
            .iter()
            .filter_map(|finding| finding.problem.as_deref())
            .collect();
        assert_eq!(problems, [CLUSTER_IS_THERE]);
    }
    for server in &servers {
        assert_eq!(server.cli(&["DBSIZE"]).trim(), "0", "nothing may be written");
        let errors = server.cli(&["INFO", "errorstats"]);
        assert!(!errors.contains("errorstat_MOVED"), "{errors}");
    }
}

#[tokio::test]
async fn a_node_of_a_cluster_behind_a_sentinel_is_refused() {
    let servers = server::cluster();
    let watching = Server::sentinel_of(&servers[0], "");
    assert_all_say(
        &every_way_in(&options(watching.url(), sentinel_mode())).await,
        CLUSTER_IS_THERE,
    );
    assert_eq!(servers[0].cli(&["DBSIZE"]).trim(), "0", "nothing may be written");
}

#[tokio::test]
async fn a_server_alone_is_refused_by_settings_of_a_cluster_or_a_sentinel() {
    let server = Server::start(&[]);
    assert_all_say(
        &every_way_in(&options(server.url(), Mode::Cluster)).await,
        NO_CLUSTER_IS_THERE,
    );
    assert_all_say(
        &every_way_in(&options(server.url(), sentinel_mode())).await,
        NO_SENTINEL_IS_THERE,
    );
    assert_eq!(server.cli(&["DBSIZE"]).trim(), "0", "nothing may be written");
}

#[tokio::test]
async fn a_sentinel_is_refused_where_the_server_itself_is_expected() {
    let server = Server::start(&[]);
    let watching = Server::sentinel_of(&server, "");
    for mode in [Mode::Standalone, Mode::Cluster] {
        assert_all_say(
            &every_way_in(&options(watching.url(), mode)).await,
            A_SENTINEL_IS_THERE,
        );
    }
}

#[tokio::test]
async fn an_evicting_server_is_refused_before_anything_is_written() {
    let server = Server::start(&["--maxmemory-policy", "allkeys-lru"]);
    assert_all_say(
        &every_way_in(&options(server.url(), Mode::Standalone)).await,
        "maxmemory-policy is allkeys-lru, which throws messages away; set it to noeviction",
    );
    assert_eq!(server.cli(&["DBSIZE"]).trim(), "0", "nothing may be written");
    server.cli(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]);
    RedisBroker::new(options(server.url(), Mode::Standalone))
        .unwrap()
        .check()
        .await
        .unwrap();
}

/// A server that is looked at and found right, and from then on sends every call on to itself.
struct Circle {
    address: String,
    mode: &'static str,
    version: &'static str,
    sends_on: AtomicBool,
    sent_on: AtomicUsize,
    kept: Mutex<BTreeMap<String, String>>,
}

impl Circle {
    fn start(mode: &'static str, version: &'static str) -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let circle = Arc::new(Self {
            address: listener.local_addr().unwrap().to_string(),
            mode,
            version,
            sends_on: AtomicBool::new(false),
            sent_on: AtomicUsize::new(0),
            kept: Mutex::default(),
        });
        let serving = Arc::clone(&circle);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let serving = Arc::clone(&serving);
                thread::spawn(move || serving.serve(stream));
            }
        });
        circle
    }

    fn serve(&self, stream: TcpStream) {
        let mut stream = BufReader::new(stream);
        while let Some(command) = command(&mut stream) {
            let answer = self.answer(&command);
            if stream.get_mut().write_all(answer.as_bytes()).is_err() {
                return;
            }
        }
    }

    fn answer(&self, command: &[String]) -> String {
        let bulk = |text: &str| format!("${}\r\n{text}\r\n", text.len());
        let words: Vec<&str> = command.iter().map(String::as_str).collect();
        match words[..] {
            ["CLIENT", ..] => "+OK\r\n".to_owned(),
            ["CLUSTER", "SLOTS"] => {
                let (host, port) = self.address.split_once(':').unwrap();
                format!("*1\r\n*3\r\n:0\r\n:16383\r\n*2\r\n{}:{port}\r\n", bulk(host))
            }
            ["INFO", ..] => bulk(&format!(
                "redis_version:{}\r\nredis_mode:{}\r\nrun_id:a\r\nrole:master\r\nmaster_replid:b\r\n\
                 maxmemory_policy:noeviction\r\naof_enabled:1\r\n",
                self.version, self.mode
            )),
            _ if self.sends_on.load(Ordering::SeqCst) => {
                self.sent_on.fetch_add(1, Ordering::SeqCst);
                format!("-MOVED 1 {}\r\n", self.address)
            }
            ["HSETNX", _, field, value] => {
                self.kept.lock().insert(field.to_owned(), value.to_owned());
                ":1\r\n".to_owned()
            }
            ["HGET", _, field] => bulk(&self.kept.lock()[field]),
            _ => "-ERR unknown command\r\n".to_owned(),
        }
    }

    /// What a call says when the server has begun to send on, and how often it was tried.
    async fn outcome(&self, mode: Mode) -> (BrokerError, usize) {
        let broker = RedisBroker::new(RedisOptions {
            timeout: Duration::from_millis(500),
            ..options(format!("redis://{}", self.address), mode)
        })
        .unwrap();
        broker.check().await.unwrap();
        self.sends_on.store(true, Ordering::SeqCst);
        let error = broker.routes(&room()).await.unwrap_err();
        (error, self.sent_on.load(Ordering::SeqCst))
    }
}

/// A command as a client sends it.
pub(crate) fn command(stream: &mut BufReader<TcpStream>) -> Option<Vec<String>> {
    let words = number(stream)?;
    let mut command = Vec::new();
    for _ in 0..words {
        let mut word = vec![0; number(stream)? + 2];
        stream.read_exact(&mut word).ok()?;
        word.truncate(word.len() - 2);
        command.push(String::from_utf8(word).ok()?);
    }
    Some(command)
}

/// The number behind `*` or `$`.
fn number(stream: &mut BufReader<TcpStream>) -> Option<usize> {
    let mut line = String::new();
    stream.read_line(&mut line).ok()?;
    line.trim_end().get(1..)?.parse().ok()
}

#[tokio::test]
async fn a_server_that_becomes_a_node_of_a_cluster_is_asked_once() {
    let circle = Circle::start("standalone", "7.0.0");
    let (error, tries) = circle.outcome(Mode::Standalone).await;
    assert_all_say(&[error], CLUSTER_IS_THERE);
    assert_eq!(tries, 1);
}

#[tokio::test]
async fn nodes_that_send_each_other_in_circles_are_asked_in_peace() {
    let circle = Circle::start("cluster", "7.0.0");
    let (error, tries) = circle.outcome(Mode::Cluster).await;
    assert!(matches!(error, BrokerError::Unavailable(_)), "{error:?}");
    // Half a second, in pauses that grow to a tenth of one: a slower machine tries less often.
    assert!((3..20).contains(&tries), "{tries} tries");
}

#[tokio::test]
async fn a_server_that_is_too_old_is_refused_before_anything_is_written() {
    let circle = Circle::start("standalone", "6.2.14");
    let options = options(format!("redis://{}", circle.address), Mode::Standalone);
    let text = complaint(options.clone()).await;
    assert!(
        text.contains("version 6.2.14 is too old; Carillon needs 7.0 or newer"),
        "{text}"
    );
    assert_all_say(&every_way_in(&options).await, "version 6.2.14 is too old");
    assert!(circle.kept.lock().is_empty(), "nothing may be written");
}

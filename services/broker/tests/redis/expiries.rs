//! What expires by itself on a real server, and when. Hours can't be made to pass there, but Redis says how much time each
//! key has left: after ordinary use, every key must be one of those listed here, and have the time that is written.

use std::{collections::BTreeSet, time::Duration};

use carillon_broker::{
    Append, AppendOutcome, Broker as _, ChannelAppend, Channels as _, DeadLetterSource, DeadLetters as _,
    Fenced, Incarnation, LeaseName, Leases as _, Lists as _, Membership as _, NewMessage, Presence as _,
    Queue as _, Record, RecordEntry, Rooms as _, ServiceKind, TakeOutcome,
    presence::{EMPTY_PRESENCE_KEPT, PRESENCE_KEPT, PresenceStatement},
    queue::IdempotencyKey,
    redis::{Mode, RedisBroker},
    rooms::{LAST_OFFSET_KEPT, ROUTE_KEPT},
};
use carillon_model::{Offset, Room, policy::HistoryLimits};

use crate::{
    server::Server,
    subject::{gateway_member, options},
};

/// What the test asks for; renewals ask for more than twice as much as what they prolong.
const LEASE: Duration = Duration::from_secs(600);
const RENEWED_LEASE: Duration = Duration::from_secs(1_800);
const LIST_LEASE: Duration = Duration::from_secs(660);
const ALIVE: Duration = Duration::from_secs(720);
const RENEWED_ALIVE: Duration = Duration::from_secs(2_400);
const LEFT_IN_ORDER: Duration = Duration::from_secs(600);
const IDEMPOTENCY: Duration = Duration::from_secs(1_200);
const HISTORY: Duration = Duration::from_secs(3_000);

const DAY: Duration = Duration::from_secs(86_400);
const MONTH: Duration = Duration::from_secs(2_592_000);

const LIST: &str = "old-door";
/// A room whose only guest has gone.
const LEFT: &str = "left";

/// The part of a key in front of its first colon, and how long such a key is kept; `None`: until somebody removes it.
const KINDS: [(&str, Option<Duration>); 24] = [
    ("lease", Some(RENEWED_LEASE)),
    ("list.lease", Some(LIST_LEASE)),
    ("alive", Some(RENEWED_ALIVE)),
    ("alive of one that left", Some(LEFT_IN_ORDER)),
    ("idem", Some(IDEMPOTENCY)),
    ("h", Some(HISTORY)),
    ("hb", Some(HISTORY)),
    ("l", Some(LAST_OFFSET_KEPT)),
    ("r", Some(ROUTE_KEPT)),
    ("p", Some(PRESENCE_KEPT)),
    ("pv", Some(PRESENCE_KEPT)),
    ("pv of an empty room", Some(EMPTY_PRESENCE_KEPT)),
    ("q", None),
    ("run", None),
    ("tries", Some(DAY)),
    ("park", Some(DAY)),
    ("dlq", None),
    ("dlq.sources", Some(DAY)),
    ("list.state", Some(MONTH)),
    ("list.pending", None),
    // They go with their gateway: with its own leave, or with the first who meets it dead.
    ("gw", None),
    ("gw.account", None),
    ("members", None),
    ("meta", None),
];

fn kind(key: &str) -> &str {
    let rest = key.strip_prefix("carillon:").unwrap_or(key);
    let kind = rest.split(':').next().unwrap();
    if kind == "alive" && rest.ends_with(".left") {
        "alive of one that left"
    } else if kind == "pv" && rest.ends_with(&format!(":{LEFT}")) {
        "pv of an empty room"
    } else {
        kind
    }
}

/// Everything a message, its gateway and its dispatcher do, once; each with what prolongs it.
async fn use_it(broker: &RedisBroker, server: &Server) {
    let room = Room::new("arrivals").unwrap();
    let partition = broker.partitions().partition_of(&room);
    let (gateway, owner) = (
        Incarnation::new("gateway-0", "1"),
        Incarnation::new("dispatcher-0", "1"),
    );
    broker.register(&gateway_member(&gateway), ALIVE).await.unwrap();
    assert!(broker.renew(&gateway, RENEWED_ALIVE).await.unwrap());
    broker
        .add_routes(partition, std::slice::from_ref(&room), &gateway)
        .await
        .unwrap();

    let gone = Incarnation::new("gone", "1");
    broker.register(&gateway_member(&gone), ALIVE).await.unwrap();
    broker.deregister(&gone).await.unwrap();

    let message = |key: &str| NewMessage {
        entries: vec![(room.clone(), key.to_owned().into())],
        idempotency: Some(IdempotencyKey {
            producer: "tests".to_owned(),
            key: key.to_owned(),
            fingerprint: key.to_owned().into(),
        }),
    };
    let append = Append {
        partition,
        messages: vec![message("one"), message("two")],
        known: Offset::ZERO,
        queue_limit: 1_000,
        keep_keys: IDEMPOTENCY,
    };
    let AppendOutcome::Appended(appended) = broker.append(append).await.unwrap() else {
        panic!("not appended");
    };

    let grant = broker
        .acquire_partition(partition, &owner, LEASE, Offset::ZERO)
        .await;
    let grant = grant.unwrap().unwrap();
    let lease = LeaseName::Partition(partition);
    assert!(
        broker
            .renew_lease(&lease, grant.token, RENEWED_LEASE)
            .await
            .unwrap()
    );
    let entry = |offset| RecordEntry {
        room: room.clone(),
        offset,
        prev: None,
        message: vec![b'x'; 100].into(),
        gap: None,
        history: HistoryLimits {
            age: HISTORY,
            ..HistoryLimits::DEFAULT
        },
    };
    let record = Record {
        partition,
        token: grant.token,
        life: grant.life.clone(),
        horizon: grant.handled,
        entries: appended
            .iter()
            .map(|appended| entry(appended.offsets[0]))
            .collect(),
    };
    assert!(matches!(broker.record(record).await.unwrap(), Fenced::Done(_)));
    // The second stays at the head, with a try.
    let parked = [Incarnation::new("silent-0", "1")];
    let first = appended[0].offsets[0];
    let trimmed = broker
        .trim(partition, grant.token, &grant.life, first, &parked)
        .await;
    assert_eq!(trimmed.unwrap(), Fenced::Done(()));
    let tries = broker
        .count_try(partition, grant.token, appended[1].offsets[0])
        .await;
    assert_eq!(tries.unwrap(), Fenced::Done(1));
    let kept = broker
        .append_channel(&gateway, vec![b'x'; 100].into(), 1 << 20)
        .await;
    assert_eq!(kept.unwrap(), ChannelAppend::Kept);

    let source = DeadLetterSource::List {
        list: LIST.to_owned(),
        number: 1,
    };
    broker
        .bury(partition, source, vec![b'x'].into(), "in a test")
        .await
        .unwrap();

    server.cli(&["RPUSH", LIST, "an item"]);
    let grant = broker.acquire_list(LIST, &owner, LIST_LEASE).await;
    let taken = broker.take(LIST, grant.unwrap().unwrap().token, 10).await;
    assert!(matches!(taken.unwrap(), TakeOutcome::Items(items) if items.len() == 1));

    state_presence(broker, &gateway, &room, Some(1)).await;
    let left = Room::new(LEFT).unwrap();
    state_presence(broker, &gateway, &left, Some(1)).await;
    state_presence(broker, &gateway, &left, None).await;
}

async fn state_presence(broker: &RedisBroker, gateway: &Incarnation, room: &Room, sessions: Option<u32>) {
    let statement = PresenceStatement {
        room: room.clone(),
        whole: false,
        people: vec![(Some("ann".into()), sessions)],
    };
    let partition = broker.partitions().partition_of(room);
    let number = if sessions.is_some() { 1 } else { 2 };
    broker
        .state_presence(partition, gateway, number, &[statement])
        .await
        .unwrap();
}

#[tokio::test]
async fn every_key_expires_at_its_time_or_is_one_of_those_that_stay() {
    let server = Server::start(&["--appendonly", "no"]);
    let broker = RedisBroker::new(options(server.url(), Mode::Standalone)).unwrap();
    use_it(&broker, &server).await;

    let keys = server.cli(&["KEYS", "carillon:*"]);
    let (mut seen, mut wrong) = (BTreeSet::new(), Vec::new());
    for key in keys.lines() {
        let kind = kind(key);
        let Some((_, kept)) = KINDS.iter().find(|(name, _)| *name == kind) else {
            panic!("{key}: nobody said how long it is kept");
        };
        seen.insert(kind);
        let left: i64 = server.cli(&["PTTL", key]).trim().parse().unwrap();
        // Half of the least of them is half a minute: no machine is as slow as that.
        let right = match kept.map(|kept| i64::try_from(kept.as_millis()).unwrap()) {
            Some(kept) => left > kept / 2 && left <= kept,
            None => left == -1,
        };
        if !right {
            wrong.push(format!("{key} is to be kept {kept:?}, and has {left} ms left"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let all: BTreeSet<&str> = KINDS.iter().map(|(kind, _)| *kind).collect();
    assert_eq!(seen, all, "these are the kinds that ordinary use makes");
}

/// What has no time of its own goes with its gateway.
#[tokio::test]
async fn the_channel_of_a_gateway_goes_with_it() {
    let server = Server::start(&["--appendonly", "no"]);
    let broker = RedisBroker::new(options(server.url(), Mode::Standalone)).unwrap();
    use_it(&broker, &server).await;
    let channels = || server.cli(&["KEYS", "carillon:gw*"]);
    assert_eq!(channels().lines().filter(|line| !line.is_empty()).count(), 2);
    // As if its time had run out.
    server.cli(&["DEL", "carillon:alive:{gateway-0@1}"]);
    assert_eq!(broker.members(ServiceKind::Gateway).await.unwrap(), []);
    assert_eq!(channels().trim(), "");
}

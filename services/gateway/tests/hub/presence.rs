//! Who is in a room: users on several gateways, with several sessions, that reload, leave and die.

use std::{sync::Arc, time::Duration};

use carillon_broker::{Life, Presence, memory::ops};
use carillon_gateway::hub::{Identity, RefusalCode, Start};
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::fixture::{Fixture, TestSession, room};

const RULES: &str = "- { match: \"quiet*\", join: anyone }\n- { match: \"*\", join: anyone, presence: true }";

fn user(name: &str) -> Identity {
    Identity {
        user: (!name.is_empty()).then(|| Arc::from(name)),
        ..Identity::default()
    }
}

/// A session of a user (none: `""`) in the lobby.
async fn enter(fixture: &mut Fixture, id: &str, name: &str) -> TestSession {
    let mut session = fixture.connect_as(id, user(name), &[]).await;
    session.join("lobby", Start::Now).await.unwrap();
    session
}

async fn watch(session: &TestSession) {
    // Other gateways know of those who came a moment later.
    sleep(Duration::from_secs(1)).await;
    session
        .handle()
        .watch_presence(room("lobby"), true)
        .await
        .unwrap();
}

impl TestSession {
    /// The next thing it is told of a presence, like `+ann`, `-ann` or `ann,ben/3`.
    async fn told(&mut self) -> String {
        loop {
            if let Some(note) = self.presence.pop_front() {
                let argument: Value = serde_json::from_str(&note.argument).unwrap();
                assert_eq!(argument["room"], "lobby");
                return match note.event {
                    "presence_join" => format!("+{}", argument["user"].as_str().unwrap()),
                    "presence_leave" => format!("-{}", argument["user"].as_str().unwrap()),
                    "presence" if argument["error"].is_object() => argument["error"]["code"].to_string(),
                    "presence" => shown(&argument),
                    other => panic!("{other}"),
                };
            }
            if let Some(delivery) = self.next().await {
                panic!("{delivery:?}");
            }
        }
    }

    /// That it is told nothing for so many seconds.
    async fn told_nothing(&mut self, seconds: u64) {
        let told = tokio::time::timeout(Duration::from_secs(seconds), self.told()).await;
        assert_eq!(told.ok(), None);
    }

    async fn sees(&self) -> String {
        let seen = self.handle().presence(room("lobby")).await.unwrap();
        shown(&serde_json::to_value(&*seen).unwrap())
    }
}

fn shown(argument: &Value) -> String {
    let users: Vec<_> = argument["users"]
        .as_array()
        .unwrap()
        .iter()
        .map(|user| user.as_str().unwrap())
        .collect();
    format!("{}/{}", users.join(","), argument["sessions"])
}

#[tokio::test(start_paused = true)]
async fn users_are_told_once_however_many_tabs_they_have_anywhere() {
    let mut one = Fixture::new(RULES).await;
    let mut two = one.another_gateway().await;
    let ann = enter(&mut one, "a1", "ann").await;
    let mut eve = enter(&mut two, "e1", "eve").await;
    watch(&eve).await;
    assert_eq!(eve.told().await, "ann,eve/2");
    let ann_elsewhere = enter(&mut two, "a2", "ann").await;
    let ann_again = enter(&mut one, "a3", "ann").await;
    let stranger = enter(&mut one, "s1", "").await;
    let ben = enter(&mut one, "b1", "ben").await;
    assert_eq!(eve.told().await, "+ben");
    assert_eq!(eve.sees().await, "ann,ben,eve/6");
    assert_eq!(
        ann.sees().await,
        "ann,ben,eve/6",
        "also on the other gateway, where nobody watches"
    );
    drop((ann, ann_again, stranger));
    eve.told_nothing(60).await;
    assert_eq!(ann_elsewhere.sees().await, "ann,ben,eve/3");
    drop(ann_elsewhere);
    drop(ben);
    let before = Instant::now();
    assert_eq!(
        (eve.told().await, eve.told().await),
        ("-ann".to_owned(), "-ben".to_owned())
    );
    let waited = before.elapsed().as_secs();
    assert!((15..=17).contains(&waited), "{waited} s");
    assert_eq!(eve.sees().await, "eve/1");
}

#[tokio::test(start_paused = true)]
async fn a_reconnect_within_the_grace_time_is_no_event() {
    let mut one = Fixture::new(RULES).await;
    let mut two = one.another_gateway().await;
    let mut eve = enter(&mut two, "e1", "eve").await;
    let mut ann = enter(&mut one, "a1", "ann").await;
    watch(&eve).await;
    assert_eq!(eve.told().await, "ann,eve/2");
    for (round, to_other) in [true, false, true].into_iter().enumerate() {
        drop(ann);
        sleep(Duration::from_secs(12)).await;
        assert_eq!(
            eve.sees().await,
            "ann,eve/1",
            "a question in between hides it as well"
        );
        let gateway = if to_other { &mut two } else { &mut one };
        ann = enter(gateway, &format!("a{round}"), "ann").await;
    }
    eve.told_nothing(60).await;
    ann.handle().leave(room("lobby")).await.unwrap();
    let before = Instant::now();
    assert_eq!(eve.told().await, "-ann", "who leaves by request is gone");
    assert!(before.elapsed() < Duration::from_secs(2));
}

#[tokio::test(start_paused = true)]
async fn ghosts_of_a_killed_gateway_vanish_within_the_alive_time_and_whoever_came_back_was_never_gone() {
    let mut one = Fixture::new(RULES).await;
    let mut two = one.another_gateway().await;
    let mut eve = enter(&mut two, "e1", "eve").await;
    let ghosts = [
        enter(&mut one, "a1", "ann").await,
        enter(&mut one, "b1", "ben").await,
    ];
    watch(&eve).await;
    assert_eq!(eve.told().await, "ann,ben,eve/3");
    let broker = one.kill();
    drop(ghosts);
    let before = Instant::now();
    sleep(Duration::from_secs(5)).await;
    let _ann = enter(&mut two, "a2", "ann").await;
    assert_eq!(eve.told().await, "-ben");
    let waited = before.elapsed().as_secs();
    assert!((10..=14).contains(&waited), "{waited} s");
    eve.told_nothing(30).await;
    let partition = two.broker.of_lobby();
    let left = broker
        .read_presence(partition, &[(room("lobby"), None)])
        .await
        .unwrap();
    assert_eq!(
        left.rooms[0].as_ref().unwrap().gateways.len(),
        1,
        "what is left of the dead is removed"
    );
}

trait Lobby {
    fn of_lobby(&self) -> carillon_model::Partition;
}

impl Lobby for carillon_broker::MemoryBroker {
    fn of_lobby(&self) -> carillon_model::Partition {
        carillon_broker::Broker::partitions(self).partition_of(&room("lobby"))
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_failover_takes_back_is_stated_again() {
    let mut one = Fixture::new(RULES).await;
    let mut two = one.another_gateway().await;
    let mut eve = enter(&mut two, "e1", "eve").await;
    watch(&eve).await;
    assert_eq!(eve.told().await, "eve/1");
    let broker = one.broker.clone();
    let fail_over = |state, life: &str| broker.replace_server_state(0, state, Life(life.into()), 0);
    let old = broker.server_state(0);
    let ann = enter(&mut one, "a1", "ann").await;
    assert_eq!(eve.told().await, "+ann");
    fail_over(old, "second");
    eve.told_nothing(60).await;
    assert_eq!(eve.sees().await, "ann,eve/2");
    // And whom it brings back is taken away again, also where nobody is left.
    let mut ben = one.connect_as("b1", user("ben"), &[]).await;
    ben.join("cellar", Start::Now).await.unwrap();
    sleep(Duration::from_secs(1)).await;
    let old = broker.server_state(0);
    ann.handle().leave(room("lobby")).await.unwrap();
    ben.handle().leave(room("cellar")).await.unwrap();
    assert_eq!(eve.told().await, "-ann");
    fail_over(old, "third");
    sleep(Duration::from_secs(60)).await;
    let asked = [(room("lobby"), None), (room("cellar"), None)];
    let read = broker.read_presence(broker.of_lobby(), &asked).await.unwrap();
    let stated: Vec<Vec<_>> = read
        .rooms
        .iter()
        .map(|found| found.as_ref().unwrap().gateways.values().flatten().collect())
        .collect();
    assert_eq!(stated, [vec![(&Some(Arc::from("eve")), &1)], vec![]]);
}

#[tokio::test(start_paused = true)]
async fn a_gateway_that_was_declared_dead_states_everything_anew() {
    let mut one = Fixture::new(RULES).await;
    let mut two = one.another_gateway().await;
    let _ann = enter(&mut one, "a1", "ann").await;
    let mut eve = enter(&mut two, "e1", "eve").await;
    watch(&eve).await;
    assert_eq!(eve.told().await, "ann,eve/2");
    one.declare_dead();
    eve.told_nothing(60).await;
    assert_eq!(eve.sees().await, "ann,eve/2");
}

#[tokio::test(start_paused = true)]
async fn policy_decides_who_may_ask_and_may_change() {
    let mut fixture = Fixture::new(RULES).await;
    let mut ann = enter(&mut fixture, "a1", "ann").await;
    let code = |asked: Result<_, carillon_gateway::hub::Refusal>| asked.unwrap_err().code;
    let elsewhere = ann.handle().presence(room("elsewhere")).await;
    assert_eq!(code(elsewhere), RefusalCode::NotJoined);
    ann.join("quiet", Start::Now).await.unwrap();
    assert_eq!(
        code(ann.handle().presence(room("quiet")).await),
        RefusalCode::Forbidden
    );
    watch(&ann).await;
    assert_eq!(ann.told().await, "ann/1");

    fixture.set_policy("- { match: quiet, join: anyone, presence: true }");
    assert_eq!(ann.told().await, "\"forbidden\"");
    assert_eq!(
        code(ann.handle().presence(room("lobby")).await),
        RefusalCode::Forbidden
    );
    sleep(Duration::from_secs(1)).await;
    let kept = |fixture: &Fixture| {
        let asked = [(room("lobby"), None), (room("quiet"), None)];
        let partition = fixture.broker.of_lobby();
        let read = |state: &_, now| ops::presence::read_presence(state, now, partition, &asked);
        let rooms = fixture.broker.read(0, read).rooms;
        rooms
            .iter()
            .map(|found| found.as_ref().unwrap().gateways.len())
            .collect::<Vec<_>>()
    };
    assert_eq!(kept(&fixture), [0, 1]);
    fixture.set_policy(RULES);
    sleep(Duration::from_secs(2)).await;
    assert_eq!(kept(&fixture), [1, 0]);
    ann.told_nothing(10).await;
}

#[tokio::test(start_paused = true)]
async fn a_watcher_that_does_not_read_gets_everything_anew() {
    let mut fixture = Fixture::new(RULES).await;
    fixture.outbox_bytes = 2_000;
    fixture.restart().await;
    let mut eve = enter(&mut fixture, "e1", "eve").await;
    watch(&eve).await;
    assert_eq!(eve.told().await, "eve/1");
    let mut crowd = Vec::new();
    for number in 0..100 {
        crowd.push(enter(&mut fixture, &format!("c{number}"), &format!("user-{number}")).await);
    }
    sleep(Duration::from_secs(3)).await;
    drop(crowd.drain(10..));
    sleep(Duration::from_secs(20)).await;
    let mut told = Vec::new();
    while !told.last().is_some_and(|last: &String| last.contains("/11")) {
        told.push(eve.told().await);
    }
    assert!(told.len() < 60, "its outbox is bounded: {}", told.len());
    eve.told_nothing(10).await;
}

#[tokio::test(start_paused = true)]
async fn a_room_without_presence_costs_nothing() {
    let mut fixture = Fixture::new(RULES).await;
    let mut session = fixture.connect_as("s", user("ann"), &[]).await;
    session.join("quiet", Start::Now).await.unwrap();
    sleep(Duration::from_secs(5)).await;
    // `all` has presence by these rules.
    assert_eq!(fixture.gauge("carillon_gateway_presence_rooms"), 2);
    assert_eq!(fixture.gauge("carillon_gateway_presence_watched_rooms"), 0);
}

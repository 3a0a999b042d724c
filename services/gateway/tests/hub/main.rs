//! The hub without a socket: thousands of sessions, wide rooms, slow readers, on the embedded broker and in virtual
//! time.

#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests
#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // metrics are floats

mod budget;
mod fixture;
mod gaps;
mod looking_back;
mod memory_gate;
mod presence;
mod rebalance;

use std::time::Duration;

use carillon_gateway::hub::{CloseReason, CursorNote, RefusalCode, Start};
use carillon_model::Offset;
use fixture::{Fixture, room};

const DELIVERIES: &str = "carillon_gateway_deliveries_total";

#[tokio::test(start_paused = true)]
async fn a_message_reaches_every_member_of_its_room_once_and_nobody_else() {
    let mut fixture = Fixture::new("").await;
    let mut members = Vec::new();
    for number in 0..2_000 {
        let mut session = fixture.connect(&format!("s{number}"), &[]).await;
        let name = if number % 2 == 0 { "even" } else { "odd" };
        session.join(name, Start::Now).await.unwrap();
        members.push(session);
    }
    for number in 0..10 {
        fixture.publish("even", &number.to_string()).await;
    }
    fixture.publish("all", "end").await;
    for (number, session) in members.iter_mut().enumerate() {
        let texts = session.texts_until("end").await;
        let expected: Vec<String> = if number % 2 == 0 {
            (0..10).map(|n| n.to_string()).collect()
        } else {
            vec![]
        };
        assert_eq!(texts, expected, "session {number}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_wide_room_does_not_make_a_join_wait_behind_its_broadcast() {
    let mut fixture = Fixture::new("").await;
    let mut wide = Vec::new();
    for number in 0..5_000 {
        wide.push(fixture.connect(&format!("w{number}"), &[]).await);
    }
    // The lobby is held already, so that a join is a matter of the shard alone. Those who join are the last members of
    // `all`, some of them in each shard.
    wide[0].join("lobby", Start::Now).await.unwrap();
    fixture.publish("lobby", "before").await;
    assert_eq!(wide[0].next_text().await, "before");
    let mut late = Vec::new();
    for number in 0..8 {
        late.push(fixture.connect(&format!("late{number}"), &[]).await);
    }
    let before = fixture.counter(DELIVERIES);
    for number in 0..20 {
        fixture.publish("all", &number.to_string()).await;
    }
    while fixture.counter(DELIVERIES) <= before {
        // The clock stands, and so nothing else happens than what is to be done.
        tokio::task::yield_now().await;
    }
    let joins = late.iter_mut().map(|session| session.join("lobby", Start::Now));
    for joined in futures::future::join_all(joins).await {
        joined.unwrap();
    }
    let walked = fixture.counter(DELIVERIES) - before;
    assert!(
        walked < 5_008.0 * 20.0,
        "the joins were answered when all the rest was done"
    );
    for session in &mut late {
        // It says so, too, if a message of the broadcast lies in front of the answer.
        session.note("lobby").await;
    }
    fixture.publish("all", "end").await;
    let expected: Vec<String> = (0..20).map(|number| number.to_string()).collect();
    for session in wide.iter_mut().chain(&mut late) {
        assert_eq!(session.texts_until("end").await, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_cursor_within_history_is_complete_and_an_older_one_is_told() {
    let mut fixture = Fixture::new("- { match: lobby, join: anyone, history: { size: 3 } }").await;
    let mut session = fixture.connect("s", &[]).await;
    let start = session.join("lobby", Start::Now).await.unwrap().offset.unwrap();
    for number in 0..5 {
        fixture.publish("lobby", &number.to_string()).await;
    }
    fixture.publish("all", "end").await;
    let seen = session.deliveries_until("end").await;
    assert_eq!(seen.len(), 5);
    let third = seen[2].offset;
    drop(session);

    let mut back = fixture.connect("back", &[("lobby", third)]).await;
    assert_eq!(
        back.note("lobby").await,
        CursorNote::At {
            offset: third,
            recovered: true
        }
    );
    fixture.publish("all", "end").await;
    assert_eq!(back.texts_until("end").await, ["3", "4"]);

    // A gateway that holds nothing in memory has to ask history.
    let mut elsewhere = fixture.another_gateway().await;
    let mut old = elsewhere.connect("old", &[("lobby", start)]).await;
    let CursorNote::At { offset, recovered } = old.note("lobby").await else {
        panic!("refused")
    };
    assert!(!recovered);
    assert_eq!(offset, seen[1].offset, "the place before what is replayed");
    elsewhere.publish("all", "end").await;
    assert_eq!(old.texts_until("end").await, ["2", "3", "4"]);
}

#[tokio::test(start_paused = true)]
async fn a_hole_in_a_live_connection_is_caught_up_from_history() {
    let mut fixture = Fixture::new("").await;
    let mut session = fixture.connect("s", &[]).await;
    session.join("lobby", Start::Now).await.unwrap();
    fixture.publish("lobby", "1").await;
    fixture.publish_without_sending("lobby", "2").await;
    fixture.publish_without_sending("lobby", "3").await;
    fixture.publish("lobby", "4").await;
    fixture.publish("all", "end").await;
    assert_eq!(session.texts_until("4").await, ["1", "2", "3"]);
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_stands_still_is_caught_up_and_hurts_nobody() {
    let mut fixture =
        Fixture::new("- { match: lobby, join: anyone, history: { size: 1000, bytes: 10MiB } }").await;
    fixture.outbox_bytes = 4_000;
    fixture.restart().await;
    let mut slow = fixture.connect("slow", &[]).await;
    let mut quick = fixture.connect("quick", &[]).await;
    slow.join("lobby", Start::Now).await.unwrap();
    quick.join("lobby", Start::Now).await.unwrap();
    let expected: Vec<String> = (0..200).map(|number| format!("{number:0>100}")).collect();
    for text in &expected {
        fixture.publish("lobby", text).await;
        quick.next_text().await;
    }
    fixture
        .until(|fixture| fixture.counter("carillon_gateway_sessions_fell_behind_total") >= 1.0)
        .await;
    let waiting = slow.waiting_bytes().await;
    assert!(waiting > 0, "what came first waits");
    assert!(waiting <= fixture.outbox_bytes, "{waiting} bytes wait");
    let mut got = Vec::new();
    while got.len() < expected.len() {
        got.push(slow.next_text().await);
    }
    assert_eq!(got, expected);
    assert_eq!(slow.gaps_told, 0, "history had all of it");
}

#[tokio::test(start_paused = true)]
async fn policy_decides_what_a_slow_reader_gets() {
    let rules =
        "- { match: latest, join: anyone, slow: latest }\n- { match: close, join: anyone, slow: close }";
    let mut fixture = Fixture::new(rules).await;
    fixture.outbox_bytes = 2_000;
    fixture.restart().await;
    let mut latest = fixture.connect("latest", &[]).await;
    latest.join("latest", Start::Now).await.unwrap();
    let mut close = fixture.connect("close", &[]).await;
    close.join("close", Start::Now).await.unwrap();
    for number in 0..100 {
        fixture.publish("latest", &format!("{number:0>100}")).await;
        fixture.publish("close", &format!("{number:0>100}")).await;
    }
    assert_eq!(close.closed().await, CloseReason::SlowReader);
    let first = latest.next_text().await;
    assert_eq!(first, format!("{:0>100}", 0));
    while latest.gaps_told == 0 {
        latest.next().await;
    }
    fixture.publish("latest", "now").await;
    while latest.next_text().await != "now" {}
}

#[tokio::test(start_paused = true)]
async fn a_message_to_several_rooms_comes_once_and_the_cursor_moves_on() {
    let mut fixture = Fixture::new("").await;
    let mut session = fixture.connect("s", &[]).await;
    session.join("a", Start::Now).await.unwrap();
    session.join("b", Start::Now).await.unwrap();
    fixture.publish_to(&["a", "b"], "both").await;
    fixture.publish("all", "end").await;
    assert_eq!(session.texts_until("end").await, ["both"]);
    // Within a second it is told where it is in the room whose copy it did not get.
    let last = fixture.last_offset("b").await;
    while session.note("b").await
        != (CursorNote::At {
            offset: last,
            recovered: true,
        })
    {}
}

#[tokio::test(start_paused = true)]
async fn refusals_say_why() {
    let rules = "- { match: \"secret*\", join: authenticated }\n- { match: \"closed*\", join: nobody }";
    let mut fixture = Fixture::new(rules).await;
    let mut session = fixture.connect("s", &[]).await;
    let code = |result: Result<_, carillon_gateway::hub::Refusal>| {
        result
            .map(|_: carillon_gateway::hub::Joined| ())
            .unwrap_err()
            .code
    };
    assert_eq!(
        code(session.join("secret", Start::Now).await),
        RefusalCode::Forbidden
    );
    assert_eq!(
        code(session.join("closed", Start::Now).await),
        RefusalCode::Forbidden
    );
    assert_eq!(
        code(session.join("user:1", Start::Now).await),
        RefusalCode::ReservedRoom
    );
    for number in 0..200 {
        session.join(&format!("room{number}"), Start::Now).await.unwrap();
    }
    assert_eq!(
        code(session.join("one-more", Start::Now).await),
        RefusalCode::TooManyRooms
    );
    assert_eq!(
        session.handle().leave(room("elsewhere")).await.unwrap_err().code,
        RefusalCode::NotJoined
    );
    session.handle().leave(room("room0")).await.unwrap();
    session.join("one-more", Start::Now).await.unwrap();

    let mut returning = fixture
        .connect(
            "r",
            &[("secret", Offset::new(1, 0)), ("session:gone", Offset::new(1, 0))],
        )
        .await;
    assert!(
        matches!(returning.note("secret").await, CursorNote::Refused { error } if error.code == RefusalCode::Forbidden)
    );
    assert_eq!(returning.note("session:gone").await, CursorNote::Left);
}

#[tokio::test(start_paused = true)]
async fn a_reconnect_storm_costs_few_reads() {
    let mut fixture = Fixture::new("- { match: lobby, join: anyone, history: { size: 1000 } }").await;
    let mut first = fixture.connect("first", &[]).await;
    let start = first.join("lobby", Start::Now).await.unwrap().offset.unwrap();
    for number in 0..50 {
        fixture.publish("lobby", &number.to_string()).await;
    }
    fixture.publish("all", "end").await;
    first.texts_until("end").await;
    drop(first);
    // Nothing in memory: another gateway.
    let mut other = fixture.another_gateway().await;
    let mut storm = Vec::new();
    for number in 0..1_000 {
        storm.push(other.connect(&format!("s{number}"), &[("lobby", start)]).await);
    }
    for session in &mut storm {
        for number in 0..50 {
            assert_eq!(session.next_text().await, number.to_string());
        }
    }
    let reads = other.counter("carillon_gateway_history_reads_total");
    assert!(reads <= 20.0, "1,000 reconnects took {reads} reads");
}

#[tokio::test(start_paused = true)]
async fn a_room_is_held_thirty_seconds_after_the_last_member_left() {
    let mut fixture = Fixture::new("").await;
    let mut session = fixture.connect("s", &[]).await;
    session.join("lobby", Start::Now).await.unwrap();
    session.handle().leave(room("lobby")).await.unwrap();
    tokio::time::sleep(Duration::from_secs(29)).await;
    assert_eq!(fixture.routes("lobby").await, 1);
    session.join("lobby", Start::Now).await.unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(fixture.routes("lobby").await, 1, "a join cancels the removal");
    session.handle().leave(room("lobby")).await.unwrap();
    tokio::time::sleep(Duration::from_secs(31)).await;
    assert_eq!(fixture.routes("lobby").await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_gateway_declared_dead_starts_over_and_loses_nothing() {
    let mut fixture = Fixture::new("").await;
    let mut session = fixture.connect("s", &[]).await;
    session.join("lobby", Start::Now).await.unwrap();
    let before = fixture.hub.incarnation().unwrap();
    fixture.declare_dead();
    fixture.publish_without_sending("lobby", "meanwhile").await;
    fixture
        .until(|fixture| fixture.hub.incarnation().is_some_and(|now| now != before))
        .await;
    assert_eq!(session.next_text().await, "meanwhile");
    fixture.publish("lobby", "after").await;
    assert_eq!(session.next_text().await, "after");
}

#[tokio::test(start_paused = true)]
async fn draining_hands_sessions_over_at_an_even_pace() {
    let mut fixture = Fixture::new("").await;
    let mut sessions = Vec::new();
    for number in 0..600 {
        sessions.push(fixture.connect(&format!("s{number}"), &[]).await);
    }
    let closing: Vec<_> = sessions
        .into_iter()
        .map(|session| tokio::spawn(session.leave_when_told()))
        .collect();
    let started = tokio::time::Instant::now();
    fixture.hub.drain().await;
    assert!(
        started.elapsed() >= Duration::from_secs(5),
        "600 sessions at 100 a second"
    );
    assert!(started.elapsed() < Duration::from_secs(30));
    for task in closing {
        assert_eq!(task.await.unwrap(), CloseReason::Draining);
    }
    let refused = fixture.try_connect("late").await.unwrap_err();
    assert_eq!(refused.code, RefusalCode::Draining);
}

#[tokio::test(start_paused = true)]
async fn what_is_carried_for_others_goes_within_the_pace_of_a_drain() {
    let mut fixture = Fixture::new("").await;
    let mut going = tokio::task::JoinSet::new();
    for number in 0..200 {
        let session = fixture.connect(&format!("s{number}"), &[]).await;
        going.spawn(async move {
            session.leave_when_told().await;
            "own"
        });
        for _ in 0..2 {
            let carried = fixture.hub.carry();
            going.spawn(async move {
                carried.let_go().await;
                "carried"
            });
        }
    }
    let hub = fixture.hub.clone();
    let started = tokio::time::Instant::now();
    let draining = tokio::spawn(async move { hub.drain().await });
    let mut own = 0;
    let mut in_this_second = 0;
    let mut second = started;
    for gone in 1..=600_u32 {
        own += u32::from(going.join_next().await.unwrap().unwrap() == "own");
        if second.elapsed() >= Duration::from_secs(1) {
            (second, in_this_second) = (tokio::time::Instant::now(), 0);
        }
        in_this_second += 1;
        assert!(
            in_this_second <= 120,
            "{in_this_second} in a second at 100 a second"
        );
        if gone == 300 {
            assert!(
                (90..=110).contains(&own),
                "{own} of 200 when half of all are gone"
            );
        }
    }
    draining.await.unwrap();
    let took = started.elapsed();
    assert!(
        took >= Duration::from_secs(5) && took < Duration::from_secs(10),
        "{took:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_session_dropped_as_soon_as_it_is_there_is_gone() {
    let mut fixture = Fixture::new("").await;
    drop(fixture.try_connect("hasty").await.unwrap());
    // Two more, so that both shards have surely had their turn.
    let _held = [
        fixture.connect("one", &[]).await,
        fixture.connect("two", &[]).await,
    ];
    assert_eq!(fixture.gauge("carillon_gateway_sessions"), 2);
}

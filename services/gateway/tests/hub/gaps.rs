//! What a failover took back: who missed it is told, and nobody else.

use std::time::Duration;

use carillon_broker::losses::{GapAppend, GapQueue as _};
use carillon_gateway::hub::{CursorNote, Start};
use carillon_model::{Offset, Partition};

use crate::fixture::{Fixture, TestSession, room};

/// A note on the lobby: its place, and whether it is complete there.
async fn lobby(session: &mut TestSession) -> (Offset, bool) {
    match session.note("lobby").await {
        CursorNote::At { offset, recovered } => (offset, recovered),
        other => panic!("{other:?}"),
    }
}

/// What a session is told at a gap marker. Before it, quiet positions go up to the raised offset, the first of its time.
async fn at_the_marker(session: &mut TestSession) -> (Offset, bool) {
    loop {
        let (offset, recovered) = lobby(session).await;
        if offset.sequence > 0 {
            return (offset, recovered);
        }
    }
}

/// A session in the lobby that has read `first`, which is at the offset.
async fn in_the_lobby(fixture: &mut Fixture) -> (TestSession, Offset) {
    let mut session = fixture.connect("here", &[]).await;
    session.join("lobby", Start::Now).await.unwrap();
    lobby(&mut session).await;
    let first = fixture.publish("lobby", "first").await;
    assert_eq!(session.next_text().await, "first");
    (session, first)
}

#[tokio::test(start_paused = true)]
async fn who_missed_a_lost_message_is_told_and_who_had_it_is_not() {
    let mut fixture = Fixture::new("").await;
    let (mut here, first) = in_the_lobby(&mut fixture).await;
    let before = fixture.broker.server_state(0);
    let second = fixture.publish("lobby", "second").await;
    assert_eq!(here.next_text().await, "second");
    fixture.fail_over(before, "another");
    fixture.pass_gaps().await;

    let (marked, recovered) = at_the_marker(&mut here).await;
    assert!(recovered, "it had everything");
    assert!(marked > second, "and goes on behind the gap");
    for (name, cursor, complete) in [
        ("missed", first, false),
        ("had", second, true),
        ("told", marked, true),
    ] {
        let mut back = fixture.connect(name, &[("lobby", cursor)]).await;
        assert_eq!(lobby(&mut back).await.1, complete, "{name}");
        fixture.publish("lobby", name).await;
        back.texts_until(name).await;
        let falses = usize::from(!complete);
        assert!(
            back.gaps_told >= falses && (complete == (back.gaps_told == 0)),
            "{name}"
        );
    }
    // The gateway that has nothing in memory reads the same.
    let mut other = fixture.another_gateway().await;
    let mut missed = other.connect("missed elsewhere", &[("lobby", first)]).await;
    assert!(!lobby(&mut missed).await.1);
    let mut had = other.connect("had elsewhere", &[("lobby", second)]).await;
    assert!(lobby(&mut had).await.1);
    assert_eq!(had.next_text().await, "missed");
    let newest = here.handle().history(room("lobby"), None, 10).await.unwrap();
    assert_eq!(newest.len(), 4, "a gap is no message: first, and three since");
    assert_eq!(here.texts_until("told").await, ["missed", "had"]);
    assert_eq!(here.gaps_told, 0);
}

#[tokio::test(start_paused = true)]
async fn a_live_session_that_missed_a_lost_message_is_told_at_its_marker() {
    let mut fixture = Fixture::new("").await;
    let (mut here, _) = in_the_lobby(&mut fixture).await;
    let before = fixture.broker.server_state(0);
    fixture.publish_without_sending("lobby", "lost").await;
    fixture.fail_over(before, "another");
    fixture.pass_gaps().await;
    assert!(!at_the_marker(&mut here).await.1);
    fixture.publish("lobby", "next").await;
    assert_eq!(here.next_text().await, "next");
    assert_eq!(here.gaps_told, 1);
}

/// Somebody else's message gets in between the failover and the marker.
#[tokio::test(start_paused = true)]
async fn a_marker_that_comes_late_is_told_to_the_same_sessions() {
    let mut fixture = Fixture::new("").await;
    let (mut had, first) = in_the_lobby(&mut fixture).await;
    let before = fixture.broker.server_state(0);
    let second = fixture.publish("lobby", "second").await;
    assert_eq!(had.next_text().await, "second");
    fixture.fail_over(before, "another");
    let next = fixture.publish("lobby", "next").await;
    assert_eq!(had.next_text().await, "next");
    // A gateway that has the lost message in memory would deliver it.
    let mut other = fixture.another_gateway().await;
    let mut missed = other.connect("back", &[("lobby", first)]).await;
    assert!(lobby(&mut missed).await.1, "nobody knows yet");
    assert_eq!(missed.next_text().await, "next");
    fixture.pass_gaps().await;

    let (marked, recovered) = loop {
        let (offset, recovered) = lobby(&mut had).await;
        if offset > next {
            break (offset, recovered);
        }
    };
    assert!(recovered, "it had everything");
    assert_eq!(lobby(&mut missed).await, (marked, false));
    let mut back = fixture.connect("with the lost one", &[("lobby", second)]).await;
    assert!(lobby(&mut back).await.1);
    assert_eq!(back.next_text().await, "next");
    assert_eq!(
        lobby(&mut back).await,
        (marked, true),
        "it passes the gap, and is not told"
    );
}

#[tokio::test(start_paused = true)]
async fn a_room_without_history_tells_who_is_live() {
    let mut fixture = Fixture::new("- { match: lobby, join: anyone, history: { size: 0 } }").await;
    let (mut here, _) = in_the_lobby(&mut fixture).await;
    let before = fixture.broker.server_state(0);
    fixture.publish_without_sending("lobby", "lost").await;
    fixture.fail_over(before, "another");
    fixture.pass_gaps().await;
    assert!(!at_the_marker(&mut here).await.1);
    let before = fixture.broker.server_state(0);
    fixture.publish("lobby", "second").await;
    assert_eq!(here.next_text().await, "second");
    fixture.fail_over(before, "a third");
    fixture.pass_gaps().await;
    assert!(at_the_marker(&mut here).await.1, "it had that one");
}

#[tokio::test(start_paused = true)]
async fn a_loss_that_nobody_knows_is_told_once_in_every_room_of_the_partition() {
    let mut fixture = Fixture::new("").await;
    let (mut here, first) = in_the_lobby(&mut fixture).await;
    let life = fixture.broker.server_state(0).life;
    let append = GapAppend {
        partition: Partition(0),
        life,
        rooms: Vec::new(),
        partition_gap: true,
    };
    fixture.broker.append_gaps(append).await.unwrap();
    fixture.pass_gaps().await;

    let (marked, recovered) = lobby(&mut here).await;
    assert!(!recovered && marked > first);
    let mut back = fixture.connect("back", &[("lobby", first)]).await;
    assert!(!lobby(&mut back).await.1);
    let mut told = fixture.connect("told", &[("lobby", marked)]).await;
    assert!(lobby(&mut told).await.1);
    let next = fixture.publish("lobby", "next").await;
    for session in [&mut here, &mut back, &mut told] {
        assert_eq!(session.next_text().await, "next");
    }
    let falses = [here.gaps_told, back.gaps_told, told.gaps_told];
    assert_eq!(falses[2], 0);
    // `all` is a room of the partition, too.
    assert!(falses[0] >= 2 && falses[1] >= 1, "{falses:?}");
    let mut elsewhere = fixture.another_gateway().await;
    let mut late = elsewhere.connect("late", &[("lobby", first)]).await;
    assert!(!lobby(&mut late).await.1);
    let mut young = elsewhere.connect("young", &[("lobby", next)]).await;
    assert!(lobby(&mut young).await.1);
}

/// It registered too late for the marker to be sent to it, and read its rooms while the marker was still ahead.
#[tokio::test(start_paused = true)]
async fn a_gateway_that_never_gets_the_marker_of_a_partition_tells_it_all_the_same() {
    let mut fixture = Fixture::new("").await;
    let (mut here, first) = in_the_lobby(&mut fixture).await;
    let append = GapAppend {
        partition: Partition(0),
        life: fixture.broker.server_state(0).life,
        rooms: Vec::new(),
        partition_gap: true,
    };
    fixture.broker.append_gaps(append).await.unwrap();
    fixture.declare_dead();
    while fixture.routes("lobby").await < 2 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    fixture.drop_queue().await;
    loop {
        let (marked, recovered) = lobby(&mut here).await;
        if !recovered {
            assert!(marked > first);
            return;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_channel_of_another_server_makes_the_gateway_look_at_once() {
    let mut fixture = Fixture::new("").await;
    fixture.look_at_lives = Duration::from_secs(3600);
    fixture.restart().await;
    let now = fixture.broker.server_state(0);
    fixture.fail_over(now, "another");
    let seen = fixture.until(|fixture| fixture.counter("carillon_gateway_failovers_total") > 0.0);
    tokio::time::timeout(Duration::from_secs(60), seen).await.unwrap();
}

//! What can't be handled holds its partition for a moment, then makes room for the next.

#![allow(clippy::unwrap_used, clippy::panic)] // test code outside test functions

mod common;

use bytes::Bytes;
use carillon_broker::DeadLetterSource;
use carillon_dispatcher::DispatcherSettings;
use carillon_model::Room;
use common::{Process, SECOND, World, faulty::Fault, until};
use tokio::time::{Instant, sleep};

#[tokio::test(start_paused = true)]
async fn a_broken_entry_becomes_a_dead_letter_and_the_rest_flows() {
    let mut world = World::new(1);
    let mut ear = world.ear("g", &["a"]).await;
    let process = world.dispatcher();
    until("it owns all", || process.owned() == 1).await;
    let room = Room::new("a").unwrap();
    let first = world.send("a").await;
    let broken = world
        .push_entry(&room, Bytes::from_static(b"\xff\xffnonsense"))
        .await;
    let second = world.send("a").await;
    let started = Instant::now();
    world.until_drained().await;
    assert!(started.elapsed() <= 2 * SECOND, "{:?}", started.elapsed());
    assert!(
        started.elapsed() >= SECOND,
        "it was tried again: {:?}",
        started.elapsed()
    );
    assert_eq!(ear.listen().await.heard["a"], [first, second]);
    assert_eq!(ear.holes, 0);
    let letters = world.dead_letters().await;
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0].source, DeadLetterSource::Queue(broken));
    assert!(
        letters[0].reason.contains("not a queue entry"),
        "{}",
        letters[0].reason
    );
    assert_eq!(letters[0].entry, Bytes::from_static(b"\xff\xffnonsense"));
    assert_eq!(process.metric("dead_letters_total"), 1.0);
}

#[tokio::test(start_paused = true)]
async fn what_the_broker_cannot_hold_is_found_entry_by_entry() {
    let mut world = World::new(1);
    let mut ear = world.ear("g", &["a"]).await;
    let first = world.send("a").await;
    let second = world.send("a").await;
    let process = world.dispatcher();
    // Once for both together, five times for the first alone.
    process.plan.set("record", Fault::Unstorable, 6);
    world.until_drained().await;
    assert_eq!(ear.listen().await.heard["a"], [second]);
    let letters = world.dead_letters().await;
    assert_eq!(letters.len(), 1, "message {first} alone");
    assert!(letters[0].reason.contains("planned"));
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_is_away_is_never_a_try() {
    let mut world = World::new(1);
    let mut ear = world.ear("g", &["a"]).await;
    let process = world.dispatcher();
    until("it owns all", || process.owned() == 1).await;
    // A channel that is away for longer than a second is parked instead.
    for (call, times) in [("record", 100), ("append_channel", 3), ("trim", 100)] {
        process.plan.set(call, Fault::Unavailable, times);
        let sent = world.send("a").await;
        world.until_drained().await;
        assert_eq!(ear.listen().await.heard["a"].last(), Some(&sent));
    }
    assert!(world.dead_letters().await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn the_oldest_of_too_many_dead_letters_are_dropped_and_counted() {
    let mut world = World::new(1);
    let settings = DispatcherSettings {
        dead_letters: 2,
        tries: 1,
        ..DispatcherSettings::default()
    };
    let room = Room::new("a").unwrap();
    let mut broken = Vec::new();
    for _ in 0..5 {
        let entry = Bytes::from_static(b"\xff\xffnonsense");
        broken.push(DeadLetterSource::Queue(world.push_entry(&room, entry).await));
    }
    let process = world.dispatcher_with(settings);
    until("the oldest are dropped", || {
        process.metric("dead_letters_dropped_total") == 3.0
    })
    .await;
    let letters = world.dead_letters().await;
    let kept: Vec<_> = letters.into_iter().map(|letter| letter.source).collect();
    assert_eq!(kept, broken[3..]);
}

/// An error that nobody knows is nobody's fault: the partition waits, says so, and goes on when it is over.
#[tokio::test(start_paused = true)]
async fn an_unknown_error_of_the_broker_buries_nothing() {
    let mut world = World::new(1);
    let mut ear = world.ear("g", &["a"]).await;
    let process = world.dispatcher();
    until("it owns all", || process.owned() == 1).await;
    for fault in [Fault::Rejected, Fault::Corrupt] {
        for call in ["record", "trim", "read_head"] {
            process.plan.set(call, fault, usize::MAX);
            if call == "read_head" {
                // It reads on until something makes it begin anew.
                process.plan.set("trim", Fault::Unavailable, 1);
            }
            let sent = world.send("a").await;
            until("it is stuck", || {
                process.metric("partitions_without_progress") == 1.0
            })
            .await;
            assert_eq!(process.metric("partitions_refused"), 1.0, "{call}");
            process.plan.clear();
            world.until_drained().await;
            until("all is well again", || {
                process.metric("partitions_refused") + process.metric("partitions_without_progress") == 0.0
            })
            .await;
            assert_eq!(ear.listen().await.heard["a"].last(), Some(&sent));
        }
    }
    assert!(world.dead_letters().await.is_empty());
}

/// One after the other stands still past its lease with the message in hand, finds the broker away when it wakes up, and
/// ends while it waits: none of them died of the message.
#[tokio::test(start_paused = true)]
async fn a_try_that_a_lost_lease_interrupted_does_not_count() {
    let mut world = World::new(1);
    let mut ear = world.ear("g", &["a"]).await;
    let sent = world.send("a").await;
    for _ in 0..8 {
        let process = world.dispatcher();
        process.plan.set("record", Fault::StallBefore, 1);
        process.plan.stalled().await;
        sleep(20 * SECOND).await;
        process.plan.set("record", Fault::Unavailable, usize::MAX);
        process.plan.set("take_back_try", Fault::Unavailable, 3);
        process.plan.release();
        sleep(20 * SECOND).await;
        assert!(process.metric("takeovers_total") >= 2.0, "it lost its lease");
        process.kill().await;
    }
    assert_eq!(world.dead_letters().await, []);
    let process = world.dispatcher();
    world.until_drained().await;
    assert_eq!(ear.listen().await.heard["a"], [sent]);
    drop(process);
}

/// The histories are away for minutes and the partition goes from one to the other: none of it is a try.
#[tokio::test(start_paused = true)]
async fn being_given_up_is_no_try() {
    let mut world = World::new(1);
    let mut ear = world.ear("g", &["a"]).await;
    let processes = [world.dispatcher(), world.dispatcher()];
    for process in &processes {
        process.plan.set("record", Fault::Unavailable, usize::MAX);
    }
    let sent = world.send("a").await;
    sleep(600 * SECOND).await;
    let takeovers = processes.iter().map(|process| process.metric("takeovers_total"));
    assert!(takeovers.sum::<f64>() > 12.0);
    for process in &processes {
        process.plan.clear();
    }
    world.until_drained().await;
    assert_eq!(ear.listen().await.heard["a"], [sent]);
    assert!(world.dead_letters().await.is_empty());
}

/// Whoever records a batch with this message dies of it.
async fn die_of_it(process: Process, world: &World) -> bool {
    process.plan.set("record", Fault::StallBefore, usize::MAX);
    loop {
        tokio::select! {
            biased;
            () = process.plan.stalled() => {
                process.kill().await;
                return true;
            }
            () = sleep(SECOND / 100) => if world.waiting() == 0 { return false },
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_that_kills_its_owners_is_found() {
    let mut world = World::new(1);
    world.send("a").await;
    let mut deaths = 0;
    let settings = DispatcherSettings {
        probe_every: 100_000 * SECOND,
        ..DispatcherSettings::default()
    };
    loop {
        let process = world.dispatcher_with(settings.clone());
        if !die_of_it(process, &world).await {
            break;
        }
        deaths += 1;
        assert!(deaths <= 5, "it kills for ever");
    }
    assert_eq!(deaths, 5);
    let letters = world.dead_letters().await;
    assert_eq!(letters.len(), 1);
    assert!(
        letters[0].reason.contains("ended 5 times"),
        "{}",
        letters[0].reason
    );
    let mut ear = world.ear("g", &["a"]).await;
    let process = world.dispatcher();
    let next = world.send("a").await;
    world.until_drained().await;
    assert_eq!(ear.listen().await.heard["a"], [next]);
    drop(process);
}

/// A killer in the middle of a batch is found without burying what lies before it.
#[tokio::test(start_paused = true)]
async fn the_innocent_before_a_killer_are_not_buried() {
    let mut world = World::new(1);
    let mut ear = world.ear("g", &["a"]).await;
    let mut innocent = vec![world.send("a").await, world.send("a").await];
    let killer = world
        .push_entry(&Room::new("a").unwrap(), common::killer_entry())
        .await;
    innocent.push(world.send("a").await);
    let mut deaths = 0;
    let process = loop {
        let process = world.dispatcher();
        process.plan.stall_at_entry(common::KILLER);
        let done = async {
            while world.waiting() > 0 {
                sleep(SECOND / 100).await;
            }
        };
        tokio::select! {
            biased;
            () = process.plan.stalled() => {}
            () = done => break process,
        }
        process.kill().await;
        deaths += 1;
        assert!(deaths < 20, "it kills for ever");
    };
    let letters = world.dead_letters().await;
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0].source, DeadLetterSource::Queue(killer));
    assert_eq!(ear.listen().await.heard["a"], innocent);
    assert!(deaths <= 6, "{deaths}");
    drop(process);
}

//! Who owns what: shares, takeovers, handovers, and leases that are lost.

#![allow(clippy::unwrap_used, clippy::panic)] // test code outside test functions

mod common;

use std::time::Duration;

use carillon_broker::{Leases as _, Membership as _, ServiceKind};
use carillon_dispatcher::DispatcherSettings;
use common::{SECOND, World, faulty::Fault, until};
use tokio::time::{Instant, sleep};

/// Idle partitions stay idle.
fn without_probes() -> DispatcherSettings {
    DispatcherSettings {
        probe_every: 100_000 * SECOND,
        ..DispatcherSettings::default()
    }
}

#[tokio::test(start_paused = true)]
async fn messages_come_once_and_in_order() {
    let mut world = World::new(4);
    let mut ear = world.ear("g", &["a", "b"]).await;
    let process = world.dispatcher();
    let mut sent = (Vec::new(), Vec::new());
    for _ in 0..300 {
        sent.0.push(world.send("a").await);
        sent.1.push(world.send("b").await);
    }
    world.until_drained().await;
    ear.listen().await;
    assert_eq!(ear.heard["a"], sent.0);
    assert_eq!(ear.heard["b"], sent.1);
    assert_eq!((ear.dropped, ear.holes), (0, 0));
    assert!(process.metric("messages_total") >= 600.0);
}

#[tokio::test(start_paused = true)]
async fn small_batches_read_ahead_without_losing_order() {
    let mut world = World::new(1);
    let mut ear = world.ear("g", &["a"]).await;
    let mut sent = Vec::new();
    for _ in 0..50 {
        sent.push(world.send("a").await);
    }
    let settings = DispatcherSettings {
        batch_entries: 3,
        ..DispatcherSettings::default()
    };
    let process = world.dispatcher_with(settings);
    for call in ["record", "append_channel", "trim", "read_after"] {
        until("some of it is handled", || process.metric("batches_total") > 3.0).await;
        process.plan.set(call, Fault::LoseAnswer, 1);
        for _ in 0..50 {
            sent.push(world.send("a").await);
            sleep(Duration::from_millis(1)).await;
        }
        world.until_drained().await;
    }
    ear.listen().await;
    assert_eq!(ear.heard["a"], sent);
    assert_eq!(ear.holes, 0);
    assert!(process.metric("unknown_outcomes_total") >= 4.0);
}

#[tokio::test(start_paused = true)]
async fn partitions_are_shared_and_each_has_one_owner() {
    let mut world = World::new(64);
    let processes = [world.dispatcher(), world.dispatcher(), world.dispatcher()];
    until("each has a share of all", || {
        let owned: Vec<usize> = processes.iter().map(|process| process.owned()).collect();
        owned.iter().sum::<usize>() == 64 && owned.iter().all(|share| *share > 5)
    })
    .await;
    // Nobody steals: from now on nothing moves.
    let takeovers = |processes: &[common::Process]| -> f64 {
        processes
            .iter()
            .map(|process| process.metric("takeovers_total"))
            .sum()
    };
    let before = takeovers(&processes);
    sleep(60 * SECOND).await;
    assert_eq!(takeovers(&processes), before);
}

#[tokio::test(start_paused = true)]
async fn a_killed_owner_is_replaced_within_seconds_and_order_holds() {
    let mut world = World::new(8);
    let rooms = ["a", "b", "c", "d", "e"];
    let mut ear = world.ear("g", &rooms).await;
    let mut victims = vec![world.dispatcher(), world.dispatcher()];
    let mut sent = std::collections::BTreeMap::<&str, Vec<u64>>::new();
    for round in 0..600 {
        for room in rooms {
            sent.entry(room).or_default().push(world.send(room).await);
        }
        sleep(Duration::from_millis(20)).await;
        if round % 150 == 75 {
            victims.remove(0).kill().await;
            victims.push(world.dispatcher());
        }
    }
    let started = Instant::now();
    world.until_drained().await;
    assert!(started.elapsed() < 15 * SECOND);
    ear.listen().await;
    for room in rooms {
        assert_eq!(ear.heard[room], sent[room], "{room}");
    }
    assert_eq!(ear.holes, 0);
}

#[tokio::test(start_paused = true)]
async fn a_drained_one_hands_over_without_repeating_anything() {
    let mut world = World::new(16);
    let mut ear = world.ear("g", &["a", "b", "c"]).await;
    let first = world.dispatcher();
    until("it owns all", || first.owned() == 16).await;
    let second = world.dispatcher();
    until("they share", || {
        second.owned() > 0 && first.owned() + second.owned() == 16
    })
    .await;
    let mut sent = 0;
    let mut drained = None;
    for round in 0..200 {
        for room in ["a", "b", "c"] {
            world.send(room).await;
            sent += 1;
        }
        if round == 100 {
            first.drain.cancel();
            drained = Some(Instant::now());
        }
        sleep(Duration::from_millis(10)).await;
    }
    until("the other one owns all", || second.owned() == 16).await;
    assert!(drained.unwrap().elapsed() < 4 * SECOND);
    until("it is gone", || first.task.is_finished()).await;
    world.until_drained().await;
    ear.listen().await;
    let heard: usize = ear.heard.values().map(Vec::len).sum();
    assert_eq!((heard, ear.dropped, ear.holes), (sent, 0, 0));
    let living = world.broker.members(ServiceKind::Dispatcher).await.unwrap();
    assert_eq!(living.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn one_declared_dead_comes_back_as_another() {
    let mut world = World::new(4);
    let process = world.dispatcher();
    until("it owns all", || process.owned() == 4).await;
    let before = world.broker.members(ServiceKind::Dispatcher).await.unwrap()[0]
        .incarnation
        .clone();
    world.broker.deregister(&before).await.unwrap();
    until("it noticed", || process.metric("reincarnations_total") == 1.0).await;
    sleep(2 * SECOND).await;
    let after = world.broker.members(ServiceKind::Dispatcher).await.unwrap()[0]
        .incarnation
        .clone();
    assert_ne!(before, after);
    assert_eq!(process.owned(), 4);
    let mut ear = world.ear("g", &["a"]).await;
    let sent = world.send("a").await;
    world.until_drained().await;
    assert_eq!(ear.listen().await.heard["a"], [sent]);
}

#[tokio::test(start_paused = true)]
async fn a_partition_that_stands_still_goes_to_another_one() {
    let mut world = World::new(2);
    let mut ear = world.ear("g", &["a"]).await;
    let first = world.dispatcher();
    until("it owns all", || first.owned() == 2).await;
    // The way to histories is cut for the first one only.
    first.plan.set("record", Fault::Unavailable, usize::MAX);
    let second = world.dispatcher();
    second.plan.set("record", Fault::Unavailable, usize::MAX);
    let sent = world.send("a").await;
    sleep(20 * SECOND).await;
    assert_eq!(ear.listen().await.heard.len(), 0);
    let given_up = first.metric("partitions_given_up_total") + second.metric("partitions_given_up_total");
    assert!(given_up > 0.0);
    // Whoever should have it, the other one gets it.
    let owner_is_first = first.metric("partitions_given_up_total") > 0.0;
    let healthy = if owner_is_first { &second } else { &first };
    healthy.plan.clear();
    world.until_drained().await;
    assert_eq!(ear.listen().await.heard["a"], [sent]);
    assert!(world.dead_letters().await.is_empty(), "standing still is no try");
}

#[tokio::test(start_paused = true)]
async fn a_lost_lease_stops_its_owner() {
    let mut world = World::new(1);
    let process = world.dispatcher_with(without_probes());
    until("it owns all", || process.owned() == 1).await;
    process.plan.set("renew_lease", Fault::Unavailable, usize::MAX);
    sleep(6 * SECOND).await;
    let mut ear = world.ear("g", &["a"]).await;
    let other = carillon_broker::Incarnation::new("thief", 1);
    let known = carillon_model::Offset::ZERO;
    let partition = carillon_model::Partition(0);
    let grant = world
        .broker
        .acquire_partition(partition, &other, 5 * SECOND, known)
        .await
        .unwrap();
    assert!(grant.is_some(), "it ran out");
    let sent = world.send("a").await;
    until("it noticed", || process.metric("fenced_total") > 0.0).await;
    process.plan.clear();
    world.until_drained().await;
    assert_eq!(ear.listen().await.heard["a"], [sent]);
}

/// Nobody waits for the one batch that takes long.
#[tokio::test(start_paused = true)]
async fn a_drained_one_gives_back_at_once_what_is_idle() {
    let mut world = World::new(16);
    let rooms = ["a", "b", "c", "d", "e", "f", "g", "h"];
    let _ear = world.ear("g", &rooms).await;
    let patient = DispatcherSettings {
        call_timeout: 20 * SECOND,
        stuck_after: 100 * SECOND,
        ..DispatcherSettings::default()
    };
    let first = world.dispatcher_with(patient);
    until("it owns all", || first.owned() == 16).await;
    let second = world.dispatcher();
    until("they share", || {
        second.owned() > 0 && first.owned() + second.owned() == 16
    })
    .await;
    first.plan.set("record", Fault::Hang, 1);
    for room in rooms {
        world.send(room).await;
    }
    until("one of its batches hangs", || world.waiting() == 1).await;
    first.drain.cancel();
    sleep(4 * SECOND).await;
    assert_eq!(second.owned(), 15);
    assert!(!first.task.is_finished());
    until("it is gone", || first.task.is_finished()).await;
    world.until_drained().await;
}

/// Without a message that would show it, too.
#[tokio::test(start_paused = true)]
async fn an_idle_owner_notices_that_its_lease_is_lost() {
    let mut world = World::new(1);
    let process = world.dispatcher_with(without_probes());
    until("it owns all", || process.owned() == 1).await;
    process.plan.set("renew_lease", Fault::Unavailable, usize::MAX);
    sleep(6 * SECOND).await;
    let thief = carillon_broker::Incarnation::new("thief", 1);
    let known = carillon_model::Offset::ZERO;
    let partition = carillon_model::Partition(0);
    let grant = world
        .broker
        .acquire_partition(partition, &thief, 100 * SECOND, known)
        .await
        .unwrap();
    assert!(grant.is_some(), "it ran out");
    process.plan.clear();
    until("it noticed", || process.owned() == 0).await;
    let problems = || process.status.borrow().problems(10 * SECOND);
    until("it is ready: another one delivers", || problems().is_empty()).await;
    sleep(10 * SECOND).await;
    assert_eq!(problems(), Vec::<String>::new());
    process
        .plan
        .set("acquire_partition", Fault::Unavailable, usize::MAX);
    until("it is not ready: it can't tell who delivers", || {
        problems()
            .iter()
            .any(|problem| problem.contains("no partition owned"))
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn large_messages_go_in_several_batches() {
    let mut world = World::new(1);
    let mut ear = world.ear("g", &["a"]).await;
    let sent: Vec<u64> = [
        world.send("a").await,
        world.send("a").await,
        world.send("a").await,
    ]
    .into();
    let settings = DispatcherSettings {
        batch_bytes: 1,
        ..DispatcherSettings::default()
    };
    let process = world.dispatcher_with(settings);
    world.until_drained().await;
    assert_eq!(ear.listen().await.heard["a"], sent);
    assert!(process.metric("batches_total") >= 3.0);
}

/// Each gives it up before whoever looks now and then would see it; together they show it all the time.
#[tokio::test(start_paused = true)]
async fn a_partition_that_every_owner_gets_stuck_on_stays_marked() {
    let mut world = World::new(1);
    let mut ear = world.ear("g", &["a"]).await;
    let processes = [world.dispatcher(), world.dispatcher()];
    for process in &processes {
        process.plan.set("record", Fault::Unavailable, usize::MAX);
    }
    let marked = |name: &str| processes.iter().map(|process| process.metric(name)).sum::<f64>();
    let sent = world.send("a").await;
    until("one gets stuck", || marked("partition_without_progress") > 0.0).await;
    for second in 0..120 {
        sleep(SECOND).await;
        assert!(marked("partition_without_progress") >= 1.0, "{second} s later");
        assert!(marked("partitions_without_progress") >= 1.0, "{second} s later");
    }
    assert!(
        marked("partitions_given_up_total") > 3.0,
        "it goes from one to the other"
    );
    for process in &processes {
        process.plan.clear();
    }
    world.until_drained().await;
    assert_eq!(ear.listen().await.heard["a"], [sent]);
    until("all is well again", || {
        marked("partition_without_progress") + marked("partitions_without_progress") == 0.0
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn what_waits_is_counted() {
    let mut world = World::new(4);
    let mut ear = world.ear("g", &["a", "b"]).await;
    let process = world.dispatcher_with(without_probes());
    until("it owns all", || process.owned() == 4).await;
    process.plan.set("record", Fault::Unavailable, usize::MAX);
    for room in ["a", "b", "b"] {
        world.send(room).await;
    }
    until("it is seen", || process.metric("queue_entries") == 3.0).await;
    until("it grows older", || process.metric("queue_age_seconds") > 4.0).await;
    process.plan.clear();
    world.until_drained().await;
    until("nothing waits", || process.metric("queue_entries") == 0.0).await;
    assert_eq!(process.metric("queue_age_seconds"), 0.0);
    assert_eq!(ear.listen().await.heard["b"].len(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_idle_dispatcher_leaves_the_broker_alone() {
    let mut world = World::new(64);
    let process = world.dispatcher();
    until("it owns all", || process.owned() == 64).await;
    let before: u64 = process.plan.counts().values().sum();
    sleep(60 * SECOND).await;
    let counts = process.plan.counts();
    let per_second = (counts.values().sum::<u64>() - before) / 60;
    // 64 leases renewed every 1.5 s (43), reads that block for 5 s (13), and what there is once a second.
    assert!(per_second < 64, "{per_second} calls per second: {counts:?}");
}

//! Owners that stand still, and a broker that is away, refuses, hangs, fails over, or answers from another server than
//! looks at it show.

#![allow(clippy::unwrap_used, clippy::panic)] // test code outside test functions

mod common;

use std::time::Duration;

use carillon_broker::Life;
use carillon_dispatcher::DispatcherSettings;
use common::{SECOND, World, faulty::Fault, until};
use tokio::time::{Instant, advance, sleep};

/// An owner that stalls at any step, wakes up when another one has gone on, and does what it was about to.
#[tokio::test(start_paused = true)]
async fn a_stalled_owner_does_no_harm() {
    let steps = [
        "read_head",
        "read_after",
        "record",
        "append_channel",
        "trim",
        "count_try",
    ];
    for step in steps {
        for fault in [Fault::StallBefore, Fault::StallAfter] {
            stalled_at(step, fault).await;
        }
    }
}

async fn stalled_at(step: &'static str, fault: Fault) {
    let mut world = World::new(1);
    let mut ear = world.ear("g", &["a", "b"]).await;
    let (mut a, mut b) = (Vec::new(), Vec::new());
    a.push(world.send("a").await);
    // It notices nothing of the time it slept but by its token.
    let hour = 3600 * SECOND;
    let sleepy = DispatcherSettings {
        call_timeout: hour,
        renew_lease_every: hour,
        stuck_after: hour,
        ..DispatcherSettings::default()
    };
    let stalled = world.dispatcher_with(sleepy.clone());
    stalled.plan.set(step, fault, 1);
    if step == "read_after" {
        world.until_drained().await;
        sleep(Duration::from_millis(100)).await;
        a.push(world.send("a").await);
        b.push(world.send("b").await);
    }
    stalled.plan.stalled().await;
    stalled.plan.set("renew", Fault::Unavailable, usize::MAX);
    a.push(world.send("a").await);
    let other = world.dispatcher();
    for _ in 0..10 {
        b.push(world.send("b").await);
        a.push(world.send("a").await);
    }
    until("the other one took over", || other.owned() == 1).await;
    world.until_drained().await;
    // Something lies at the head when it wakes up, so that a wrong trim would lose it.
    other.plan.stall();
    a.push(world.send("a").await);
    b.push(world.send("b").await);
    let waiting = world.waiting();
    stalled.plan.release();
    sleep(Duration::from_millis(500)).await;
    // (Probes may have come in meanwhile.)
    assert!(
        world.waiting() >= waiting,
        "stalled at {step} {fault:?}: one that lost its lease trimmed something"
    );
    other.plan.release();
    world.until_drained().await;
    ear.listen().await;
    assert_eq!(ear.heard["a"], a, "stalled at {step} {fault:?}");
    assert_eq!(ear.heard["b"], b, "stalled at {step} {fault:?}");
    assert_eq!(ear.holes, 0, "stalled at {step} {fault:?}");
    stalled.kill().await;
    other.kill().await;
}

/// As when it is stopped, or its machine sleeps: it wakes up with a message in hand, and finds out first what became of it.
#[tokio::test(start_paused = true)]
async fn a_process_that_stood_still_itself_gives_nothing_up() {
    let mut world = World::new(1);
    let process = world.dispatcher();
    until("it owns all", || process.owned() == 1).await;
    for call in ["record", "renew_lease", "read_head"] {
        process.plan.set(call, Fault::Unavailable, usize::MAX);
    }
    world.send("a").await;
    sleep(SECOND).await;
    advance(15 * SECOND).await;
    sleep(SECOND / 50).await;
    assert_eq!(process.status.borrow().stuck, []);
    process.plan.clear();
    world.until_drained().await;
}

#[tokio::test(start_paused = true)]
async fn a_partition_whose_server_refuses_stays_with_its_owner() {
    for fault in [Fault::Unreplicated, Fault::NotWritable] {
        let mut world = World::new(2);
        let mut ear = world.ear("g", &["a"]).await;
        let both = [world.dispatcher(), world.dispatcher()];
        until("each owns one", || {
            both.iter().all(|process| process.owned() == 1)
        })
        .await;
        for process in &both {
            process.plan.set("record", fault, usize::MAX);
        }
        let sent = world.send("a").await;
        let sum = |name| both.iter().map(|process| process.metric(name)).sum::<f64>();
        until("no progress is shown", || sum("partition_without_progress") > 0.0).await;
        sleep(20 * SECOND).await;
        assert_eq!(sum("partitions_given_up_total"), 0.0, "{fault:?}");
        for process in &both {
            process.plan.clear();
        }
        sleep(2 * SECOND).await;
        assert_eq!(ear.listen().await.heard["a"], [sent], "{fault:?}: at once");
    }
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_is_away_is_waited_for() {
    let mut world = World::new(4);
    let mut ear = world.ear("g", &["a"]).await;
    let process = world.dispatcher();
    let all = [
        "register",
        "renew",
        "members",
        "lives",
        "acquire_partition",
        "read_head",
        "read_after",
        "record",
    ];
    for call in all {
        process.plan.set(call, Fault::Unavailable, usize::MAX);
    }
    let mut sent = vec![world.send("a").await];
    sleep(30 * SECOND).await;
    let problems = process.status.borrow().problems(10 * SECOND);
    assert!(
        problems.iter().any(|problem| problem.contains("redis")),
        "{problems:?}"
    );
    process.plan.clear();
    world.until_drained().await;
    for call in all {
        process.plan.set(call, Fault::Unavailable, usize::MAX);
    }
    sent.push(world.send("a").await);
    sleep(30 * SECOND).await;
    process.plan.clear();
    world.until_drained().await;
    assert_eq!(ear.listen().await.heard["a"], sent);
    sleep(3 * SECOND).await;
    assert_eq!(
        process.status.borrow().problems(10 * SECOND),
        Vec::<String>::new()
    );
    assert!(world.dead_letters().await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn after_a_failover_everything_is_read_again() {
    let mut world = World::new(2);
    let mut ear = world.ear("g", &["a"]).await;
    let process = world.dispatcher();
    let mut sent = vec![world.send("a").await];
    world.until_drained().await;
    let state = world.broker.server_state(0);
    world
        .broker
        .replace_server_state(0, state, Life("another".into()), 0);
    until("it noticed", || process.metric("failovers_total") == 2.0).await;
    sent.push(world.send("a").await);
    world.until_drained().await;
    assert_eq!(ear.listen().await.heard["a"], sent);
    assert_eq!(ear.holes, 0);
}

#[tokio::test(start_paused = true)]
async fn a_read_that_never_ends_is_given_up() {
    let mut world = World::new(1);
    let mut ear = world.ear("g", &["a"]).await;
    let process = world.dispatcher();
    let first = world.send("a").await;
    world.until_drained().await;
    let blocked = process.plan.counts()["read_after"];
    process.plan.set("read_after", Fault::Hang, 1);
    until("it hangs", || process.plan.counts()["read_after"] > blocked).await;
    let hanging = process.plan.counts()["read_after"];
    until("it reads again", || process.plan.counts()["read_after"] > hanging).await;
    assert!(process.metric("watchdog_total") > 0.0);
    let second = world.send("a").await;
    world.until_drained().await;
    assert_eq!(ear.listen().await.heard["a"], [first, second]);
}

/// A read that waits on a server that is gone learns nothing; the life watch does.
#[tokio::test(start_paused = true)]
async fn a_failover_is_noticed_while_a_read_hangs() {
    let mut world = World::new(1);
    let mut ear = world.ear("g", &["a"]).await;
    let settings = DispatcherSettings {
        read_block: 1000 * SECOND,
        stuck_after: 1000 * SECOND,
        ..DispatcherSettings::default()
    };
    let process = world.dispatcher_with(settings);
    process.plan.set("read_after", Fault::Hang, 1);
    until("it waits", || process.plan.counts().contains_key("read_after")).await;
    let state = world.broker.server_state(0);
    world
        .broker
        .replace_server_state(0, state, Life("another".into()), 0);
    let started = Instant::now();
    let sent = world.send("a").await;
    world.until_drained().await;
    assert!(started.elapsed() < 3 * SECOND, "{:?}", started.elapsed());
    assert_eq!(ear.listen().await.heard["a"], [sent]);
}

/// As where a proxy sends each connection to another server.
#[tokio::test(start_paused = true)]
async fn reads_from_another_server_than_looks_show_are_a_fault_if_they_go_on() {
    let mut world = World::new(1);
    let _ear = world.ear("g", &["a"]).await;
    let process = world.dispatcher();
    world.send("a").await;
    world.until_drained().await;
    process.plan.set("lives", Fault::Unavailable, usize::MAX);
    let state = world.broker.server_state(0);
    world
        .broker
        .replace_server_state(0, state, Life("another".into()), 0);
    let replaced = Instant::now();
    let differs = || process.status.borrow().identity_differs;
    until("it is a fault", differs).await;
    assert!(replaced.elapsed() > 2 * SECOND, "a failover was just noticed");
    process.plan.clear();
    until("looks show the same", || !differs()).await;
}

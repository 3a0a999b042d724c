//! A channel that does not answer holds up nobody, and its gateway learns that it missed something, whoever owns the
//! partition by then.

#![allow(clippy::unwrap_used, clippy::panic)] // test code outside test functions

mod common;

use carillon_broker::{Inspection as _, Membership as _};
use carillon_dispatcher::DispatcherSettings;
use carillon_model::Room;
use common::{SECOND, World, faulty::Fault, until};
use tokio::time::{Instant, sleep};

#[tokio::test(start_paused = true)]
async fn a_silent_channel_holds_up_nobody_and_catches_up() {
    let mut world = World::new(1);
    let mut silent = world.ear("silent", &["a"]).await;
    let mut other = world.ear("other", &["a"]).await;
    let process = world.dispatcher();
    until("it owns all", || process.owned() == 1).await;
    process.plan.mute(&silent.gateway);
    let started = Instant::now();
    let mut sent = vec![world.send("a").await];
    world.until_drained().await;
    assert!(started.elapsed() < 4 * SECOND, "{:?}", started.elapsed());
    assert_eq!(process.metric("channels_parked"), 1.0);
    // From now on it costs the partition nothing.
    let started = Instant::now();
    for _ in 0..20 {
        sent.push(world.send("a").await);
        world.until_drained().await;
    }
    assert!(started.elapsed() < SECOND, "{:?}", started.elapsed());
    assert_eq!(other.listen().await.heard["a"], sent);
    assert_eq!(process.metric("session_messages_lost_total"), 0.0);

    process.plan.unmute();
    until("it is parked no more", || {
        process.metric("channels_parked") == 0.0
    })
    .await;
    assert_eq!(silent.listen().await.overruns, 1);
    assert_eq!(silent.heard.len(), 0, "nothing but that it missed something");
    let next = world.send("a").await;
    world.until_drained().await;
    assert_eq!(silent.listen().await.heard["a"], [next]);
}

/// Nothing more is sent: only what was written down can tell the gateway.
#[tokio::test(start_paused = true)]
async fn whoever_owns_the_partition_next_knows_what_is_parked() {
    let mut world = World::new(1);
    let mut silent = world.ear("silent", &["a"]).await;
    let process = world.dispatcher();
    until("it owns all", || process.owned() == 1).await;
    process.plan.mute(&silent.gateway);
    world.send("a").await;
    world.until_drained().await;
    process.kill().await;
    for drains in [false, true] {
        let heir = world.dispatcher();
        heir.plan.mute(&silent.gateway);
        until("it knows", || heir.metric("channels_parked") == 1.0).await;
        if drains {
            heir.drain().await;
        } else {
            heir.kill().await;
        }
    }
    let last = world.dispatcher();
    until("the gateway is told", || {
        last.metric("takeovers_total") == 1.0 && last.metric("channels_parked") == 0.0
    })
    .await;
    sleep(5 * SECOND).await;
    assert_eq!(silent.listen().await.overruns, 1, "once");
}

#[tokio::test(start_paused = true)]
async fn a_dead_gateway_is_parked_no_more() {
    let mut world = World::new(1);
    let silent = world.ear("silent", &["a"]).await;
    let process = world.dispatcher();
    until("it owns all", || process.owned() == 1).await;
    process.plan.mute(&silent.gateway);
    world.send("a").await;
    world.until_drained().await;
    world.broker.deregister(&silent.gateway).await.unwrap();
    process.plan.unmute();
    until("it is parked no more", || {
        process.metric("channels_parked") == 0.0
    })
    .await;
    world.send("a").await;
    world.until_drained().await;
    assert_eq!(process.metric("dead_routes_total"), 1.0);
}

/// After the time that a silent gateway counts as alive, its routes go as a dead one's do. When it answers again it is
/// told to catch up, which adds them anew.
#[tokio::test(start_paused = true)]
async fn a_channel_that_stays_silent_is_given_up_and_still_told() {
    let mut world = World::new(1);
    let mut silent = world.ear("silent", &["a"]).await;
    let process = world.dispatcher();
    until("it owns all", || process.owned() == 1).await;
    process.plan.mute(&silent.gateway);
    let room = Room::new("a").unwrap();
    world.send("a").await;
    world.until_drained().await;
    assert_eq!(world.broker.routes(&room).await.unwrap().len(), 1);
    sleep(DispatcherSettings::default().alive_for + SECOND).await;
    world.send("a").await;
    world.until_drained().await;
    assert_eq!(world.broker.routes(&room).await.unwrap(), []);
    assert_eq!(process.metric("channels_parked"), 1.0, "it has to be told");
    process.plan.unmute();
    until("it is parked no more", || {
        process.metric("channels_parked") == 0.0
    })
    .await;
    assert_eq!(silent.listen().await.overruns, 1);
}

/// What is sent to one session is kept nowhere else.
#[tokio::test(start_paused = true)]
async fn messages_to_sessions_of_a_parked_gateway_are_counted() {
    let mut world = World::new(1);
    let silent = world.ear("silent", &["session:s1", "a"]).await;
    let process = world.dispatcher();
    until("it owns all", || process.owned() == 1).await;
    process.plan.mute(&silent.gateway);
    for room in ["session:s1", "a", "session:s1"] {
        world.send(room).await;
        world.until_drained().await;
    }
    assert_eq!(process.metric("session_messages_lost_total"), 2.0);
}

/// A channel that refuses is not silent: going on without it would lose messages for want of a right.
#[tokio::test(start_paused = true)]
async fn a_channel_that_refuses_is_waited_for() {
    let mut world = World::new(1);
    let mut ear = world.ear("g", &["a"]).await;
    let process = world.dispatcher();
    until("it owns all", || process.owned() == 1).await;
    process.plan.set("append_channel", Fault::Rejected, usize::MAX);
    let sent = world.send("a").await;
    until("it waits", || process.metric("partitions_refused") == 1.0).await;
    sleep(20 * SECOND).await;
    assert!(world.waiting() > 0);
    assert_eq!(process.metric("channels_parked"), 0.0);
    process.plan.clear();
    world.until_drained().await;
    assert_eq!(ear.listen().await.heard["a"], [sent]);
}

/// Where the whole broker is away, channels are not to blame.
#[tokio::test(start_paused = true)]
async fn a_broker_that_is_away_parks_nothing() {
    let mut world = World::new(1);
    let mut ear = world.ear("g", &["a"]).await;
    let process = world.dispatcher();
    until("it owns all", || process.owned() == 1).await;
    for call in ["append_channel", "renew_lease", "living"] {
        process.plan.set(call, Fault::Unavailable, usize::MAX);
    }
    let sent = world.send("a").await;
    sleep(4 * SECOND).await;
    process.plan.clear();
    world.until_drained().await;
    ear.listen().await;
    assert_eq!((&ear.heard["a"][..], ear.overruns), (&[sent][..], 0));
}

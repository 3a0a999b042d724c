//! The old door: plain lists, and probes.

#![allow(clippy::unwrap_used, clippy::panic)] // test code outside test functions

mod common;

use bytes::Bytes;
use carillon_broker::{DeadLetterSource, Pressure};
use carillon_dispatcher::DispatcherSettings;
use carillon_model::policy::Policy;
use common::{SECOND, World, faulty::Fault, until};
use tokio::time::sleep;

const POLICY: &str = r#"
intake:
  lists: [ { list: message, room: all, event: "chat message", format: "sever_push: {data}" } ]
"#;

fn world(partitions: u64) -> World {
    World::with_policy(partitions, Policy::parse_yaml(POLICY).unwrap())
}

#[tokio::test(start_paused = true)]
async fn items_of_a_list_come_in_order() {
    let mut world = world(4);
    let mut ear = world.ear("g", &["all"]).await;
    let process = world.dispatcher();
    for number in 0..250 {
        world.broker.push_list("message", number.to_string()).unwrap();
    }
    until("all were appended", || {
        process.metric("list_items_total") == 250.0
    })
    .await;
    world.until_drained().await;
    assert_eq!(ear.listen().await.heard["all"], (0..250).collect::<Vec<u64>>());
}

/// In a full Redis a list keeps what it holds.
#[tokio::test(start_paused = true)]
async fn a_list_waits_while_the_broker_is_nearly_full() {
    let mut world = world(2);
    let mut ear = world.ear("g", &["all"]).await;
    let full = |memory| Pressure {
        memory,
        complete: true,
    };
    world.memory_gate.saw(full(0.85));
    let process = world.dispatcher();
    for number in 0..10 {
        world.broker.push_list("message", number.to_string()).unwrap();
    }
    until("the list is owned", || process.metric("owned") == 3.0).await;
    sleep(10 * SECOND).await;
    assert_eq!(process.metric("list_items_total"), 0.0);
    world.memory_gate.saw(full(0.5));
    until("all were appended", || process.metric("list_items_total") == 10.0).await;
    world.until_drained().await;
    assert_eq!(ear.listen().await.heard["all"], (0..10).collect::<Vec<u64>>());
}

/// An owner that dies between any two steps leaves nothing lost and nothing doubled.
#[tokio::test(start_paused = true)]
async fn a_killed_taker_loses_and_doubles_nothing() {
    for (call, fault) in [
        ("take", Fault::StallBefore),
        ("take", Fault::StallAfter),
        ("append", Fault::StallBefore),
        ("append", Fault::StallAfter),
        ("settle", Fault::StallBefore),
        ("settle", Fault::StallAfter),
    ] {
        let mut world = world(2);
        let mut ear = world.ear("g", &["all"]).await;
        for number in 0..10 {
            world.broker.push_list("message", number.to_string()).unwrap();
        }
        // No probe is to meet the fault in the taker's place.
        let settings = DispatcherSettings {
            probe_every: 100_000 * SECOND,
            ..DispatcherSettings::default()
        };
        let victim = world.dispatcher_with(settings);
        sleep(SECOND / 100).await;
        victim.plan.set(call, fault, 1);
        for number in 10..20 {
            world.broker.push_list("message", number.to_string()).unwrap();
        }
        victim.plan.stalled().await;
        victim.kill().await;
        let heir = world.dispatcher();
        for number in 20..30 {
            world.broker.push_list("message", number.to_string()).unwrap();
        }
        until("the heir took all", || {
            heir.metric("owned") == 3.0 && world.unsettled("message") == 0
        })
        .await;
        world.until_drained().await;
        let heard = &ear.listen().await.heard["all"];
        assert_eq!(
            *heard,
            (0..30).collect::<Vec<u64>>(),
            "killed at {call} {fault:?}"
        );
        heir.kill().await;
    }
}

#[tokio::test(start_paused = true)]
async fn lost_answers_double_nothing() {
    let mut world = world(2);
    let mut ear = world.ear("g", &["all"]).await;
    let process = world.dispatcher();
    until("it owns all", || process.metric("owned") == 3.0).await;
    for (round, call) in ["take", "append", "settle"].into_iter().enumerate() {
        for fault in [Fault::LoseAnswer, Fault::Unavailable] {
            process.plan.set(call, fault, 3);
            let first = (round as u64) * 100;
            for number in first..first + 10 {
                world.broker.push_list("message", number.to_string()).unwrap();
            }
            sleep(10 * SECOND).await;
            world.until_drained().await;
        }
    }
    let twice = |first: u64| (first..first + 10).chain(first..first + 10);
    let expected: Vec<u64> = [0, 100, 200].into_iter().flat_map(twice).collect();
    assert_eq!(ear.listen().await.heard["all"], expected);
}

#[tokio::test(start_paused = true)]
async fn what_is_no_message_is_buried_and_the_next_goes_on() {
    let mut world = world(2);
    let mut ear = world.ear("g", &["all"]).await;
    let process = world.dispatcher();
    let large = "9".repeat((64 << 10) + 1);
    world.broker.push_list("message", "1").unwrap();
    world
        .broker
        .push_list("message", Bytes::from_static(b"\xc3\x28"))
        .unwrap();
    world.broker.push_list("message", large).unwrap();
    world.broker.push_list("message", "2").unwrap();
    until("all were seen", || process.metric("list_items_total") == 4.0).await;
    world.until_drained().await;
    assert_eq!(ear.listen().await.heard["all"], [1, 2]);
    let letters = world.dead_letters().await;
    assert!(letters[0].reason.contains("not UTF-8"), "{}", letters[0].reason);
    assert!(
        letters[1].reason.contains("at most 65536"),
        "{}",
        letters[1].reason
    );
    let source = DeadLetterSource::List {
        list: "message".into(),
        number: 2,
    };
    assert_eq!(letters[0].source, source);
    sleep(SECOND).await;
    assert_eq!(world.unsettled("message"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_key_that_is_no_list_harms_nobody() {
    let policy = r#"
intake:
  lists:
    - { list: wrong, room: all, event: "chat message" }
    - { list: message, room: all, event: "chat message" }
"#;
    let mut world = World::with_policy(2, Policy::parse_yaml(policy).unwrap());
    let mut ear = world.ear("g", &["all"]).await;
    let at = world.broker.server_of_list("wrong");
    world.broker.write(at, |state, _| {
        carillon_broker::memory::ops::lists::occupy(state, "wrong")
    });
    let process = world.dispatcher();
    until("it was noticed", || process.metric("list_not_a_list") == 1.0).await;
    world.broker.push_list("message", "7").unwrap();
    until("the other one goes on", || {
        process.metric("list_items_total") == 1.0
    })
    .await;
    world.until_drained().await;
    assert_eq!(ear.listen().await.heard["all"], [7]);
}

#[tokio::test(start_paused = true)]
async fn probes_reach_every_gateway_and_name_what_moves() {
    let mut world = World::new(4);
    let mut ears = [world.ear("g1", &[]).await, world.ear("g2", &["a"]).await];
    let process = world.dispatcher();
    sleep(31 * SECOND).await;
    world.until_drained().await;
    for ear in &mut ears {
        let probes = &ear.listen().await.probes;
        assert!((5..=7).contains(&probes.len()), "{}", probes.len());
        let numbers: Vec<u64> = probes
            .iter()
            .map(|probe| probe.probe.as_ref().unwrap().number)
            .collect();
        assert!(numbers.is_sorted_by(|one, next| one + 1 == *next), "{numbers:?}");
        let last = probes.last().unwrap().probe.as_ref().unwrap();
        assert_eq!(last.partitions, [0, 1, 2, 3]);
        assert!(last.dispatcher.starts_with("d1@"));
    }
    assert!(process.metric("probes_total") > 0.0);
}

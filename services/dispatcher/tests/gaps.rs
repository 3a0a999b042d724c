//! What a failover took back is passed on as gaps, in order with messages.

#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests

mod common;

use std::time::Duration;

use carillon_broker::{
    HistoryQuery, Incarnation, Life, Membership as _, Rooms as _, ServiceKind,
    losses::{GapAppend, GapQueue as _},
};
use carillon_model::{Offset, Partition, Room};
use common::{SECOND, World, member, until};
use tokio::time::sleep;

#[tokio::test(start_paused = true)]
async fn a_gap_goes_through_history_and_channels_between_the_messages() {
    let mut world = World::new(1);
    let mut ear = world.ear("g", &["a"]).await;
    let process = world.dispatcher();
    let first = world.send("a").await;
    world.until_drained().await;
    let state = world.broker.server_state(0);
    world.send("a").await;
    world.until_drained().await;
    world
        .broker
        .replace_server_state(0, state, Life("another".into()), 0);
    until("the gap is passed on", || process.metric("gaps_total") == 1.0).await;
    let last = world.send("a").await;
    world.until_drained().await;

    ear.listen().await;
    assert_eq!(ear.heard["a"], [first, last]);
    let [(room, gap, heard)] = &ear.gaps[..] else {
        panic!("{:?}", ear.gaps)
    };
    assert_eq!((room.as_str(), *heard), ("a", 1));
    assert!(gap.lost_upto > Offset::ZERO && gap.seen_below > gap.lost_upto);
    assert_eq!(ear.holes, 0, "it is a link of the chain");
    let query = HistoryQuery {
        after: Some(Offset::ZERO),
        entries: 10,
        bytes: usize::MAX,
    };
    let history = world
        .broker
        .read_history(&Room::new("a").unwrap(), query)
        .await
        .unwrap();
    let gaps: Vec<bool> = history.items.iter().map(|item| item.gap.is_some()).collect();
    assert_eq!(gaps, [false, true, false]);
    assert_eq!(process.metric("messages_total"), 3.0, "a gap is no message");
    assert!(world.dead_letters().await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_gap_of_a_partition_goes_to_every_gateway_and_breaks_every_chain_once() {
    let mut world = World::new(1);
    let mut holding = world.ear("holding", &["a"]).await;
    let mut idle = world.ear("idle", &[]).await;
    let process = world.dispatcher();
    world.send("a").await;
    world.until_drained().await;
    let append = GapAppend {
        partition: Partition(0),
        life: world.broker.server_state(0).life,
        rooms: Vec::new(),
        partition_gap: true,
    };
    world.broker.append_gaps(append).await.unwrap();
    until("it is passed on", || process.metric("gaps_total") == 1.0).await;
    for _ in 0..2 {
        world.send("a").await;
    }
    world.until_drained().await;
    for ear in [&mut holding, &mut idle] {
        let heard = ear.listen().await.partition_gaps.clone();
        assert_eq!(heard, [0], "{}", ear.gateway);
    }
    assert_eq!(holding.heard["a"], [1, 2, 3]);
    assert_eq!(holding.holes, 1, "before the second message, and no other");
}

/// Whoever confirmed messages and lives marks what was lost. If a process died with the server, nobody else knows.
#[tokio::test(start_paused = true)]
async fn a_partition_is_marked_when_a_process_died_with_its_server() {
    let short = Duration::from_secs(5);
    for (fate, marked) in [
        ("killed", true),
        ("killed long before", false),
        ("leaves", false),
        ("lives", false),
        ("comes again", false),
    ] {
        let mut world = World::new(1);
        let ingest = member(ServiceKind::Ingest, "i");
        world.broker.register(&ingest, short).await.unwrap();
        let mut ear = world.ear("g", &["a"]).await;
        let process = world.dispatcher();
        world.send("a").await;
        world.until_drained().await;
        sleep(if fate == "killed long before" { 60 } else { 2 } * SECOND).await;

        let state = world.broker.server_state(0);
        world
            .broker
            .replace_server_state(0, state, Life("another".into()), 0);
        match fate {
            "leaves" => world.broker.deregister(&ingest.incarnation).await.unwrap(),
            "lives" => assert!(
                world
                    .broker
                    .renew(&ingest.incarnation, 100 * SECOND)
                    .await
                    .unwrap()
            ),
            "comes again" => {
                sleep(2 * short).await;
                let mut again = ingest.clone();
                again.incarnation = Incarnation::new("i", 2);
                let former = &ingest.incarnation;
                world
                    .broker
                    .register_again(&again, 100 * SECOND, former)
                    .await
                    .unwrap();
            }
            _ => {}
        }
        sleep(20 * SECOND).await;
        world.send("a").await;
        world.until_drained().await;
        assert_eq!(
            process.metric("gaps_total"),
            f64::from(u8::from(marked)),
            "{fate}"
        );
        assert_eq!(
            ear.listen().await.partition_gaps.len(),
            usize::from(marked),
            "{fate}"
        );
        assert_eq!(ear.heard["a"], [1, 2]);
    }
}

//! What a failover took back is passed on as gaps, in order with messages.

#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests

mod common;

use carillon_broker::{
    HistoryQuery, Life, Rooms as _,
    losses::{GapAppend, GapQueue as _},
};
use carillon_model::{Offset, Partition, Room};
use common::{World, until};

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
    assert!(gap.lost_upto > Offset::ZERO && gap.raised > gap.lost_upto);
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

//! Who is where, for people who look.

use std::collections::BTreeSet;

use carillon_model::Room;

use crate::{
    Incarnation,
    conformance::{Case, stage::Stage},
};

pub(super) const CASES: &[Case] = &[
    case!(the_routes_of_a_room_can_be_looked_at),
    case!(every_held_room_is_on_some_page),
    case!(what_waits_in_the_queues_is_counted),
];

async fn the_routes_of_a_room_can_be_looked_at(stage: Stage) {
    let room = stage.room(0);
    let rooms = std::slice::from_ref(&room);
    let (one, two) = (stage.gateway("one").await, stage.gateway("two").await);
    assert_eq!(stage.broker.routes(&room).await, Ok(Vec::new()));
    for gateway in [&two, &one] {
        stage
            .broker
            .add_routes(stage.partition, rooms, gateway)
            .await
            .unwrap();
    }
    assert_eq!(
        stage.broker.routes(&room).await,
        Ok(vec![one.clone(), two.clone()])
    );
    stage
        .broker
        .remove_routes(stage.partition, rooms, &one)
        .await
        .unwrap();
    assert_eq!(stage.broker.routes(&room).await, Ok(vec![two]));
}

/// All pages.
async fn listed(stage: &Stage, limit: usize) -> BTreeSet<Room> {
    let mut rooms = BTreeSet::new();
    let mut next = None;
    for _ in 0..10_000 {
        let page = stage.broker.held_rooms(next.as_ref(), limit).await.unwrap();
        rooms.extend(page.rooms);
        next = page.next;
        if next.is_none() {
            return rooms;
        }
    }
    panic!("the pages never end");
}

async fn every_held_room_is_on_some_page(stage: Stage) {
    let gateway = Incarnation::new("gateway", "1");
    let mut held = BTreeSet::new();
    for partition in stage.broker.partitions().partitions() {
        let mut rooms: Vec<Room> = (0..7).map(|n| stage.room_of(partition, n)).collect();
        rooms.push(stage.named_in(partition, |n| format!("with: colon {{{n}}}")));
        stage
            .broker
            .add_routes(partition, &rooms, &gateway)
            .await
            .unwrap();
        held.extend(rooms);
    }
    // What has messages and no gateway is not held.
    stage.append(&stage.room(20), "nobody is there").await;
    for limit in [1, 5, 1000] {
        assert_eq!(listed(&stage, limit).await, held, "by {limit}");
    }
    let gone = stage.room(0);
    stage
        .broker
        .remove_routes(stage.partition, std::slice::from_ref(&gone), &gateway)
        .await
        .unwrap();
    held.remove(&gone);
    assert_eq!(listed(&stage, 5).await, held);
}

async fn what_waits_in_the_queues_is_counted(stage: Stage) {
    let waiting = async || stage.broker.waiting().await.unwrap();
    let partitions = stage.broker.partitions().partitions().count();
    assert_eq!(waiting().await, vec![0; partitions]);
    for text in ["one", "two", "three"] {
        stage.append(&stage.room(0), text).await;
    }
    let index = stage.partition.index();
    assert_eq!(waiting().await[index], 3);
    let mut owner = stage.own("owner").await;
    let head = owner.read_head(2).await.unwrap();
    owner.trim(head.items[1].offset).await;
    assert_eq!(waiting().await[index], 1);
    owner.drain().await;
    assert_eq!(waiting().await, vec![0; partitions]);
}

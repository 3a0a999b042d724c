//! Who is where and what waits, for people who look.

use std::{collections::BTreeSet, time::Duration};

use carillon_model::Room;

use crate::{
    Incarnation,
    conformance::{Case, stage::Stage},
};

pub(super) const CASES: &[Case] = &[
    case!(the_routes_of_a_room_can_be_looked_at),
    case!(every_held_room_is_on_some_page),
    case!(what_waits_can_be_looked_at),
    case!(the_head_of_a_queue_grows_older, PassTime),
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

async fn what_waits_can_be_looked_at(stage: Stage) {
    let partitions: Vec<_> = stage.broker.partitions().partitions().collect();
    let entries = async || -> Vec<u64> {
        let backlogs = stage.broker.backlogs(&partitions).await.unwrap();
        backlogs.into_iter().map(|backlog| backlog.entries).collect()
    };
    assert_eq!(entries().await, vec![0; partitions.len()]);
    assert_eq!(stage.broker.backlogs(&[]).await, Ok(Vec::new()));
    let first = stage.append(&stage.room(0), "one").await;
    stage.append(&stage.room(1), "two").await;
    let mut expected = vec![0; partitions.len()];
    expected[stage.partition.index()] = 2;
    assert_eq!(entries().await, expected);
    let owner = stage.own("owner").await;
    owner.trim(first).await;
    expected[stage.partition.index()] = 1;
    assert_eq!(entries().await, expected);
}

async fn the_head_of_a_queue_grows_older(stage: Stage) {
    let age = async || stage.broker.backlogs(&[stage.partition]).await.unwrap()[0].age;
    let hour = Duration::from_secs(3_600);
    assert_eq!(age().await, Duration::ZERO, "nothing waits");
    stage.append(&stage.room(0), "one").await;
    stage.installation.pass_time(hour).await;
    stage.append(&stage.room(0), "two").await;
    // A partition's first offsets may be raised above the clock by ten minutes.
    let waited = age().await;
    assert!(
        waited >= hour - Duration::from_secs(601) && waited < hour * 2,
        "{waited:?}"
    );
}

//! Gateways say which rooms they hold. Adding a route is a join: it tells where the room stands, in the same step.

use std::{sync::Arc, time::Duration};

use carillon_model::{Offset, Room};

use crate::{
    Incarnation,
    conformance::{
        Case,
        stage::{KEPT, Owner, Stage, entries},
    },
};

pub(super) const CASES: &[Case] = &[
    case!(adding_a_route_tells_where_its_rooms_stand),
    case!(a_partition_is_born_before_its_first_join_is_answered),
    case!(routes_come_and_go_in_sequence),
    case!(routes_are_answered_in_the_order_of_the_batch),
    case!(routes_of_dead_gateways_stay_until_they_are_removed),
    case!(a_join_and_a_message_at_once_never_miss_each_other),
    case!(a_room_without_messages_has_routes),
    case!(routes_expire_unless_they_are_asserted_again, PassTime),
];

/// The routes a message to the room would take.
async fn routes(stage: &Stage, room: &Room) -> Vec<Incarnation> {
    stage.append(room, "routed").await;
    let mut owner = Owner::take_over(stage.broker.clone(), stage.partition, "owner").await;
    let outcome = owner.drain().await;
    owner.release().await;
    let found = outcome.routes.into_iter().find(|(of, _)| of == room);
    sorted(&found.expect("every room of the batch is answered").1)
}

fn sorted(routes: &[Incarnation]) -> Vec<Incarnation> {
    let mut routes = routes.to_vec();
    routes.sort();
    routes
}

async fn adding_a_route_tells_where_its_rooms_stand(stage: Stage) {
    let rooms = [stage.room(0), stage.room(1), stage.room(2)];
    let gateway = stage.gateway("gateway").await;
    let first = stage.append(&rooms[2], "first").await;
    let second = stage.append(&rooms[0], "second").await;
    let mut owner = stage.own("owner").await;
    owner.drain().await;
    let waiting = stage.append(&rooms[1], "not handled yet").await;
    let state = stage
        .broker
        .add_routes(stage.partition, &rooms, &gateway)
        .await
        .unwrap();
    assert_eq!(state.last, [Some(second), None, Some(first)]);
    assert_eq!(state.partition.handled, waiting.just_below());
    assert_eq!(state.partition.queue_last, waiting);
    assert_eq!(state.partition.life, owner.life);
    assert!(state.partition.birth < first);
    assert!(state.partition.now > Offset::ZERO);
    // Asserting it again is a join like the first.
    owner.drain().await;
    let state = stage
        .broker
        .add_routes(stage.partition, &rooms[1..2], &gateway)
        .await
        .unwrap();
    assert_eq!(state.last, [Some(waiting)]);
    assert_eq!(state.partition.handled, waiting);
}

/// A join starts where the partition stands. If that were not kept, whoever came back with it would be told of a gap.
async fn a_partition_is_born_before_its_first_join_is_answered(stage: Stage) {
    let rooms = [stage.room(0)];
    let gateway = stage.gateway("gateway").await;
    let first = stage.broker.add_routes(stage.partition, &rooms, &gateway).await;
    let birth = first.unwrap().partition.birth;
    // Most often the clock goes on meanwhile.
    for _ in 0..100 {
        let again = stage.broker.add_routes(stage.partition, &rooms, &gateway).await;
        assert_eq!(again.unwrap().partition.birth, birth);
    }
    stage.append(&rooms[0], "first").await;
    let last = stage.broker.add_routes(stage.partition, &rooms, &gateway).await;
    assert_eq!(last.unwrap().partition.birth, birth);
}

async fn routes_come_and_go_in_sequence(stage: Stage) {
    let room = stage.room(0);
    let rooms = std::slice::from_ref(&room);
    let (one, two) = (stage.gateway("one").await, stage.gateway("two").await);
    let broker = &stage.broker;
    assert_eq!(routes(&stage, &room).await, []);
    broker.add_routes(stage.partition, rooms, &one).await.unwrap();
    assert_eq!(routes(&stage, &room).await, [one.clone()]);
    broker.add_routes(stage.partition, rooms, &one).await.unwrap();
    broker.add_routes(stage.partition, rooms, &two).await.unwrap();
    assert_eq!(routes(&stage, &room).await, [one.clone(), two.clone()]);
    broker.remove_routes(stage.partition, rooms, &one).await.unwrap();
    assert_eq!(routes(&stage, &room).await, [two.clone()]);
    broker.add_routes(stage.partition, rooms, &one).await.unwrap();
    broker.remove_routes(stage.partition, rooms, &two).await.unwrap();
    assert_eq!(routes(&stage, &room).await, [one.clone()]);
    // Removing what is not there is fine, of rooms nobody knows as well.
    broker.remove_routes(stage.partition, rooms, &two).await.unwrap();
    broker
        .remove_routes(stage.partition, &[stage.room(5)], &two)
        .await
        .unwrap();
    broker.remove_routes(stage.partition, rooms, &one).await.unwrap();
    assert_eq!(routes(&stage, &room).await, []);
}

async fn routes_are_answered_in_the_order_of_the_batch(stage: Stage) {
    let rooms = [stage.room(3), stage.room(0), stage.room(2)];
    let gateway = stage.gateway("gateway").await;
    stage
        .broker
        .add_routes(stage.partition, &rooms[1..], &gateway)
        .await
        .unwrap();
    for room in [&rooms[0], &rooms[1], &rooms[0], &rooms[2], &rooms[1]] {
        stage.append(room, "text").await;
    }
    let outcome = stage.own("owner").await.drain().await;
    assert_eq!(outcome.entries.len(), 5);
    let held: Arc<[Incarnation]> = [gateway].into();
    assert_eq!(
        outcome.routes,
        [
            (rooms[0].clone(), Arc::default()),
            (rooms[1].clone(), held.clone()),
            (rooms[2].clone(), held)
        ]
    );
}

async fn routes_of_dead_gateways_stay_until_they_are_removed(stage: Stage) {
    let room = stage.room(0);
    let rooms = std::slice::from_ref(&room);
    let (dead, living) = (stage.gateway("dead").await, stage.gateway("living").await);
    for gateway in [&dead, &living] {
        stage
            .broker
            .add_routes(stage.partition, rooms, gateway)
            .await
            .unwrap();
    }
    stage.broker.deregister(&dead).await.unwrap();
    assert_eq!(routes(&stage, &room).await, [dead.clone(), living.clone()]);
    stage
        .broker
        .remove_routes(stage.partition, rooms, &dead)
        .await
        .unwrap();
    assert_eq!(routes(&stage, &room).await, [living]);
}

async fn a_join_and_a_message_at_once_never_miss_each_other(stage: Stage) {
    let gateway = stage.gateway("gateway").await;
    let joining = stage.another().await;
    let mut owner = stage.own("owner").await;
    for round in 0..60 {
        let room = stage.room(round);
        let rooms = [room.clone()];
        let offset = stage.append(&room, "text").await;
        let items = owner.read().await;
        let join = async {
            if round % 2 == 0 {
                tokio::task::yield_now().await;
            }
            joining
                .add_routes(stage.partition, &rooms, &gateway)
                .await
                .unwrap()
        };
        let (outcome, state) = tokio::join!(owner.must_record(entries(&items, KEPT)), join);
        let routed = outcome.routes[0].1.contains(&gateway);
        let told = state.last[0] == Some(offset);
        assert!(routed || told, "neither sent to the gateway nor seen by its join");
        owner.trim(offset).await;
    }
}

async fn a_room_without_messages_has_routes(stage: Stage) {
    let rooms = [stage.room(0), stage.session_room(0)];
    let gateway = stage.gateway("gateway").await;
    let state = stage
        .broker
        .add_routes(stage.partition, &rooms, &gateway)
        .await
        .unwrap();
    assert_eq!(state.last, [None, None]);
    assert!(state.partition.handled >= state.partition.birth);
    for room in &rooms {
        assert_eq!(routes(&stage, room).await, [gateway.clone()]);
    }
}

async fn routes_expire_unless_they_are_asserted_again(stage: Stage) {
    const HOUR: Duration = Duration::from_secs(3600);
    let (kept, lost) = (stage.room(0), stage.room(1));
    let gateway = Incarnation::new("gateway", "1");
    let rooms = [kept.clone(), lost.clone()];
    stage
        .broker
        .add_routes(stage.partition, &rooms, &gateway)
        .await
        .unwrap();
    stage.installation.pass_time(16 * HOUR).await;
    stage
        .broker
        .add_routes(stage.partition, &rooms[..1], &gateway)
        .await
        .unwrap();
    stage.installation.pass_time(10 * HOUR).await;
    assert_eq!(routes(&stage, &kept).await, [gateway]);
    assert_eq!(routes(&stage, &lost).await, []);
}

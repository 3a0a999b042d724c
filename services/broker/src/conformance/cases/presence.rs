//! Gateways state who is in a room; what the dead stated counts no more.

use std::{sync::Arc, time::Duration};

use carillon_model::Room;

use crate::{
    Incarnation, Person, PresenceStatement, PresenceVersion, RoomPresence,
    conformance::{
        Case,
        stage::{Stage, eventually},
    },
    presence::{PEOPLE_PER_READ, PresenceCount, who_is_in},
};

pub(super) const CASES: &[Case] = &[
    case!(presence_is_counted_by_user_over_all_gateways),
    case!(a_presence_stated_twice_is_one_version),
    case!(a_whole_statement_ends_the_presence_of_all_others),
    case!(a_presence_statement_that_was_overtaken_changes_nothing),
    case!(the_presence_of_a_dead_gateway_vanishes_with_it),
    case!(any_user_and_any_room_have_presence),
    case!(presence_is_read_only_where_it_changed),
    case!(much_presence_is_read_in_parts),
    case!(presence_expires_unless_it_is_stated_again, PassTime),
    case!(lost_presence_has_another_version, FailOver),
];

fn user(name: &str) -> Person {
    Some(Arc::from(name))
}

fn people(room: &Room, whole: bool, people: &[(Person, Option<u32>)]) -> PresenceStatement {
    PresenceStatement {
        room: room.clone(),
        whole,
        people: people.to_vec(),
    }
}

async fn state(stage: &Stage, gateway: &Incarnation, number: u64, statements: &[PresenceStatement]) {
    let stated = stage
        .broker
        .state_presence(stage.partition, gateway, number, statements);
    stated.await.unwrap();
}

async fn read(stage: &Stage, room: &Room, known: Option<&PresenceVersion>) -> Option<RoomPresence> {
    let asked = [(room.clone(), known.cloned())];
    let read = stage.broker.read_presence(stage.partition, &asked).await.unwrap();
    assert_eq!(read.rooms.len(), 1);
    read.rooms.into_iter().next().unwrap()
}

async fn everybody(stage: &Stage, room: &Room) -> RoomPresence {
    read(stage, room, None).await.expect("asked without a version")
}

async fn counted(stage: &Stage, room: &Room) -> (Vec<String>, u64) {
    let PresenceCount { users, sessions } = who_is_in(&*stage.broker, stage.partition, room).await.unwrap();
    (users.iter().map(|user| user.to_string()).collect(), sessions)
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

async fn presence_is_counted_by_user_over_all_gateways(stage: Stage) {
    let room = stage.room(0);
    let (one, two) = (stage.gateway("one").await, stage.gateway("two").await);
    assert_eq!(counted(&stage, &room).await, (vec![], 0));
    let here = [(user("ann"), Some(2)), (user("ben"), Some(1)), (None, Some(3))];
    state(&stage, &one, 1, &[people(&room, false, &here)]).await;
    state(
        &stage,
        &two,
        1,
        &[people(&room, false, &[(user("ann"), Some(1))])],
    )
    .await;
    assert_eq!(counted(&stage, &room).await, (names(&["ann", "ben"]), 7));
    // One who may be back in a moment is named, and has no session.
    let gone = [(user("ann"), None), (user("ben"), Some(0)), (None, Some(1))];
    state(&stage, &one, 2, &[people(&room, false, &gone)]).await;
    assert_eq!(counted(&stage, &room).await, (names(&["ann", "ben"]), 2));
    let found = everybody(&stage, &room).await;
    assert_eq!(found.gateways[&one].len(), 2);
    assert_eq!(found.gateways[&two][&user("ann")], 1);
}

async fn a_presence_stated_twice_is_one_version(stage: Stage) {
    let room = stage.room(0);
    let gateway = stage.gateway("gateway").await;
    let statement = [people(&room, false, &[(user("ann"), Some(1))])];
    state(&stage, &gateway, 1, &statement).await;
    let first = everybody(&stage, &room).await;
    state(&stage, &gateway, 2, &statement).await;
    let whole = [people(&room, true, &[(user("ann"), Some(1))])];
    state(&stage, &gateway, 3, &whole).await;
    assert_eq!(read(&stage, &room, Some(&first.version)).await, None);
    state(
        &stage,
        &gateway,
        4,
        &[people(&room, false, &[(user("ann"), None)])],
    )
    .await;
    let empty = read(&stage, &room, Some(&first.version))
        .await
        .expect("she is gone");
    assert!(empty.gateways.is_empty());
}

async fn a_whole_statement_ends_the_presence_of_all_others(stage: Stage) {
    let room = stage.room(0);
    let (one, two) = (stage.gateway("one").await, stage.gateway("two").await);
    let both = [(user("ann"), Some(1)), (user("ben"), Some(1)), (None, Some(1))];
    state(&stage, &one, 1, &[people(&room, false, &both)]).await;
    state(&stage, &two, 1, &[people(&room, false, &both)]).await;
    state(&stage, &one, 2, &[people(&room, true, &[(user("ben"), Some(1))])]).await;
    let found = everybody(&stage, &room).await;
    assert_eq!(found.gateways[&one].keys().collect::<Vec<_>>(), [&user("ben")]);
    assert_eq!(found.gateways[&two].len(), 3, "of this gateway alone");
    state(&stage, &one, 3, &[people(&room, true, &[])]).await;
    assert!(!everybody(&stage, &room).await.gateways.contains_key(&one));
}

async fn a_presence_statement_that_was_overtaken_changes_nothing(stage: Stage) {
    let room = stage.room(0);
    let gateway = stage.gateway("gateway").await;
    state(
        &stage,
        &gateway,
        5,
        &[people(&room, false, &[(user("ann"), None)])],
    )
    .await;
    for number in [4, 5] {
        let late = [people(&room, number == 5, &[(user("ann"), Some(1))])];
        state(&stage, &gateway, number, &late).await;
    }
    assert_eq!(counted(&stage, &room).await, (vec![], 0));
    state(
        &stage,
        &gateway,
        6,
        &[people(&room, false, &[(user("ann"), Some(1))])],
    )
    .await;
    assert_eq!(counted(&stage, &room).await, (names(&["ann"]), 1));
}

async fn the_presence_of_a_dead_gateway_vanishes_with_it(stage: Stage) {
    let room = stage.room(0);
    let (dead, living) = (stage.gateway("dead").await, stage.gateway("living").await);
    state(
        &stage,
        &dead,
        1,
        &[people(&room, false, &[(user("ann"), Some(1))])],
    )
    .await;
    state(
        &stage,
        &living,
        1,
        &[people(&room, false, &[(user("ben"), Some(1))])],
    )
    .await;
    stage.broker.deregister(&dead).await.unwrap();
    let order = [living.clone(), dead.clone(), Incarnation::new("never", "1")];
    assert_eq!(stage.broker.living(&order).await, Ok(vec![true, false, false]));
    assert_eq!(counted(&stage, &room).await, (names(&["ben"]), 1));
    // It is told until somebody tidies up, which nobody sees.
    let before = everybody(&stage, &room).await;
    assert!(before.gateways.contains_key(&dead));
    let rooms = [room.clone(), stage.room(1)];
    stage
        .broker
        .forget_presence(stage.partition, &rooms, &dead)
        .await
        .unwrap();
    let after = everybody(&stage, &room).await;
    assert_eq!(after.gateways.keys().collect::<Vec<_>>(), [&living]);
    assert_eq!(after.version, before.version);
}

async fn any_user_and_any_room_have_presence(stage: Stage) {
    let gateway = stage.gateway("a pod").await;
    let rooms = [stage.room(0), stage.room(1), stage.room(2)];
    let odd = ["a b@c d", "@", "{x}", "é\u{1F514}", "a:b"];
    let all: Vec<_> = odd.iter().map(|name| (user(name), Some(1))).collect();
    let statements = rooms.each_ref().map(|room| people(room, false, &all));
    state(&stage, &gateway, 1, &statements).await;
    for room in &rooms {
        let mut expected = names(&odd);
        expected.sort();
        assert_eq!(counted(&stage, room).await, (expected, 5));
    }
}

async fn presence_is_read_only_where_it_changed(stage: Stage) {
    let gateway = stage.gateway("gateway").await;
    let rooms = [stage.room(0), stage.room(1), stage.room(2), stage.room(3)];
    let ann = [(user("ann"), Some(1))];
    let statements = rooms[..3].iter().map(|room| people(room, false, &ann));
    state(&stage, &gateway, 1, &statements.collect::<Vec<_>>()).await;
    let mut asked: Vec<_> = rooms.iter().map(|room| (room.clone(), None)).collect();
    let read = stage.broker.read_presence(stage.partition, &asked).await.unwrap();
    for ((_, known), found) in asked.iter_mut().zip(&read.rooms) {
        *known = found.as_ref().map(|found| found.version.clone());
    }
    assert!(
        asked.iter().all(|(_, known)| known.is_some()),
        "also of an empty room"
    );
    let again = stage.broker.read_presence(stage.partition, &asked).await.unwrap();
    assert_eq!(again.rooms, [None, None, None, None]);
    assert_eq!(again.life, read.life);
    state(
        &stage,
        &gateway,
        2,
        &[people(&rooms[1], false, &[(user("ben"), Some(1))])],
    )
    .await;
    let again = stage.broker.read_presence(stage.partition, &asked).await.unwrap();
    let changed: Vec<_> = again.rooms.iter().map(Option::is_some).collect();
    assert_eq!(changed, [false, true, false, false]);
    assert_eq!(again.rooms[1].as_ref().unwrap().gateways[&gateway].len(), 2);
}

async fn much_presence_is_read_in_parts(stage: Stage) {
    let gateway = stage.gateway("gateway").await;
    let rooms = [stage.room(0), stage.room(1), stage.room(2)];
    let crowd: Vec<_> = (0..PEOPLE_PER_READ)
        .map(|number| (user(&format!("user-{number}")), Some(1)))
        .collect();
    for room in &rooms {
        state(&stage, &gateway, 1, &[people(room, true, &crowd)]).await;
    }
    let asked: Vec<_> = rooms.iter().map(|room| (room.clone(), None)).collect();
    let read = stage.broker.read_presence(stage.partition, &asked).await.unwrap();
    assert_eq!(read.rooms.len(), 1);
    assert_eq!(
        read.rooms[0].as_ref().unwrap().gateways[&gateway].len(),
        crowd.len()
    );
    let rest = stage
        .broker
        .read_presence(stage.partition, &asked[1..])
        .await
        .unwrap();
    assert_eq!(rest.rooms.len(), 1);
}

async fn presence_expires_unless_it_is_stated_again(stage: Stage) {
    const MINUTE: Duration = Duration::from_secs(60);
    let (kept, lost) = (stage.room(0), stage.room(1));
    let gateway = Incarnation::new("gateway", "1");
    let ann = [(user("ann"), Some(1))];
    let both = [people(&kept, true, &ann), people(&lost, true, &ann)];
    state(&stage, &gateway, 1, &both).await;
    stage.installation.pass_time(40 * MINUTE).await;
    state(&stage, &gateway, 2, &both[..1]).await;
    stage.installation.pass_time(40 * MINUTE).await;
    assert_eq!(everybody(&stage, &kept).await.gateways.len(), 1);
    assert_eq!(everybody(&stage, &lost).await.gateways.len(), 0);
}

async fn lost_presence_has_another_version(stage: Stage) {
    let room = stage.room(0);
    let gateway = Incarnation::new("gateway", "1");
    state(
        &stage,
        &gateway,
        1,
        &[people(&room, true, &[(user("ann"), Some(1))])],
    )
    .await;
    stage.installation.mark().await;
    state(
        &stage,
        &gateway,
        2,
        &[people(&room, true, &[(user("ben"), Some(1))])],
    )
    .await;
    let lost = everybody(&stage, &room).await;
    stage.installation.fail_over().await;
    let found = eventually!("the server answers", {
        let asked = [(room.clone(), None)];
        stage.broker.read_presence(stage.partition, &asked).await.ok()
    });
    let found = found.rooms.into_iter().next().unwrap().unwrap();
    assert!(found.gateways[&gateway].contains_key(&user("ann")));
    let cleo = [people(&room, true, &[(user("cleo"), Some(1))])];
    state(&stage, &gateway, 2, &cleo).await;
    let again = read(&stage, &room, Some(&lost.version))
        .await
        .expect("another content");
    assert!(again.gateways[&gateway].contains_key(&user("cleo")));
}

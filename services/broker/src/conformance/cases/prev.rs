//! What every message says about the one before it: nothing of its room lies between.

use std::time::Duration;

use carillon_model::{Offset, policy::HistoryLimits};

use crate::{
    RecordEntry,
    conformance::{
        Case,
        stage::{KEPT, Owner, Stage, entries},
    },
};

pub(super) const CASES: &[Case] = &[
    case!(the_first_message_follows_the_birth),
    case!(the_owners_own_reading_decides),
    case!(the_last_offset_decides_where_the_owner_knows_nothing),
    case!(prev_goes_on_across_a_takeover),
    case!(a_repeat_keeps_the_prev_it_was_stored_with),
    case!(a_repeat_without_history_follows_the_horizon),
    case!(a_batch_half_recorded_goes_on_where_it_stopped),
    case!(rooms_of_one_batch_have_their_own_prev),
    case!(session_rooms_have_no_prev),
    case!(
        without_a_last_offset_prev_is_half_a_day_old_or_the_horizon,
        PassTime
    ),
];

async fn the_first_message_follows_the_birth(stage: Stage) {
    let room = stage.room(0);
    stage.append(&room, "first").await;
    let mut owner = stage.own("owner").await;
    let outcome = owner.drain().await;
    let birth = stage.look(&room).await.partition.birth;
    assert_eq!(outcome.entries[0].prev, Some(birth));
    assert!(!outcome.entries[0].repeated);
    assert_eq!(stage.history(&room, Offset::ZERO).await.items[0].prev, birth);
}

async fn the_owners_own_reading_decides(stage: Stage) {
    let (room, far) = (stage.room(0), stage.room(1));
    let before = stage.append(&far, "not of this room").await;
    let first = stage.append(&room, "first").await;
    let second = stage.append(&room, "second").await;
    let mut owner = stage.own("owner").await;
    let items = owner.read().await;
    let mut batch = entries(&items[1..], KEPT);
    batch[0].prev = Some(before.just_below());
    batch[1].prev = Some(first);
    assert_eq!(owner.prevs(batch).await, [Some(before.just_below()), Some(first)]);
    let kept = stage.history(&room, Offset::ZERO).await.items;
    assert_eq!(
        kept.iter()
            .map(|item| (item.offset, item.prev))
            .collect::<Vec<_>>(),
        [(first, before.just_below()), (second, first)]
    );
}

async fn the_last_offset_decides_where_the_owner_knows_nothing(stage: Stage) {
    for history in [KEPT, HistoryLimits::NONE] {
        let room = stage.room(usize::from(history.keeps_any()));
        let first = stage.append(&room, "first").await;
        let second = stage.append(&room, "second").await;
        let mut owner = Owner::take_over(stage.broker.clone(), stage.partition, "owner").await;
        let items = owner.read().await;
        owner.must_record(entries(&items[..1], history)).await;
        assert_eq!(owner.prevs(entries(&items[1..], history)).await, [Some(first)]);
        owner.trim(second).await;
        owner.release().await;
    }
}

async fn prev_goes_on_across_a_takeover(stage: Stage) {
    let room = stage.room(0);
    stage.append(&room, "first").await;
    let second = stage.append(&room, "second").await;
    let mut old = stage.own("old").await;
    old.drain().await;
    old.release().await;
    let third = stage.append(&room, "third").await;
    let mut new = stage.own("new").await;
    assert_eq!(new.horizon, third.just_below());
    assert_eq!(new.drain().await.entries[0].prev, Some(second));
    let kept = stage.history(&room, Offset::ZERO).await.items;
    assert_chain(
        &kept
            .iter()
            .map(|item| (item.offset, item.prev))
            .collect::<Vec<_>>(),
    );
}

async fn a_repeat_keeps_the_prev_it_was_stored_with(stage: Stage) {
    let (room, other) = (stage.room(0), stage.room(1));
    let first = stage.append(&room, "first").await;
    stage.append(&other, "between").await;
    stage.append(&room, "second").await;
    stage.append(&room, "third").await;
    let mut old = stage.own("old").await;
    let items = old.read().await;
    let stored = old.prevs(entries(&items, KEPT)).await;
    let kept = stage.history(&room, Offset::ZERO).await;
    // Its head is handled, the rest is not: the new owner's horizon is above where the stored chain began.
    old.trim(first).await;
    old.release().await;
    let mut new = stage.own("new").await;
    let again = new.read().await;
    // One at a time, so that nothing but the history can know the prev.
    for (item, stored) in again.iter().zip(&stored[1..]) {
        let outcome = new.must_record(entries(std::slice::from_ref(item), KEPT)).await;
        assert!(outcome.entries[0].repeated);
        assert_eq!(outcome.entries[0].prev, *stored);
    }
    assert_eq!(stage.history(&room, Offset::ZERO).await.items, kept.items);
}

async fn a_repeat_without_history_follows_the_horizon(stage: Stage) {
    let room = stage.room(0);
    stage.append(&room, "first").await;
    stage.append(&room, "second").await;
    let mut old = stage.own("old").await;
    let items = old.read().await;
    let none = HistoryLimits::NONE;
    old.must_record(entries(&items, none)).await;
    old.release().await;
    let new = stage.own("new").await;
    // Each for itself: between the horizon and the second lies the first, so nothing higher would be true.
    for item in &items {
        let outcome = new.must_record(entries(std::slice::from_ref(item), none)).await;
        assert!(outcome.entries[0].repeated);
        assert_eq!(outcome.entries[0].prev, Some(new.horizon));
    }
}

async fn a_batch_half_recorded_goes_on_where_it_stopped(stage: Stage) {
    let room = stage.room(0);
    for number in 0..4 {
        stage.append(&room, &number.to_string()).await;
    }
    let mut old = stage.own("old").await;
    let items = old.read().await;
    let mut stored = old.prevs(entries(&items[..2], KEPT)).await;
    old.release().await;
    let new = stage.own("new").await;
    let outcome = new.must_record(entries(&items, KEPT)).await;
    let repeated: Vec<bool> = outcome.entries.iter().map(|recorded| recorded.repeated).collect();
    assert_eq!(repeated, [true, true, false, false]);
    stored.extend([Some(items[1].offset), Some(items[2].offset)]);
    let prevs: Vec<_> = outcome.entries.iter().map(|recorded| recorded.prev).collect();
    assert_eq!(prevs, stored);
    let kept = stage.history(&room, Offset::ZERO).await.items;
    assert_eq!(kept.len(), 4);
    assert_chain(
        &kept
            .iter()
            .map(|item| (item.offset, item.prev))
            .collect::<Vec<_>>(),
    );
}

async fn rooms_of_one_batch_have_their_own_prev(stage: Stage) {
    let rooms = [stage.room(0), stage.room(1)];
    let mut appended = Vec::new();
    for number in 0..6 {
        appended.push(stage.append(&rooms[number % 2], &number.to_string()).await);
    }
    let mut owner = stage.own("owner").await;
    let items = owner.read().await;
    let mut batch: Vec<RecordEntry> = entries(&items, KEPT);
    for place in 2..6 {
        batch[place].prev = Some(appended[place - 2]);
    }
    let prevs = owner.prevs(batch).await;
    assert_eq!(
        prevs[2..],
        appended[..4].iter().copied().map(Some).collect::<Vec<_>>()
    );
    for room in &rooms {
        let kept = stage.history(room, Offset::ZERO).await.items;
        assert_eq!(kept.len(), 3);
        assert_chain(
            &kept
                .iter()
                .map(|item| (item.offset, item.prev))
                .collect::<Vec<_>>(),
        );
    }
}

async fn session_rooms_have_no_prev(stage: Stage) {
    let room = stage.session_room(0);
    let gateway = stage.gateway("gateway").await;
    let rooms = std::slice::from_ref(&room);
    stage
        .broker
        .add_routes(stage.partition, rooms, &gateway)
        .await
        .unwrap();
    stage.append(&room, "direct").await;
    let mut owner = stage.own("owner").await;
    let items = owner.read().await;
    for _ in 0..2 {
        let outcome = owner.must_record(entries(&items, KEPT)).await;
        assert_eq!(outcome.entries[0].prev, None);
        assert!(!outcome.entries[0].repeated);
        assert_eq!(outcome.routes, [(room.clone(), [gateway.clone()].into())]);
    }
    let page = stage.history(&room, Offset::ZERO).await;
    assert_eq!((page.last, page.items), (None, Vec::new()));
    let state = stage
        .broker
        .add_routes(stage.partition, rooms, &gateway)
        .await
        .unwrap();
    assert_eq!(state.last, [None]);
}

async fn without_a_last_offset_prev_is_half_a_day_old_or_the_horizon(stage: Stage) {
    const HOUR: Duration = Duration::from_secs(3600);
    let (quiet, quiet_too, busy) = (stage.room(0), stage.room(1), stage.room(2));
    let long_ago = stage.append(&quiet, "long ago").await;
    stage.append(&quiet_too, "long ago").await;
    let mut old = stage.own("old").await;
    old.drain().await;
    old.release().await;
    stage.installation.pass_time(25 * HOUR).await;

    // Nothing was handled since: the horizon is the lower one.
    assert_eq!(stage.look(&quiet).await.last, None, "it is forgotten after 24 h");
    stage.append(&quiet, "again").await;
    let mut new = stage.own("new").await;
    // As of an owner that has held the partition since.
    let horizon = std::mem::replace(&mut new.horizon, long_ago);
    assert_eq!(new.drain().await.entries[0].prev, Some(long_ago));
    new.horizon = horizon;
    stage.append(&busy, "now").await;
    new.drain().await;
    new.release().await;

    // Now the horizon is young, and half a day ago is the lower one.
    stage.append(&quiet_too, "again").await;
    let mut newest = stage.own("newest").await;
    let prev = newest.drain().await.entries[0].prev.unwrap();
    assert!(prev < newest.horizon, "{prev} is not below {}", newest.horizon);
    let state = stage.look(&quiet_too).await.partition;
    let age = state.now.milliseconds - prev.milliseconds;
    assert!((11.9..12.1).contains(&(age as f64 / 3_600_000.0)), "{age} ms");
    assert!(prev > state.birth);
}

/// Each message follows the one before it.
pub(super) fn assert_chain(chain: &[(Offset, Offset)]) {
    for pair in chain.windows(2) {
        assert_eq!(pair[1].1, pair[0].0, "{chain:?}");
    }
}

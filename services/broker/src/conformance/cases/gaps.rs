//! What a failover took back is marked in the rooms that lost it, and nowhere else.

use carillon_model::{Gap, Offset, Room};

use super::failures::append_patiently;
use crate::{
    NewestQuery, RecordEntry,
    conformance::{
        Case,
        stage::{KEPT, Stage, append_to, eventually, gap_of},
    },
};

pub(super) const CASES: &[Case] = &[
    case!(a_gap_lies_between_messages_and_is_none),
    case!(a_restart_that_keeps_everything_leaves_no_gap, Restart),
    case!(a_lost_message_leaves_a_gap_in_its_room, FailOver),
    case!(what_nobody_knows_of_is_marked, FailOver),
];

fn gap_at(room: &Room, offset: Offset, gap: Gap) -> RecordEntry {
    RecordEntry {
        room: room.clone(),
        offset,
        prev: None,
        message: bytes::Bytes::new(),
        gap: Some(gap),
        history: KEPT,
    }
}

async fn a_gap_lies_between_messages_and_is_none(stage: Stage) {
    let room = stage.room(0);
    stage.append(&room, "first").await;
    let mut owner = stage.own("owner").await;
    owner.drain().await;
    let first = stage.look(&room).await.last.unwrap();
    let gap = Gap {
        lost_upto: Offset::new(first.milliseconds + 5, 7),
        seen_below: Offset::new(first.milliseconds + 10, 0),
    };
    // What the queue holds at this place is not looked at.
    let at = stage.append(&stage.room(1), "in place of the marker").await;
    owner.must_record(vec![gap_at(&room, at, gap)]).await;
    owner.trim(at).await;
    let third = stage.append(&room, "third").await;
    owner.drain().await;

    let kept = stage.history(&room, Offset::ZERO).await.items;
    let seen: Vec<_> = kept.iter().map(|item| (item.offset, item.gap)).collect();
    assert_eq!(seen, [(first, None), (at, Some(gap)), (third, None)]);
    assert_eq!(
        (kept[1].prev, kept[2].prev),
        (first, at),
        "it is a link of the chain"
    );
    for (below, entries, expected) in [(None, 2, vec![third, first]), (Some(third), 1, vec![first])] {
        let query = NewestQuery {
            below,
            entries,
            bytes: 1 << 20,
        };
        let newest = stage.broker.read_newest(&room, query).await.unwrap();
        let offsets: Vec<Offset> = newest.items.iter().map(|item| item.offset).collect();
        assert_eq!(offsets, expected);
    }
}

async fn a_restart_that_keeps_everything_leaves_no_gap(stage: Stage) {
    let offset = append_to(&stage.broker, &stage.room(0), "kept").await;
    stage.installation.restart().await;
    let next = append_patiently(&stage, "next", Offset::ZERO).await;
    // A second append is answered after what the first one's answer set off.
    let lives = eventually!("the servers are looked at", stage.broker.lives(None).await.ok());
    let last = append_patiently(&stage, "last", Offset::ZERO).await;
    let queue = stage.queue().await;
    let offsets: Vec<Offset> = queue.iter().map(|item| item.offset).collect();
    assert_eq!(offsets, [offset, next, last], "{lives:?}");
}

async fn a_lost_message_leaves_a_gap_in_its_room(stage: Stage) {
    let (kept, lost, session) = (stage.room(1), stage.room(2), stage.session_room(0));
    append_to(&stage.broker, &kept, "kept").await;
    append_to(&stage.broker, &lost, "kept too").await;
    stage.installation.mark().await;
    append_to(&stage.broker, &lost, "lost").await;
    let last = append_to(&stage.broker, &lost, "lost, too").await;
    append_to(&stage.broker, &session, "at most once").await;
    stage.installation.fail_over().await;

    let gaps = eventually!("the gap is marked", markers(&stage).await);
    let [(room, gap)] = &gaps[..] else {
        panic!("{gaps:?}")
    };
    assert_eq!((room.as_ref(), gap.lost_upto), (Some(&lost), last));
    assert!(gap.seen_below > last);
    let next = append_patiently(&stage, "next", Offset::ZERO).await;
    assert!(next > gap.seen_below);
}

/// The gap markers in the queue, after a look at the servers; `None` as long as there are none.
async fn markers(stage: &Stage) -> Option<Vec<(Option<Room>, Gap)>> {
    let _ = stage.broker.lives(None).await;
    let queue = match stage.broker.open_queue(stage.partition).await {
        Ok(mut reader) => reader.read_head(crate::FencingToken(0), 100).await.ok(),
        Err(_) => None,
    };
    let items = queue.map(|head| head.items).unwrap_or_default();
    let markers: Vec<_> = items.iter().filter_map(gap_of).collect();
    (!markers.is_empty()).then_some(markers)
}

async fn what_nobody_knows_of_is_marked(stage: Stage) {
    append_to(&stage.broker, &stage.room(0), "kept").await;
    stage.installation.mark().await;
    stage.installation.fail_over().await;
    stage.broker.mark_unknown_loss(stage.partition).await.unwrap();
    let markers = eventually!("it is marked", markers(&stage).await);
    assert!(markers.iter().all(|(room, _)| room.is_none()), "{markers:?}");
}

//! What is kept of a room, and how it is read.

use carillon_model::{Offset, Room, policy::HistoryLimits};

use crate::{
    HistoryQuery,
    conformance::{
        Case,
        stage::{KEPT, LONG, SHORT, Stage, entries, eventually},
    },
    rooms::EVICTED_AT_ONCE,
};

pub(super) const CASES: &[Case] = &[
    case!(recording_twice_keeps_one),
    case!(an_offset_below_the_last_is_refused_and_answered),
    case!(history_is_bounded_by_count),
    case!(history_is_bounded_by_bytes),
    case!(a_history_made_shorter_shrinks_with_its_messages),
    case!(large_messages_push_out_as_much_as_they_bring),
    case!(a_room_without_history_still_has_a_last_offset),
    case!(a_history_expires_and_its_last_offset_stays),
    case!(pages_are_bounded_by_entries),
    case!(pages_are_bounded_by_bytes_but_never_empty),
    case!(a_look_brings_no_entries),
    case!(the_newest_come_newest_first),
    case!(the_newest_are_bounded_by_bytes_but_never_empty),
    case!(large_pages_have_everything_in_order),
    case!(nothing_is_beyond_the_first_and_the_last_offset_there_can_be),
    case!(a_room_nobody_wrote_to_is_empty),
    case!(a_last_offset_is_forgotten_after_a_day, PassTime),
];

/// Sends messages to a room and takes them to its history, kept within limits.
async fn fill(stage: &Stage, room: &Room, count: usize, text: &str, limits: HistoryLimits) -> Vec<Offset> {
    let mut offsets = Vec::new();
    for number in 0..count {
        offsets.push(stage.append(room, &format!("{number}{text}")).await);
    }
    let mut owner = stage.own("filler").await;
    let items = owner.read().await;
    owner.must_record(entries(&items, limits)).await;
    owner.trim(items.last().unwrap().offset).await;
    owner.release().await;
    offsets
}

async fn kept(stage: &Stage, room: &Room) -> Vec<Offset> {
    let page = stage.history(room, Offset::ZERO).await;
    assert!(!page.more);
    page.items.iter().map(|item| item.offset).collect()
}

async fn recording_twice_keeps_one(stage: Stage) {
    let room = stage.room(0);
    for number in 0..3 {
        stage.append(&room, &number.to_string()).await;
    }
    let mut owner = stage.own("owner").await;
    let items = owner.read().await;
    let first = owner.must_record(entries(&items, KEPT)).await;
    let page = stage.history(&room, Offset::ZERO).await;
    assert_eq!(page.items.len(), 3);
    assert!(first.entries.iter().all(|recorded| !recorded.repeated));
    let second = owner.must_record(entries(&items, KEPT)).await;
    assert!(second.entries.iter().all(|recorded| recorded.repeated));
    assert_eq!(second.routes, first.routes);
    assert_eq!(stage.history(&room, Offset::ZERO).await.items, page.items);
    assert_eq!(stage.look(&room).await.last, Some(items[2].offset));
}

async fn an_offset_below_the_last_is_refused_and_answered(stage: Stage) {
    let room = stage.room(0);
    stage.append(&room, "first").await;
    let second = stage.append(&room, "second").await;
    let mut owner = stage.own("owner").await;
    let items = owner.read().await;
    owner.must_record(entries(&items[1..], KEPT)).await;
    let outcome = owner.must_record(entries(&items[..1], KEPT)).await;
    assert!(outcome.entries[0].repeated);
    assert_eq!(outcome.entries[0].prev, Some(owner.horizon));
    assert_eq!(kept(&stage, &room).await, [second]);
    assert_eq!(stage.look(&room).await.last, Some(second));
}

async fn history_is_bounded_by_count(stage: Stage) {
    let room = stage.room(0);
    let limits = HistoryLimits { size: 3, ..KEPT };
    let offsets = fill(&stage, &room, 8, "", limits).await;
    assert_eq!(kept(&stage, &room).await, offsets[5..]);
    // A smaller bound applies with the next message.
    let more = fill(&stage, &room, 1, "", HistoryLimits { size: 1, ..KEPT }).await;
    assert_eq!(kept(&stage, &room).await, more);
    let page = stage.history(&room, offsets[7]).await;
    assert_eq!(page.items[0].prev, offsets[7]);
}

async fn history_is_bounded_by_bytes(stage: Stage) {
    let room = stage.room(0);
    let text = "x".repeat(1000);
    let limits = HistoryLimits {
        bytes: 10_000,
        ..KEPT
    };
    let offsets = fill(&stage, &room, 30, &text, limits).await;
    let page = stage.history(&room, Offset::ZERO).await;
    let bytes: usize = page.items.iter().map(|item| item.message.len()).sum();
    assert!(bytes <= 10_000, "{bytes}");
    assert!(page.items.len() >= 5, "only {} kept", page.items.len());
    let kept: Vec<Offset> = page.items.iter().map(|item| item.offset).collect();
    assert_eq!(kept, offsets[30 - kept.len()..], "the newest are kept");
}

async fn a_history_made_shorter_shrinks_with_its_messages(stage: Stage) {
    let room = stage.room(0);
    let at_once = usize::try_from(EVICTED_AT_ONCE).unwrap();
    let many = HistoryLimits { size: 1000, ..KEPT };
    let mut offsets = fill(&stage, &room, at_once * 3, "", many).await;
    let few = HistoryLimits { size: 2, ..KEPT };
    for left in [at_once * 2 + 1, at_once + 2, 3, 2, 2] {
        offsets.extend(fill(&stage, &room, 1, "", few).await);
        assert_eq!(kept(&stage, &room).await, offsets[offsets.len() - left..]);
    }
    offsets.extend(fill(&stage, &room, 100, "", many).await);
    // What is kept no more goes at once.
    let none = fill(&stage, &room, 1, "", HistoryLimits::NONE).await;
    let page = stage.history(&room, Offset::ZERO).await;
    assert_eq!((page.last, page.items.len()), (none.last().copied(), 0));
    let more = fill(&stage, &room, 3, "", few).await;
    assert_eq!(kept(&stage, &room).await, more[1..]);
}

async fn large_messages_push_out_as_much_as_they_bring(stage: Stage) {
    let room = stage.room(0);
    let limits = HistoryLimits {
        size: 10_000,
        bytes: 100_000,
        ..KEPT
    };
    fill(&stage, &room, 600, "", limits).await;
    for _ in 0..20 {
        fill(&stage, &room, 1, &"x".repeat(20_000), limits).await;
        let page = stage.history(&room, Offset::ZERO).await;
        let bytes: usize = page.items.iter().map(|item| item.message.len()).sum();
        assert!(bytes <= 100_000, "{bytes} bytes in {} messages", page.items.len());
    }
}

async fn a_room_without_history_still_has_a_last_offset(stage: Stage) {
    let room = stage.room(0);
    let offsets = fill(&stage, &room, 3, "", HistoryLimits::NONE).await;
    let page = stage.history(&room, Offset::ZERO).await;
    assert_eq!((page.last, page.items), (Some(offsets[2]), Vec::new()));
    assert_eq!(stage.newest(&room, None, 10, usize::MAX).await.items, []);
}

async fn a_history_expires_and_its_last_offset_stays(stage: Stage) {
    let room = stage.room(0);
    let offsets = fill(&stage, &room, 2, "", HistoryLimits { age: SHORT, ..KEPT }).await;
    let page = eventually!("the history expired", {
        Some(stage.history(&room, Offset::ZERO).await).filter(|page| page.items.is_empty())
    });
    assert_eq!(page.last, Some(offsets[1]));
    // What comes later starts a new history and follows the last offset.
    let more = fill(&stage, &room, 1, "", HistoryLimits { age: LONG, ..KEPT }).await;
    let page = stage.history(&room, Offset::ZERO).await;
    assert_eq!(page.items.len(), 1);
    assert_eq!((page.items[0].offset, page.items[0].prev), (more[0], offsets[1]));
    // A repeat of what expired stays out of it.
    let mut late = entries(&[], KEPT);
    late.push(crate::RecordEntry {
        room: room.clone(),
        offset: offsets[0],
        prev: None,
        message: "late".into(),
        gap: None,
        history: KEPT,
    });
    let owner = stage.own("owner").await;
    assert!(owner.must_record(late).await.entries[0].repeated);
    assert_eq!(kept(&stage, &room).await, more);
}

async fn pages_are_bounded_by_entries(stage: Stage) {
    let room = stage.room(0);
    let offsets = fill(&stage, &room, 7, "", KEPT).await;
    let mut after = Offset::ZERO;
    let mut read = Vec::new();
    for expected_more in [true, true, false] {
        let query = HistoryQuery {
            after: Some(after),
            entries: 3,
            bytes: usize::MAX,
        };
        let page = stage.broker.read_history(&room, query).await.unwrap();
        assert_eq!(page.more, expected_more);
        assert_eq!(page.last, Some(offsets[6]));
        read.extend(page.items.iter().map(|item| item.offset));
        after = *read.last().unwrap();
    }
    assert_eq!(read, offsets);
    // A page that ends exactly at the end says so; one from the end is empty.
    let query = HistoryQuery {
        after: Some(offsets[3]),
        entries: 3,
        bytes: usize::MAX,
    };
    assert!(!stage.broker.read_history(&room, query).await.unwrap().more);
    let end = stage.history(&room, offsets[6]).await;
    assert_eq!((end.items, end.more), (Vec::new(), false));
    // Cursors lie between entries as well.
    assert_eq!(stage.history(&room, offsets[2].just_below()).await.items.len(), 5);
    assert_eq!(stage.history(&room, offsets[2]).await.items.len(), 4);
}

async fn pages_are_bounded_by_bytes_but_never_empty(stage: Stage) {
    let room = stage.room(0);
    let offsets = fill(&stage, &room, 9, &"x".repeat(1000), KEPT).await;
    let page_of = |after: Offset, bytes: usize| {
        let query = HistoryQuery {
            after: Some(after),
            entries: 100,
            bytes,
        };
        stage.broker.read_history(&room, query)
    };
    let page = page_of(Offset::ZERO, 3500).await.unwrap();
    assert!((3..=4).contains(&page.items.len()), "{}", page.items.len());
    assert!(page.more);
    let mut after = Offset::ZERO;
    for expected in &offsets {
        let page = page_of(after, 1).await.unwrap();
        assert_eq!(page.items.len(), 1);
        assert_eq!(page.items[0].offset, *expected);
        assert_eq!(page.more, expected != offsets.last().unwrap());
        after = *expected;
    }
}

async fn a_look_brings_no_entries(stage: Stage) {
    let room = stage.room(0);
    let offsets = fill(&stage, &room, 2, "", KEPT).await;
    let page = stage.look(&room).await;
    assert_eq!((page.last, page.items.len()), (Some(offsets[1]), 0));
    assert_eq!(page.partition.handled, offsets[1]);
}

async fn the_newest_come_newest_first(stage: Stage) {
    let room = stage.room(0);
    let offsets = fill(&stage, &room, 5, "", KEPT).await;
    let newest = async |below: Option<Offset>, limit: usize| {
        let page = stage.newest(&room, below, limit, usize::MAX).await;
        page.items.iter().map(|item| item.offset).collect::<Vec<_>>()
    };
    assert_eq!(newest(None, 2).await, [offsets[4], offsets[3]]);
    assert_eq!(newest(Some(offsets[3]), 2).await, [offsets[2], offsets[1]]);
    assert_eq!(newest(Some(offsets[1]), 10).await, [offsets[0]]);
    assert_eq!(newest(Some(offsets[0]), 10).await, []);
    assert_eq!(newest(None, 100).await.len(), 5);
    let page = stage.newest(&room, None, 1, usize::MAX).await;
    assert_eq!((page.items[0].prev, page.more), (offsets[3], true));
    assert_eq!(page.partition.handled, offsets[4]);
    assert!(!stage.newest(&room, None, 5, usize::MAX).await.more);
}

async fn the_newest_are_bounded_by_bytes_but_never_empty(stage: Stage) {
    let room = stage.room(0);
    // More than are read at a time inside Redis.
    let offsets = fill(&stage, &room, 80, &"x".repeat(1_000), KEPT).await;
    let page = stage.newest(&room, None, 100, 1).await;
    assert_eq!(page.items.len(), 1);
    assert_eq!((page.items[0].offset, page.more), (offsets[79], true));
    let page = stage.newest(&room, None, 100, 50_500).await;
    let count = page.items.len();
    assert!(
        (40..=50).contains(&count),
        "{count} entries of 1,000 bytes and a little"
    );
    assert!(page.more);
    let page = stage.newest(&room, Some(offsets[78]), 70, usize::MAX).await;
    let found: Vec<Offset> = page.items.iter().map(|item| item.offset).collect();
    let expected: Vec<Offset> = offsets[8..78].iter().rev().copied().collect();
    assert_eq!((found, page.more), (expected, true));
}

async fn large_pages_have_everything_in_order(stage: Stage) {
    let room = stage.room(0);
    let offsets = fill(&stage, &room, 80, "", KEPT).await;
    let query = HistoryQuery {
        after: Some(offsets[1]),
        entries: 70,
        bytes: usize::MAX,
    };
    let page = stage.broker.read_history(&room, query).await.unwrap();
    let found: Vec<Offset> = page.items.iter().map(|item| item.offset).collect();
    assert_eq!((found.as_slice(), page.more), (&offsets[2..72], true));
}

async fn nothing_is_beyond_the_first_and_the_last_offset_there_can_be(stage: Stage) {
    let room = stage.room(0);
    let offsets = fill(&stage, &room, 2, "", KEPT).await;
    let page = stage.newest(&room, Some(Offset::ZERO), 10, usize::MAX).await;
    assert_eq!((page.items.len(), page.more), (0, false));
    let greatest = Offset::new(u64::MAX, u64::MAX);
    let page = stage.history(&room, greatest).await;
    assert_eq!(
        (page.last, page.items.len(), page.more),
        (Some(offsets[1]), 0, false)
    );
    assert_eq!(
        stage
            .newest(&room, Some(greatest), 10, usize::MAX)
            .await
            .items
            .len(),
        2
    );
    let page = stage
        .history(&room, Offset::new(offsets[1].milliseconds, u64::MAX))
        .await;
    assert_eq!(page.items.len(), 0);
}

async fn a_room_nobody_wrote_to_is_empty(stage: Stage) {
    let room = stage.room(0);
    let page = stage.history(&room, Offset::ZERO).await;
    assert_eq!((page.last, page.items, page.more), (None, Vec::new(), false));
    assert_eq!(stage.newest(&room, None, 10, usize::MAX).await.items, []);
}

async fn a_last_offset_is_forgotten_after_a_day(stage: Stage) {
    const HOUR: std::time::Duration = std::time::Duration::from_secs(3600);
    let room = stage.room(0);
    let offsets = fill(&stage, &room, 1, "", KEPT).await;
    stage.installation.pass_time(23 * HOUR).await;
    let page = stage.history(&room, Offset::ZERO).await;
    assert_eq!((page.last, page.items.len()), (Some(offsets[0]), 0));
    stage.installation.pass_time(2 * HOUR).await;
    assert_eq!(stage.look(&room).await.last, None);
}

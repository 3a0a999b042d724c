//! What could not be handled waits for a person, and holds nobody up.

use bytes::Bytes;
use carillon_model::Offset;

use crate::{
    DeadLetterId, DeadLetterSource, Fenced,
    conformance::{
        Case,
        stage::{Owner, Stage, entry},
    },
    dead_letters::CAPPED_AT_ONCE,
};

pub(super) const CASES: &[Case] = &[
    case!(burying_moves_the_head_and_the_next_goes_on),
    case!(burying_again_is_one_letter),
    case!(only_the_head_is_buried),
    case!(letters_are_listed_read_and_dropped),
    case!(a_list_items_letter_is_written_once),
    case!(the_oldest_of_too_many_letters_are_dropped),
    case!(tries_of_the_head_are_counted_across_owners),
    case!(an_owner_that_lives_takes_its_try_back),
];

async fn bury(owner: &Owner, head: Offset, reason: &str) -> Fenced<()> {
    owner
        .broker
        .bury_head(owner.partition, owner.token, &owner.life, head, reason)
        .await
        .unwrap()
}

async fn burying_moves_the_head_and_the_next_goes_on(stage: Stage) {
    let room = stage.room(0);
    let bad = stage.append(&room, "bad").await;
    let good = stage.append(&room, "good").await;
    let mut owner = stage.own("owner").await;
    assert_eq!(bury(&owner, bad, "it is bad: größer").await, Fenced::Done(()));
    let letters = stage
        .broker
        .dead_letters(stage.partition, None, 10)
        .await
        .unwrap();
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0].id.partition, stage.partition);
    assert_eq!(letters[0].source, DeadLetterSource::Queue(bad));
    assert_eq!(letters[0].reason, "it is bad: größer");
    assert_eq!(letters[0].entry, entry(&room, "bad"));
    let now = stage.look(&room).await.partition.now.milliseconds;
    assert!(letters[0].buried_at.abs_diff(now) < 120_000);
    assert_eq!(stage.look(&room).await.partition.handled, good.just_below());
    assert_eq!(owner.drain().await.entries.len(), 1);
    assert_eq!(stage.look(&room).await.last, Some(good));
}

async fn burying_again_is_one_letter(stage: Stage) {
    let bad = stage.append(&stage.room(0), "bad").await;
    let owner = stage.own("owner").await;
    for _ in 0..2 {
        assert_eq!(bury(&owner, bad, "bad").await, Fenced::Done(()));
    }
    assert_eq!(
        stage
            .broker
            .dead_letters(stage.partition, None, 10)
            .await
            .unwrap()
            .len(),
        1
    );
}

async fn only_the_head_is_buried(stage: Stage) {
    stage.append(&stage.room(0), "head").await;
    let second = stage.append(&stage.room(0), "second").await;
    let owner = stage.own("owner").await;
    bury(&owner, second, "not the head").await;
    assert_eq!(
        stage.broker.dead_letters(stage.partition, None, 10).await,
        Ok(Vec::new())
    );
    assert_eq!(stage.queue().await.len(), 2, "a queue has no holes");
}

async fn letters_are_listed_read_and_dropped(stage: Stage) {
    let owner = stage.own("owner").await;
    let mut sources = Vec::new();
    for number in 0..5 {
        let offset = stage.append(&stage.room(0), &number.to_string()).await;
        bury(&owner, offset, &format!("reason {number}")).await;
        sources.push(DeadLetterSource::Queue(offset));
    }
    let list = |after: Option<Offset>, limit: usize| stage.broker.dead_letters(stage.partition, after, limit);
    let first = list(None, 3).await.unwrap();
    assert_eq!(first.len(), 3);
    let rest = list(Some(first[2].id.offset), 3).await.unwrap();
    let all: Vec<_> = first.iter().chain(&rest).collect();
    assert_eq!(
        all.iter().map(|letter| letter.source.clone()).collect::<Vec<_>>(),
        sources
    );
    assert_eq!(list(Some(all[4].id.offset), 3).await, Ok(Vec::new()));
    let other = stage.broker.partitions().partitions().next().unwrap();
    assert_eq!(stage.broker.dead_letters(other, None, 10).await, Ok(Vec::new()));

    let id = all[1].id;
    assert_eq!(stage.broker.dead_letter(id).await, Ok(Some(all[1].clone())));
    let broker = &stage.broker;
    let drop =
        |offsets: Vec<Offset>| async move { broker.drop_dead_letters(id.partition, &offsets).await.unwrap() };
    assert_eq!(drop(Vec::new()).await, 0);
    assert_eq!(drop(vec![id.offset]).await, 1);
    assert_eq!(drop(vec![id.offset]).await, 0);
    assert_eq!(stage.broker.dead_letter(id).await, Ok(None));
    assert_eq!(list(None, 10).await.unwrap().len(), 4);
    let nowhere = DeadLetterId {
        partition: stage.partition,
        offset: Offset::new(1, 1),
    };
    assert_eq!(stage.broker.dead_letter(nowhere).await, Ok(None));
}

async fn a_list_items_letter_is_written_once(stage: Stage) {
    let source = |number| DeadLetterSource::List {
        list: "message".to_owned(),
        number,
    };
    let entry: Bytes = Bytes::from_static(b"\xff\x00not utf-8");
    for number in [7, 7, 8, 7] {
        stage
            .broker
            .bury(stage.partition, source(number), entry.clone(), "not UTF-8")
            .await
            .unwrap();
    }
    let letters = stage
        .broker
        .dead_letters(stage.partition, None, 10)
        .await
        .unwrap();
    let sources: Vec<_> = letters.iter().map(|letter| letter.source.clone()).collect();
    assert_eq!(sources, [source(7), source(8)]);
    assert_eq!(letters[0].entry, entry);
    assert_eq!(letters[0].reason, "not UTF-8");
}

async fn tries_of_the_head_are_counted_across_owners(stage: Stage) {
    let first = stage.append(&stage.room(0), "first").await;
    let second = stage.append(&stage.room(0), "second").await;
    let old = stage.own("old").await;
    let count = |owner: &Owner, head: Offset| {
        let (broker, partition, token) = (owner.broker.clone(), owner.partition, owner.token);
        async move { broker.count_try(partition, token, head).await.unwrap() }
    };
    for _ in 0..2 {
        assert_eq!(count(&old, first).await, Fenced::Done(1), "one owner, one try");
    }
    old.stall().await;
    let new = Owner::take_over(stage.another().await, stage.partition, "new").await;
    assert_eq!(count(&old, first).await, Fenced::Lost);
    assert_eq!(
        count(&new, first).await,
        Fenced::Done(2),
        "they survive the one that died of them"
    );
    assert_eq!(
        count(&new, second).await,
        Fenced::Done(1),
        "another entry starts anew"
    );
    assert_eq!(count(&new, first).await, Fenced::Done(1));
    assert_eq!(new.trim(first).await, Fenced::Done(()));
    assert_eq!(count(&new, first).await, Fenced::Done(1), "trimming forgets them");
    assert_eq!(count(&new, second).await, Fenced::Done(1));
    assert_eq!(bury(&new, second, "poison").await, Fenced::Done(()));
    let third = stage.append(&stage.room(0), "third").await;
    assert_eq!(count(&new, third).await, Fenced::Done(1));
}

/// Whoever can say so did not die of it: a lost lease, a handover, Redis being away.
async fn an_owner_that_lives_takes_its_try_back(stage: Stage) {
    let head = stage.append(&stage.room(0), "head").await;
    let count = |owner: &Owner| {
        let (broker, partition, token) = (owner.broker.clone(), owner.partition, owner.token);
        async move { broker.count_try(partition, token, head).await.unwrap() }
    };
    let mut owners = Vec::new();
    for number in 1..=3 {
        let owner = Owner::take_over(stage.another().await, stage.partition, "owner").await;
        assert_eq!(count(&owner).await, Fenced::Done(number));
        owner.stall().await;
        owners.push(owner);
    }
    let last = Owner::take_over(stage.another().await, stage.partition, "last").await;
    // Two come back and find that they lost it; saying so twice is fine.
    for owner in [&owners[0], &owners[2], &owners[2]] {
        let taken_back = owner.broker.take_back_try(owner.partition, owner.token).await;
        assert_eq!(taken_back, Ok(()));
    }
    assert_eq!(count(&last).await, Fenced::Done(2), "the second never came back");
    for owner in [&owners[1], &last] {
        let taken_back = owner.broker.take_back_try(owner.partition, owner.token).await;
        assert_eq!(taken_back, Ok(()));
    }
    assert_eq!(count(&last).await, Fenced::Done(1));
}

async fn the_oldest_of_too_many_letters_are_dropped(stage: Stage) {
    let source = |number| DeadLetterSource::List {
        list: "capped".to_owned(),
        number,
    };
    let bury = |number| {
        let (broker, partition) = (&stage.broker, stage.partition);
        async move {
            broker
                .bury(partition, source(number), "item".into(), "a reason")
                .await
                .unwrap();
        }
    };
    let numbers = || async {
        let letters = stage.broker.dead_letters(stage.partition, None, 1000);
        let letters = letters.await.unwrap().into_iter();
        letters
            .map(|letter| match letter.source {
                DeadLetterSource::List { number, .. } => number,
                DeadLetterSource::Queue(offset) => panic!("from a queue: {offset}"),
            })
            .collect::<Vec<_>>()
    };
    let cap = |keep| stage.broker.cap_dead_letters(stage.partition, keep);
    for number in 0..100 {
        bury(number).await;
    }
    assert_eq!(cap(100).await, Ok(0));
    assert_eq!(cap(97).await, Ok(3));
    assert_eq!(numbers().await, (3..100).collect::<Vec<_>>());
    // Whoever keeps much fewer than before gets there in bounded steps.
    assert_eq!(cap(1).await, Ok(CAPPED_AT_ONCE));
    assert_eq!(cap(1).await, Ok(96 - CAPPED_AT_ONCE));
    assert_eq!(numbers().await, [99]);
    // What was dropped is forgotten: the same source is a new letter.
    bury(3).await;
    bury(99).await;
    assert_eq!(numbers().await, [99, 3]);
    let all: Vec<Offset> = stage
        .broker
        .dead_letters(stage.partition, None, 10)
        .await
        .unwrap()
        .iter()
        .map(|letter| letter.id.offset)
        .collect();
    assert_eq!(stage.broker.drop_dead_letters(stage.partition, &all).await, Ok(2));
    assert_eq!(numbers().await, [0_u64; 0]);
}

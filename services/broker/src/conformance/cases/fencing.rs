//! Two owners at once only repeat work. The one that lost the partition changes nothing, wherever it stood still.

use std::collections::BTreeSet;

use carillon_model::Offset;

use super::prev::assert_chain;
use crate::{
    Fenced, Incarnation, LeaseName, Life, QueueItem,
    conformance::{
        Case,
        stage::{KEPT, LONG, Owner, Stage, entries},
    },
};

pub(super) const CASES: &[Case] = &[
    case!(an_owner_that_stalled_at_any_step_changes_nothing),
    case!(owners_that_take_over_from_each_other_lose_and_double_nothing),
    case!(a_token_given_back_is_worth_nothing),
    case!(a_token_never_given_is_worth_nothing),
    case!(another_life_fences),
    case!(owners_read_the_same_after_a_takeover),
    case!(what_is_parked_is_known_to_every_owner_until_it_was_told),
    case!(only_the_owner_parks_and_unparks),
];

/// The steps of an owner's work on a batch.
const STEPS: usize = 4;

/// Takes a step; whether the broker said that the partition is lost.
async fn step(owner: &mut Owner, number: usize, items: &mut Vec<QueueItem>) -> bool {
    match number {
        0 => {
            let head = owner.read_head(100).await.unwrap();
            *items = head.items;
            !head.owned
        }
        1 => {
            let Some(head) = items.first() else { return false };
            let tried = owner
                .broker
                .count_try(owner.partition, owner.token, head.offset)
                .await;
            tried == Ok(Fenced::Lost)
        }
        2 => owner.record(entries(items, KEPT)).await == Fenced::Lost,
        _ => {
            let Some(last) = items.last() else { return false };
            owner.trim(last.offset).await == Fenced::Lost
        }
    }
}

async fn an_owner_that_stalled_at_any_step_changes_nothing(stage: Stage) {
    let room = stage.room(0);
    let mut sent: Vec<Offset> = Vec::new();
    // The old owner stops before a step, the new one goes on up to a step, then the old one wakes up.
    for stalled_before in 0..=STEPS {
        for progress in 0..=STEPS {
            let at = format!("old owner stalled before step {stalled_before}, new one did {progress}");
            for number in 0..3 {
                sent.push(stage.append(&room, &format!("{at}: {number}")).await);
            }
            let mut old = Owner::take_over(stage.another().await, stage.partition, "old").await;
            let mut read_by_old = Vec::new();
            for number in 0..stalled_before {
                assert!(!step(&mut old, number, &mut read_by_old).await, "{at}");
            }
            old.stall().await;
            let mut new = Owner::take_over(stage.another().await, stage.partition, "new").await;
            assert!(new.token > old.token, "{at}");
            let mut read_by_new = Vec::new();
            for number in 0..progress {
                assert!(!step(&mut new, number, &mut read_by_new).await, "{at}");
            }
            let (queue, history) = (stage.queue().await, stage.history(&room, Offset::ZERO).await);

            for number in stalled_before..STEPS {
                let lost = step(&mut old, number, &mut read_by_old).await;
                assert!(
                    lost || (number > 0 && read_by_old.is_empty()),
                    "{at}: step {number} was not refused"
                );
            }
            if let Some(head) = read_by_old.first() {
                let buried = old
                    .broker
                    .bury_head(old.partition, old.token, &old.life, head.offset, "never")
                    .await;
                assert_eq!(buried, Ok(Fenced::Lost), "{at}");
            }
            let lease = LeaseName::Partition(old.partition);
            assert_eq!(
                old.broker.renew_lease(&lease, old.token, LONG).await,
                Ok(false),
                "{at}"
            );
            old.release().await;
            assert_eq!(stage.queue().await, queue, "{at}");
            assert_eq!(
                stage.history(&room, Offset::ZERO).await.items,
                history.items,
                "{at}"
            );

            // The new owner is as it was, and finishes. After a trim there is nothing more to do.
            for number in progress..STEPS {
                assert!(
                    !step(&mut new, number, &mut read_by_new).await,
                    "{at}: the new owner lost it"
                );
            }
            assert_eq!(stage.queue().await, [], "{at}");
            new.release().await;
        }
    }
    let kept = stage.history(&room, Offset::ZERO).await.items;
    let offsets: Vec<Offset> = kept.iter().map(|item| item.offset).collect();
    assert_eq!(offsets, sent);
    assert_chain(
        &kept
            .iter()
            .map(|item| (item.offset, item.prev))
            .collect::<Vec<_>>(),
    );
    assert_eq!(
        stage.broker.dead_letters(stage.partition, None, 10).await,
        Ok(Vec::new())
    );
}

async fn owners_that_take_over_from_each_other_lose_and_double_nothing(stage: Stage) {
    const MESSAGES: usize = 120;
    let room = stage.room(0);
    let producer = {
        let (stage, room) = (stage.clone(), room.clone());
        tokio::spawn(async move {
            let mut sent = Vec::new();
            for number in 0..MESSAGES {
                sent.push(stage.append(&room, &number.to_string()).await);
                tokio::task::yield_now().await;
            }
            sent
        })
    };
    let processes = [stage.another().await, stage.another().await];
    // Each owner works one batch off and loses the partition; what it still tries afterwards runs beside its heir.
    let mut late = Vec::new();
    let mut handled: BTreeSet<Offset> = BTreeSet::new();
    for round in 0.. {
        if handled.len() >= MESSAGES {
            break;
        }
        assert!(
            round < 20 * MESSAGES,
            "{} of {MESSAGES} were ever read",
            handled.len()
        );
        let broker = &processes[round % processes.len()];
        let mut owner = Owner::take_over(broker.clone(), stage.partition, "owner").await;
        let items = owner.read_head(7).await.unwrap().items;
        owner.must_record(entries(&items, KEPT)).await;
        // Every third one does not get as far as the trim.
        if let Some(last) = items.last().filter(|_| round % 3 > 0) {
            assert_eq!(owner.trim(last.offset).await, Fenced::Done(()));
        }
        handled.extend(items.iter().map(|item| item.offset));
        owner.release().await;
        late.push(tokio::spawn(async move {
            assert_eq!(owner.record(entries(&items, KEPT)).await, Fenced::Lost);
            assert_eq!(owner.trim(Offset::MAX).await, Fenced::Lost);
        }));
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    for task in late {
        task.await.unwrap();
    }
    let sent = producer.await.unwrap();
    Owner::take_over(stage.another().await, stage.partition, "last")
        .await
        .drain()
        .await;
    assert_eq!(handled.into_iter().collect::<Vec<_>>(), sent);
    let kept = stage.history(&room, Offset::ZERO).await.items;
    let offsets: Vec<Offset> = kept.iter().map(|item| item.offset).collect();
    assert_eq!(offsets, sent[MESSAGES - 100..], "the newest 100");
    assert_chain(
        &kept
            .iter()
            .map(|item| (item.offset, item.prev))
            .collect::<Vec<_>>(),
    );
}

async fn a_token_given_back_is_worth_nothing(stage: Stage) {
    let room = stage.room(0);
    let offset = stage.append(&room, "text").await;
    let mut owner = stage.own("owner").await;
    let items = owner.read().await;
    owner.release().await;
    assert_eq!(owner.record(entries(&items, KEPT)).await, Fenced::Lost);
    assert_eq!(owner.trim(offset).await, Fenced::Lost);
    assert_eq!(
        owner.broker.count_try(owner.partition, owner.token, offset).await,
        Ok(Fenced::Lost)
    );
    assert!(!owner.read_head(10).await.unwrap().owned);
    assert_eq!(stage.queue().await.len(), 1);
    assert_eq!(stage.look(&room).await.last, None);
}

async fn a_token_never_given_is_worth_nothing(stage: Stage) {
    let room = stage.room(0);
    let offset = stage.append(&room, "text").await;
    let mut owner = stage.own("owner").await;
    let items = owner.read().await;
    owner.release().await;
    for token in [0, owner.token.0 + 1, u64::MAX >> 1] {
        owner.token.0 = token;
        assert_eq!(owner.record(entries(&items, KEPT)).await, Fenced::Lost, "{token}");
        assert_eq!(owner.trim(offset).await, Fenced::Lost, "{token}");
    }
}

async fn another_life_fences(stage: Stage) {
    let room = stage.room(0);
    let offset = stage.append(&room, "text").await;
    let mut owner = stage.own("owner").await;
    let items = owner.read().await;
    let life = std::mem::replace(&mut owner.life, Life("of another server".into()));
    assert_eq!(owner.record(entries(&items, KEPT)).await, Fenced::Lost);
    assert_eq!(owner.trim(offset).await, Fenced::Lost);
    let buried = owner
        .broker
        .bury_head(owner.partition, owner.token, &owner.life, offset, "never")
        .await;
    assert_eq!(buried, Ok(Fenced::Lost));
    assert_eq!(stage.look(&room).await.last, None);
    assert_eq!(stage.queue().await.len(), 1);
    owner.life = life;
    owner.drain().await;
    assert_eq!(stage.look(&room).await.last, Some(offset));
}

async fn owners_read_the_same_after_a_takeover(stage: Stage) {
    for number in 0..4 {
        stage.append(&stage.room(0), &number.to_string()).await;
    }
    let mut old = stage.own("old").await;
    let items = old.read().await;
    old.must_record(entries(&items, KEPT)).await;
    old.stall().await;
    let mut new = Owner::take_over(stage.another().await, stage.partition, "new").await;
    assert_eq!(new.read().await, items, "recorded is not acknowledged");
    assert_eq!(new.horizon, items[0].offset.just_below());
    let head = old.read_head(100).await.unwrap();
    assert_eq!((head.owned, head.items), (false, items));
}

async fn what_is_parked_is_known_to_every_owner_until_it_was_told(stage: Stage) {
    let gateways = ["a", "b", "c"].map(|name| Incarnation::new(name, "1"));
    let mut offsets = Vec::new();
    for number in 0..3 {
        offsets.push(stage.append(&stage.room(0), &number.to_string()).await);
    }
    let mut first = stage.own("first").await;
    assert_eq!(first.read_head(1).await.unwrap().parked, []);
    let park = |owner: &Owner, upto: Offset, parked: &[Incarnation]| {
        let (broker, partition, token) = (owner.broker.clone(), owner.partition, owner.token);
        let (life, parked) = (owner.life.clone(), parked.to_vec());
        async move { broker.trim(partition, token, &life, upto, &parked).await }
    };
    // Again is the same.
    for _ in 0..2 {
        let parked = park(&first, offsets[0], &gateways[1..]).await;
        assert_eq!(parked, Ok(Fenced::Done(())));
        let head = first.read_head(10).await.unwrap();
        assert_eq!((head.parked, head.items.len()), (gateways[1..].to_vec(), 2));
    }
    assert_eq!(
        park(&first, offsets[1], &gateways[..2]).await,
        Ok(Fenced::Done(()))
    );
    // A trim that parks nobody leaves those there are.
    assert_eq!(first.trim(offsets[1]).await, Fenced::Done(()));
    first.stall().await;
    let mut second = Owner::take_over(stage.another().await, stage.partition, "second").await;
    assert_eq!(second.read_head(10).await.unwrap().parked, gateways);
    let told = second
        .broker
        .unpark(second.partition, second.token, &second.life, &gateways[..2])
        .await;
    assert_eq!(told, Ok(Fenced::Done(())));
    assert_eq!(second.read_head(10).await.unwrap().parked, gateways[2..]);
}

async fn only_the_owner_parks_and_unparks(stage: Stage) {
    let gateways = [Incarnation::new("a", "1")];
    let offset = stage.append(&stage.room(0), "text").await;
    let old = stage.own("old").await;
    let parked = old
        .broker
        .trim(old.partition, old.token, &old.life, Offset::ZERO, &gateways)
        .await;
    assert_eq!(parked, Ok(Fenced::Done(())));
    old.stall().await;
    let mut new = Owner::take_over(stage.another().await, stage.partition, "new").await;
    let others = [Incarnation::new("b", "1")];
    for (token, life) in [
        (old.token, old.life.clone()),
        (new.token, Life("of another server".into())),
    ] {
        let broker = &new.broker;
        let parked = broker.trim(new.partition, token, &life, offset, &others).await;
        assert_eq!(parked, Ok(Fenced::Lost));
        let told = broker.unpark(new.partition, token, &life, &gateways).await;
        assert_eq!(told, Ok(Fenced::Lost));
    }
    let head = new.read_head(10).await.unwrap();
    assert_eq!((head.parked, head.items.len()), (gateways.to_vec(), 1));
}

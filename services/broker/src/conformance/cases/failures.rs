//! Servers die, forget, and move. Offsets are never given twice, and whoever read from the old life is told.

use std::time::Duration;

use carillon_model::Offset;

use crate::{
    ChannelAppend, ChannelItem, Fenced, LeaseName, QueueItem,
    conformance::{
        Case,
        stage::{KEPT, LONG, Owner, PATIENCE, Stage, entries, eventually, keyed, one, request, without_gaps},
    },
};

pub(super) const CASES: &[Case] = &[
    case!(a_restart_keeps_everything_and_is_another_life, Restart),
    case!(offsets_are_raised_when_the_life_changed, Restart),
    case!(a_lost_tail_gives_no_offset_twice, FailOver),
    case!(a_lost_grant_is_worth_nothing, FailOver),
    case!(a_channel_that_lost_its_tail_says_so, FailOver),
    case!(a_life_that_was_lost_is_over, FailOver),
    case!(a_reader_goes_on_after_a_failover, FailOver),
    case!(a_flushed_broker_starts_anew_above_everything, Flush),
    case!(a_join_after_a_flush_begins_above_everything, Flush),
    case!(a_partition_moves_under_load, MovePartition),
];

const CAP: u64 = 10_000;

async fn a_restart_keeps_everything_and_is_another_life(stage: Stage) {
    let room = stage.room(0);
    let first = stage.append(&room, "first").await;
    let second = stage.append(&room, "second").await;
    let gateway = stage.gateway("gateway").await;
    let mut owner = stage.own("owner").await;
    let items = owner.read().await;
    owner.must_record(entries(&items[..1], KEPT)).await;
    owner.trim(first).await;
    stage
        .broker
        .append_channel(&gateway, "entry".into(), CAP)
        .await
        .unwrap();
    let before = stage.broker.lives(Some(&gateway)).await.unwrap();

    stage.installation.restart().await;

    let after = settled_lives(&stage, &before).await;
    for (old, new) in before.partitions.iter().zip(&after.partitions) {
        assert_ne!(old, new);
    }
    assert_ne!(
        before.channel,
        stage.broker.lives(Some(&gateway)).await.unwrap().channel
    );
    // The old life's reading is worth nothing, though the lease is still there.
    assert_eq!(patient(&owner, &items[1..]).await, Fenced::Lost);
    let head = eventually!("the head can be read", owner.read_head(10).await.ok());
    assert_eq!(head.items, items[1..]);
    assert_eq!(Some(&head.life), after.of(stage.partition));
    assert!(head.owned);
    owner.life = head.life;
    owner.drain().await;
    let kept = stage.history(&room, Offset::ZERO).await.items;
    assert_eq!(
        kept.iter().map(|item| item.offset).collect::<Vec<_>>(),
        [first, second]
    );
    assert_eq!(kept[1].prev, first);
    assert_eq!(
        stage.broker.append_channel(&gateway, "after".into(), CAP).await,
        Ok(ChannelAppend::Kept)
    );
    assert_eq!(stage.broker.renew(&gateway, LONG).await, Ok(true));
}

/// A record that waits for the connection to come back.
async fn patient(owner: &Owner, items: &[QueueItem]) -> Fenced<crate::RecordOutcome> {
    eventually!("the server answers", {
        let record = crate::Record {
            partition: owner.partition,
            token: owner.token,
            life: owner.life.clone(),
            horizon: owner.horizon,
            entries: entries(items, KEPT),
        };
        owner.broker.record(record).await.ok()
    })
}

/// The lives after they changed, once they are told without errors.
async fn settled_lives(stage: &Stage, before: &crate::Lives) -> crate::Lives {
    eventually!("the lives changed", {
        let lives = stage.broker.lives(None).await.unwrap_or_else(|_| before.clone());
        let changed = lives
            .partitions
            .iter()
            .zip(&before.partitions)
            .all(|(new, old)| new != old);
        changed.then_some(lives)
    })
}

/// An append that is repeated until it is answered, by key.
pub(super) async fn append_patiently(stage: &Stage, text: &str, known: Offset) -> Offset {
    let room = [stage.room(0)];
    let outcome = eventually!("it is appended", {
        let mut append = request(stage.partition, vec![keyed(&room, text, "p", text)]);
        append.known = known;
        stage.broker.append(append).await.ok()
    });
    one(outcome).offsets[0]
}

async fn offsets_are_raised_when_the_life_changed(stage: Stage) {
    let before = append_patiently(&stage, "before", Offset::ZERO).await;
    stage.installation.restart().await;
    let known = Offset::new(before.milliseconds + 3_600_000, 5);
    let after = append_patiently(&stage, "after", known).await;
    assert!(
        after > known,
        "{after} is not above what the caller knew, {known}"
    );
    // Once for each life: the next one follows closely.
    let next = append_patiently(&stage, "next", Offset::ZERO).await;
    assert!(next > after && next.milliseconds < after.milliseconds + 300_000);
    // Taking the partition raises as well.
    stage.installation.restart().await;
    let known = Offset::new(next.milliseconds + 3_600_000, 5);
    let owner = crate::Incarnation::new("owner", "1");
    eventually!("the partition is taken", {
        stage
            .broker
            .acquire_partition(stage.partition, &owner, LONG, known)
            .await
            .ok()
            .flatten()
    });
    let raised = stage.look(&stage.room(0)).await.partition.queue_last;
    assert!(raised >= known, "{raised} is below {known}");
    assert!(append_patiently(&stage, "last", Offset::ZERO).await > known);
}

async fn a_lost_tail_gives_no_offset_twice(stage: Stage) {
    let kept = append_patiently(&stage, "kept", Offset::ZERO).await;
    stage.installation.mark().await;
    let mut lost = Vec::new();
    for number in 0..5 {
        lost.push(append_patiently(&stage, &format!("lost {number}"), Offset::ZERO).await);
    }
    stage.installation.fail_over().await;
    // Whoever appends first after it knows nothing of the lost ones.
    let next = append_patiently(&stage, "next", Offset::ZERO).await;
    assert!(next > *lost.last().unwrap(), "{next} was given before: {lost:?}");
    let queue = without_gaps(stage.queue().await);
    let queue: Vec<Offset> = queue.iter().map(|item| item.offset).collect();
    assert_eq!(queue, [kept, next]);
}

async fn a_lost_grant_is_worth_nothing(stage: Stage) {
    append_patiently(&stage, "text", Offset::ZERO).await;
    stage.installation.mark().await;
    let mut lost = stage.own("lost").await;
    let items = lost.read().await;
    stage.installation.fail_over().await;
    let heir = eventually!("it is free", {
        let owner = crate::Incarnation::new("heir", "1");
        stage
            .broker
            .acquire_partition(stage.partition, &owner, LONG, Offset::ZERO)
            .await
            .ok()
            .flatten()
    });
    assert_ne!(heir.token, lost.token, "a token was given twice");
    assert_ne!(heir.life, lost.life);
    // Even one that sees the new life does not get through with the old token.
    lost.life = heir.life;
    assert_eq!(patient(&lost, &items).await, Fenced::Lost);
    assert_eq!(lost.trim(items[0].offset).await, Fenced::Lost);
    let lease = LeaseName::Partition(stage.partition);
    assert_eq!(
        stage.broker.renew_lease(&lease, lost.token, LONG).await,
        Ok(false)
    );
    assert_eq!(stage.broker.renew_lease(&lease, heir.token, LONG).await, Ok(true));
}

async fn a_channel_that_lost_its_tail_says_so(stage: Stage) {
    let gateway = stage.gateway("gateway").await;
    let mut reader = stage.broker.open_channel(&gateway).await.unwrap();
    let append = |text: &'static str| stage.broker.append_channel(&gateway, text.into(), CAP);
    append("kept").await.unwrap();
    assert_eq!(reader.read(10, PATIENCE).await.unwrap().items.len(), 1);
    stage.installation.mark().await;
    append("lost").await.unwrap();
    let read = reader.read(10, PATIENCE).await.unwrap();
    assert_eq!(read.items, [ChannelItem::Entry("lost".into())]);
    stage.installation.fail_over().await;
    let told = eventually!("the reader is told", {
        reader
            .read(10, Duration::from_millis(100))
            .await
            .ok()
            .filter(|read| read.lost)
    });
    assert_ne!(told.life, read.life);
    eventually!("the gateway is written to again", {
        append("after")
            .await
            .ok()
            .filter(|appended| *appended == ChannelAppend::Kept)
    });
    eventually!("it reads on", {
        reader
            .read(10, Duration::from_millis(100))
            .await
            .ok()
            .filter(|read| read.items.contains(&ChannelItem::Entry("after".into())))
    });
}

async fn a_life_that_was_lost_is_over(stage: Stage) {
    let known = stage.gateway("known").await;
    stage.installation.mark().await;
    let lost = stage.gateway("lost").await;
    stage.installation.fail_over().await;
    let renewed = eventually!("it answers", { stage.broker.renew(&lost, LONG).await.ok() });
    assert!(!renewed);
    assert_eq!(
        stage.broker.append_channel(&lost, "entry".into(), CAP).await,
        Ok(ChannelAppend::Dead)
    );
    assert_eq!(stage.broker.renew(&known, LONG).await, Ok(true));
}

async fn a_reader_goes_on_after_a_failover(stage: Stage) {
    let kept = append_patiently(&stage, "kept", Offset::ZERO).await;
    let mut owner = stage.own("owner").await;
    stage.installation.mark().await;
    append_patiently(&stage, "lost", Offset::ZERO).await;
    assert_eq!(owner.read().await.len(), 2);
    stage.installation.fail_over().await;
    let next = append_patiently(&stage, "next", Offset::ZERO).await;
    let head = eventually!("the head can be read", owner.read_head(10).await.ok());
    assert_ne!(head.life, owner.life);
    assert_eq!(head.handled, kept.just_below());
    let items = without_gaps(head.items);
    let offsets: Vec<Offset> = items.iter().map(|item| item.offset).collect();
    assert_eq!(offsets, [kept, next]);
    let read = eventually!("it reads on", {
        owner.read_after(kept, 10, Duration::from_millis(100)).await.ok()
    });
    assert_eq!(
        (without_gaps(read.items), read.life),
        (items[1..].to_vec(), head.life)
    );
}

async fn a_flushed_broker_starts_anew_above_everything(stage: Stage) {
    let room = stage.room(0);
    let gateway = stage.gateway("gateway").await;
    append_patiently(&stage, "first", Offset::ZERO).await;
    let mut owner = stage.own("owner").await;
    owner.drain().await;
    let second = append_patiently(&stage, "second", Offset::ZERO).await;

    stage.installation.flush().await;

    assert_eq!(stage.broker.renew(&gateway, LONG).await, Ok(false));
    assert_eq!(
        stage.broker.append_channel(&gateway, "entry".into(), CAP).await,
        Ok(ChannelAppend::Dead)
    );
    let page = stage.history(&room, Offset::ZERO).await;
    assert_eq!((page.last, page.items), (None, Vec::new()));
    assert_eq!(owner.trim(second).await, Fenced::Lost, "its lease is gone");
    let third = append_patiently(&stage, "third", Offset::ZERO).await;
    assert!(third > second, "{third} may have been given before: {second}");
    let state = stage.look(&room).await.partition;
    assert!(state.birth < third);
    assert!(
        state.birth > second,
        "nobody is told that nothing is missing since {second}"
    );
    let mut heir = stage.own("heir").await;
    let prev = heir.drain().await.entries[0].prev.unwrap();
    assert!(
        prev >= state.birth,
        "nothing is known of what was before the birth"
    );
}

/// Routes are asserted again before anything is appended.
async fn a_join_after_a_flush_begins_above_everything(stage: Stage) {
    let rooms = [stage.room(0)];
    let first = append_patiently(&stage, "first", Offset::ZERO).await;

    stage.installation.flush().await;

    let gateway = stage.gateway("gateway").await;
    let state = stage
        .broker
        .add_routes(stage.partition, &rooms, &gateway)
        .await
        .unwrap();
    assert!(
        state.partition.birth > first,
        "nobody is told that nothing is missing since {first}"
    );
    assert_eq!(state.partition.handled, state.partition.birth);
    append_patiently(&stage, "second", first).await;
    let again = stage.look(&rooms[0]).await.partition;
    assert_eq!(
        again.birth, state.partition.birth,
        "who joined meanwhile misses nothing"
    );
}

async fn a_partition_moves_under_load(stage: Stage) {
    const MESSAGES: usize = 300;
    let room = stage.room(0);
    let producer = {
        let stage = stage.clone();
        tokio::spawn(async move {
            let mut sent = Vec::new();
            for number in 0..MESSAGES {
                sent.push(append_patiently(&stage, &number.to_string(), Offset::ZERO).await);
            }
            sent
        })
    };
    let moving = {
        let stage = stage.clone();
        tokio::spawn(async move { stage.installation.move_partition(stage.partition).await })
    };
    let mut owner = stage.own("owner").await;
    let mut handled: Vec<Offset> = Vec::new();
    while handled.len() < MESSAGES {
        // After any error the batch is dropped and read again from the head, as a dispatcher does.
        let Ok(head) = owner.read_head(20).await else {
            tokio::time::sleep(Duration::from_millis(5)).await;
            continue;
        };
        if !head.owned {
            owner = Owner::take_over(stage.another().await, stage.partition, "owner").await;
            continue;
        }
        owner.life = head.life;
        let record = crate::Record {
            partition: owner.partition,
            token: owner.token,
            life: owner.life.clone(),
            horizon: head.handled,
            entries: entries(&head.items, KEPT),
        };
        let Ok(Fenced::Done(_)) = owner.broker.record(record).await else {
            continue;
        };
        let Some(last) = head.items.last() else {
            tokio::time::sleep(Duration::from_millis(2)).await;
            continue;
        };
        let trimmed = owner
            .broker
            .trim(owner.partition, owner.token, &owner.life, last.offset, &[])
            .await;
        let seen: Vec<Offset> = head.items.iter().map(|item| item.offset).collect();
        let known = handled.last().copied().unwrap_or_default();
        handled.extend(seen.into_iter().filter(|offset| *offset > known));
        drop(trimmed);
    }
    moving.await.unwrap();
    let sent = producer.await.unwrap();
    assert_eq!(handled, sent, "every message once, in order");
    let kept = stage.history(&room, Offset::ZERO).await.items;
    assert_eq!(
        kept.iter().map(|item| item.offset).collect::<Vec<_>>(),
        sent[MESSAGES - kept.len()..]
    );
    super::prev::assert_chain(
        &kept
            .iter()
            .map(|item| (item.offset, item.prev))
            .collect::<Vec<_>>(),
    );
}

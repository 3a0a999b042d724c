//! One owner at a time, most of the time; greater and greater tokens, always.

use std::time::Duration;

use carillon_model::Offset;

use crate::{
    Fenced, FencingToken, Incarnation, LeaseName,
    conformance::{
        Case,
        stage::{KEPT, LONG, SHORT, Stage, entries, eventually},
    },
};

pub(super) const CASES: &[Case] = &[
    case!(a_partition_has_one_owner_and_tokens_grow),
    case!(a_lease_that_runs_out_is_free_and_its_token_is_not_renewed),
    case!(a_lease_that_ran_out_has_no_power),
    case!(a_lease_that_is_renewed_stays),
    case!(giving_back_frees_at_once_and_only_for_the_owner),
    case!(a_grant_says_where_the_partition_stands),
    case!(lists_have_leases_of_their_own),
];

fn owner(name: &str) -> Incarnation {
    Incarnation::new(name, "1")
}

async fn take(stage: &Stage, name: &str, lasts: Duration) -> Option<FencingToken> {
    stage
        .broker
        .acquire_partition(stage.partition, &owner(name), lasts, Offset::ZERO)
        .await
        .unwrap()
        .map(|grant| grant.token)
}

async fn a_partition_has_one_owner_and_tokens_grow(stage: Stage) {
    let lease = LeaseName::Partition(stage.partition);
    let mut last = FencingToken(0);
    for round in 0..5 {
        let token = take(&stage, "one", LONG).await.expect("nobody holds it");
        assert!(token > last, "round {round}: {token:?} after {last:?}");
        assert_eq!(take(&stage, "two", LONG).await, None);
        assert_eq!(take(&stage, "one", LONG).await, None, "its owner has it already");
        stage.broker.release_lease(&lease, token).await.unwrap();
        last = token;
    }
    // Another partition is another matter.
    let other = stage.broker.partitions().partitions().next().unwrap();
    assert!(take(&stage, "one", LONG).await.is_some());
    let grant = stage
        .broker
        .acquire_partition(other, &owner("two"), LONG, Offset::ZERO)
        .await;
    assert!(grant.unwrap().is_some());
}

async fn a_lease_that_runs_out_is_free_and_its_token_is_not_renewed(stage: Stage) {
    let lease = LeaseName::Partition(stage.partition);
    let old = take(&stage, "old", SHORT).await.unwrap();
    let new = eventually!("it ran out", take(&stage, "new", LONG).await);
    assert!(new > old);
    assert_eq!(stage.broker.renew_lease(&lease, old, LONG).await, Ok(false));
    assert_eq!(stage.broker.renew_lease(&lease, new, LONG).await, Ok(true));
    // Nobody took it, and still it is over.
    eventually!("the lease ran out", {
        let renewed = stage
            .broker
            .renew_lease(&lease, new, Duration::from_millis(1))
            .await;
        (renewed == Ok(false)).then_some(())
    });
}

async fn a_lease_that_ran_out_has_no_power(stage: Stage) {
    let offset = stage.append(&stage.room(0), "text").await;
    let mut owner = stage.own("owner").await;
    let items = owner.read().await;
    owner.stall().await;
    // Nobody took it yet. What a token may do must not hang on whether somebody else was quick.
    eventually!("the lease ran out", {
        let head = owner.read_head(10).await.unwrap();
        (!head.owned).then_some(())
    });
    assert_eq!(owner.record(entries(&items, KEPT)).await, Fenced::Lost);
    assert_eq!(owner.trim(offset).await, Fenced::Lost);
    assert_eq!(stage.queue().await, items);
}

async fn a_lease_that_is_renewed_stays(stage: Stage) {
    let lease = LeaseName::Partition(stage.partition);
    let token = take(&stage, "one", Duration::from_secs(5)).await.unwrap();
    assert_eq!(stage.broker.renew_lease(&lease, token, LONG).await, Ok(true));
    let control = stage.installation.list("control");
    let control_free = async |lasts| {
        let owner = owner("control");
        stage.broker.acquire_list(&control, &owner, lasts).await.unwrap()
    };
    assert!(control_free(SHORT).await.is_some());
    eventually!("a short lease ran out", control_free(LONG).await);
    assert_eq!(take(&stage, "two", LONG).await, None);
    assert_eq!(stage.broker.renew_lease(&lease, token, LONG).await, Ok(true));
}

async fn giving_back_frees_at_once_and_only_for_the_owner(stage: Stage) {
    let lease = LeaseName::Partition(stage.partition);
    let old = take(&stage, "old", LONG).await.unwrap();
    stage
        .broker
        .release_lease(&lease, FencingToken(old.0 + 1))
        .await
        .unwrap();
    assert_eq!(take(&stage, "new", LONG).await, None);
    stage.broker.release_lease(&lease, old).await.unwrap();
    let new = take(&stage, "new", LONG).await.expect("it was given back");
    stage.broker.release_lease(&lease, old).await.unwrap();
    assert_eq!(
        stage.broker.renew_lease(&lease, new, LONG).await,
        Ok(true),
        "the old token frees nothing"
    );
    assert_eq!(take(&stage, "third", LONG).await, None);
}

async fn a_grant_says_where_the_partition_stands(stage: Stage) {
    let room = stage.room(0);
    let state = stage.look(&room).await.partition;
    let mut one = stage.own("one").await;
    assert_eq!(one.life, state.life);
    assert!(one.horizon >= state.birth);
    let first = stage.append(&room, "first").await;
    assert!(one.horizon < first);
    one.drain().await;
    one.release().await;
    let two = stage.own("two").await;
    assert_eq!(two.horizon, first);
    two.release().await;
    let second = stage.append(&room, "second").await;
    assert_eq!(stage.own("three").await.horizon, second.just_below());
    let lives = stage.broker.lives(None).await.unwrap();
    assert_eq!(lives.of(stage.partition), Some(&two.life));
}

async fn lists_have_leases_of_their_own(stage: Stage) {
    let lists = [stage.installation.list("one"), stage.installation.list("two")];
    let broker = &stage.broker;
    let mut last = FencingToken(0);
    for _ in 0..3 {
        let grant = broker
            .acquire_list(&lists[0], &owner("one"), LONG)
            .await
            .unwrap()
            .unwrap();
        assert!(grant.token > last);
        assert_eq!(
            broker.acquire_list(&lists[0], &owner("two"), LONG).await,
            Ok(None)
        );
        last = grant.token;
        broker
            .release_lease(&LeaseName::List(lists[0].clone()), last)
            .await
            .unwrap();
    }
    assert!(
        broker
            .acquire_list(&lists[0], &owner("one"), LONG)
            .await
            .unwrap()
            .is_some()
    );
    let other = broker
        .acquire_list(&lists[1], &owner("two"), SHORT)
        .await
        .unwrap()
        .unwrap();
    let lease = LeaseName::List(lists[1].clone());
    assert_eq!(
        broker
            .renew_lease(&lease, FencingToken(other.token.0 + 1), LONG)
            .await,
        Ok(false)
    );
    let heir = eventually!("the list's lease ran out", {
        broker
            .acquire_list(&lists[1], &owner("three"), LONG)
            .await
            .unwrap()
    });
    assert!(heir.token > other.token);
    assert_eq!(broker.renew_lease(&lease, other.token, LONG).await, Ok(false));
    assert_eq!(broker.renew_lease(&lease, heir.token, LONG).await, Ok(true));
}

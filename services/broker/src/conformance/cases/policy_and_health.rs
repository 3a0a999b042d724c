//! The policy snapshot, and what is known of the servers.

use crate::{
    PolicySnapshot,
    conformance::{Case, stage::Stage},
};

pub(super) const CASES: &[Case] = &[
    case!(the_policy_snapshot_is_replaced_as_a_whole),
    case!(lives_are_told_for_every_partition_and_stay_while_nothing_happens),
    case!(a_healthy_broker_says_so),
];

async fn the_policy_snapshot_is_replaced_as_a_whole(stage: Stage) {
    assert_eq!(stage.broker.load_policy().await, Ok(None));
    let other = stage.another().await;
    for (revision, document) in [
        ("r1", "rooms: []\n"),
        ("r2", "anonymous: { sessions: true } # größer\n"),
    ] {
        let snapshot = PolicySnapshot {
            revision: revision.to_owned(),
            document: document.into(),
        };
        stage.broker.store_policy(&snapshot).await.unwrap();
        assert_eq!(other.load_policy().await, Ok(Some(snapshot)));
    }
}

async fn lives_are_told_for_every_partition_and_stay_while_nothing_happens(stage: Stage) {
    let gateway = stage.gateway("gateway").await;
    let lives = stage.broker.lives(Some(&gateway)).await.unwrap();
    assert_eq!(
        lives.partitions.len(),
        usize::from(stage.broker.partitions().get())
    );
    assert!(lives.channel.is_some());
    assert!(lives.partitions.iter().all(|life| !life.0.is_empty()));
    stage.append(&stage.room(0), "text").await;
    let mut owner = stage.own("owner").await;
    owner.drain().await;
    assert_eq!(lives.of(stage.partition), Some(&owner.life));
    assert_eq!(stage.look(&stage.room(0)).await.partition.life, owner.life);
    assert_eq!(stage.another().await.lives(Some(&gateway)).await, Ok(lives));
    assert_eq!(stage.broker.lives(None).await.unwrap().channel, None);
}

async fn a_healthy_broker_says_so(stage: Stage) {
    assert_eq!(stage.broker.check().await, Ok(()));
    let pressure = stage.broker.pressure().await.unwrap().memory;
    assert!((0.0..1.0).contains(&pressure), "{pressure}");
}

//! Who is alive, by the server's clock alone.

use std::time::Duration;

use carillon_model::Offset;

use crate::{
    Incarnation, ProcessState, ServiceKind,
    conformance::{
        Case,
        stage::{LONG, SHORT, Stage, eventually, member},
    },
};

pub(super) const CASES: &[Case] = &[
    case!(members_are_known_by_kind_and_in_order),
    case!(reports_are_seen_and_prolong_nothing),
    case!(a_life_that_is_renewed_goes_on),
    case!(a_life_that_is_over_never_comes_back),
    case!(whoever_leaves_is_gone_at_once),
    case!(it_is_known_who_left_in_order),
    case!(the_same_pod_may_live_again_under_another_incarnation),
];

async fn known(stage: &Stage, kind: ServiceKind) -> Vec<Incarnation> {
    let members = stage.broker.members(kind).await.unwrap();
    members.into_iter().map(|member| member.incarnation).collect()
}

/// Registers somebody short-lived and waits until its time is over.
async fn let_something_die(stage: &Stage) {
    let control = member(ServiceKind::Ingest, "control");
    stage.broker.register(&control, SHORT).await.unwrap();
    eventually!("the control is dead", {
        let members = known(stage, ServiceKind::Ingest).await;
        (!members.contains(&control.incarnation)).then_some(())
    });
}

async fn members_are_known_by_kind_and_in_order(stage: Stage) {
    for name in ["b", "c", "a"] {
        stage
            .broker
            .register(&member(ServiceKind::Gateway, name), LONG)
            .await
            .unwrap();
    }
    let mut dispatcher = member(ServiceKind::Dispatcher, "d");
    dispatcher.address = "10.0.0.1:3000".to_owned();
    dispatcher.draining = true;
    dispatcher.policy_revision = "r1".to_owned();
    dispatcher.last_probe = Some(Offset::new(5, 6));
    stage.broker.register(&dispatcher, LONG).await.unwrap();
    let expected = ["a", "b", "c"].map(|name| Incarnation::new(name, "1"));
    assert_eq!(known(&stage, ServiceKind::Gateway).await, expected);
    let other = stage.another().await;
    assert_eq!(other.members(ServiceKind::Dispatcher).await, Ok(vec![dispatcher]));
    assert_eq!(other.members(ServiceKind::Ingest).await, Ok(Vec::new()));
}

async fn reports_are_seen_and_prolong_nothing(stage: Stage) {
    let mut living = member(ServiceKind::Gateway, "living");
    stage.broker.register(&living, LONG).await.unwrap();
    living.sessions = 42;
    living.draining = true;
    stage.broker.report(&living).await.unwrap();
    assert_eq!(
        stage.broker.members(ServiceKind::Gateway).await,
        Ok(vec![living.clone()])
    );

    let short = member(ServiceKind::Gateway, "short");
    stage.broker.register(&short, SHORT).await.unwrap();
    eventually!("it dies although it reports", {
        stage.broker.report(&short).await.unwrap();
        let members = known(&stage, ServiceKind::Gateway).await;
        (members == [living.incarnation.clone()]).then_some(())
    });
    stage.broker.report(&short).await.unwrap();
    assert_eq!(known(&stage, ServiceKind::Gateway).await, [living.incarnation]);
}

async fn a_life_that_is_renewed_goes_on(stage: Stage) {
    let gateway = member(ServiceKind::Gateway, "gateway");
    stage
        .broker
        .register(&gateway, Duration::from_secs(5))
        .await
        .unwrap();
    assert_eq!(stage.broker.renew(&gateway.incarnation, LONG).await, Ok(true));
    let_something_die(&stage).await;
    assert_eq!(
        known(&stage, ServiceKind::Gateway).await,
        [gateway.incarnation.clone()]
    );
    // A renewal sets the time, it does not add to it.
    assert_eq!(stage.broker.renew(&gateway.incarnation, SHORT).await, Ok(true));
    eventually!("it is dead", {
        known(&stage, ServiceKind::Gateway).await.is_empty().then_some(())
    });
}

async fn a_life_that_is_over_never_comes_back(stage: Stage) {
    let gateway = member(ServiceKind::Gateway, "gateway");
    stage.broker.register(&gateway, SHORT).await.unwrap();
    eventually!("it is dead", {
        let renewed = stage
            .broker
            .renew(&gateway.incarnation, Duration::from_millis(1))
            .await;
        (renewed == Ok(false)).then_some(())
    });
    assert_eq!(known(&stage, ServiceKind::Gateway).await, [], "at once");
    for _ in 0..2 {
        assert_eq!(stage.broker.renew(&gateway.incarnation, LONG).await, Ok(false));
    }
    assert_eq!(known(&stage, ServiceKind::Gateway).await, []);
    assert_eq!(
        stage.broker.renew(&Incarnation::new("nobody", "1"), LONG).await,
        Ok(false)
    );
}

async fn whoever_leaves_is_gone_at_once(stage: Stage) {
    let (one, two) = (stage.gateway("one").await, stage.gateway("two").await);
    stage.broker.deregister(&one).await.unwrap();
    assert_eq!(known(&stage, ServiceKind::Gateway).await, [two.clone()]);
    assert_eq!(stage.broker.renew(&one, LONG).await, Ok(false));
    // Leaving twice is fine.
    stage.broker.deregister(&one).await.unwrap();
    assert_eq!(known(&stage, ServiceKind::Gateway).await, [two]);
}

async fn it_is_known_who_left_in_order(stage: Stage) {
    let (lives, left) = (stage.gateway("lives").await, stage.gateway("left").await);
    stage.broker.deregister(&left).await.unwrap();
    let [died, renamed] = ["died", "renamed"].map(|name| member(ServiceKind::Ingest, name));
    for short in [&died, &renamed] {
        stage.broker.register(short, SHORT).await.unwrap();
    }
    let asked = [&lives, &left, &died.incarnation, &renamed.incarnation].map(Clone::clone);
    eventually!("the short-lived are dead", {
        let states = stage.broker.process_states(&asked).await.unwrap();
        use ProcessState::{Alive, Dead, Left};
        (states == [Alive, Left, Dead, Dead]).then_some(())
    });
    let listed = stage.broker.list_members(ServiceKind::Gateway).await.unwrap();
    assert_eq!(listed.living.len(), 1);
    let names: Vec<_> = listed
        .listed
        .iter()
        .map(|(_, incarnation)| incarnation.pod())
        .collect();
    assert!(
        names.contains(&"died"),
        "the dead of other kinds stay listed: {names:?}"
    );

    let mut again = renamed.clone();
    again.incarnation = Incarnation::new("renamed", "2");
    stage
        .broker
        .register_again(&again, LONG, &renamed.incarnation)
        .await
        .unwrap();
    let states = stage.another().await.process_states(&asked).await.unwrap();
    assert_eq!(states[3], ProcessState::Left);
    assert_eq!(known(&stage, ServiceKind::Ingest).await, [again.incarnation]);
}

async fn the_same_pod_may_live_again_under_another_incarnation(stage: Stage) {
    let gateway = stage.gateway("gateway").await;
    stage.broker.deregister(&gateway).await.unwrap();
    let mut again = member(ServiceKind::Gateway, "gateway");
    again.incarnation = Incarnation::new("gateway", "2");
    stage.broker.register(&again, LONG).await.unwrap();
    assert_eq!(known(&stage, ServiceKind::Gateway).await, [again.incarnation]);
    assert_eq!(stage.broker.renew(&gateway, LONG).await, Ok(false));
}

//! What the others see of an ingest.

use std::{sync::Arc, time::Duration};

use carillon_broker::{
    Membership, MemoryBroker, ServiceKind,
    memory::{MemoryOptions, ops},
};
use carillon_ingest::Registration;
use carillon_model::{PartitionCount, policy::Policy};
use tokio::sync::{oneshot, watch};

fn policy(text: &str) -> Arc<Policy> {
    Arc::new(Policy::parse_yaml(text).unwrap())
}

#[tokio::test(start_paused = true)]
async fn others_see_it_its_policy_and_its_end() {
    let options = MemoryOptions::new(PartitionCount::new(1).unwrap(), 1_732_377_600_000);
    let broker = Arc::new(MemoryBroker::new(options));
    let (first, second) = (policy("anonymous: { producers: true }"), policy("rooms: []"));
    let (writer, policy) = watch::channel(Arc::clone(&first));
    let registration = Arc::new(Registration::new(broker.clone(), "ingest-0", policy));
    let (drain, drained) = oneshot::channel::<()>();
    let keeping = tokio::spawn({
        let registration = Arc::clone(&registration);
        async move { registration.keep(async { drop(drained.await) }).await }
    });
    let seen = async |what: &str, is_so: &dyn Fn(&[carillon_broker::Member]) -> bool| {
        for _ in 0..100 {
            let members = broker.members(ServiceKind::Ingest).await.unwrap();
            if is_so(&members) {
                return members;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("never: {what}");
    };
    let members = seen("registered", &|members| members.len() == 1).await;
    assert_eq!(members[0].incarnation.pod(), "ingest-0");
    assert_eq!(members[0].policy_revision, &*first.revision);

    writer.send_replace(Arc::clone(&second));
    tokio::time::sleep(Duration::from_millis(10)).await;
    let members = broker.members(ServiceKind::Ingest).await.unwrap();
    assert_eq!(members[0].policy_revision, &*second.revision, "at once");

    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(
        broker.members(ServiceKind::Ingest).await.unwrap(),
        members,
        "it stays alive"
    );
    let dead = members[0].incarnation.clone();
    broker.write(0, |state, _| ops::membership::end_life(state, &dead));
    seen("another incarnation", &|members| {
        members.iter().any(|member| member.incarnation != dead)
    })
    .await;

    drain.send(()).unwrap();
    seen("draining", &|members| {
        members.iter().all(|member| member.draining)
    })
    .await;
    keeping.abort();
    registration.leave().await;
    assert!(broker.members(ServiceKind::Ingest).await.unwrap().is_empty());
}

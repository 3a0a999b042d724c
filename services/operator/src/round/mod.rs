//! One round: dereference → validate → build → apply → prune → status, over everything at once.
//!
//! A policy is one thing, so a change of any object leads to one round over all of them; most rounds write nothing.
//! What fails is told on the object, counted, and tried again in the next round.

mod broker;
mod cluster;
mod keys;
mod memory;
mod policy;
mod statuses;

use std::{sync::Arc, time::Duration};

use carillon_broker::SharedBroker;
use k8s_openapi::jiff::Timestamp;
use tokio::time::Instant;

pub(crate) use memory::Memory;

use crate::{
    apply::Applier,
    events::Events,
    metrics::{Kind, OperatorMetrics},
    operator::OperatorSettings,
    picture::Picture,
    validate,
};

/// The pause after a round in which everything was as it should be.
const SETTLED: Duration = Duration::from_secs(5);
/// The pause while something is under way.
const UNDER_WAY: Duration = Duration::from_secs(1);

/// What rounds work with.
#[derive(Clone, Debug)]
pub(crate) struct Tools {
    pub(crate) settings: Arc<OperatorSettings>,
    pub(crate) broker: SharedBroker,
    pub(crate) applier: Applier,
    pub(crate) events: Events,
    pub(crate) metrics: OperatorMetrics,
}

/// Judged objects of one round.
#[derive(Debug)]
struct Judged {
    clusters: Vec<validate::Judged<crate::resources::PushClusterSpec>>,
    rooms: Vec<validate::Judged<crate::resources::PushRoomSpec>>,
    producers: Vec<validate::Judged<crate::resources::PushProducerSpec>>,
}

/// Goes once round; the answer is when to go again if nothing changes.
pub(crate) async fn round(tools: &Tools, memory: &mut Memory, picture: Picture) -> Duration {
    let home = &tools.settings.namespace;
    memory.learn(&picture);
    let Picture {
        clusters,
        rooms,
        producers,
        secrets,
        pods,
        deployments,
    } = picture;
    let judged = Judged {
        clusters: validate::clusters(clusters, &memory.clusters, &tools.settings.cluster()),
        rooms: validate::rooms(rooms, &memory.rooms),
        producers: validate::producers(producers, &memory.producers, home),
    };
    count(&tools.metrics, Kind::Cluster, &judged.clusters);
    count(&tools.metrics, Kind::Room, &judged.rooms);
    count(&tools.metrics, Kind::Producer, &judged.producers);

    let timer = tools.metrics.seconds.with(Kind::Producer).start_timer();
    let keys = policy::keep_keys(tools, memory, &judged.producers, &secrets).await;
    timer.observe_duration();

    let timer = tools.metrics.seconds.with(Kind::Cluster).start_timer();
    let outcome = policy::program(tools, memory, &judged, &keys, &pods).await;
    let now = (Timestamp::now(), Instant::now());
    let cluster_ok = cluster::look_after(tools, memory, &judged, &outcome, &pods, &deployments, now).await;
    timer.observe_duration();
    tools
        .metrics
        .reconciled(Kind::Cluster, cluster_ok && outcome.living.is_some());

    let producers_ok = statuses::producers(tools, memory, &judged.producers, &keys, &outcome, now.0).await;
    tools
        .metrics
        .reconciled(Kind::Producer, producers_ok && keys.values().all(Result::is_ok));
    let timer = tools.metrics.seconds.with(Kind::Room).start_timer();
    let rooms_ok = statuses::rooms(tools, memory, &judged.rooms, &outcome, now.0).await;
    timer.observe_duration();
    tools.metrics.reconciled(Kind::Room, rooms_ok);

    let under_way =
        !outcome.overall.status.is_true() || keys.values().flatten().any(|kept| kept.state.next.is_some());
    if under_way || !(cluster_ok && producers_ok && rooms_ok) {
        UNDER_WAY
    } else {
        SETTLED
    }
}

fn count<S>(metrics: &OperatorMetrics, kind: Kind, judged: &[validate::Judged<S>]) {
    let accepted = judged.iter().filter(|one| one.accepted.status.is_true()).count();
    metrics.count(kind, accepted, judged.len() - accepted);
}

#[cfg(test)]
mod tests;

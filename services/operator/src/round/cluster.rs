//! The installation as a whole: what its pods cost, how many there are, and how it is.

use std::sync::Arc;

use carillon_broker::{Member, ServiceKind};
use k8s_openapi::{
    api::{apps::v1::Deployment, core::v1::Pod},
    jiff::Timestamp,
};
use kube::ResourceExt as _;
use tokio::time::{Duration, Instant};

use super::{Judged, Memory, Tools, policy::Outcome, statuses};
use crate::{
    events::Told,
    picture::Place,
    pods::{
        COMPONENT, cost,
        scaling::{Looks, Wanted},
    },
    resources::{
        PushCluster, PushClusterSpec, PushClusterStatus,
        cluster::Stabilization,
        condition::{PROGRAMMED, Verdict, find},
    },
    status::{
        acknowledged::word,
        cluster::{Facts, Scaling, differ_in_facts, status},
    },
    time::duration,
    validate,
};

/// How often numbers that always move are written.
const NUMBERS: Duration = Duration::from_secs(10);

/// Looks after pods and tells how the installation is. The answer says whether all could be done.
pub(super) async fn look_after(
    tools: &Tools,
    memory: &mut Memory,
    judged: &Judged,
    outcome: &Outcome,
    pods: &[Arc<Pod>],
    deployments: &[Arc<Deployment>],
    now: (Timestamp, Instant),
) -> bool {
    let mut all = true;
    let mut scaling = Scaling::default();
    let counting = judged
        .clusters
        .iter()
        .find_map(|one| Some((one, one.counts.as_ref()?)));
    if let Some(living) = &outcome.living {
        all &= write_costs(tools, pods, &living.members).await;
        if let Some((one, spec)) = counting {
            let load = (connections(&living.members), living.lag);
            scaling = scale(tools, memory, (one, spec), deployments, load, now.1).await;
        }
    } else if counting.is_some_and(|(_, spec)| spec.autoscaling.is_some()) {
        let unknown = Some("Redis does not answer, so nothing is known to scale by".to_owned());
        scaling = Scaling {
            gateways: unknown.clone(),
            dispatchers: unknown,
        };
    }
    let facts = Facts {
        progress: &outcome.progress,
        rooms: judged.rooms.iter().filter(|one| one.counts.is_some()).count(),
        producers: judged.producers.iter().filter(|one| one.counts.is_some()).count(),
        deployments,
        alive: outcome
            .living
            .as_ref()
            .map(|living| (&*living.members, living.lag)),
        gateway_selector: format!(
            "{},{COMPONENT}={}",
            tools.settings.selector,
            word(ServiceKind::Gateway)
        ),
        scaling,
    };
    for one in &judged.clusters {
        all &= tell(tools, memory, one, outcome, &facts, now).await;
    }
    all
}

fn connections(members: &[Member]) -> u64 {
    members
        .iter()
        .filter(|member| member.kind == ServiceKind::Gateway)
        .map(|member| member.sessions)
        .sum()
}

/// Writes what each gateway would cost, where its order of magnitude has changed.
async fn write_costs(tools: &Tools, pods: &[Arc<Pod>], members: &[Member]) -> bool {
    let mut all = true;
    for member in members
        .iter()
        .filter(|member| member.kind == ServiceKind::Gateway)
    {
        let Some(pod) = pods.iter().find(|pod| pod.name_any() == member.incarnation.pod()) else {
            continue;
        };
        let written = pod
            .annotations()
            .get(cost::ANNOTATION)
            .and_then(|text| cost::written(text));
        let cost = cost::cost(member.sessions, written);
        if Some(cost) == written {
            continue;
        }
        let place = Place {
            namespace: pod.namespace().unwrap_or_default(),
            name: pod.name_any(),
        };
        if let Err(error) = tools
            .applier
            .annotate_pod(&place, cost::ANNOTATION, &cost.to_string())
            .await
        {
            tracing::warn!(pod = place.name, %error, "the deletion cost could not be written; it is tried again");
            all = false;
        }
    }
    all
}

/// Sets how many pods services have. The answer is why that can't be done, where it can't.
async fn scale(
    tools: &Tools,
    memory: &mut Memory,
    (one, spec): (&validate::Judged<PushClusterSpec>, &PushClusterSpec),
    deployments: &[Arc<Deployment>],
    (connections, lag): (u64, u64),
    now: Instant,
) -> Scaling {
    let autoscaling = spec.autoscaling.clone().unwrap_or_default();
    let by_hand = spec.gateways.as_ref().and_then(|gateways| gateways.replicas);
    let about = one.seen.reference();
    let mut scaling = Scaling::default();
    if let Some(replicas) = by_hand {
        let choose = |current: i32| (current != replicas).then_some(replicas);
        let why = "spec.gateways.replicas says so".to_owned();
        scaling.gateways = set(tools, &about, ServiceKind::Gateway, deployments, choose, &why).await;
    } else if let Some(gateways) = &autoscaling.gateways {
        let wanted = wanted(
            gateways.min,
            gateways.max,
            i32::MAX,
            gateways.connections,
            &gateways.stabilization,
        );
        let choose = |current| memory.gateways.look(&wanted, current, connections, now);
        let why = format!("{connections} connections, {} for each", gateways.connections);
        scaling.gateways = set(tools, &about, ServiceKind::Gateway, deployments, choose, &why).await;
    } else {
        memory.gateways = Looks::default();
    }
    if let Some(dispatchers) = &autoscaling.dispatchers {
        let partitions = i32::from(tools.broker.partitions().get());
        let wanted = wanted(
            dispatchers.min,
            dispatchers.max,
            partitions,
            dispatchers.lag,
            &dispatchers.stabilization,
        );
        let choose = |current| memory.dispatchers.look(&wanted, current, lag, now);
        let why = format!("{lag} messages wait, {} may for each", dispatchers.lag);
        scaling.dispatchers = set(tools, &about, ServiceKind::Dispatcher, deployments, choose, &why).await;
        if dispatchers.max > partitions && scaling.dispatchers.is_none() {
            scaling.dispatchers = Some(format!(
                "max is {}, but there are {partitions} partitions and each has one dispatcher: never more than {partitions}",
                dispatchers.max
            ));
        }
    } else {
        memory.dispatchers = Looks::default();
    }
    scaling
}

fn wanted(min: i32, max: i32, cap: i32, each: u32, stabilization: &Stabilization) -> Wanted {
    Wanted {
        min,
        max,
        cap,
        each,
        up: duration(&stabilization.up).unwrap_or_default(),
        down: duration(&stabilization.down).unwrap_or_default(),
    }
}

async fn set(
    tools: &Tools,
    about: &k8s_openapi::api::core::v1::ObjectReference,
    kind: ServiceKind,
    deployments: &[Arc<Deployment>],
    choose: impl FnOnce(i32) -> Option<i32>,
    why: &str,
) -> Option<String> {
    let service = word(kind);
    let mut of_kind = deployments.iter().filter(|deployment| {
        deployment
            .labels()
            .get(COMPONENT)
            .is_some_and(|component| component == service)
    });
    let (Some(deployment), None) = (of_kind.next(), of_kind.next()) else {
        return Some(format!(
            "not scaled: there is not exactly one Deployment with the labels {},{COMPONENT}={service}",
            tools.settings.selector
        ));
    };
    let current = deployment
        .spec
        .as_ref()
        .and_then(|spec| spec.replicas)
        .unwrap_or(1);
    let replicas = choose(current)?;
    let place = Place {
        namespace: deployment.namespace().unwrap_or_default(),
        name: deployment.name_any(),
    };
    match tools.applier.scale(&place, replicas).await {
        Ok(()) => {
            let note = format!(
                "Deployment {}: from {current} to {replicas} pods, because {why}",
                place.name
            );
            tools.events.tell(about, Told::normal("Scaled", note)).await;
            None
        }
        Err(error) => Some(format!("Deployment {} could not be scaled: {error}", place.name)),
    }
}

async fn tell(
    tools: &Tools,
    memory: &mut Memory,
    one: &validate::Judged<PushClusterSpec>,
    outcome: &Outcome,
    facts: &Facts<'_>,
    (now, instant): (Timestamp, Instant),
) -> bool {
    let written = memory.status(&one.seen);
    let before: PushClusterStatus = serde_json::from_value(written.clone()).unwrap_or_default();
    let counts = one.accepted.status.is_true();
    let programmed = if counts {
        outcome.overall.clone()
    } else {
        Verdict::no("NotAccepted", "the condition Accepted says why")
    };
    let generation = one.seen.generation();
    let conditions = statuses::Conditions::new(&written, generation, &one.accepted, Some(&programmed), now);
    let mut told = conditions.told();
    told.extend(redis_told(&conditions));
    let mut after = if one.accepted.reason == "NotInCharge" {
        PushClusterStatus::default()
    } else {
        status(facts, &before)
    };
    after.conditions = conditions.after;
    let lately = memory
        .numbers_written
        .is_some_and(|at| instant.duration_since(at) < NUMBERS);
    if lately && !differ_in_facts(&before, &after) {
        return true;
    }
    if before != after {
        memory.numbers_written = Some(instant);
    }
    statuses::write::<PushCluster, _>(tools, memory, &one.seen, &after, told).await
}

/// Redis went away, or is back.
fn redis_told(conditions: &statuses::Conditions) -> Option<Told> {
    const AWAY: &str = "RedisUnavailable";
    let message = find(&conditions.after, PROGRAMMED).map_or("", |condition| &*condition.message);
    match conditions.programmed() {
        (before, Some(AWAY)) if before != Some(AWAY) => Some(Told::warning(AWAY, message)),
        (Some(AWAY), after) if after != Some(AWAY) => Some(Told::normal(
            "RedisAvailable",
            "Redis answers again; the policy is compared with it and goes on",
        )),
        (before, Some("Invalid")) if before != Some("Invalid") => {
            Some(Told::warning("PolicyInvalid", message))
        }
        _ => None,
    }
}

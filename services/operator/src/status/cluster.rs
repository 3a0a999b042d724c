//! How the installation is, as numbers.

use std::sync::Arc;

use carillon_broker::{Member, ServiceKind};
use k8s_openapi::api::apps::v1::Deployment;
use kube::ResourceExt as _;

use super::{
    acknowledged::{NAMES, word},
    programmed::Progress,
};
use crate::{
    pods::COMPONENT,
    resources::{
        PushClusterStatus,
        cluster_status::{GatewaysStatus, PolicyStatus, ServiceStatus},
    },
};

/// What the numbers are made of.
#[derive(Debug)]
pub(crate) struct Facts<'a> {
    pub(crate) progress: &'a Progress,
    pub(crate) rooms: usize,
    pub(crate) producers: usize,
    pub(crate) deployments: &'a [Arc<Deployment>],
    /// Who lives, and how much waits; `None`: Redis does not answer.
    pub(crate) alive: Option<(&'a [Member], u64)>,
    /// Which pods are gateways.
    pub(crate) gateway_selector: String,
    /// Why a service is not scaled as it should be.
    pub(crate) scaling: Scaling,
}

/// Why services are not scaled as they should be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Scaling {
    pub(crate) gateways: Option<String>,
    pub(crate) dispatchers: Option<String>,
}

/// The status without its conditions. What can't be known now stays as it was.
pub(crate) fn status(facts: &Facts<'_>, before: &PushClusterStatus) -> PushClusterStatus {
    let mut status = PushClusterStatus {
        conditions: Vec::new(),
        policy: policy(facts, &before.policy),
        gateways: GatewaysStatus {
            replicas: replicas(facts.deployments, ServiceKind::Gateway),
            selector: Some(facts.gateway_selector.clone()),
            scaling: facts.scaling.gateways.clone(),
            ..before.gateways.clone()
        },
        dispatchers: ServiceStatus {
            replicas: replicas(facts.deployments, ServiceKind::Dispatcher),
            scaling: facts.scaling.dispatchers.clone(),
            ..before.dispatchers.clone()
        },
        ingest: ServiceStatus {
            replicas: replicas(facts.deployments, ServiceKind::Ingest),
            ..before.ingest.clone()
        },
        lag: before.lag,
    };
    let Some((members, lag)) = facts.alive else {
        return status;
    };
    let of = |kind| members.iter().filter(move |member| member.kind == kind);
    let gateways = &mut status.gateways;
    gateways.alive = count(of(ServiceKind::Gateway).count());
    gateways.draining = count(of(ServiceKind::Gateway).filter(|member| member.draining).count());
    gateways.connections = large(of(ServiceKind::Gateway).map(|member| member.sessions).sum());
    gateways.capacity = large(of(ServiceKind::Gateway).map(|member| member.capacity).sum());
    gateways.skew = skew(members).map(|percent| format!("{percent} %"));
    status.dispatchers.alive = count(of(ServiceKind::Dispatcher).count());
    status.ingest.alive = count(of(ServiceKind::Ingest).count());
    status.lag = large(lag);
    status
}

fn policy(facts: &Facts<'_>, before: &PolicyStatus) -> PolicyStatus {
    match facts.progress {
        Progress::Stored {
            revision,
            acknowledged,
        } => {
            let (mut applied_by, mut pending) = acknowledged.of(revision);
            let applied = format!("{}/{}", applied_by.len(), applied_by.len() + pending.len());
            applied_by.truncate(NAMES);
            pending.truncate(NAMES);
            PolicyStatus {
                revision: Some(revision.to_string()),
                rooms: count(facts.rooms),
                producers: count(facts.producers),
                applied: Some(applied),
                applied_by,
                pending,
            }
        }
        _ => before.clone(),
    }
}

/// The pods that the Deployments of a service have.
fn replicas(deployments: &[Arc<Deployment>], kind: ServiceKind) -> i32 {
    let of_kind = deployments.iter().filter(|deployment| {
        deployment
            .labels()
            .get(COMPONENT)
            .is_some_and(|component| component == word(kind))
    });
    of_kind
        .filter_map(|deployment| deployment.status.as_ref()?.replicas)
        .sum()
}

/// By how many percent the fullest gateway is above the mean of all that are not draining. Fewer than two have none.
pub(crate) fn skew(members: &[Member]) -> Option<u64> {
    let sessions: Vec<u64> = members
        .iter()
        .filter(|member| member.kind == ServiceKind::Gateway && !member.draining)
        .map(|member| member.sessions)
        .collect();
    let (count, sum) = (u64::try_from(sessions.len()).ok()?, sessions.iter().sum::<u64>());
    let fullest = *sessions.iter().max()?;
    if count < 2 || sum == 0 {
        return None;
    }
    Some((fullest * count * 100 / sum).saturating_sub(100))
}

/// Whether two differ in more than the numbers that always move.
pub(crate) fn differ_in_facts(one: &PushClusterStatus, other: &PushClusterStatus) -> bool {
    let still = |status: &PushClusterStatus| {
        let mut status = status.clone();
        status.gateways.connections = 0;
        status.gateways.skew = None;
        status.lag = 0;
        status
    };
    still(one) != still(other)
}

fn count(of: usize) -> i32 {
    i32::try_from(of).unwrap_or(i32::MAX)
}

fn large(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use carillon_broker::Incarnation;
    use serde_json::json;

    use super::*;
    use crate::status::acknowledged::Acknowledged;

    fn gateway(pod: &str, sessions: u64) -> Member {
        Member {
            kind: ServiceKind::Gateway,
            incarnation: Incarnation::new(pod, 1),
            address: String::new(),
            version: String::new(),
            capacity: 1000,
            sessions,
            last_probe: None,
            draining: false,
            policy_revision: "r".to_owned(),
        }
    }

    #[test]
    fn skew_is_that_of_the_fullest() {
        assert_eq!(skew(&[gateway("a", 150), gateway("b", 50)]), Some(50));
        assert_eq!(skew(&[gateway("a", 100), gateway("b", 100)]), Some(0));
        assert_eq!(skew(&[gateway("a", 100)]), None);
        let mut draining = gateway("b", 0);
        draining.draining = true;
        assert_eq!(skew(&[gateway("a", 100), draining]), None);
        assert_eq!(skew(&[gateway("a", 0), gateway("b", 0)]), None);
    }

    #[test]
    fn what_can_not_be_known_stays_as_it_was() {
        let deployment: Deployment = serde_json::from_value(json!({
            "metadata": { "labels": { "app.kubernetes.io/component": "gateway" } }, "status": { "replicas": 3 },
        }))
        .unwrap();
        let members = [gateway("a", 70), gateway("b", 30)];
        let progress = Progress::Stored {
            revision: "r".into(),
            acknowledged: Acknowledged::new(&members, &[]),
        };
        let facts = Facts {
            progress: &progress,
            rooms: 2,
            producers: 1,
            deployments: &[Arc::new(deployment)],
            alive: Some((&members, 7)),
            gateway_selector: "x=y".to_owned(),
            scaling: Scaling::default(),
        };
        let known = status(&facts, &PushClusterStatus::default());
        assert_eq!(
            (
                known.gateways.replicas,
                known.gateways.alive,
                known.gateways.connections,
                known.lag
            ),
            (3, 2, 100, 7)
        );
        assert_eq!(
            (known.gateways.skew.as_deref(), known.policy.applied.as_deref()),
            (Some("40 %"), Some("2/2"))
        );
        assert_eq!(known.policy.applied_by, ["a", "b"]);

        let away = Progress::RedisAway("gone".to_owned());
        let unknown = status(
            &Facts {
                progress: &away,
                alive: None,
                ..facts
            },
            &known,
        );
        assert_eq!(unknown, known);
        let mut moved = known.clone();
        moved.lag = 8;
        assert!(!differ_in_facts(&known, &moved));
        moved.gateways.alive = 1;
        assert!(differ_in_facts(&known, &moved));
    }
}

//! Who says that it applies which policy.
//!
//! A service counts when it lives by Redis' clock and its pod is Ready in the API. A process that the API has no pod
//! of (it runs elsewhere on the same Redis) counts too. One that is only one of the two is named, and waited for by
//! nobody: a pod that is Ready but does not live in Redis, one that lives but is not Ready or is draining.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use carillon_broker::{Member, ServiceKind};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;

use crate::pods::ready::{component, is_ready};

/// Names in a message or a status at most.
pub(crate) const NAMES: usize = 50;

/// Who applies what, at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Acknowledged {
    /// Those that count, by name, with the revision each applies.
    pub(crate) counted: BTreeMap<String, (ServiceKindWord, String)>,
    /// Pods that are Ready and don't live in Redis.
    pub(crate) only_ready: BTreeSet<String>,
    /// Processes that live in Redis and whose pods are not Ready.
    pub(crate) only_alive: BTreeSet<String>,
}

/// A service by its component label.
pub(crate) type ServiceKindWord = &'static str;

/// The component label of a kind of service.
pub(crate) const fn word(kind: ServiceKind) -> ServiceKindWord {
    match kind {
        ServiceKind::Gateway => "gateway",
        ServiceKind::Dispatcher => "dispatcher",
        ServiceKind::Ingest => "ingest",
    }
}

impl Acknowledged {
    /// Compares who lives with who is Ready.
    pub(crate) fn new(members: &[Member], pods: &[Arc<Pod>]) -> Self {
        let mut found = Self::default();
        let by_name: BTreeMap<String, &Pod> = pods.iter().map(|pod| (pod.name_any(), &**pod)).collect();
        let mut living = BTreeSet::new();
        for member in members {
            let name = member.incarnation.pod();
            living.insert(name.to_owned());
            match by_name.get(name) {
                _ if member.draining => {
                    found.only_alive.insert(name.to_owned());
                }
                Some(pod) if !is_ready(pod) => {
                    found.only_alive.insert(name.to_owned());
                }
                _ => {
                    found.count(member);
                }
            }
        }
        for (name, pod) in by_name {
            let is_service = matches!(component(pod), Some("gateway" | "dispatcher" | "ingest"));
            if is_service && is_ready(pod) && !living.contains(&name) {
                found.only_ready.insert(name);
            }
        }
        found
    }

    fn count(&mut self, member: &Member) {
        let kind = word(member.kind);
        let name = member.incarnation.pod();
        // Outside of Kubernetes one host runs several services under one name.
        let name = match self.counted.get(name) {
            Some(_) => format!("{name} ({})", member.incarnation),
            None => name.to_owned(),
        };
        self.counted.insert(name, (kind, member.policy_revision.clone()));
    }

    /// The names of those that apply this revision, and of those that don't.
    pub(crate) fn of(&self, revision: &str) -> (Vec<String>, Vec<String>) {
        let (mut applied, mut pending) = (Vec::new(), Vec::new());
        for (name, (_, applies)) in &self.counted {
            if applies == revision {
                applied.push(name.clone());
            } else {
                pending.push(name.clone());
            }
        }
        (applied, pending)
    }

    /// Whether there is one of a service.
    pub(crate) fn has(&self, service: ServiceKindWord) -> bool {
        self.counted.values().any(|(kind, _)| *kind == service)
    }

    /// Whether every one of a service applies one of these revisions.
    pub(crate) fn all_of(&self, service: ServiceKindWord, is_one: impl Fn(&str) -> bool) -> bool {
        let mut of_service = self.counted.values().filter(|(kind, _)| *kind == service);
        of_service.all(|(_, revision)| is_one(revision))
    }

    /// What is odd, as an addition to a sentence; empty if nothing is.
    pub(crate) fn oddities(&self) -> String {
        let mut text = String::new();
        for (names, what) in [
            (&self.only_ready, "Ready in the API but not alive in Redis"),
            (
                &self.only_alive,
                "alive in Redis but not Ready in the API, or draining",
            ),
        ] {
            if !names.is_empty() {
                let names: Vec<_> = names.iter().map(String::as_str).collect();
                text = format!("{text}; {what}: {}", listed(&names));
            }
        }
        text
    }
}

/// Some names of many.
pub(crate) fn listed<T: AsRef<str>>(names: &[T]) -> String {
    const SHOWN: usize = 5;
    let shown: Vec<_> = names.iter().take(SHOWN).map(AsRef::as_ref).collect();
    let more = names.len().saturating_sub(SHOWN);
    let more = if more == 0 {
        String::new()
    } else {
        format!(" and {more} more")
    };
    format!("{}{more}", shown.join(", "))
}

#[cfg(test)]
mod tests {
    use carillon_broker::Incarnation;
    use serde_json::json;

    use super::*;

    fn member(pod: &str, kind: ServiceKind, revision: &str) -> Member {
        Member {
            kind,
            incarnation: Incarnation::new(pod, 1),
            address: String::new(),
            version: String::new(),
            capacity: 0,
            sessions: 0,
            last_probe: None,
            draining: false,
            policy_revision: revision.to_owned(),
        }
    }

    fn pod(name: &str, ready: bool) -> Arc<Pod> {
        let pod = json!({
            "metadata": { "name": name, "labels": { "app.kubernetes.io/component": "gateway" } },
            "status": { "conditions": [{ "type": "Ready", "status": if ready { "True" } else { "False" } }] },
        });
        Arc::new(serde_json::from_value(pod).unwrap())
    }

    #[test]
    fn those_count_that_are_both_and_the_others_are_named() {
        let mut draining = member("g-4", ServiceKind::Gateway, "old");
        draining.draining = true;
        let members = [
            member("g-1", ServiceKind::Gateway, "new"),
            member("g-2", ServiceKind::Gateway, "old"),
            member("elsewhere", ServiceKind::Ingest, "new"),
            draining,
        ];
        let pods = [
            pod("g-1", true),
            pod("g-2", false),
            pod("g-3", true),
            pod("g-4", true),
        ];
        let found = Acknowledged::new(&members, &pods);
        assert_eq!(
            found.of("new"),
            (vec!["elsewhere".to_owned(), "g-1".to_owned()], Vec::new())
        );
        assert_eq!(
            found.oddities(),
            "; Ready in the API but not alive in Redis: g-3; alive in Redis but not Ready in the API, or draining: g-2, g-4"
        );
        let all_ready = [pod("g-1", true), pod("g-2", true)];
        let found = Acknowledged::new(&members[..3], &all_ready);
        assert_eq!(found.of("new").1, ["g-2"]);
        assert!(!found.all_of("gateway", |revision| revision == "new"));
        assert!(found.all_of("gateway", |revision| revision == "new" || revision == "old"));
        assert!(found.all_of("ingest", |revision| revision == "new"));
        assert!(found.all_of("dispatcher", |_| false), "there is none");
    }

    #[test]
    fn one_host_may_run_several() {
        let members = [
            member("host", ServiceKind::Gateway, "a"),
            member("host", ServiceKind::Ingest, "b"),
        ];
        let found = Acknowledged::new(&members, &[]);
        assert_eq!(found.counted.len(), 2);
        assert_eq!(found.of("a").0, ["host"]);
        assert_eq!(found.oddities(), "");
    }
}

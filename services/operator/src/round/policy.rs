//! Keys and policy: what is let in is decided here, and becomes the snapshot in Redis.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::ResourceExt as _;
use tokio::time::Instant;

use super::{
    Judged, Memory, SETTLED, Tools,
    broker::{self, Living},
    keys::{self, Kept, KeysError},
};
use crate::{
    build::{Parts, producer_name, snapshot},
    events::Told,
    keys::{Happened, KeyHash},
    metrics::PodState,
    picture::Place,
    resources::{PushProducerSpec, condition::Verdict},
    status::{acknowledged::Acknowledged, programmed::Progress},
    validate,
};

/// The keys of producers, by where the producer is.
pub(super) type Keys = BTreeMap<Place, Result<Kept, KeysError>>;

/// How the policy stands after a round.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) progress: Progress,
    /// What it means for the policy as a whole.
    pub(super) overall: Verdict,
    /// Who lives; `None`: Redis does not answer.
    pub(super) living: Option<Living>,
}

/// One step for the keys of every producer that counts.
pub(super) async fn keep_keys(
    tools: &Tools,
    memory: &Memory,
    producers: &[validate::Judged<PushProducerSpec>],
    secrets: &[Arc<Secret>],
) -> Keys {
    let mut all = Keys::new();
    let counting: Vec<_> = producers
        .iter()
        .filter_map(|one| Some((&one.seen, one.counts.as_ref()?)))
        .collect();
    for (seen, spec) in &counting {
        let kept = keys::keep(&tools.applier, secrets, seen, spec, |key| memory.lets_in(key)).await;
        if let Ok(kept) = &kept {
            tell(tools, &keys::place(seen, spec), &seen.reference(), spec, kept).await;
        }
        all.insert(seen.place(), kept);
    }
    prune(tools, &keys::superfluous(secrets, &counting)).await;
    all
}

async fn tell(
    tools: &Tools,
    secret: &Place,
    about: &k8s_openapi::api::core::v1::ObjectReference,
    spec: &PushProducerSpec,
    kept: &Kept,
) {
    for happened in &kept.happened {
        let told = match happened {
            // Nobody has to know before it can be used.
            Happened::Prepared => continue,
            Happened::Created => {
                Told::normal("KeyCreated", format!("the Secret {} has the key", secret.name))
            }
            Happened::Rotated => {
                tools.metrics.keys_rotated.inc();
                let overlap = &spec.rotation.overlap;
                Told::normal(
                    "KeyRotated",
                    format!(
                        "the Secret {} has a new key; the former one is accepted for {overlap}",
                        secret.name
                    ),
                )
            }
            Happened::Expired => Told::normal("FormerKeyEnded", "a former key is no longer accepted"),
        };
        tools.events.tell(about, told).await;
    }
}

async fn prune(tools: &Tools, superfluous: &[&Arc<Secret>]) {
    for secret in superfluous {
        let place = Place {
            namespace: secret.namespace().unwrap_or_default(),
            name: secret.name_any(),
        };
        match tools
            .applier
            .delete_secret(&place, secret.metadata.uid.as_deref().unwrap_or_default())
            .await
        {
            Ok(()) => tracing::info!(secret = %place, "deleted a Secret that its PushProducer wants no more"),
            Err(error) => {
                tracing::warn!(secret = %place, %error, "a superfluous Secret could not be deleted")
            }
        }
    }
}

/// Builds the snapshot, stores it, and asks who applies it.
pub(super) async fn program(
    tools: &Tools,
    memory: &mut Memory,
    judged: &Judged,
    keys: &Keys,
    pods: &[Arc<Pod>],
) -> Outcome {
    let progress = match compiled(tools, judged, keys) {
        Err(progress) => Err(progress),
        Ok((snapshot, keys)) => stored(tools, memory, &snapshot, keys)
            .await
            .map(|()| snapshot.revision),
    };
    let living = broker::living(&tools.broker).await;
    tools.metrics.redis_up.set(i64::from(living.is_ok()));
    let progress = match (progress, &living) {
        (Err(progress), _) => progress,
        (Ok(_), Err(error)) => Progress::RedisAway(error.to_string()),
        (Ok(revision), Ok(living)) => {
            let acknowledged = Acknowledged::new(&living.members, pods);
            Progress::Stored {
                revision,
                acknowledged,
            }
        }
    };
    memory.acknowledged = match &progress {
        Progress::Stored {
            revision,
            acknowledged,
        } => {
            let (applied, pending) = acknowledged.of(revision);
            for (state, count) in [
                (PodState::Programmed, applied.len()),
                (PodState::Pending, pending.len()),
            ] {
                tools
                    .metrics
                    .pods
                    .with(state)
                    .set(i64::try_from(count).unwrap_or(i64::MAX));
            }
            Some(acknowledged.clone())
        }
        _ => None,
    };
    let overall = progress.verdict();
    Outcome {
        progress,
        overall,
        living: living.ok(),
    }
}

fn compiled(
    tools: &Tools,
    judged: &Judged,
    keys: &Keys,
) -> Result<(crate::build::Snapshot, BTreeSet<KeyHash>), Progress> {
    let Some(cluster) = judged.clusters.iter().find_map(|one| one.counts.as_ref()) else {
        let place = tools.settings.cluster();
        return Err(Progress::NoCluster(format!(
            "there is no PushCluster `{}` in the namespace {} that counts; make one, an empty spec will do",
            place.name, place.namespace
        )));
    };
    let mut parts = Parts {
        cluster: Some(cluster),
        ..Parts::default()
    };
    parts.rooms = judged
        .rooms
        .iter()
        .filter_map(|one| Some(one.counts.as_ref()?.rule()))
        .collect();
    let mut all = BTreeSet::new();
    for one in &judged.producers {
        let Some(spec) = one.counts.as_ref().filter(|spec| !spec.suspend) else {
            continue;
        };
        let place = one.seen.place();
        let hashes = match keys.get(&place) {
            Some(Ok(kept)) => kept.state.hashes(),
            _ => Vec::new(),
        };
        if !hashes.is_empty() {
            all.extend(hashes.iter().copied());
            parts
                .producers
                .insert(producer_name(&place, &tools.settings.namespace), (spec, hashes));
        }
    }
    let snapshot = snapshot(&parts).map_err(|error| Progress::Wrong(error.to_string()))?;
    Ok((snapshot, all))
}

async fn stored(
    tools: &Tools,
    memory: &mut Memory,
    snapshot: &crate::build::Snapshot,
    keys: BTreeSet<KeyHash>,
) -> Result<(), Progress> {
    let known = memory.newest() == Some(&snapshot.revision);
    let lately = memory
        .compared
        .is_some_and(|compared| compared.elapsed() < SETTLED);
    if known && lately {
        return Ok(());
    }
    match broker::store(&tools.broker, snapshot).await {
        Ok(written) => {
            if written {
                tools.metrics.snapshots_written.inc();
                tracing::info!(revision = %snapshot.revision, "stored a policy snapshot");
                if known {
                    tracing::warn!(
                        revision = %snapshot.revision,
                        "Redis had lost the policy, or somebody else writes one: is another operator on this redis.url and redis.prefix?"
                    );
                }
            }
            memory.compared = Some(Instant::now());
            memory.stored(&snapshot.revision, keys);
            Ok(())
        }
        Err(error) => {
            memory.compared = None;
            Err(Progress::RedisAway(error.to_string()))
        }
    }
}

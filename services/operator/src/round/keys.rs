//! Keeps the keys of producers: the Secret of each, one step of its rotation at a time.

use std::sync::Arc;

use k8s_openapi::{api::core::v1::Secret, jiff::Timestamp};
use kube::ResourceExt as _;

use crate::{
    apply::{Applier, ApplyError},
    keys::{
        self, Happened, Key, KeyHash, KeyState, NoRandomness, PRODUCER_LABEL, ROTATE_ANNOTATION, Step, Wishes,
    },
    picture::{Place, Seen},
    resources::PushProducerSpec,
    time::duration,
};

/// Why a producer's key is not as it should be.
#[derive(Debug, thiserror::Error)]
pub(super) enum KeysError {
    /// The Secret's name is taken.
    #[error(
        "the Secret {0} is there already and not of this PushProducer: delete it, or make another PushProducer with another secretName"
    )]
    Taken(Place),
    #[error(transparent)]
    NoRandomness(#[from] NoRandomness),
    #[error("the Secret can't be read or written: {0}")]
    Api(#[from] ApplyError),
    #[error("the Secret can't be put into words: {0}")]
    Unwritable(#[from] serde_json::Error),
}

/// A producer's keys after a step.
#[derive(Clone, Debug, Default)]
pub(super) struct Kept {
    pub(super) state: KeyState,
    pub(super) happened: Vec<Happened>,
}

/// Where a producer's Secret is.
pub(super) fn place(producer: &Seen<PushProducerSpec>, spec: &PushProducerSpec) -> Place {
    let place = producer.place();
    let name = spec
        .secret_name
        .clone()
        .unwrap_or_else(|| format!("{}-key", place.name));
    Place {
        namespace: place.namespace,
        name,
    }
}

/// What the spec and an annotation want. What can't be read of them wants nothing.
pub(super) fn wishes(producer: &Seen<PushProducerSpec>, spec: &PushProducerSpec) -> Wishes {
    Wishes {
        interval: spec.rotation.interval.as_deref().and_then(duration),
        overlap: duration(&spec.rotation.overlap).unwrap_or_default(),
        request: producer.annotation(ROTATE_ANNOTATION).map(str::to_owned),
    }
}

/// The Secret of a producer among those that were seen.
pub(super) fn seen_secret<'a>(
    secrets: &'a [Arc<Secret>],
    producer: &Seen<PushProducerSpec>,
    spec: &PushProducerSpec,
) -> Option<&'a Arc<Secret>> {
    let place = place(producer, spec);
    let is_it = |secret: &&Arc<Secret>| {
        secret.name_any() == place.name && secret.namespace().as_deref() == Some(&place.namespace)
    };
    secrets
        .iter()
        .find(is_it)
        .filter(|secret| keys::is_of(secret, producer))
}

/// One step. Nothing is written on the word of a watch: the Secret is read again before it changes.
pub(super) async fn keep(
    applier: &Applier,
    secrets: &[Arc<Secret>],
    producer: &Seen<PushProducerSpec>,
    spec: &PushProducerSpec,
    let_in: impl Fn(&KeyHash) -> bool,
) -> Result<Kept, KeysError> {
    let seen = seen_secret(secrets, producer, spec);
    let state = seen.map(|secret| keys::state(secret)).unwrap_or_default();
    if spec.suspend {
        return Ok(Kept {
            state,
            happened: Vec::new(),
        });
    }
    let (wishes, now) = (wishes(producer, spec), Timestamp::now());
    // A key made here is thrown away: only the one made on the fresh state is written.
    let first = keys::step(&state, &wishes, now, &let_in, Key::random)?;
    if seen.is_some() && first.state == state {
        return Ok(Kept {
            state,
            happened: Vec::new(),
        });
    }
    let place = place(producer, spec);
    let fresh = applier.secret(&place).await?;
    if fresh
        .as_ref()
        .is_some_and(|secret| !keys::is_of(secret, producer))
    {
        return Err(KeysError::Taken(place));
    }
    let before = fresh.as_ref().map(keys::state).unwrap_or_default();
    let Step { state, happened } = keys::step(&before, &wishes, now, &let_in, Key::random)?;
    let labelled = fresh
        .as_ref()
        .is_some_and(|secret| secret.labels().contains_key(PRODUCER_LABEL));
    if state != before || !labelled {
        let manifest = keys::manifest(&place.name, producer, &state)?;
        applier.apply_secret(&place, fresh.as_ref(), manifest).await?;
    }
    Ok(Kept { state, happened })
}

/// Secrets that were made for a producer that wants another one, or none. (Those of deleted ones go with their owner.)
pub(super) fn superfluous<'a>(
    secrets: &'a [Arc<Secret>],
    producers: &[(&Seen<PushProducerSpec>, &PushProducerSpec)],
) -> Vec<&'a Arc<Secret>> {
    let is_superfluous = |secret: &&Arc<Secret>| {
        producers.iter().any(|(producer, spec)| {
            let wanted = place(producer, spec);
            keys::is_of(secret, producer)
                && secret.labels().contains_key(PRODUCER_LABEL)
                && secret.metadata.deletion_timestamp.is_none()
                && secret.name_any() != wanted.name
        })
    };
    secrets.iter().filter(is_superfluous).collect()
}

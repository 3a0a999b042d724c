//! Compiles what was accepted into one canonical snapshot. Pure: the same objects give the same text, whichever order
//! they were seen in.

mod document;

use std::{collections::BTreeMap, sync::Arc};

use carillon_model::policy::{Policy, PolicyErrors};

pub(crate) use document::Document;
use document::{ProducerDocument, RoomDocument};

use crate::{
    keys::KeyHash,
    picture::Place,
    resources::{PushClusterSpec, PushProducerSpec, room::RoomRule},
};

/// What stands above the text, for people who look into Redis.
const HEAD: &str =
    "# Compiled by carillon operator from PushCluster, PushRooms and PushProducers: change those.\n";

/// Everything the snapshot is made of, in the order in which it decides.
#[derive(Clone, Debug, Default)]
pub(crate) struct Parts<'a> {
    /// The installation's own part.
    pub(crate) cluster: Option<&'a PushClusterSpec>,
    /// The rules of PushRooms: the first match decides.
    pub(crate) rooms: Vec<RoomRule>,
    /// The producers that are let in, by the name policy knows them by.
    pub(crate) producers: BTreeMap<String, (&'a PushProducerSpec, Vec<KeyHash>)>,
}

/// A policy as text that was checked, and its revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Snapshot {
    /// A hash of the text.
    pub(crate) revision: Arc<str>,
    /// The policy as YAML.
    pub(crate) text: String,
}

/// Why no snapshot could be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BuildError {
    /// The text could not be written.
    #[error("the policy can't be written as YAML: {0}")]
    Unwritable(#[from] serde_saphyr::ser::Error),
    /// The parts are right by themselves and wrong together.
    #[error("the policy is wrong as a whole: {0}")]
    Wrong(#[from] PolicyErrors),
}

/// Makes the snapshot, and refuses one that services would refuse.
pub(crate) fn snapshot(parts: &Parts<'_>) -> Result<Snapshot, BuildError> {
    let default = PushClusterSpec::default();
    let cluster = parts.cluster.unwrap_or(&default);
    let mut document = Document::of_cluster(&cluster.policy, cluster.gateways.as_ref());
    let mut rooms: Vec<_> = parts.rooms.iter().map(RoomDocument::of).collect();
    rooms.append(&mut document.rooms);
    document.rooms = rooms;
    document.producers = parts
        .producers
        .iter()
        .map(|(name, (spec, hashes))| {
            ProducerDocument::of(name, spec, hashes.iter().map(KeyHash::to_string).collect())
        })
        .collect();
    let text = format!("{HEAD}{}", document.text()?);
    let policy = Policy::parse_yaml(&text)?;
    Ok(Snapshot {
        revision: policy.revision,
        text,
    })
}

/// Whether a part would be right by itself; the error is a sentence with every mistake.
pub(crate) fn check(document: &Document) -> Result<(), String> {
    let text = document.text().map_err(|error| error.to_string())?;
    match Policy::parse_yaml(&text) {
        Ok(_) => Ok(()),
        Err(PolicyErrors(errors)) => {
            let one = |error: &carillon_model::policy::PolicyError| {
                let path = error
                    .path
                    .split_once("[0].")
                    .map_or(&*error.path, |(_, path)| path);
                format!("{path}: {}", error.message)
            };
            Err(errors.iter().map(one).collect::<Vec<_>>().join("; "))
        }
    }
}

/// The name a producer has in the policy, in answers and in logs: its own, behind its namespace if that is another one
/// than the operator's. Two producers never have the same.
pub(crate) fn producer_name(place: &Place, home: &str) -> String {
    if place.namespace == home {
        place.name.clone()
    } else {
        place.to_string()
    }
}

#[cfg(test)]
mod tests;

//! The three kinds, as the API server knows them: schema, refusals with what to do instead, columns.
//!
//! What a schema or a CEL rule can refuse is refused at admission; [`crate::validate`] looks at the rest, such as two
//! rooms with the same pattern. The definitions are printed by [`manifests`], and a test keeps the chart's copy equal.

#![allow(
    unreachable_pub,
    reason = "KubeSchema repeats each struct, with its visibility, inside a function"
)]
#![allow(
    clippy::duplicated_attributes,
    reason = "each printed column has a type and a path of its own; clippy takes two of a type for one said twice"
)]

pub mod cluster;
pub mod cluster_status;
pub mod condition;
pub mod producer;
pub mod room;
mod rules;

use kube::CustomResourceExt as _;

pub use cluster::{PushCluster, PushClusterSpec};
pub use cluster_status::PushClusterStatus;
pub use condition::Condition;
pub use producer::{PushProducer, PushProducerSpec, PushProducerStatus};
pub use room::{PushRoom, PushRoomSpec, PushRoomStatus};

/// The API group of all three kinds.
pub const GROUP: &str = "carillon.dev";

/// The definitions' file names and YAML, in the order in which they are printed.
///
/// # Errors
/// Never in practice: a definition is plain data.
pub fn manifests() -> Result<[(&'static str, String); 3], serde_saphyr::ser::Error> {
    Ok([
        ("pushclusters.yaml", manifest(&PushCluster::crd())?),
        ("pushrooms.yaml", manifest(&PushRoom::crd())?),
        ("pushproducers.yaml", manifest(&PushProducer::crd())?),
    ])
}

fn manifest(definition: &impl serde::Serialize) -> Result<String, serde_saphyr::ser::Error> {
    serde_saphyr::to_string(definition)
}

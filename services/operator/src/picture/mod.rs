//! What is known of the world when a round begins, taken from the watches: dereferencing, the first step.

mod seen;
mod watches;

use std::sync::Arc;

use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{Pod, Secret},
};

pub(crate) use seen::{Place, Seen};
pub(crate) use watches::{Scope, Troubles, Watches};

use crate::resources::{PushClusterSpec, PushProducerSpec, PushRoomSpec};

/// Everything in the API that a round looks at.
#[derive(Clone, Debug, Default)]
pub(crate) struct Picture {
    /// PushClusters of the operator's own namespace.
    pub(crate) clusters: Vec<Seen<PushClusterSpec>>,
    /// PushRooms of the watched namespaces.
    pub(crate) rooms: Vec<Seen<PushRoomSpec>>,
    /// PushProducers of the watched namespaces.
    pub(crate) producers: Vec<Seen<PushProducerSpec>>,
    /// Secrets that were made for PushProducers.
    pub(crate) secrets: Vec<Arc<Secret>>,
    /// This installation's pods.
    pub(crate) pods: Vec<Arc<Pod>>,
    /// This installation's Deployments.
    pub(crate) deployments: Vec<Arc<Deployment>>,
}

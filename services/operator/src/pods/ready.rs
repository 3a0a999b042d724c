//! What the API says of a pod.

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;

use super::COMPONENT;

/// Whether it takes part: Ready, and not on its way out.
pub(crate) fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    let ready = conditions
        .into_iter()
        .flatten()
        .any(|condition| condition.type_ == "Ready" && condition.status == "True");
    ready && pod.metadata.deletion_timestamp.is_none()
}

/// Which service it is.
pub(crate) fn component(pod: &Pod) -> Option<&str> {
    pod.labels().get(COMPONENT).map(String::as_str)
}

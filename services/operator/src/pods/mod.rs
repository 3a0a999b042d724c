//! Pods of this installation: which of them a scale-down takes, and how many there should be.

pub(crate) mod cost;
pub(crate) mod ready;
pub(crate) mod scaling;

/// The label that says which service a pod is.
pub(crate) const COMPONENT: &str = "app.kubernetes.io/component";

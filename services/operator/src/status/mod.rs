//! What is told of each object: who applies the policy, and how the installation is.

pub(crate) mod acknowledged;
pub(crate) mod cluster;
pub(crate) mod programmed;

//! Who is who: lives of servers, incarnations of processes, tokens of owners.

use std::{fmt, sync::Arc};

/// One life of one server: its `run_id` and `master_replid`. A restart or a failover gives another one; equal lives
/// mean that no write in between was taken back.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Life(pub Arc<str>);

impl Life {
    /// The replication ID in it: what a primary's replicas have in common with it.
    pub fn replication_id(&self) -> &str {
        self.0.split_once(':').map_or(&self.0, |(_, id)| id)
    }
}

impl fmt::Display for Life {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// One life of one process: `pod@id`. For a gateway it names its channel and is its route. Once declared dead it
/// never comes back.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Incarnation(Arc<str>);

impl Incarnation {
    /// The incarnation of this pod with this id, which no other one may ever have had.
    pub fn new(pod: &str, id: impl fmt::Display) -> Self {
        Self(format!("{}@{id}", pod.replace(['{', '}', '@'], "_")).into())
    }

    /// Reads what [`Incarnation::as_str`] gave.
    pub fn parse(text: &str) -> Option<Self> {
        let (pod, id) = text.split_once('@')?;
        (!pod.is_empty() && !id.is_empty() && !text.contains(['{', '}'])).then(|| Self(text.into()))
    }

    /// `pod@id`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The pod's name.
    pub fn pod(&self) -> &str {
        self.0.split_once('@').map_or(&self.0, |(pod, _)| pod)
    }
}

impl fmt::Debug for Incarnation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl fmt::Display for Incarnation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// Proof of ownership. A greater one takes the power of all before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FencingToken(pub u64);

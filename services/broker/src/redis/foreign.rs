//! Keys that somebody else writes: read, never changed, and no part of an installation.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use redis::Value;

use super::{RedisMetrics, RedisOptions, call::Call, reply, topology::Topology};
use crate::{BrokerError, Result};

/// Another application's keys on a Redis, be it ours or its own. Clones share connections.
#[derive(Clone, Debug)]
pub struct ForeignKeys(Arc<(Topology, RedisOptions)>);

impl ForeignKeys {
    /// Keys on the server of these options; neither their prefix nor their partitions matter. Nothing is connected yet.
    pub fn new(options: RedisOptions) -> Result<Self> {
        Ok(Self(Arc::new((
            Topology::new(&options, RedisMetrics::new()?)?,
            options,
        ))))
    }

    /// The text under a key, if there is one.
    pub async fn get(&self, key: &str) -> Result<Option<Bytes>> {
        let (topology, options) = &*self.0;
        let answer = Call::command("GET", key).arg(key).run(topology, options).await?;
        reply::present(answer).map(reply::bytes).transpose()
    }

    /// How long a key is still kept; `None` where it has no end, is not there, or may not be asked for that.
    pub async fn kept_for(&self, key: &str) -> Result<Option<Duration>> {
        let (topology, options) = &*self.0;
        match Call::command("PTTL", key).arg(key).run(topology, options).await {
            Ok(Value::Int(left)) => Ok(u64::try_from(left).ok().map(Duration::from_millis)),
            Ok(_) | Err(BrokerError::Misconfigured(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

//! How the servers are.

use std::time::Duration;

use async_trait::async_trait;
use futures::stream::{FuturesUnordered, StreamExt};
use indexmap::IndexMap;
use tokio::time::{Instant, timeout_at};

use super::{RedisBroker, diagnosis::information, keys::slot, node::Node, requirements::field};
use crate::{Broker, BrokerError, Health, Incarnation, Life, Lives, Pressure, Result};

#[async_trait]
impl Health for RedisBroker {
    async fn lives(&self, channel: Option<&Incarnation>) -> Result<Lives> {
        self.fit().await?;
        // Who is primary is asked anew each time: that is how a failover is seen by who has nothing to send.
        self.topology().look().await?;
        let mut seen: IndexMap<String, Life> = IndexMap::new();
        let mut partitions = Vec::new();
        for partition in self.partitions().partitions() {
            partitions.push(self.life_of(&self.keys().queue(partition), &mut seen).await?);
        }
        let channel = match channel {
            Some(gateway) => Some(self.life_of(&self.keys().channel(gateway), &mut seen).await?),
            None => None,
        };
        Ok(Lives { partitions, channel })
    }

    async fn pressure(&self) -> Result<Pressure> {
        let nodes = self.topology().primaries().await?;
        let mut looks = FuturesUnordered::new();
        for node in &nodes {
            looks.push(memory_used(node));
        }
        let mut pressure = None;
        let mut failed = None;
        let mut deadline = Instant::now() + self.options().timeout;
        while let Ok(Some(look)) = timeout_at(deadline, looks.next()).await {
            match look {
                Ok(used) => {
                    pressure = Some(used.max(pressure.unwrap_or(0.0)));
                    deadline = deadline.min(Instant::now() + SILENCE);
                }
                Err(error) => failed = Some(error),
            }
        }
        match (pressure, failed) {
            (Some(memory), failed) => Ok(Pressure {
                memory,
                complete: failed.is_none() && looks.is_empty(),
            }),
            (None, Some(error)) => Err(error),
            (None, None) => Err(BrokerError::Unavailable("no server told its memory".to_owned())),
        }
    }

    async fn check(&self) -> Result<()> {
        self.check_servers(true).await?;
        self.fit().await
    }
}

/// How long others are waited for, once a server told its memory: they were all asked at once.
const SILENCE: Duration = Duration::from_millis(250);

#[allow(clippy::cast_precision_loss)] // a share for people and thresholds
async fn memory_used(node: &Node) -> Result<f64> {
    let found = information(node, "memory").await?;
    let number = |name: &str| field(&found, name).parse::<u64>().unwrap_or(0);
    let (used, limit) = (number("used_memory"), number("maxmemory"));
    Ok(match limit {
        0 => 0.0,
        limit => used as f64 / limit as f64,
    })
}

impl RedisBroker {
    async fn life_of(&self, key: &str, seen: &mut IndexMap<String, Life>) -> Result<Life> {
        let node = self.topology().of_slot(slot(key)).await?;
        if let Some(life) = seen.get(&*node.address) {
            return Ok(life.clone());
        }
        let life = self.topology().life(&node).await?;
        seen.insert(node.address.to_string(), life.clone());
        Ok(life)
    }
}

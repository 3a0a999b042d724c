//! How the servers are.

use std::time::Duration;

use async_trait::async_trait;
use futures::stream::{FuturesUnordered, StreamExt};
use tokio::time::{Instant, timeout_at};

use super::{
    RedisBroker, diagnosis::information, keys::slot, node::Node, requirements::field, topology::Survey,
};
use crate::{Broker, BrokerError, Health, Incarnation, Life, Lives, Pressure, Result};

#[async_trait]
impl Health for RedisBroker {
    async fn lives(&self, channel: Option<&Incarnation>) -> Result<Lives> {
        self.fit().await?;
        // Who is primary is asked anew each time: a process that has nothing to send sees a failover only here.
        let survey = self.topology().survey().await?;
        let mut partitions = Vec::new();
        for partition in self.partitions().partitions() {
            let key = self.keys().queue(partition);
            if let Some(server) = survey.server(self.topology().known(slot(&key)).as_deref()) {
                self.observed(partition, &server.identity, Some(&server.replication));
            }
            partitions.push(self.life_of(&key, &survey)?);
        }
        let channel = channel.map(|gateway| self.life_of(&self.keys().channel(gateway), &survey));
        Ok(Lives {
            partitions,
            channel: channel.transpose()?,
            problem: survey.problem,
        })
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
    fn life_of(&self, key: &str, survey: &Survey) -> Result<Life> {
        let address = self.topology().known(slot(key));
        let life = address.as_deref().and_then(|address| survey.life(address));
        life.cloned().ok_or_else(|| {
            BrokerError::Unavailable(format!("the primary of slot {} has just changed", slot(key)))
        })
    }
}

//! How the servers are.

use async_trait::async_trait;
use futures::future::join_all;

use super::{RedisBroker, diagnosis::information, keys::slot, requirements::field, topology::Survey};
use crate::{Broker, BrokerError, Health, Incarnation, Life, Lives, Pressure, Result};

#[async_trait]
impl Health for RedisBroker {
    async fn lives(&self, channel: Option<&Incarnation>) -> Result<Lives> {
        self.fit().await?;
        // Who is primary is asked anew each time: a process that has nothing to send sees a failover only here.
        let survey = self.topology().survey().await?;
        let mut partitions = Vec::new();
        for partition in self.partitions().partitions() {
            partitions.push(self.life_of(&self.keys().queue(partition), &survey)?);
        }
        let channel = channel.map(|gateway| self.life_of(&self.keys().channel(gateway), &survey));
        Ok(Lives {
            partitions,
            channel: channel.transpose()?,
            problem: survey.problem,
        })
    }

    #[allow(clippy::cast_precision_loss)] // a share for people and thresholds
    async fn pressure(&self) -> Result<Pressure> {
        let mut memory: f64 = 0.0;
        let primaries = self.topology().primaries().await?;
        let looks = primaries.iter().map(|node| information(node, "memory"));
        for found in join_all(looks).await {
            let found = found?;
            let number = |name: &str| field(&found, name).parse::<u64>().unwrap_or(0);
            let limit = number("maxmemory");
            if limit > 0 {
                memory = memory.max(number("used_memory") as f64 / limit as f64);
            }
        }
        Ok(Pressure { memory })
    }

    async fn check(&self) -> Result<()> {
        self.check_servers(true).await?;
        self.fit().await
    }
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

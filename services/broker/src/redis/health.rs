//! How the servers are.

use async_trait::async_trait;
use indexmap::IndexMap;

use super::{
    RedisBroker, diagnosis::information, keys::slot, replication::replication_state, requirements::field,
};
use crate::{Broker, Health, Incarnation, Life, Lives, Pressure, Result, losses::ReplicationState};

#[async_trait]
impl Health for RedisBroker {
    async fn lives(&self, channel: Option<&Incarnation>) -> Result<Lives> {
        self.fit().await?;
        // Who is primary is asked anew each time: that is how a failover is seen by who has nothing to send.
        self.topology().look().await?;
        let mut seen: IndexMap<String, Life> = IndexMap::new();
        let mut partitions = Vec::new();
        let mut states: IndexMap<std::sync::Arc<str>, Option<ReplicationState>> = IndexMap::new();
        for partition in self.partitions().partitions() {
            let key = self.keys().queue(partition);
            let life = self.life_of(&key, &mut seen).await?;
            let node = self.topology().of_slot(slot(&key)).await?;
            if !states.contains_key(&node.address) {
                let found = information(&node, "replication").await.ok();
                let state = found.as_deref().and_then(replication_state);
                states.insert(std::sync::Arc::clone(&node.address), state);
            }
            let state = states.get(&node.address).and_then(Option::as_ref);
            self.observed(partition, &life, state);
            partitions.push(life);
        }
        let channel = match channel {
            Some(gateway) => Some(self.life_of(&self.keys().channel(gateway), &mut seen).await?),
            None => None,
        };
        Ok(Lives { partitions, channel })
    }

    #[allow(clippy::cast_precision_loss)] // a share for people and thresholds
    async fn pressure(&self) -> Result<Pressure> {
        let mut memory: f64 = 0.0;
        for node in self.topology().primaries().await? {
            let found = information(&node, "memory").await?;
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

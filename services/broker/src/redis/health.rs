//! How the servers are.

use async_trait::async_trait;
use indexmap::IndexMap;
use redis::cmd;

use super::{
    Mode, RedisBroker,
    classify::{Verdict, classify},
    keys::slot,
    node::Node,
    reply,
};
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
        self.fit().await?;
        for node in self.topology().primaries().await? {
            self.check_server(&node).await?;
        }
        Ok(())
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

    async fn check_server(&self, node: &Node) -> Result<()> {
        let wrong = |what: String| {
            Err(BrokerError::Misconfigured(format!(
                "Redis at {}: {what}",
                node.address
            )))
        };
        let server = information(node, "server").await?;
        let version = field(&server, "redis_version");
        let major: u32 = version
            .split('.')
            .next()
            .and_then(|major| major.parse().ok())
            .unwrap_or(0);
        if major < 7 {
            return wrong(format!(
                "version {version} is too old; Carillon needs 7.0 or newer"
            ));
        }
        let cluster = field(&server, "redis_mode") == "cluster";
        match (&self.options().mode, cluster) {
            (Mode::Cluster, false) => {
                return wrong("it is no cluster; set redis.mode to standalone or sentinel".to_owned());
            }
            (Mode::Standalone | Mode::Sentinel { .. }, true) => {
                return wrong("it is a node of a cluster; set redis.mode to cluster".to_owned());
            }
            _ => {}
        }
        let memory = information(node, "memory").await?;
        let eviction = field(&memory, "maxmemory_policy");
        if eviction != "noeviction" {
            return wrong(format!(
                "maxmemory-policy is {eviction}, which throws messages away; set it to noeviction"
            ));
        }
        if self.options().allow_no_persistence {
            return Ok(());
        }
        let persistence = information(node, "persistence").await?;
        let snapshots = configured(node, "save").await;
        // Where CONFIG is not allowed, snapshots are taken on trust.
        if field(&persistence, "aof_enabled") != "1" && snapshots.is_some_and(|save| save.is_empty()) {
            return wrong(
                "it keeps nothing on disk; set appendonly to yes, or redis.allow_no_persistence for a trial"
                    .to_owned(),
            );
        }
        Ok(())
    }
}

async fn information(node: &Node, section: &str) -> Result<String> {
    let mut lane = node.lane().await?;
    let mut command = cmd("INFO");
    command.arg(section);
    match lane.send(&command).await {
        Ok(answer) => reply::text(answer),
        Err(error) => {
            drop(super::node::PooledLane::take(lane));
            match classify(&error, false, true) {
                Verdict::Failed { error, .. } => Err(error),
                _ => Err(BrokerError::Unavailable(error.to_string())),
            }
        }
    }
}

async fn configured(node: &Node, name: &str) -> Option<String> {
    let mut lane = node.lane().await.ok()?;
    let mut command = cmd("CONFIG");
    command.arg("GET").arg(name);
    let mut pair = reply::array(lane.send(&command).await.ok()?).ok()?.into_iter();
    pair.nth(1).and_then(|value| reply::text(value).ok())
}

fn field<'a>(information: &'a str, name: &str) -> &'a str {
    let mut lines = information.lines().filter_map(|line| line.split_once(':'));
    lines
        .find(|(key, _)| *key == name)
        .map_or("", |(_, value)| value.trim())
}

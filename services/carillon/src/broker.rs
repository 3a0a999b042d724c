//! Connects a service to Redis, and keeps readiness true to it.

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use carillon_broker::{
    BrokerError, ServiceKind, SharedBroker,
    redis::{Mode, RedisBroker, RedisOptions},
};
use carillon_chassis::{
    health::{CheckHandle, Health},
    run::Misconfigured,
};
use carillon_model::PartitionCount;

use crate::settings::{RedisMode, Settings};

/// A broker on the Redis of the settings. Redis may be away: every call then fails until it is back.
pub(crate) fn redis(settings: &Settings) -> anyhow::Result<SharedBroker> {
    Ok(Arc::new(connect(settings)?))
}

/// The same, for who asks what only Redis can tell.
pub(crate) fn connect(settings: &Settings) -> anyhow::Result<RedisBroker> {
    Ok(RedisBroker::new(options(settings)?).map_err(|error| Misconfigured(error.to_string()))?)
}

/// How Redis is reached.
pub(crate) fn options(settings: &Settings) -> anyhow::Result<RedisOptions> {
    let redis = &settings.redis;
    let mode = match redis.mode {
        RedisMode::Standalone => Mode::Standalone,
        RedisMode::Sentinel => Mode::Sentinel {
            master: redis.sentinel_master.clone(),
        },
        RedisMode::Cluster => Mode::Cluster,
    };
    Ok(RedisOptions {
        url: redis.url.expose().to_owned(),
        mode,
        nodes: redis.nodes.clone(),
        sentinel_user: redis.sentinel_user.clone(),
        sentinel_password: redis
            .sentinel_password
            .as_ref()
            .map(|secret| secret.expose().to_owned()),
        tls_ca_file: redis.tls_ca_file.clone(),
        prefix: redis.prefix.clone(),
        partitions: partitions(settings)?,
        connections: redis.connections,
        timeout: redis.timeout,
        wait_replicas: redis.wait_replicas,
        allow_no_persistence: redis.allow_no_persistence,
    })
}

/// The number of partitions, which is in range.
pub(crate) fn partitions(settings: &Settings) -> anyhow::Result<PartitionCount> {
    PartitionCount::new(settings.broker.partitions).context("broker.partitions")
}

/// Checks the servers every few seconds for as long as the process lives: version, eviction, persistence, mode and
/// whether this service's settings fit the installation.
pub(crate) fn keep_checking(broker: SharedBroker, health: &Health) -> impl Future<Output = ()> + use<> {
    // At once: until the first look nobody knows, and that is not ready.
    let check = health.register("redis");
    async move {
        let mut known = None;
        loop {
            let found = broker.check().await.err();
            if found != known {
                tell(&check, found.as_ref());
                known = found;
            } else if known.is_none() {
                check.pass();
            }
            tokio::time::sleep(Duration::from_secs(if known.is_some() { 1 } else { 5 })).await;
        }
    }
}

/// Notes, for as long as the process lives, when there is no dispatcher: everything else may be as it should be then, and
/// nothing arrives.
pub(crate) async fn look_for_dispatchers(broker: SharedBroker, health: Health) {
    loop {
        // Where Redis does not answer, its own check says so.
        if let Ok(alive) = broker.members(ServiceKind::Dispatcher).await {
            let none = alive.is_empty().then_some(
                "none is alive, so what is accepted waits in its queue and reaches nobody; start `carillon dispatcher`, \
                 on Kubernetes with at least one replica"
                    .into(),
            );
            health.note("dispatchers", none);
        }
        tokio::time::sleep(Duration::from_secs(10)).await;
    }
}

fn tell(check: &CheckHandle, found: Option<&BrokerError>) {
    match found {
        None => {
            tracing::info!("the broker is as it should be");
            check.pass();
        }
        Some(error @ BrokerError::Misconfigured(_)) => {
            tracing::error!(%error, "the broker can't be used as it is");
            check.fail(error.to_string());
        }
        Some(error) => {
            tracing::warn!(%error, "the broker does not answer");
            check.fail(error.to_string());
        }
    }
}

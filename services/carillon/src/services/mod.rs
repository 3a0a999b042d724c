//! What each subcommand wires together. `dev` runs the same code as the services do.

pub(crate) mod dev;
pub(crate) mod dispatcher;
pub(crate) mod gateway;
pub(crate) mod identity;
pub(crate) mod ingest;
pub(crate) mod operator;

use std::sync::Arc;

use carillon_broker::{MemoryGate, SharedBroker};
use carillon_chassis::{live::Live, run::Chassis};
use carillon_model::policy::Policy;
use prometheus::IntGauge;
use tokio_util::sync::CancellationToken;

use crate::{broker, memory, policy, settings::Settings};

/// What every service stands on.
#[derive(Clone)]
pub(crate) struct Ground {
    pub(crate) chassis: Chassis<Settings>,
    pub(crate) broker: SharedBroker,
    pub(crate) memory_gate: MemoryGate,
    pub(crate) policy: Live<Policy>,
}

impl Ground {
    /// A service of its own process, on Redis.
    pub(crate) fn on_redis(chassis: Chassis<Settings>) -> anyhow::Result<Self> {
        let redis = broker::connect(&chassis.settings)?;
        redis.metrics().register(chassis.metrics.registry())?;
        let broker: SharedBroker = Arc::new(redis);
        tell_partitions(&chassis, &broker)?;
        let policy = policy::watch(&chassis, Some(broker.clone()), Policy::default_policy())?;
        let memory_gate = memory::watched_gate(&chassis, &broker)?;
        tokio::spawn(broker::keep_checking(broker.clone(), &chassis.health));
        tokio::spawn(broker::look_for_dispatchers(
            broker.clone(),
            chassis.health.clone(),
        ));
        Ok(Self {
            chassis,
            broker,
            memory_gate,
            policy,
        })
    }

    /// Cancelled when the process is told to end.
    pub(crate) fn draining(&self) -> CancellationToken {
        draining(&self.chassis)
    }
}

/// So that partitions which nobody owns can be counted.
fn tell_partitions(chassis: &Chassis<Settings>, broker: &SharedBroker) -> anyhow::Result<()> {
    let gauge = IntGauge::new("carillon_partitions", "Partitions of this installation.")?;
    gauge.set(i64::from(broker.partitions().get()));
    chassis.metrics.registry().register(Box::new(gauge))?;
    Ok(())
}

/// Cancelled when the process is told to end.
fn draining(chassis: &Chassis<Settings>) -> CancellationToken {
    let token = CancellationToken::new();
    let (drain, told) = (chassis.drain.clone(), token.clone());
    tokio::spawn(async move {
        drain.signaled().await;
        told.cancel();
    });
    token
}

//! `carillon ingest`.

use std::{net::SocketAddr, sync::Arc};

use carillon_broker::{Broker, Health, Membership, Queue, SharedBroker};
use carillon_chassis::run::{self, Chassis};
use carillon_ingest::{Ingest, IngestMetrics, IngestSettings, Registration, watch_backlog};
use carillon_model::publish::PublishLimits;

use super::{Ground, gateway::bytes};
use crate::settings::Settings;

pub(crate) async fn serve(chassis: Chassis<Settings>) -> anyhow::Result<()> {
    let ground = Ground::on_redis(chassis)?;
    let health = ground.chassis.health.clone();
    let door = bind(ground).await?;
    health.started();
    door.run().await
}

/// A door that listens.
pub(crate) struct Door {
    ground: Ground,
    listener: tokio::net::TcpListener,
    /// Where it listens.
    pub(crate) address: SocketAddr,
}

pub(crate) async fn bind(ground: Ground) -> anyhow::Result<Door> {
    let listener = run::listen("ingest.http.listen", ground.chassis.settings.ingest.http_listen).await?;
    let address = listener.local_addr()?;
    Ok(Door {
        ground,
        listener,
        address,
    })
}

impl Door {
    /// Serves until the drain is done.
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        let Self { ground, listener, .. } = self;
        let broker: SharedBroker = ground.broker.clone();
        let queue: Arc<dyn Queue> = broker.clone();
        let health: Arc<dyn Health> = broker.clone();
        let metrics = IngestMetrics::new(&ground.chassis.metrics)?;
        let ingest = Ingest::new(
            ingest_settings(&ground.chassis.settings),
            Broker::partitions(&*broker),
            queue,
            health,
            ground.policy.subscribe(),
            metrics.clone(),
        )
        .with_presence(broker.clone(), Broker::partitions(&*broker));
        let observed = ingest.clone();
        ground
            .chassis
            .health
            .observe(move || vec![("ingest", observed.readiness().err())]);
        let watching = ingest.clone();
        let watch = tokio::spawn(async move { watching.watch().await });
        let backlog = tokio::spawn(watch_backlog(
            broker.clone(),
            Broker::partitions(&*broker),
            ingest_settings(&ground.chassis.settings),
            metrics,
        ));
        let members: Arc<dyn Membership> = broker;
        let pod = &ground.chassis.settings.gateway.pod;
        let registration = Registration::new(members, pod, ground.policy.subscribe());
        let drain = &ground.chassis.drain;
        let draining = async {
            drain.signaled().await;
        };
        tokio::select! {
            biased;
            () = carillon_ingest::serve(listener, ingest, drain.signaled()) => {}
            () = registration.keep(draining) => {}
        }
        registration.leave().await;
        watch.abort();
        backlog.abort();
        Ok(())
    }
}

fn ingest_settings(settings: &Settings) -> IngestSettings {
    let ingest = &settings.ingest;
    IngestSettings {
        body_bytes: bytes(ingest.body),
        limits: PublishLimits {
            batch: ingest.batch,
            rooms: ingest.rooms,
            data_bytes: bytes(ingest.message),
        },
        write_timeout: ingest.timeout,
        keep_keys: ingest.idempotency,
        queue_entries: ingest.queue,
        memory_share: ingest.memory_share,
        connections: ingest.connections,
        request_copies: ingest.copies,
        request_copy_bytes: bytes(ingest.copy_bytes),
        buffered_bytes: bytes(ingest.buffered),
        idle_timeout: ingest.idle_timeout,
        body_timeout: ingest.body_timeout,
        ..IngestSettings::default()
    }
}

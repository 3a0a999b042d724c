//! `carillon ingest`.

use std::{net::SocketAddr, sync::Arc};

use carillon_broker::{Broker, Health, Membership, Queue, SharedBroker};
use carillon_chassis::run::{self, Chassis, Misconfigured};
use carillon_ingest::{Ingest, IngestMetrics, IngestSettings, Registration, Tls, watch_backlog};
use carillon_model::publish::PublishLimits;

use super::{Ground, gateway::bytes};
use crate::settings::{self, Settings};

pub(crate) async fn serve(chassis: Chassis<Settings>) -> anyhow::Result<()> {
    let ground = Ground::on_redis(chassis)?;
    let health = ground.chassis.health.clone();
    let doors = bind(ground).await?;
    health.started();
    doors.run().await
}

/// Doors that listen.
pub(crate) struct Doors {
    ground: Ground,
    http: tokio::net::TcpListener,
    grpc: tokio::net::TcpListener,
    tls: Option<Tls>,
    /// Where HTTP is spoken.
    pub(crate) http_address: SocketAddr,
    /// Where gRPC is spoken.
    pub(crate) grpc_address: SocketAddr,
}

pub(crate) async fn bind(ground: Ground) -> anyhow::Result<Doors> {
    let settings = &ground.chassis.settings.ingest;
    let tls = tls(settings)?;
    let http = run::listen("ingest.http.listen", settings.http_listen).await?;
    let grpc = run::listen("ingest.grpc.listen", settings.grpc_listen).await?;
    let (http_address, grpc_address) = (http.local_addr()?, grpc.local_addr()?);
    Ok(Doors {
        ground,
        http,
        grpc,
        tls,
        http_address,
        grpc_address,
    })
}

fn tls(settings: &settings::IngestSettings) -> anyhow::Result<Option<Tls>> {
    let wrong = |text: String| Misconfigured(text).into();
    match (&settings.grpc_tls_certificate, &settings.grpc_tls_key) {
        (None, None) => Ok(None),
        (Some(certificate), Some(key)) => match Tls::from_files(certificate, key) {
            Ok(tls) => Ok(Some(tls)),
            Err(error) => Err(wrong(format!(
                "ingest.grpc.tls.certificate, ingest.grpc.tls.key: {error}"
            ))),
        },
        _ => {
            let text =
                "ingest.grpc.tls.certificate and ingest.grpc.tls.key belong together: set both, or none";
            Err(wrong(text.to_owned()))
        }
    }
}

impl Doors {
    /// Serves until the drain is done.
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        let Self {
            ground,
            http,
            grpc,
            tls,
            ..
        } = self;
        let broker: SharedBroker = ground.broker.clone();
        let queue: Arc<dyn Queue> = broker.clone();
        let health: Arc<dyn Health> = broker.clone();
        let metrics = IngestMetrics::new(&ground.chassis.metrics)?;
        let ingest = Ingest::new(
            ingest_settings(&ground.chassis.settings),
            Broker::partitions(&*broker),
            queue,
            health,
            ground.memory_gate.clone(),
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
        let watch = tokio::spawn(async move { tokio::join!(watching.watch(), watching.watch_servers()) });
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
        let served = async {
            tokio::join!(
                carillon_ingest::serve(http, ingest.clone(), drain.signaled()),
                carillon_ingest::serve_grpc(grpc, tls, ingest.clone(), drain.signaled()),
            )
        };
        tokio::select! {
            biased;
            _ = served => {}
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
        connections: ingest.connections,
        request_copies: ingest.copies,
        request_copy_bytes: bytes(ingest.copy_bytes),
        buffered_bytes: bytes(ingest.buffered),
        idle_timeout: ingest.idle_timeout,
        body_timeout: ingest.body_timeout,
        ..IngestSettings::default()
    }
}

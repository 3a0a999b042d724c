//! `carillon gateway`.

use std::net::SocketAddr;

use carillon_chassis::{
    run::{self, Chassis, Misconfigured},
    telemetry::TracedShare,
};
use carillon_gateway::{
    hub::{Hub, HubMetrics, HubMutations, HubParts, HubSettings},
    identity::Identities,
    transport::{
        Forwarding, ForwardingSecret, Origins, SocketIo, Transport as _, TransportMetrics, TransportSettings,
    },
};

use super::{Ground, identity};
use crate::settings::{OutageAnswer, Settings};

/// Below that a shared secret can be guessed.
const SECRET_BYTES: usize = 16;
/// What the cursor of a room takes in a `CONNECT` at most: a name of 200 bytes, each of them escaped, and an offset.
const CURSOR_BYTES: usize = 480;

pub(crate) async fn serve(chassis: Chassis<Settings>) -> anyhow::Result<()> {
    let ground = Ground::on_redis(chassis)?;
    let health = ground.chassis.health.clone();
    let gateway = bind(ground).await?;
    health.started();
    gateway.run().await
}

/// A gateway that listens.
pub(crate) struct Gateway {
    ground: Ground,
    listener: tokio::net::TcpListener,
    /// Where it listens.
    pub(crate) address: SocketAddr,
    transport: TransportSettings,
}

/// Binds first: a client that comes early waits instead of being refused.
pub(crate) async fn bind(ground: Ground) -> anyhow::Result<Gateway> {
    let registry = ground.chassis.metrics.registry();
    let identities = identity::identities(&ground.chassis.settings, registry)?;
    let transport = transport_settings(&ground.chassis.settings, identities)?;
    let listener = run::listen("gateway.listen", ground.chassis.settings.gateway.listen).await?;
    let address = listener.local_addr()?;
    Ok(Gateway {
        ground,
        listener,
        address,
        transport,
    })
}

impl Gateway {
    /// Serves until the drain is done.
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        let Self {
            ground,
            listener,
            address,
            transport,
        } = self;
        let registry = ground.chassis.metrics.registry();
        let (hub, mut tasks) = Hub::start(HubParts {
            broker: ground.broker.clone(),
            memory_gate: ground.memory_gate.clone(),
            policy: ground.policy.subscribe(),
            settings: hub_settings(&ground.chassis.settings, address),
            metrics: HubMetrics::new(registry)?,
            random: fastrand::Rng::new(),
            mutations: HubMutations::default(),
        });
        let observed = hub.clone();
        ground.chassis.health.observe(move || observed.health().checks());
        let draining = ground.draining();
        let socket_io = SocketIo {
            hub: hub.clone(),
            policy: ground.policy.subscribe(),
            settings: transport,
            metrics: TransportMetrics::new(registry)?,
        };
        let drained = async {
            draining.cancelled().await;
            hub.drain().await;
        };
        let served = async { tokio::join!(socket_io.serve(listener, draining.clone()), drained) };
        tokio::select! {
            biased;
            () = tasks.failed() => anyhow::bail!("the hub failed; see the log above"),
            _ = served => {}
        }
        hub.leave().await;
        Ok(())
    }
}

fn hub_settings(settings: &Settings, address: SocketAddr) -> HubSettings {
    let gateway = &settings.gateway;
    HubSettings {
        address: reached_at(settings, address),
        shards: gateway.shards,
        capacity: gateway.sessions,
        outbox_bytes: bytes(gateway.outbox),
        outboxes_bytes: bytes(gateway.outboxes),
        rooms_per_session: gateway.rooms_per_session,
        presence_grace: gateway.presence_grace,
        presence_users: gateway.presence_users,
        message_bytes: bytes(settings.ingest.message),
        queue_limit: settings.ingest.queue,
        keep_keys: settings.ingest.idempotency,
        tails_bytes: bytes(gateway.tails),
        drain_timeout: gateway.drain_timeout,
        drain_rate: gateway.drain_rate,
        ..HubSettings::new(gateway.pod.clone())
    }
}

/// Where other gateways reach this one.
fn reached_at(settings: &Settings, listens: SocketAddr) -> String {
    let gateway = &settings.gateway;
    match &gateway.address {
        Some(address) => address.clone(),
        None if listens.ip().is_unspecified() => format!("{}:{}", gateway.pod, listens.port()),
        None => listens.to_string(),
    }
}

fn forwarding(settings: &Settings) -> anyhow::Result<Option<Forwarding>> {
    let gateway = &settings.gateway;
    let Some(secret) = &gateway.forwarding_secret else {
        return Ok(None);
    };
    let secret = secret.expose();
    if secret.len() < SECRET_BYTES {
        let text = format!("gateway.forwarding.secret: at least {SECRET_BYTES} characters are needed");
        return Err(Misconfigured(text).into());
    }
    Ok(ForwardingSecret::new(secret.as_bytes()).map(|secret| Forwarding {
        pod: gateway.pod.clone(),
        secret,
        requests: gateway.forwarding_requests,
    }))
}

fn transport_settings(settings: &Settings, identities: Identities) -> anyhow::Result<TransportSettings> {
    let gateway = &settings.gateway;
    let origins = if gateway.origins.iter().any(|origin| origin == "*") {
        Origins::any()
    } else {
        Origins::list(&gateway.origins).map_err(|error| Misconfigured(format!("gateway.origins: {error}")))?
    };
    Ok(TransportSettings {
        origins,
        identities,
        refresh_grace: settings.identity.refresh_grace,
        tell_outages: settings.identity.outage == OutageAnswer::Tell,
        connections: usize::try_from(gateway.sessions.saturating_mul(2)).unwrap_or(usize::MAX),
        sessions_per_user: gateway.sessions_per_user,
        connects: gateway.connects,
        events: gateway.events_rate,
        events_at_once: gateway.events_burst,
        message_bytes: frame(settings),
        ping_interval: gateway.ping_interval,
        ping_timeout: gateway.ping_timeout,
        drain_timeout: gateway.drain_timeout,
        page: gateway.page,
        forwarding: forwarding(settings)?,
        traced: TracedShare::of(&settings.telemetry),
        ..TransportSettings::default()
    })
}

/// The largest frame: a client must be able to bring the cursors of all its rooms, or it never comes back.
fn frame(settings: &Settings) -> usize {
    let gateway = &settings.gateway;
    bytes(gateway.frame).max(gateway.rooms_per_session.saturating_mul(CURSOR_BYTES))
}

/// A size as the services count it.
pub(crate) fn bytes(size: bytesize::ByteSize) -> usize {
    usize::try_from(size.as_u64()).unwrap_or(usize::MAX)
}

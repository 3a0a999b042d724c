//! `carillon dispatcher`.

use std::time::Duration;

use carillon_broker::IDENTITY_DIFFERS;
use carillon_chassis::{run::Chassis, telemetry::TracedShare};
use carillon_dispatcher::{
    Dispatcher, DispatcherMetrics, DispatcherMutations, DispatcherParts, DispatcherSettings, DispatcherStatus,
};

use super::{Ground, gateway::bytes};
use crate::settings::Settings;

pub(crate) async fn serve(chassis: Chassis<Settings>) -> anyhow::Result<()> {
    let ground = Ground::on_redis(chassis)?;
    ground.chassis.health.started();
    run(ground).await
}

/// Works until the drain is done.
pub(crate) async fn run(ground: Ground) -> anyhow::Result<()> {
    let settings = &ground.chassis.settings;
    let dispatcher = Dispatcher::new(DispatcherParts {
        broker: ground.broker.clone(),
        memory_gate: ground.memory_gate.clone(),
        policy: ground.policy.subscribe(),
        settings: DispatcherSettings {
            pod: settings.gateway.pod.clone(),
            call_timeout: settings.redis.timeout,
            batch_entries: settings.dispatcher.batch,
            channel_bytes: settings.dispatcher.channel.as_u64(),
            dead_letters: settings.dispatcher.dead_letters,
            queue_entries: settings.ingest.queue,
            keep_keys: settings.ingest.idempotency,
            message_bytes: bytes(settings.ingest.message),
            traced: TracedShare::of(&settings.telemetry),
            ..DispatcherSettings::default()
        },
        metrics: DispatcherMetrics::new(ground.chassis.metrics.registry())?,
        random: fastrand::Rng::new(),
        mutations: DispatcherMutations::default(),
    });
    let status = dispatcher.status();
    ground.chassis.health.observe(move || checks(&status.borrow()));
    dispatcher.run(ground.draining()).await;
    Ok(())
}

/// What readiness says of a dispatcher.
fn checks(status: &DispatcherStatus) -> Vec<(&'static str, Option<String>)> {
    let problems = status.problems(Duration::from_secs(10));
    let identity = status.identity_differs.then(|| IDENTITY_DIFFERS.to_owned());
    vec![
        ("dispatcher", (!problems.is_empty()).then(|| problems.join("; "))),
        ("identity", identity),
    ]
}

#[cfg(test)]
mod tests {
    use carillon_chassis::{drain, health::Health};
    use tokio::time::Instant;

    use super::*;

    #[test]
    fn a_dispatcher_that_reads_from_another_server_is_unready_and_says_why() {
        for identity_differs in [false, true] {
            let (_drain, watch) = drain::channel();
            let health = Health::new(watch);
            health.started();
            health.observe(move || {
                checks(&DispatcherStatus {
                    registered: true,
                    surveyed: Some(Instant::now()),
                    identity_differs,
                    ..DispatcherStatus::default()
                })
            });
            let readiness = health.readiness();
            assert_eq!(readiness.ready(), !identity_differs);
            let says_why = readiness
                .to_string()
                .contains(&format!("fail identity: {IDENTITY_DIFFERS}"));
            assert_eq!(says_why, identity_differs, "{readiness}");
        }
    }
}

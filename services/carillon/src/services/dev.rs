//! `carillon dev`: all three services in one process, on the embedded broker. No Redis, no Kubernetes, one command.

use std::{io::Write as _, sync::Arc};

use carillon_broker::{MemoryBroker, SharedBroker, memory::MemoryOptions};
use carillon_chassis::run::{Chassis, Service};
use carillon_model::{policy::Policy, time::wall_clock_milliseconds};

use super::{Ground, dispatcher, gateway, ingest};
use crate::{broker, memory, policy, settings::Settings};

/// On loopback only, because everybody may do everything; and with logs for people.
pub(crate) fn presets(service: Service<Settings>) -> Service<Settings> {
    service
        .preset("gateway.listen", "127.0.0.1:3000")
        .preset("ingest.http.listen", "127.0.0.1:8080")
        .preset("ingest.grpc.listen", "127.0.0.1:8081")
        .preset("admin.listen", "127.0.0.1:9090")
        .preset("log.format", "text")
        .preset("log.level", "warn")
        .preset("gateway.drain.timeout", "3s")
}

pub(crate) async fn serve(chassis: Chassis<Settings>) -> anyhow::Result<()> {
    let settings = &chassis.settings;
    let options = MemoryOptions {
        memory_limit: settings.broker.embedded_memory.as_u64(),
        ..MemoryOptions::new(broker::partitions(settings)?, wall_clock_milliseconds())
    };
    let embedded: SharedBroker = Arc::new(MemoryBroker::new(options));
    super::tell_partitions(&chassis, &embedded)?;
    let memory_gate = memory::watched_gate(&chassis, &embedded)?;
    let policy = policy::watch(&chassis, None, Policy::permissive())?;
    let (health, admin) = (chassis.health.clone(), chassis.admin);
    let ground = Ground {
        chassis,
        broker: embedded,
        memory_gate,
        policy,
    };
    let gateway = gateway::bind(ground.clone()).await?;
    let ingest = ingest::bind(ground.clone()).await?;
    let greeting = format!(
        "Carillon is ringing.\n  page    http://{page}/\n  ingest  http://{ingest}/v1/messages\n  grpc    {grpc} (carillon.v1)\n  admin   http://{admin}/readyz\n\n\
         Make a message appear on the page:\n  curl -X POST http://{ingest}/v1/messages -H 'content-type: application/json' \\\n       \
         -d '{{\"to\":\"all\",\"event\":\"chat message\",\"data\":\"hello\"}}'\n\n",
        page = gateway.address,
        ingest = ingest.http_address,
        grpc = ingest.grpc_address,
    );
    // Nobody has to read it.
    let _ = std::io::stdout()
        .write_all(greeting.as_bytes())
        .and_then(|()| std::io::stdout().flush());
    health.started();
    tokio::try_join!(gateway.run(), ingest.run(), dispatcher::run(ground))?;
    Ok(())
}

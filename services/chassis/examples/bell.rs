//! The smallest service there is: it rings until it is told to stop. The chassis' own tests run it as a process; for
//! others it shows how a `main` wires.

use std::{net::SocketAddr, process::ExitCode, time::Duration};

use carillon_chassis::{
    run::{self, Chassis, Service},
    settings::{AdminSettings, LogSettings, SecretUrl, TelemetrySettings},
    settings_section, settings_tree,
};

settings_section! {
    /// The bell.
    pub struct BellSettings in "bell" {
        /// Where ringers connect. Port 0 takes a free one.
        "listen" => listen: SocketAddr = "127.0.0.1:0";
        /// How long it swings on after a drain has started.
        "swing" => swing: Duration = "0s";
        /// How long a drain may take.
        "drain.timeout" => drain_timeout: Duration = "30s", range "0s"..="10m";
        /// Where it is tuned.
        "url" => url: SecretUrl = "redis://localhost:6379";
        /// Breaks on purpose: `error`, `panic` or `stuck`.
        "break" => broken: Option<String>;
    }
}

settings_tree! {
    /// All that can be set.
    pub struct Settings {
        log: LogSettings,
        admin: AdminSettings,
        telemetry: TelemetrySettings,
        bell: BellSettings,
    }
}

/// A task that dies, as no task of a service should.
#[allow(clippy::panic, reason = "to show what becomes of it")]
async fn crack() {
    panic!("the bell is cracked");
}

/// Takes every thread of the runtime and never gives it back.
fn jam() {
    for _ in 0..256 {
        tokio::spawn(async {
            loop {
                std::thread::park();
            }
        });
    }
}

async fn ring(chassis: Chassis<Settings>) -> anyhow::Result<()> {
    let bell = &chassis.settings.bell;
    let tuned = chassis.health.register("tuned");
    let _listener = run::listen("bell.listen", bell.listen).await?;
    chassis
        .metrics
        .service("bell")
        .counter("rings_total", "Rings.")?
        .inc();
    match bell.broken.as_deref() {
        Some("error") => anyhow::bail!("the rope is torn"),
        Some("panic") => {
            // The error is the panic, which is logged already.
            let _ = tokio::spawn(crack()).await;
        }
        Some("stuck") => jam(),
        _ => {}
    }
    tuned.pass();
    chassis.health.started();

    let swinging = chassis.drain.hold("swinging");
    let (watch, swing) = (chassis.drain.clone(), bell.swing);
    tokio::spawn(async move {
        watch.signaled().await;
        tokio::time::sleep(swing).await;
        tracing::info!("swung out");
        drop(swinging);
    });
    chassis.drain.signaled().await;
    Ok(())
}

fn main() -> ExitCode {
    Service::<Settings>::new("bell", "bell")
        .arguments(std::env::args().skip(1))
        .preset("admin.listen", "127.0.0.1:0")
        .drain_timeout(|settings| settings.bell.drain_timeout)
        .run(ring)
}

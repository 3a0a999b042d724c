//! Where the policy comes from: a watched file, the operator's snapshot in the broker, or the defaults.

use std::time::Duration;

use carillon_broker::{PolicySnapshot, SharedBroker};
use carillon_chassis::{
    live::{Live, LiveWriter, live},
    policy_file::{self, PolicyMetrics},
    run::Chassis,
};
use carillon_model::policy::{Policy, PolicyErrors};

use crate::settings::Settings;

/// How often the operator's snapshot is looked at.
const LOOK: Duration = Duration::from_secs(2);
/// How often it is looked at until the broker has answered for the first time.
const FIRST_LOOKS: Duration = Duration::from_millis(250);

/// The policy of a service. A file wins; without one the snapshot in the broker holds, once an operator wrote one. Until
/// the broker has said whether there is one, the service is not ready: by the defaults it would turn people away.
pub(crate) fn watch(
    chassis: &Chassis<Settings>,
    broker: Option<SharedBroker>,
    otherwise: Policy,
) -> anyhow::Result<Live<Policy>> {
    let metrics = PolicyMetrics::new(&chassis.metrics)?;
    if let Some(file) = &chassis.settings.policy.file {
        return Ok(policy_file::watch(file.clone(), Policy::parse_yaml, metrics)?);
    }
    metrics.holds(&otherwise.revision);
    let Some(broker) = broker else {
        return Ok(Live::fixed(otherwise));
    };
    let (writer, policy) = live(otherwise);
    let known = chassis.health.register("policy");
    known.fail(
        "whether there is a policy in the broker is not known yet; is redis.url right and the server up?",
    );
    tokio::spawn(async move {
        let mut seen = String::new();
        let mut pause = FIRST_LOOKS;
        loop {
            // Away or unchanged: what holds goes on holding.
            if let Ok(snapshot) = broker.load_policy().await {
                if let Some(snapshot) = snapshot.filter(|snapshot| snapshot.revision != seen) {
                    seen.clone_from(&snapshot.revision);
                    take(&snapshot, &metrics, &writer);
                }
                known.pass();
                pause = LOOK;
            }
            tokio::time::sleep(pause).await;
        }
    });
    Ok(policy)
}

/// What an operator wrote into the broker.
pub(crate) fn of_snapshot(snapshot: &PolicySnapshot) -> Result<Policy, PolicyErrors> {
    let mut policy = Policy::parse_yaml(&String::from_utf8_lossy(&snapshot.document))?;
    // Whoever wrote it looks for the name that it gave.
    policy.revision = snapshot.revision.as_str().into();
    Ok(policy)
}

fn take(snapshot: &PolicySnapshot, metrics: &PolicyMetrics, writer: &LiveWriter<Policy>) {
    let revision = snapshot.revision.as_str();
    match of_snapshot(snapshot) {
        Ok(policy) => {
            tracing::info!(revision, "took the policy from the broker");
            metrics.replaced(revision);
            writer.replace(policy);
        }
        Err(problems) => {
            tracing::error!(revision, %problems, "the broker's policy is wrong; the old one holds");
            metrics.rejected();
        }
    }
}

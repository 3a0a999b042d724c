//! Where the policy comes from: a watched file, the operator's snapshot in the broker, or the defaults.

use std::time::Duration;

use carillon_broker::SharedBroker;
use carillon_chassis::{
    live::{Live, live},
    policy_file::{self, PolicyMetrics},
    run::Chassis,
};
use carillon_model::policy::Policy;

use crate::settings::Settings;

/// How often the operator's snapshot is looked at.
const LOOK: Duration = Duration::from_secs(2);

/// The policy of a service. A file wins; without one the snapshot in the broker holds, once an operator wrote one.
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
    tokio::spawn(async move {
        let mut seen = String::new();
        loop {
            tokio::time::sleep(LOOK).await;
            let snapshot = match broker.load_policy().await {
                Ok(Some(snapshot)) if snapshot.revision != seen => snapshot,
                // Away or unchanged: what holds goes on holding.
                _ => continue,
            };
            seen.clone_from(&snapshot.revision);
            let text = String::from_utf8_lossy(&snapshot.document);
            match Policy::parse_yaml(&text) {
                Ok(policy) => {
                    tracing::info!(revision = %policy.revision, "took the policy from the broker");
                    metrics.replaced(&policy.revision);
                    writer.replace(policy);
                }
                Err(problems) => {
                    tracing::error!(revision = seen, %problems, "the broker's policy is wrong; the old one holds");
                    metrics.rejected();
                }
            }
        }
    });
    Ok(policy)
}

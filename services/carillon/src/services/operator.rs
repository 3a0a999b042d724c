//! `carillon operator`.

use anyhow::Context as _;
use carillon_chassis::run::{Chassis, Misconfigured};
use carillon_operator::{Operator, OperatorMetrics, OperatorParts, OperatorSettings};
use kube::Client;

use super::draining;
use crate::{broker, settings::Settings};

pub(crate) async fn serve(chassis: Chassis<Settings>) -> anyhow::Result<()> {
    // The one provider of TLS; there may be one already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let config = kube::Config::infer().await.map_err(|error| {
        Misconfigured(format!(
            "there is no way to the Kubernetes API: {error}; run in a pod with a service account, or set KUBECONFIG"
        ))
    })?;
    let client = Client::try_from(config).context("cannot talk to the Kubernetes API")?;
    let broker = broker::redis(&chassis.settings)?;
    tokio::spawn(broker::keep_checking(broker.clone(), &chassis.health));
    let settings = operator_settings(&chassis.settings, client.default_namespace());
    let metrics = OperatorMetrics::new(&chassis.metrics)?;
    chassis.health.started();
    let operator = Operator::new(OperatorParts {
        settings,
        client,
        broker,
        health: chassis.health.clone(),
        metrics,
    });
    Ok(operator.run(draining(&chassis)).await?)
}

fn operator_settings(settings: &Settings, default_namespace: &str) -> OperatorSettings {
    let operator = &settings.operator;
    let namespace = match operator.namespace.as_str() {
        "" => default_namespace,
        namespace => namespace,
    };
    OperatorSettings {
        namespace: namespace.to_owned(),
        watch: operator
            .watch
            .iter()
            .map(|name| name.as_str().to_owned())
            .collect(),
        cluster: operator.cluster.clone(),
        selector: operator.selector.clone(),
        lease: operator.lease.clone(),
        pod: settings.gateway.pod.clone(),
    }
}

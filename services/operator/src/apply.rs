//! Writes to the API: server-side apply under the operator's own name, and only what differs.

use std::{fmt::Debug, time::Duration};

use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{Pod, Secret},
};
use kube::{
    Api, Client, CustomResourceExt,
    api::{DeleteParams, Patch, PatchParams, Preconditions},
    core::DynamicObject,
};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::picture::{Place, Seen};

/// The name under which the operator owns fields.
pub(crate) const FIELD_MANAGER: &str = "carillon-operator";
/// How long a call may take.
const CALL: Duration = Duration::from_secs(10);

/// A write that was not done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApplyError {
    /// The API refused it, or is not there.
    #[error(transparent)]
    Api(#[from] kube::Error),
    /// The API did not answer in time.
    #[error("the API server did not answer within {} s", CALL.as_secs())]
    Late,
}

impl ApplyError {
    /// Whether the object is not there (any more).
    pub(crate) fn is_gone(&self) -> bool {
        matches!(self, Self::Api(kube::Error::Api(status)) if status.code == 404)
    }
}

/// Writes.
#[derive(Clone)]
pub(crate) struct Applier {
    client: Client,
}

impl Debug for Applier {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Applier")
    }
}

impl Applier {
    pub(crate) fn new(client: Client) -> Self {
        Self { client }
    }

    /// Applies an object's status. The answer says whether that was done; an object that is gone needs none.
    pub(crate) async fn status<K: CustomResourceExt, S>(
        &self,
        seen: &Seen<S>,
        status: &Value,
    ) -> Result<(), ApplyError> {
        let (kind, place) = (K::api_resource(), seen.place());
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), &place.namespace, &kind);
        let object = json!({
            "apiVersion": kind.api_version,
            "kind": kind.kind,
            // With the identity: a later object of the same name is not told of this one.
            "metadata": { "name": place.name, "uid": seen.uid() },
            "status": status,
        });
        let parameters = PatchParams::apply(FIELD_MANAGER).force();
        let patch = Patch::Apply(&object);
        match call(api.patch_status(&place.name, &parameters, &patch)).await {
            Err(error) if error.is_gone() => Ok(()),
            other => other.map(drop),
        }
    }

    /// A Secret as it is now, not as a watch last saw it.
    pub(crate) async fn secret(&self, place: &Place) -> Result<Option<Secret>, ApplyError> {
        call(self.secrets(place).get_opt(&place.name)).await
    }

    /// Applies a Secret that is to be exactly the version that was read, or to be new.
    pub(crate) async fn apply_secret(
        &self,
        place: &Place,
        read: Option<&Secret>,
        mut manifest: Value,
    ) -> Result<Secret, ApplyError> {
        if let Some(version) = read.and_then(|secret| secret.metadata.resource_version.as_deref()) {
            manifest["metadata"]["resourceVersion"] = json!(version);
        }
        let parameters = PatchParams::apply(FIELD_MANAGER).force();
        call(
            self.secrets(place)
                .patch(&place.name, &parameters, &Patch::Apply(&manifest)),
        )
        .await
    }

    /// Deletes a Secret of ours that nobody wants any more.
    pub(crate) async fn delete_secret(&self, place: &Place, uid: &str) -> Result<(), ApplyError> {
        let parameters = DeleteParams {
            preconditions: Some(Preconditions {
                uid: Some(uid.to_owned()),
                resource_version: None,
            }),
            ..DeleteParams::default()
        };
        match call(self.secrets(place).delete(&place.name, &parameters)).await {
            Err(error) if error.is_gone() => Ok(()),
            other => other.map(drop),
        }
    }

    /// Writes an annotation on a pod. A pod that is gone needs none.
    pub(crate) async fn annotate_pod(
        &self,
        place: &Place,
        name: &str,
        value: &str,
    ) -> Result<(), ApplyError> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &place.namespace);
        let parameters = PatchParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PatchParams::default()
        };
        let patch = json!({ "metadata": { "annotations": { name: value } } });
        match call(api.patch_metadata(&place.name, &parameters, &Patch::Merge(&patch))).await {
            Err(error) if error.is_gone() => Ok(()),
            other => other.map(drop),
        }
    }

    /// Sets how many pods a Deployment has.
    pub(crate) async fn scale(&self, place: &Place, replicas: i32) -> Result<(), ApplyError> {
        let api: Api<Deployment> = Api::namespaced(self.client.clone(), &place.namespace);
        let parameters = PatchParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PatchParams::default()
        };
        let patch = json!({ "spec": { "replicas": replicas } });
        call(api.patch_scale(&place.name, &parameters, &Patch::Merge(&patch)))
            .await
            .map(drop)
    }

    fn secrets(&self, place: &Place) -> Api<Secret> {
        Api::namespaced(self.client.clone(), &place.namespace)
    }
}

async fn call<T>(request: impl Future<Output = Result<T, kube::Error>>) -> Result<T, ApplyError> {
    match timeout(CALL, request).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(ApplyError::Late),
    }
}

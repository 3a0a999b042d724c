//! `grpc.health.v1`: the readiness of ingest, and never ready while it is draining.

use futures::{StreamExt, stream, stream::BoxStream};
use tokio::sync::watch;
use tonic::{Request, Response, Status};
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus, health_server,
};

use super::pb::publisher_server::SERVICE_NAME;
use crate::{
    Ingest,
    standing::{Standing, drained},
};

pub(crate) struct Health(watch::Receiver<Standing>);

impl Health {
    pub(crate) fn new(ingest: &Ingest) -> Self {
        Self(ingest.shared.standing.subscribe())
    }
}

/// Whether there is a service of this name. The empty name is the whole server.
fn known(service: &str) -> bool {
    service.is_empty() || service == SERVICE_NAME
}

fn response(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse {
        status: status.into(),
    }
}

fn serving(standing: Standing) -> ServingStatus {
    match standing {
        Standing::Ready => ServingStatus::Serving,
        Standing::NotReady | Standing::Draining => ServingStatus::NotServing,
    }
}

#[tonic::async_trait]
impl health_server::Health for Health {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        if !known(&request.get_ref().service) {
            let names = format!("there is no such service here; there is `{SERVICE_NAME}`");
            return Err(Status::not_found(names));
        }
        Ok(Response::new(response(serving(*self.0.borrow()))))
    }

    type WatchStream = BoxStream<'static, Result<HealthCheckResponse, Status>>;

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let mut standing = self.0.clone();
        let watched = if known(&request.get_ref().service) {
            // What is told first is how it stands now.
            standing.mark_changed();
            stream::unfold(Some(standing), changed).map(Ok).boxed()
        } else {
            let unknown = stream::once(async { Ok(response(ServingStatus::ServiceUnknown)) });
            let open = stream::once(async move { drained(&mut standing).await });
            unknown.chain(open.filter_map(|()| async { None })).boxed()
        };
        Ok(Response::new(watched))
    }
}

/// The next change. That the process is draining is the last thing to be told: nobody should wait for a watch to end.
async fn changed(
    standing: Option<watch::Receiver<Standing>>,
) -> Option<(HealthCheckResponse, Option<watch::Receiver<Standing>>)> {
    let mut standing = standing?;
    standing.changed().await.ok()?;
    let now = *standing.borrow_and_update();
    let more = (now != Standing::Draining).then_some(standing);
    Some((response(serving(now)), more))
}

//! The gRPC side: `carillon.v1`, with the standard services for health and reflection.
//!
//! A message takes the same way as over HTTP from the moment it is a [`carillon_model::publish::Publish`]; what is here
//! translates at both ends of it.

mod health;
mod metered;
pub(crate) mod service;
pub(crate) mod status;
mod stream;

use axum::{Router, middleware};
use tonic::service::Routes;
use tonic_health::pb::health_server::HealthServer;

use crate::Ingest;

/// The messages and the service of `proto/carillon/v1/publish.proto`.
#[allow(missing_docs, unreachable_pub, clippy::all)] // generated; the .proto says what everything is
pub(crate) mod pb {
    tonic::include_proto!("carillon.v1");
}

/// What reflection tells of them.
const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/publish.bin"));

/// The services of the door for gRPC.
pub(crate) fn router(ingest: &Ingest) -> Router {
    let limit = ingest.shared.settings.body_bytes;
    let publisher = pb::publisher_server::PublisherServer::new(service::Publisher::new(ingest.clone()))
        .max_decoding_message_size(limit);
    let health = HealthServer::new(health::Health::new(ingest));
    let routes = Routes::new(publisher).add_service(health);
    with_reflection(routes)
        .into_axum_router()
        .layer(middleware::map_request_with_state(
            ingest.clone(),
            metered::metered,
        ))
}

/// Reflection in both versions: many tools still ask for the older one first.
fn with_reflection(routes: Routes) -> Routes {
    let described = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            // By itself each version would name only itself.
            .register_encoded_file_descriptor_set(tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET)
            .include_reflection_service(false)
    };
    match (described().build_v1(), described().build_v1alpha()) {
        (Ok(v1), Ok(v1alpha)) => routes.add_service(v1).add_service(v1alpha),
        // The descriptors are compiled in and a test reads them; without reflection messages still pass.
        (Err(error), _) | (_, Err(error)) => {
            tracing::error!(%error, "gRPC reflection can't be offered");
            routes
        }
    }
}

//! The standard services beside ours: health, and reflection.

use carillon_broker::{BrokerError, Life};
use futures::StreamExt;
use std::time::Duration;
use tokio::time::timeout;
use tonic::Code;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tonic_reflection::pb::{v1, v1alpha};

use crate::{calls::channel, fixture::Fixture};

const NAME: &str = "carillon.v1.Publisher";

fn of(service: &str) -> HealthCheckRequest {
    HealthCheckRequest {
        service: service.to_owned(),
    }
}

#[tokio::test]
async fn health_follows_readiness_and_ends_with_the_drain() {
    let mut fixture = Fixture::start().await;
    let mut client = HealthClient::new(channel(&fixture).await);
    let mut watched = client.watch(of(NAME)).await.unwrap().into_inner();
    let mut unknown = client.watch(of("nobody")).await.unwrap().into_inner();
    let mut next = async || {
        let next = timeout(Duration::from_secs(10), watched.next()).await.unwrap();
        next.map(|response| response.unwrap().status())
    };
    let mut status = next().await.unwrap();
    if status == ServingStatus::NotServing {
        // The first look at the broker was still to come.
        status = next().await.unwrap();
    }
    assert_eq!(status, ServingStatus::Serving);
    for name in ["", NAME] {
        let checked = client.check(of(name)).await.unwrap().into_inner();
        assert_eq!(checked.status(), ServingStatus::Serving);
    }
    let status = client.check(of("nobody")).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);

    *fixture.broker.pressure.lock().unwrap() = Err(BrokerError::Unavailable("gone".into()));
    assert_eq!(next().await, Some(ServingStatus::NotServing));
    *fixture.broker.pressure.lock().unwrap() = Ok(0.1);
    assert_eq!(next().await, Some(ServingStatus::Serving));

    fixture.drain(Duration::from_secs(60));
    assert_eq!(next().await, Some(ServingStatus::NotServing));
    assert_eq!(next().await, None);
    assert_eq!(
        unknown.next().await.unwrap().unwrap().status(),
        ServingStatus::ServiceUnknown
    );
    assert!(unknown.next().await.is_none());
    drop(client);
    timeout(Duration::from_secs(10), &mut fixture.serving)
        .await
        .expect("nobody who watches holds the drain up")
        .unwrap();
}

#[tokio::test]
async fn a_failover_is_noticed_within_two_seconds() {
    let fixture = Fixture::start().await;
    let ingest = fixture.ingest.clone();
    let watching = tokio::spawn(async move { ingest.watch_servers().await });
    let memory = &fixture.broker.memory;
    let fails_over = async {
        // The first look only says how it is, and nobody knows when that was.
        for number in 0_u32.. {
            memory.replace_server_state(0, memory.server_state(0), Life(number.to_string().into()), 0);
            tokio::time::sleep(Duration::from_millis(100)).await;
            let text = fixture.metrics.encode().unwrap();
            if !text.contains("carillon_ingest_failovers_total 0\n") {
                return;
            }
        }
    };
    timeout(Duration::from_secs(4), fails_over)
        .await
        .expect("a look each second");
    watching.abort();
}

#[tokio::test]
async fn reflection_tells_the_services_in_both_versions() {
    let fixture = Fixture::start().await;
    let channel = channel(&fixture).await;
    let wanted = [NAME, "grpc.health.v1.Health"];

    let mut client = v1::server_reflection_client::ServerReflectionClient::new(channel.clone());
    let ask = v1::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(v1::server_reflection_request::MessageRequest::ListServices(
            String::new(),
        )),
    };
    let asked = futures::stream::iter([ask]);
    let mut told = client.server_reflection_info(asked).await.unwrap().into_inner();
    let told = told.next().await.unwrap().unwrap().message_response.unwrap();
    let v1::server_reflection_response::MessageResponse::ListServicesResponse(list) = told else {
        panic!("{told:?}")
    };
    let names: Vec<_> = list.service.into_iter().map(|service| service.name).collect();
    assert!(
        wanted.iter().all(|name| names.iter().any(|told| told == name)),
        "{names:?}"
    );

    let mut client = v1alpha::server_reflection_client::ServerReflectionClient::new(channel);
    let ask = v1alpha::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(
            v1alpha::server_reflection_request::MessageRequest::FileContainingSymbol(NAME.to_owned()),
        ),
    };
    let asked = futures::stream::iter([ask]);
    let mut told = client.server_reflection_info(asked).await.unwrap().into_inner();
    let told = told.next().await.unwrap().unwrap().message_response.unwrap();
    let v1alpha::server_reflection_response::MessageResponse::FileDescriptorResponse(file) = told else {
        panic!("{told:?}")
    };
    assert!(!file.file_descriptor_proto.is_empty());
}

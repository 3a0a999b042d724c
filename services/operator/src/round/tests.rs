//! Whole rounds against an API server that is played: what is written, and that nothing is written twice.

use std::sync::Arc;

use carillon_broker::{Incarnation, Member, MemoryBroker, ServiceKind, memory::MemoryOptions};
use carillon_chassis::metrics::Metrics;
use carillon_model::PartitionCount;
use http::{Request, Response, StatusCode};
use kube::{
    Client,
    client::Body,
    core::{ApiResource, DynamicObject, GroupVersionKind},
};
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::*;
use crate::picture::Seen;

/// A request that wrote something.
#[derive(Clone, Debug)]
struct Written {
    method: String,
    path: String,
    query: String,
    body: Value,
}

/// An API server that keeps one Secret and takes everything else.
#[derive(Clone, Default)]
struct Played {
    written: Arc<Mutex<Vec<Written>>>,
    secret: Arc<Mutex<Option<Value>>>,
}

impl Played {
    fn client(&self) -> Client {
        let (service, mut handle) = tower_test::mock::pair::<Request<Body>, Response<Body>>();
        let played = self.clone();
        tokio::spawn(async move {
            while let Some((request, answer)) = handle.next_request().await {
                let (parts, body) = request.into_parts();
                let bytes = body.collect_bytes().await.unwrap();
                let body = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
                let (status, body) = played.answer(&parts.method, &parts.uri, body);
                let response = Response::builder().status(status);
                let bytes = serde_json::to_vec(&body).unwrap();
                answer.send_response(response.body(Body::from(bytes)).unwrap());
            }
        });
        Client::new(service, "shop")
    }

    fn answer(&self, method: &http::Method, uri: &http::Uri, body: Value) -> (StatusCode, Value) {
        let path = uri.path();
        if method == http::Method::GET {
            return match self.secret.lock().clone() {
                Some(secret) if path.ends_with("/secrets/billing-key") => (StatusCode::OK, secret),
                _ => (
                    StatusCode::NOT_FOUND,
                    json!({ "kind": "Status", "code": 404, "reason": "NotFound" }),
                ),
            };
        }
        self.written.lock().push(Written {
            method: method.to_string(),
            path: path.to_owned(),
            query: uri.query().unwrap_or_default().to_owned(),
            body: body.clone(),
        });
        if path.ends_with("/secrets/billing-key") && method == http::Method::PATCH {
            *self.secret.lock() = Some(body.clone());
        }
        (StatusCode::OK, body)
    }

    /// What was written since the last time, without Events.
    fn take(&self) -> Vec<Written> {
        let written = std::mem::take(&mut *self.written.lock());
        written
            .into_iter()
            .filter(|one| !one.path.contains("/events"))
            .collect()
    }
}

fn seen<S: DeserializeOwned>(kind: &'static str, name: &str, day: u32, spec: Value) -> Seen<S> {
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("carillon.dev", "v1alpha1", kind));
    let mut object = DynamicObject::new(name, &resource)
        .within("shop")
        .data(json!({ "spec": spec }));
    object.metadata.uid = Some(name.to_owned());
    object.metadata.generation = Some(1);
    object.metadata.creation_timestamp =
        serde_json::from_value(json!(format!("2026-01-{day:02}T00:00:00Z"))).unwrap();
    Seen::read(kind, &object)
}

struct World {
    played: Played,
    tools: Tools,
    memory: Memory,
    picture: Picture,
}

impl World {
    fn new() -> Self {
        let played = Played::default();
        let client = played.client();
        let options = MemoryOptions::new(PartitionCount::new(8).unwrap(), 1_700_000_000_000);
        let tools = Tools {
            settings: Arc::new(OperatorSettings {
                namespace: "shop".to_owned(),
                watch: Vec::new(),
                cluster: "carillon".to_owned(),
                selector: "app.kubernetes.io/name=carillon".to_owned(),
                lease: "carillon-operator".to_owned(),
                pod: "operator-1".to_owned(),
            }),
            broker: Arc::new(MemoryBroker::new(options)),
            applier: Applier::new(client.clone()),
            events: Events::new(client, "operator-1"),
            metrics: OperatorMetrics::new(&Metrics::new().unwrap()).unwrap(),
        };
        let picture = Picture {
            clusters: vec![seen("PushCluster", "carillon", 1, json!({}))],
            rooms: vec![
                seen("PushRoom", "younger", 3, json!({ "match": "lobby" })),
                seen(
                    "PushRoom",
                    "older",
                    2,
                    json!({ "match": "lobby", "join": "anyone" }),
                ),
            ],
            producers: vec![seen("PushProducer", "billing", 1, json!({ "rooms": ["lobby"] }))],
            ..Picture::default()
        };
        Self {
            played,
            tools,
            memory: Memory::default(),
            picture,
        }
    }

    async fn round(&mut self) -> Vec<Written> {
        let secret = self.played.secret.lock().clone();
        self.picture.secrets = secret
            .into_iter()
            .map(|secret| Arc::new(serde_json::from_value(secret).unwrap()))
            .collect();
        round(&self.tools, &mut self.memory, self.picture.clone()).await;
        self.played.take()
    }

    async fn revision(&self) -> String {
        self.tools.broker.load_policy().await.unwrap().unwrap().revision
    }

    async fn ingest_applies(&self, revision: String) {
        let member = Member {
            kind: ServiceKind::Ingest,
            incarnation: Incarnation::new("ingest-1", 1),
            address: String::new(),
            version: String::new(),
            capacity: 0,
            sessions: 0,
            last_probe: None,
            draining: false,
            policy_revision: revision,
        };
        self.tools
            .broker
            .register(&member, Duration::from_secs(600))
            .await
            .unwrap();
    }
}

fn condition<'a>(written: &'a [Written], path: &str, kind: &str) -> &'a Value {
    let status = written
        .iter()
        .rev()
        .find(|one| one.path.ends_with(path))
        .unwrap_or_else(|| panic!("{path} was not written"));
    let conditions = status.body["status"]["conditions"].as_array().unwrap();
    conditions
        .iter()
        .find(|condition| condition["type"] == kind)
        .unwrap()
}

#[tokio::test]
async fn a_round_writes_what_differs_under_its_own_name_and_nothing_twice() {
    let mut world = World::new();
    world.ingest_applies("before".to_owned()).await;
    let first = world.round().await;
    let apply = "&force=true&fieldManager=carillon-operator";
    for one in &first {
        assert_eq!(one.method, "PATCH", "{one:?}");
        let query = format!("&{}", one.query.trim_start_matches('&'));
        for part in apply.split('&').filter(|part| !part.is_empty()) {
            assert!(query.contains(&format!("&{part}")), "{one:?}");
        }
    }
    let secret = first
        .iter()
        .find(|one| one.path.ends_with("/secrets/billing-key"))
        .unwrap();
    assert!(
        secret.body["data"]["next"].is_string() && secret.body["data"]["key"].is_null(),
        "{secret:?}"
    );
    assert_eq!(secret.body["metadata"]["ownerReferences"][0]["uid"], "billing");
    assert_eq!(
        condition(&first, "/pushrooms/older/status", "Accepted")["status"],
        "True"
    );
    assert_eq!(
        condition(&first, "/pushrooms/older/status", "Programmed")["reason"],
        "Pending"
    );
    assert_eq!(
        condition(&first, "/pushrooms/younger/status", "Accepted")["reason"],
        "Conflict"
    );
    assert_eq!(
        condition(&first, "/pushclusters/carillon/status", "Programmed")["reason"],
        "Pending"
    );
    assert_eq!(
        condition(&first, "/pushproducers/billing/status", "Programmed")["reason"],
        "KeyPending"
    );

    assert!(world.round().await.is_empty(), "nothing has changed");

    // The ingest applies the policy: the condition follows in this round, the key in the next.
    let revision = world.revision().await;
    world.ingest_applies(revision.clone()).await;
    let second = world.round().await;
    assert_eq!(
        condition(&second, "/pushrooms/older/status", "Programmed")["status"],
        "True"
    );
    assert_eq!(
        condition(&second, "/pushclusters/carillon/status", "Programmed")["status"],
        "True"
    );
    let third = world.round().await;
    let secret = third
        .iter()
        .find(|one| one.path.ends_with("/secrets/billing-key"))
        .unwrap();
    assert!(
        secret.body["data"]["key"].is_string() && secret.body["data"]["next"].is_null(),
        "{secret:?}"
    );
    assert_eq!(
        condition(&third, "/pushproducers/billing/status", "Programmed")["status"],
        "True"
    );
    assert_eq!(world.revision().await, revision, "the same keys are let in");
    assert!(world.round().await.is_empty(), "and that is all");
}

#[tokio::test]
async fn without_a_cluster_nothing_is_stored_and_nothing_is_taken_away() {
    let mut world = World::new();
    let cluster = std::mem::take(&mut world.picture.clusters);
    let written = world.round().await;
    assert_eq!(
        condition(&written, "/pushrooms/older/status", "Programmed")["reason"],
        "NoCluster"
    );
    assert!(world.tools.broker.load_policy().await.unwrap().is_none());
    world.picture.clusters = cluster;
    world.round().await;
    let before = world.revision().await;
    world.picture.clusters.clear();
    world.picture.rooms.clear();
    world.round().await;
    assert_eq!(world.revision().await, before);
}

#[tokio::test]
async fn a_secret_that_is_wanted_no_more_is_pruned_and_one_of_others_is_not() {
    let mut world = World::new();
    world.round().await;
    let own = world.played.secret.lock().clone().unwrap();
    let mut superfluous = own.clone();
    superfluous["metadata"]["name"] = json!("billing-old-name");
    superfluous["metadata"]["uid"] = json!("old");
    let mut foreign = superfluous.clone();
    foreign["metadata"]["name"] = json!("foreign");
    foreign["metadata"]["ownerReferences"][0]["uid"] = json!("somebody-else");
    world.picture.secrets = [own, superfluous, foreign]
        .into_iter()
        .map(|secret| Arc::new(serde_json::from_value(secret).unwrap()))
        .collect();
    round(&world.tools, &mut world.memory, world.picture.clone()).await;
    let written = world.played.take();
    let deleted: Vec<_> = written.iter().filter(|one| one.method == "DELETE").collect();
    assert_eq!(deleted.len(), 1, "{written:?}");
    assert!(deleted[0].path.ends_with("/secrets/billing-old-name"));
    assert_eq!(deleted[0].body["preconditions"]["uid"], "old");
}

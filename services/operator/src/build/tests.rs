use std::{fs, path::Path};

use serde_json::{Value, json};

use super::*;

fn spec<S: serde::de::DeserializeOwned>(value: Value) -> S {
    serde_json::from_value(value).unwrap()
}

/// `UPDATE_GOLDEN=1 cargo test -p carillon-operator` writes the files anew.
fn golden(name: &str, text: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, text).unwrap();
    }
    let written = fs::read_to_string(&file).unwrap_or_default();
    assert_eq!(text, written, "{} is not what is built", file.display());
}

fn full_cluster() -> PushClusterSpec {
    spec(json!({
        "gateways": { "replicas": 3, "drainRate": "100/s", "rebalance": { "rate": "10/s" } },
        "policy": {
            "anonymous": { "sessions": true },
            "clientEvents": {
                "typing": { "room": "lobby" },
                "chat message": { "room": "all", "format": "{session}: {data}" },
            },
            "intake": { "lists": [
                { "list": "message", "room": "all", "event": "chat message", "format": "sever_push: {data}" },
            ] },
            "rooms": [{ "match": "*", "join": "anyone" }],
        },
    }))
}

#[test]
fn nothing_said_is_the_default_policy() {
    let snapshot = snapshot(&Parts::default()).unwrap();
    golden("empty.yaml", &snapshot.text);
}

#[test]
fn everything_said_is_one_text() {
    let cluster = full_cluster();
    let billing: PushProducerSpec =
        spec(json!({ "rooms": ["user:*", "all"], "rate": "200/s", "burst": 400 }));
    let audit: PushProducerSpec = spec(json!({ "rooms": ["audit"] }));
    let rooms: Vec<RoomRule> = vec![
        spec(json!({
            "match": "lobby*",
            "history": { "size": 500, "age": "60m", "bytes": "1MiB" },
            "join": "anyone", "publish": "authenticated", "presence": true, "slow": "Latest",
        })),
        spec(json!({ "match": "{on,off,\"123\"}", "history": { "size": 0 } })),
        spec(json!({ "match": "123" })),
    ];
    let hashes = vec![KeyHash([0xff; 32]), KeyHash([0x11; 32])];
    let parts = Parts {
        cluster: Some(&cluster),
        rooms,
        producers: BTreeMap::from([
            ("shop/billing".to_owned(), (&billing, hashes.clone())),
            ("audit".to_owned(), (&audit, Vec::new())),
        ]),
    };
    let built = snapshot(&parts).unwrap();
    golden("full.yaml", &built.text);
    let policy = Policy::parse_yaml(&built.text).unwrap();
    assert_eq!(policy.revision, built.revision);
    assert_eq!(policy.producer_of_key(&[0x11; 32]).unwrap().name, "shop/billing");
    let room = |name: &str| policy.rule_of(&carillon_model::Room::new(name).unwrap());
    assert_eq!(
        [room("lobby-1"), room("123"), room("elsewhere")],
        [Some(0), Some(2), Some(3)]
    );

    let mut other = parts.clone();
    other.producers.get_mut("shop/billing").unwrap().1.reverse();
    assert_eq!(
        snapshot(&other).unwrap(),
        built,
        "the order of keys means nothing"
    );
    other.rooms.swap(0, 1);
    assert_ne!(
        snapshot(&other).unwrap().revision,
        built.revision,
        "that of rooms does"
    );
}

#[test]
fn what_services_would_refuse_is_not_a_snapshot() {
    let cluster: PushClusterSpec =
        spec(json!({ "policy": { "clientEvents": { "join": { "room": "all" } } } }));
    let parts = Parts {
        cluster: Some(&cluster),
        ..Parts::default()
    };
    let refused = snapshot(&parts).unwrap_err().to_string();
    assert!(refused.contains("client_events.join"), "{refused}");
}

#[test]
fn names_of_producers_are_different_everywhere() {
    let place = |namespace: &str| Place {
        namespace: namespace.to_owned(),
        name: "billing".to_owned(),
    };
    assert_eq!(producer_name(&place("carillon"), "carillon"), "billing");
    assert_eq!(producer_name(&place("shop"), "carillon"), "shop/billing");
}

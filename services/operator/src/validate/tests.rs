use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::*;

fn object<S: DeserializeOwned>(name: &str, day: u32, spec: Value) -> Seen<S> {
    let object = json!({
        "metadata": {
            "name": name, "namespace": "shop", "uid": name, "generation": 1,
            "creationTimestamp": format!("2026-01-{day:02}T00:00:00Z"),
        },
        "spec": spec,
    });
    Seen::read("Some", &serde_json::from_value(object).unwrap())
}

fn said<S>(judged: &[Judged<S>]) -> Vec<String> {
    judged
        .iter()
        .map(|one| {
            format!(
                "{} {} {}",
                one.seen.place().name,
                one.accepted.reason,
                one.counts.is_some()
            )
        })
        .collect()
}

#[test]
fn the_highest_priority_decides_and_then_the_older() {
    let judged = rooms(
        vec![
            object("young", 3, json!({ "match": "a" })),
            object("old", 1, json!({ "match": "b" })),
            object("urgent", 9, json!({ "match": "c", "priority": 5 })),
            object("last", 1, json!({ "match": "d", "priority": -1 })),
        ],
        &LastRead::new(),
    );
    assert_eq!(
        said(&judged),
        [
            "urgent Accepted true",
            "old Accepted true",
            "young Accepted true",
            "last Accepted true"
        ]
    );
}

#[test]
fn of_two_with_one_pattern_the_older_counts_whatever_the_priority() {
    let mut both = vec![
        object("young", 2, json!({ "match": "lobby*", "priority": 100 })),
        object("old", 1, json!({ "match": "lobby*" })),
    ];
    for _ in 0..2 {
        both.reverse();
        let judged = rooms(both.clone(), &LastRead::new());
        assert_eq!(said(&judged), ["old Accepted true", "young Conflict false"]);
        assert!(
            judged[1].accepted.message.contains("PushRoom shop/old is older"),
            "{}",
            judged[1].accepted.message
        );
    }
    both.retain(|seen| seen.place().name == "young");
    assert_eq!(said(&rooms(both, &LastRead::new())), ["young Accepted true"]);
}

#[test]
fn a_wrong_or_unreadable_object_stops_only_itself() {
    let unreadable = object("unreadable", 1, json!({ "match": 7 }));
    let wrong = object(
        "wrong",
        2,
        json!({ "match": "[z-a]", "history": { "age": "13h" } }),
    );
    let good = object("good", 3, json!({ "match": "lobby" }));
    let judged = rooms(vec![unreadable.clone(), wrong, good], &LastRead::new());
    let mut all = said(&judged);
    all.sort();
    assert_eq!(
        all,
        [
            "good Accepted true",
            "unreadable Unreadable false",
            "wrong Invalid false"
        ]
    );
    let wrong = judged
        .iter()
        .find(|one| one.accepted.reason == "Invalid")
        .unwrap();
    assert!(
        wrong.accepted.message.contains("history.age: at most 12h"),
        "{}",
        wrong.accepted.message
    );
    assert!(
        wrong.accepted.message.contains("match: "),
        "{}",
        wrong.accepted.message
    );

    let before = serde_json::from_value(json!({ "match": "vault", "join": "nobody" })).unwrap();
    let judged = rooms(
        vec![unreadable],
        &LastRead::from([("unreadable".to_owned(), before)]),
    );
    assert_eq!(
        judged[0].counts.as_ref().map(|spec| spec.pattern.as_str()),
        Some("vault")
    );
    assert!(
        judged[0]
            .accepted
            .message
            .contains("what was last read of it stays in force")
    );
}

#[test]
fn producers_are_checked_by_the_model() {
    let judged = producers(
        vec![
            object("fine", 1, json!({ "rooms": ["user:*"], "rate": "200/s" })),
            object(
                "forever",
                2,
                json!({ "rooms": ["all"], "rate": "1/999999h", "burst": 1_000_000 }),
            ),
        ],
        &LastRead::new(),
        "shop",
    );
    assert_eq!(said(&judged), ["fine Accepted true", "forever Invalid false"]);
    assert!(
        judged[1]
            .accepted
            .message
            .starts_with("rate: the whole burst must be back")
    );
}

#[test]
fn one_cluster_counts_and_a_wrong_one_leaves_what_was() {
    let place = Place {
        namespace: "shop".to_owned(),
        name: "carillon".to_owned(),
    };
    let bad_format = json!({ "policy": { "clientEvents": { "hi": { "room": "all", "format": "{nope}" } } } });
    let seen = vec![object("carillon", 2, bad_format), object("other", 1, json!({}))];
    let judged = clusters(seen.clone(), &LastRead::new(), &place);
    assert_eq!(
        said(&judged),
        ["other NotInCharge false", "carillon Invalid false"]
    );
    assert!(
        judged[1].accepted.message.contains("known are"),
        "{}",
        judged[1].accepted.message
    );
    let before = LastRead::from([("carillon".to_owned(), PushClusterSpec::default())]);
    assert_eq!(said(&clusters(seen, &before, &place))[1], "carillon Invalid true");
}

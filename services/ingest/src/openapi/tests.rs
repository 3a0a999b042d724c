use std::collections::BTreeSet;

use carillon_chassis::metrics::MetricLabel;
use serde_json::Value;

use super::*;

fn described() -> Value {
    let settings = IngestSettings::default();
    let doors = page::doors(crate::http::doors(&settings));
    serde_json::to_value(document(&settings, doors.paths)).unwrap()
}

#[test]
fn every_kind_of_problem_is_told() {
    let elsewhere = [Kind::NotFound, Kind::MethodNotAllowed];
    for kind in Kind::ALL {
        assert_ne!(
            problems::OF_MESSAGES.contains(kind),
            elsewhere.contains(kind),
            "{kind:?}: of what is it an answer?"
        );
    }
}

/// Members of problems, by the calls that add them.
#[test]
fn every_member_of_a_problem_is_described() {
    let described = described();
    let properties = described["components"]["schemas"]["Problem"]["properties"]
        .as_object()
        .unwrap();
    let mut members = BTreeSet::new();
    for file in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/src")).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "rs") {
            continue;
        }
        let source = std::fs::read_to_string(path).unwrap();
        for call in source.split(".with(\"").skip(1) {
            members.insert(call.split('"').next().unwrap().to_owned());
        }
    }
    assert!(members.len() > 8, "{members:?}");
    for member in members {
        assert!(properties.contains_key(&member), "{member}");
    }
}

#[test]
fn references_lead_somewhere() {
    let described = described();
    let schemas = described["components"]["schemas"].as_object().unwrap();
    let text = described.to_string();
    let mut used = BTreeSet::new();
    for rest in text.split("#/components/schemas/").skip(1) {
        used.insert(rest.split('"').next().unwrap());
    }
    assert!(used.len() > 8, "{used:?}");
    for name in &used {
        assert!(schemas.contains_key(*name), "{name} is used and not there");
    }
    for name in schemas.keys() {
        assert!(used.contains(name.as_str()), "{name} is there and not used");
    }
}

#[test]
fn limits_are_those_in_force() {
    let settings = IngestSettings {
        limits: carillon_model::publish::PublishLimits {
            batch: 7,
            rooms: 3,
            data_bytes: 99,
        },
        ..IngestSettings::default()
    };
    let doors = crate::http::doors(&settings);
    let described = serde_json::to_value(document(&settings, doors.paths)).unwrap();
    let schemas = &described["components"]["schemas"];
    assert_eq!(schemas["Batch"]["maxItems"], 7);
    assert_eq!(
        schemas["Target"]["oneOf"][2]["properties"]["rooms"]["maxItems"],
        3
    );
    assert!(schemas["JsonMessage"].to_string().contains("at most 99 bytes"));
}

#[test]
fn the_page_needs_nothing_from_elsewhere() {
    let [page, style, script] = [
        include_str!("../../assets/docs/page.html"),
        include_str!("../../assets/docs/page.css"),
        include_str!("../../assets/docs/page.js"),
    ];
    for banned in [
        "innerHTML",
        "insertAdjacentHTML",
        "outerHTML",
        "eval(",
        "fetch(",
        "</script",
    ] {
        assert!(!script.contains(banned), "{banned}");
    }
    for banned in ["url(", "@import", "</style"] {
        assert!(!style.contains(banned), "{banned}");
    }
    for banned in ["http://", "https://", "style=", " onclick", "src="] {
        assert!(!page.contains(banned), "{banned}");
    }
}

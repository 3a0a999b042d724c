//! An arrow only ever points down: carillon → services → chassis, broker → model.

use std::{collections::BTreeMap, process::Command};

use serde_json::Value;

use crate::{assert_none, files_below, read, root, short};

/// What each crate of ours may use of ours, in tests and builds too. A crate that is not listed is refused: say here
/// where it stands.
const MAY_USE: &[(&str, &[&str])] = &[
    ("carillon-model", &[]),
    ("carillon-broker", &["carillon-model"]),
    ("carillon-chassis", &["carillon-model"]),
    (
        "carillon-ingest",
        &["carillon-chassis", "carillon-broker", "carillon-model"],
    ),
    (
        "carillon-dispatcher",
        &["carillon-chassis", "carillon-broker", "carillon-model"],
    ),
    (
        "carillon-gateway",
        &["carillon-chassis", "carillon-broker", "carillon-model"],
    ),
    (
        "carillon-operator",
        &["carillon-chassis", "carillon-broker", "carillon-model"],
    ),
    (
        "carillon",
        &[
            "carillon-ingest",
            "carillon-dispatcher",
            "carillon-gateway",
            "carillon-operator",
            "carillon-chassis",
            "carillon-broker",
            "carillon-model",
        ],
    ),
    // It stands beside the binary: it tries the services' parsers.
    (
        "carillon-fuzz",
        &[
            "carillon-ingest",
            "carillon-gateway",
            "carillon-chassis",
            "carillon-model",
        ],
    ),
    // It stands beside the binary: it drives the services' own code, on a broker of its own.
    (
        "carillon-simulator",
        &[
            "carillon-ingest",
            "carillon-dispatcher",
            "carillon-gateway",
            "carillon-chassis",
            "carillon-broker",
            "carillon-model",
        ],
    ),
];

/// Who may know a library. Everything else is free to use what the workspace has.
const ONLY_FOR: &[(&str, &[&str])] = &[
    ("redis", &["carillon-broker"]),
    ("deadpool-redis", &["carillon-broker"]),
    ("engineioxide", &["carillon-gateway"]),
    ("mimalloc", &["carillon"]),
    ("libfuzzer-sys", &["carillon-fuzz"]),
    // Only the operator talks to the Kubernetes API; the binary finds the way there.
    ("kube", &["carillon-operator", "carillon"]),
    ("k8s-openapi", &["carillon-operator"]),
];

/// The model does no I/O and knows no runtime.
const NOT_IN_THE_MODEL: &[&str] = &[
    "async-trait",
    "axum",
    "deadpool",
    "futures",
    "hyper",
    "hyper-util",
    "notify",
    "redis",
    "socket2",
    "tokio",
    "tokio-util",
    "tower",
    "tower-http",
    "tracing",
];

struct Crate {
    name: String,
    manifest: String,
    uses: Vec<String>,
}

fn crates() -> Vec<Crate> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(
        output.status.success(),
        "cargo metadata: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo metadata is JSON");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let packages = metadata["packages"].as_array().expect("packages");
    packages
        .iter()
        .map(|package| Crate {
            name: text(&package["name"]),
            manifest: text(&package["manifest_path"]),
            uses: package["dependencies"]
                .as_array()
                .expect("dependencies")
                .iter()
                .map(|dependency| text(&dependency["name"]))
                .collect(),
        })
        .collect()
}

#[test]
fn arrows_point_down() {
    let allowed: BTreeMap<_, _> = MAY_USE.iter().copied().collect();
    let ours: Vec<String> = crates().into_iter().map(|ours| ours.name).collect();
    assert!(ours.len() >= MAY_USE.len(), "cargo metadata names only {ours:?}");
    let mut complaints = Vec::new();
    for Crate { name, uses, .. } in crates() {
        let Some(may_use) = allowed.get(name.as_str()) else {
            complaints.push(format!(
                "{name} has no place in the house yet: give it one in MAY_USE"
            ));
            continue;
        };
        for used in uses {
            // A crate may name itself, to switch a feature on for its own tests.
            if ours.contains(&used) && used != name && !may_use.contains(&used.as_str()) {
                complaints.push(format!("{name} must not depend on {used}"));
            }
        }
    }
    assert_none(
        "arrows only point down: carillon → services → chassis, broker → model",
        &complaints,
    );
}

#[test]
fn libraries_stay_where_they_belong() {
    let mut complaints = Vec::new();
    for Crate { name, uses, .. } in crates() {
        for used in &uses {
            if name == "carillon-model" && NOT_IN_THE_MODEL.contains(&used.as_str()) {
                complaints.push(format!(
                    "{name} does no I/O and has no runtime: it must not depend on {used}"
                ));
            }
            if let Some((_, who)) = ONLY_FOR.iter().find(|(library, _)| library == used)
                && !who.contains(&name.as_str())
            {
                complaints.push(format!("{used} is for {} only, not for {name}", who.join(", ")));
            }
        }
    }
    assert_none("libraries stay behind the crate that wraps them", &complaints);
}

/// What a folder's sources may not mention, whether in code or in a path. Comments may.
const UNSPEAKABLE: &[(&str, &[&str])] = &[
    (
        "services/gateway/src/hub",
        &["engineioxide", "axum", "hyper", "redis::", "deadpool"],
    ),
    (
        "services/gateway/src/transport",
        &[
            "redis::",
            "deadpool",
            "carillon_broker::redis",
            "SharedBroker",
            "dyn Broker",
        ],
    ),
    (
        "services/gateway/src/identity",
        &[
            "redis::",
            "deadpool",
            "carillon_broker",
            "engineioxide",
            "hyper",
            "crate::transport",
        ],
    ),
    (
        "services/ingest/src",
        &[
            "redis::",
            "engineioxide",
            "carillon_gateway",
            "carillon_dispatcher",
        ],
    ),
    (
        "services/dispatcher/src",
        &["redis::", "engineioxide", "carillon_gateway", "carillon_ingest"],
    ),
    (
        "services/operator/src",
        &[
            "redis::",
            "engineioxide",
            "carillon_gateway",
            "carillon_dispatcher",
            "carillon_ingest",
        ],
    ),
    (
        "services/broker/src",
        &["axum", "engineioxide", "carillon_gateway", "carillon_dispatcher"],
    ),
];

#[test]
fn halves_do_not_know_each_other() {
    let mut complaints = Vec::new();
    for (folder, words) in UNSPEAKABLE {
        let files = files_below(&root().join(folder), "rs");
        assert!(!files.is_empty(), "{folder} has no sources: has it moved?");
        for file in files {
            for (number, line) in read(&file).lines().enumerate() {
                let code = line.split("//").next().unwrap_or_default();
                for word in words.iter().filter(|word| code.contains(**word)) {
                    complaints.push(format!("{}:{} mentions `{word}`", short(&file), number + 1));
                }
            }
        }
    }
    assert_none(
        "the hub knows no Socket.IO, the transport no Redis, and services meet in the broker",
        &complaints,
    );
}

#[test]
fn manifests_take_everything_from_the_workspace() {
    let mut complaints = Vec::new();
    for Crate { manifest, .. } in crates() {
        let manifest = std::path::PathBuf::from(manifest);
        let text = read(&manifest);
        if !text.contains("[lints]\nworkspace = true") {
            complaints.push(format!(
                "{} does not inherit the workspace's lints",
                short(&manifest)
            ));
        }
        for inherited in ["version", "edition", "rust-version", "license"] {
            if !text.contains(&format!("\n{inherited}.workspace = true")) {
                complaints.push(format!(
                    "{}: `{inherited}` is not the workspace's",
                    short(&manifest)
                ));
            }
        }
        let mut section = String::new();
        for line in text.lines().map(str::trim) {
            if let Some(header) = line.strip_prefix('[') {
                section = header.trim_end_matches(']').to_owned();
            } else if section.ends_with("dependencies") && line.contains('=') && !line.starts_with('#') {
                let shared = line.contains(".workspace = true") || line.contains("workspace = true");
                if !shared {
                    complaints.push(format!("{}: `{line}` has a version of its own", short(&manifest)));
                }
            } else if section.contains("dependencies.") && line.starts_with("version") {
                complaints.push(format!(
                    "{}: [{section}] has a version of its own",
                    short(&manifest)
                ));
            }
        }
    }
    assert_none(
        "one place for versions and lints: the root Cargo.toml",
        &complaints,
    );
}

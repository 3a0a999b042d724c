//! The chart's definitions are those of the code.

#![allow(clippy::unwrap_used)] // a test

use std::{fs, path::Path};

/// `UPDATE_CRDS=1 cargo test -p carillon-operator --test definitions` writes them anew.
#[test]
fn the_charts_definitions_are_up_to_date() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../helm/carillon/files/crds");
    for (name, manifest) in carillon_operator::resources::manifests().unwrap() {
        let file = folder.join(name);
        if std::env::var_os("UPDATE_CRDS").is_some() {
            fs::create_dir_all(&folder).unwrap();
            fs::write(&file, &manifest).unwrap();
        }
        let written = fs::read_to_string(&file).unwrap_or_default();
        assert!(
            written == manifest,
            "helm/carillon/files/crds/{name} is not what the code says; run `UPDATE_CRDS=1 cargo test -p carillon-operator --test definitions`"
        );
    }
}

//! The page about the command line is what the binary says of itself.

#![allow(clippy::unwrap_used)] // a test

use std::{fs, path::Path, process::Command};

/// `UPDATE_DOCS=1 cargo test -p carillon --test commands_reference` writes it anew; `make docs` does.
#[test]
fn commands_reference_is_up_to_date() {
    let output = Command::new(env!("CARGO_BIN_EXE_carillon"))
        .arg("commands")
        .output()
        .unwrap();
    assert!(output.status.success());
    let reference = String::from_utf8(output.stdout).unwrap();
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/cli.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&file, &reference).unwrap();
    }
    let written = fs::read_to_string(&file).unwrap_or_default();
    assert!(
        written == reference,
        "docs/cli.md is not what the code says; run `make docs`"
    );
}

//! The house's rules, checked: who may depend on whom, what a file may hold, and that what is written in prose exists.
//!
//! The compiler keeps the arrows between crates pointing down only as long as nobody adds a line to a `Cargo.toml`.
//! These tests read the manifests and the sources themselves, so that such a line is a decision and not an accident.

#![allow(clippy::expect_used, clippy::panic)] // helpers of tests: a panic is a verdict

mod arrows;
mod prose;
mod sources;

use std::path::{Path, PathBuf};

/// The repository's root.
fn root() -> PathBuf {
    let mut root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    root.pop();
    root.pop();
    root
}

/// Files below a folder whose name ends in `extension`, in order, without what is generated or fetched.
fn files_below(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten() {
            let path = entry.expect("the folder can be listed").path();
            let name = path
                .file_name()
                .and_then(|name| name.to_str())
                .unwrap_or_default();
            if path.is_dir() {
                if !matches!(name, "target" | "node_modules" | ".git" | ".artifacts") {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|of_path| of_path == extension) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// Reads a file and names it if that fails.
fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A path as people write it: from the root.
fn short(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}

/// Fails with every complaint at once.
fn assert_none(rule: &str, complaints: &[String]) {
    assert!(complaints.is_empty(), "{rule}\n  {}\n", complaints.join("\n  "));
}

//! The corpus breaks no rule: seeds, and what fuzzing found since.

#![allow(clippy::unwrap_used)] // helpers of a test

use std::{fs, panic, path::Path};

use carillon_fuzz::TARGETS;

#[test]
fn every_target_holds_for_its_corpus() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for (name, target) in TARGETS {
        let folder = corpus.join(name);
        let files: Vec<_> = fs::read_dir(&folder)
            .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
            .map(|entry| entry.unwrap().path())
            .collect();
        assert!(
            files.len() >= 5,
            "{} has only {} files",
            folder.display(),
            files.len()
        );
        for file in files {
            let bytes = fs::read(&file).unwrap();
            let held = panic::catch_unwind(|| target(&bytes));
            assert!(
                held.is_ok(),
                "{} breaks a rule of `{name}`; see above",
                file.display()
            );
        }
    }
}

#[test]
fn every_corpus_has_its_target() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for entry in fs::read_dir(corpus).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(carillon_fuzz::target(&name).is_some(), "no target `{name}`");
    }
}

//! What README and docs name exists: files, verbs of the Makefile, links.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use crate::{assert_none, files_below, read, root, short};

fn pages() -> Vec<PathBuf> {
    let mut pages = vec![root().join("README.md")];
    pages.extend(files_below(&root().join("docs"), "md"));
    assert!(pages.len() > 2, "README.md and docs/ are there");
    pages
}

/// Words in backquotes outside of fenced blocks.
fn quoted(text: &str) -> Vec<&str> {
    let mut fenced = false;
    let prose = text.lines().filter(|line| {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        !fence && !fenced
    });
    prose
        .flat_map(|line| line.split('`').skip(1).step_by(2))
        .collect()
}

/// Where links lead: `](target)`.
fn links(text: &str) -> Vec<&str> {
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    let images = text
        .split("src=\"")
        .skip(1)
        .chain(text.split("srcset=\"").skip(1));
    targets
        .chain(images.filter_map(|rest| rest.split('"').next()))
        .collect()
}

const FOLDERS: &[&str] = &[
    "services/",
    "e2e/",
    "docs/",
    "deploy/",
    "scripts/",
    "helm/",
    ".ci/",
];

/// Whether a word in backquotes names a file or folder of this repository.
fn names_a_path(word: &str) -> bool {
    FOLDERS.iter().any(|folder| word.starts_with(folder)) && !word.contains([' ', '*', '{', '<', '…'])
}

#[test]
fn paths_in_prose_exist() {
    let mut complaints = Vec::new();
    let mut seen = BTreeSet::new();
    for page in pages() {
        for word in quoted(&read(&page)).into_iter().filter(|word| names_a_path(word)) {
            seen.insert(word.to_owned());
            if !root().join(word).exists() {
                complaints.push(format!("{}: `{word}` does not exist", short(&page)));
            }
        }
    }
    assert!(seen.len() > 20, "the tour names files; found only {seen:?}");
    assert_none("prose is code: rename there too", &complaints);
}

#[test]
fn links_in_prose_lead_somewhere() {
    let mut complaints = Vec::new();
    for page in pages() {
        let text = read(&page);
        let folder = page.parent().unwrap_or(Path::new("."));
        for link in links(&text) {
            let target = link.split('#').next().unwrap_or_default();
            let elsewhere = link.contains("://") || link.starts_with('#') || target.is_empty();
            if !elsewhere && !folder.join(target).exists() {
                complaints.push(format!("{}: the link {link} leads nowhere", short(&page)));
            }
        }
    }
    assert_none("links lead somewhere", &complaints);
}

#[test]
fn verbs_in_prose_are_in_the_makefile() {
    let makefile = read(&root().join("Makefile"));
    let mut complaints = Vec::new();
    for page in pages() {
        for line in read(&page).lines() {
            for rest in line.split("`make ").skip(1).chain(line.strip_prefix("make ")) {
                let verb: String = rest
                    .chars()
                    .take_while(|c| c.is_ascii_alphanumeric() || *c == '-')
                    .collect();
                if !verb.is_empty() && !makefile.contains(&format!("\n{verb}:")) {
                    complaints.push(format!("{}: `make {verb}` is not in the Makefile", short(&page)));
                }
            }
        }
    }
    assert_none("every verb that is written down works", &complaints);
}

#[test]
fn backquoted_words_are_found() {
    assert_eq!(quoted("a `b` c\n```\n`d`\n```\n`e`"), ["b", "e"]);
    assert_eq!(links("[a](b.md) ![c](d.svg)"), ["b.md", "d.svg"]);
}

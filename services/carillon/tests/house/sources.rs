//! What a source file may hold.

use std::path::Path;

use crate::{assert_none, files_below, read, root, short};

/// Lines of code in one file; tests beside it do not count.
const LINES: usize = 400;
/// Lines of a whole file with its tests, or of a file of tests.
const LINES_WITH_TESTS: usize = 600;

fn sources() -> Vec<std::path::PathBuf> {
    let mut files = files_below(&root().join("services"), "rs");
    files.extend(files_below(&root().join("e2e"), "rs"));
    assert!(
        files.len() > 50,
        "only {} sources found: has the house moved?",
        files.len()
    );
    files
}

fn is_test(file: &Path) -> bool {
    let parts: Vec<_> = file.iter().filter_map(|part| part.to_str()).collect();
    parts.contains(&"tests") || parts.contains(&"conformance") || file.ends_with("tests.rs")
}

/// Lines before the unit tests that stand at the end of a file.
fn lines_of_code(text: &str) -> usize {
    let lines: Vec<&str> = text.lines().collect();
    let tests = lines.windows(2).position(|pair| {
        matches!(pair, [attribute, module] if attribute.trim() == "#[cfg(test)]" && module.starts_with("mod ") && module.ends_with('{'))
    });
    tests.unwrap_or(lines.len())
}

#[test]
fn files_are_short() {
    let mut complaints = Vec::new();
    for file in sources() {
        let text = read(&file);
        let (code, all) = (lines_of_code(&text), text.lines().count());
        if all > LINES_WITH_TESTS {
            complaints.push(format!("{}: {all} lines, over {LINES_WITH_TESTS}", short(&file)));
        } else if code > LINES && !is_test(&file) {
            complaints.push(format!("{}: {code} lines of code, over {LINES}", short(&file)));
        }
    }
    assert_none("a file holds one idea: split these", &complaints);
}

#[test]
fn nothing_is_left_for_later() {
    // Put together, so that this file does not find itself.
    let words = [
        concat!("to", "do!("),
        concat!("unimple", "mented!("),
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
    ];
    let mut complaints = Vec::new();
    for file in sources() {
        for (number, line) in read(&file).lines().enumerate() {
            for word in words.iter().filter(|word| line.contains(**word)) {
                complaints.push(format!("{}:{}: {word}", short(&file), number + 1));
            }
        }
    }
    assert_none(
        "what is here is finished; what is not finished is not here",
        &complaints,
    );
}

/// What the simulator runs must replay from its seed.
const SIMULATED: &[&str] = &[
    "services/dispatcher/src",
    "services/gateway/src/hub",
    "services/broker/src/memory",
];

#[test]
fn simulated_code_selects_in_order() {
    let mut complaints = Vec::new();
    let mut selects = 0;
    for folder in SIMULATED {
        for file in files_below(&root().join(folder), "rs") {
            let text = read(&file);
            let lines: Vec<&str> = text.lines().map(str::trim).collect();
            for (number, pair) in lines.windows(2).enumerate() {
                if let [select, first] = pair
                    && select.contains("select! {")
                {
                    selects += 1;
                    if *first != "biased;" {
                        complaints.push(format!(
                            "{}:{}: a select! that is not biased",
                            short(&file),
                            number + 1
                        ));
                    }
                }
            }
        }
    }
    assert!(selects > 10, "only {selects} select! found: has the house moved?");
    assert_none("a random branch would not replay from a seed", &complaints);
}

#[test]
fn lines_before_tests_are_counted() {
    assert_eq!(lines_of_code("a\nb\n#[cfg(test)]\nmod tests {\n}\n"), 2);
    assert_eq!(lines_of_code("a\n#[cfg(test)]\nmod tests;\nb\n"), 4);
}

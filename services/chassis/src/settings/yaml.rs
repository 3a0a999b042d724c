//! The settings file. It is read event by event instead of into a struct, so that one pass finds every mistake,
//! each with its line, and a value keeps the letters it was written in (`007` stays `007`).

use std::path::Path;

use serde_saphyr::granit_parser::{Event, Parser, ScalarStyle};

use super::{
    error::{SettingsProblem, Source},
    load::Given,
    value::Raw,
};

/// Deeper than any key; a file that goes further is not ours.
const DEPTH: usize = 16;

/// What the file sets, and what is wrong with it as a file.
pub(super) fn read(path: &Path, text: &str) -> (Vec<Given>, Vec<SettingsProblem>) {
    let mut file = File {
        path,
        given: Vec::new(),
        problems: Vec::new(),
    };
    let mut events = Vec::new();
    for event in Parser::new_from_str(text) {
        match event {
            Ok((Event::Comment(..), _)) => {}
            Ok((event, span)) => events.push((event, span.start.line())),
            Err(error) => {
                file.problem(
                    None,
                    error.marker().line(),
                    format!("is not YAML: {}", error.info()),
                );
                return (file.given, file.problems);
            }
        }
    }
    let mut events = Events {
        events: events.into_iter(),
    };
    file.documents(&mut events);
    (file.given, file.problems)
}

/// An event and its line.
type Positioned<'a> = (Event<'a>, usize);

struct Events<'a> {
    events: std::vec::IntoIter<Positioned<'a>>,
}

impl<'a> Events<'a> {
    fn next(&mut self) -> Option<Positioned<'a>> {
        self.events.next()
    }

    /// Reads over the rest of a node whose first event was taken.
    fn skip(&mut self, first: &Event<'_>) {
        let mut open = usize::from(opens(first));
        while open > 0 {
            match self.next() {
                Some((event, _)) if opens(&event) => open += 1,
                Some((Event::MappingEnd | Event::SequenceEnd, _)) => open -= 1,
                Some(_) => {}
                None => return,
            }
        }
    }
}

fn opens(event: &Event<'_>) -> bool {
    matches!(event, Event::MappingStart(..) | Event::SequenceStart(..))
}

fn is_null(text: &str, style: ScalarStyle) -> bool {
    style == ScalarStyle::Plain && matches!(text, "" | "~" | "null" | "Null" | "NULL")
}

struct File<'p> {
    path: &'p Path,
    given: Vec<Given>,
    problems: Vec<SettingsProblem>,
}

impl File<'_> {
    fn source(&self, line: usize) -> Source {
        Source::File {
            path: self.path.to_owned(),
            line,
        }
    }

    fn problem(&mut self, key: Option<&str>, line: usize, what: String) {
        let source = Some(self.source(line));
        self.problems.push(SettingsProblem {
            key: key.map(str::to_owned),
            source,
            what,
        });
    }

    fn give(&mut self, key: String, raw: Raw, line: usize) {
        let before = self.given.iter().find(|given| given.key == key);
        if let Some(Source::File { line: first, .. }) = before.map(|given| &given.source) {
            let what = format!("is set twice; the first time in line {first}");
            self.problem(Some(&key), line, what);
            return;
        }
        let source = self.source(line);
        self.given.push(Given { key, raw, source });
    }

    fn documents(&mut self, events: &mut Events<'_>) {
        let mut documents = 0;
        while let Some((event, line)) = events.next() {
            match event {
                Event::DocumentStart(..) => {
                    documents += 1;
                    if documents > 1 {
                        self.problem(None, line, "is a second document; one file holds one".to_owned());
                        return;
                    }
                }
                Event::MappingStart(..) => self.mapping(events, "", 0),
                Event::Scalar(text, style, ..) if is_null(&text, style) => {}
                Event::Scalar(..) | Event::SequenceStart(..) | Event::Alias(_) => {
                    self.problem(None, line, "expected sections, such as `redis:`".to_owned());
                    events.skip(&event);
                }
                _ => {}
            }
        }
    }

    fn mapping(&mut self, events: &mut Events<'_>, prefix: &str, depth: usize) {
        while let Some((event, line)) = events.next() {
            match event {
                Event::MappingEnd => return,
                Event::Scalar(part, ..) => {
                    let key = if prefix.is_empty() {
                        part.into_owned()
                    } else {
                        format!("{prefix}.{part}")
                    };
                    self.value(events, key, line, depth);
                }
                other => {
                    let key = (!prefix.is_empty()).then_some(prefix);
                    self.problem(key, line, "expected a name before the `:`".to_owned());
                    events.skip(&other);
                    if let Some((value, _)) = events.next() {
                        events.skip(&value);
                    }
                }
            }
        }
    }

    fn value(&mut self, events: &mut Events<'_>, key: String, line: usize, depth: usize) {
        match events.next() {
            Some((Event::Scalar(text, style, ..), _)) => {
                let raw = if is_null(&text, style) {
                    Raw::Nothing
                } else {
                    Raw::Text(text.into_owned())
                };
                self.give(key, raw, line);
            }
            Some((Event::SequenceStart(..), _)) => self.list(events, key, line),
            Some((Event::MappingStart(..), _)) if depth < DEPTH => self.mapping(events, &key, depth + 1),
            Some((other, _)) => {
                let what = "is an alias or too deep; settings are written out".to_owned();
                self.problem(Some(&key), line, what);
                events.skip(&other);
            }
            None => {}
        }
    }

    fn list(&mut self, events: &mut Events<'_>, key: String, line: usize) {
        let mut parts = Vec::new();
        while let Some((event, part_line)) = events.next() {
            match event {
                Event::SequenceEnd => break,
                Event::Scalar(text, ..) => parts.push(text.into_owned()),
                other => {
                    let what = format!("[{}] is not a single value", parts.len());
                    self.problem(Some(&key), part_line, what);
                    events.skip(&other);
                }
            }
        }
        self.give(key, Raw::List(parts), line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(text: &str) -> Vec<(String, Raw, String)> {
        let (given, problems) = read(Path::new("c.yaml"), text);
        assert_eq!(problems, Vec::new());
        given
            .into_iter()
            .map(|given| (given.key, given.raw, given.source.to_string()))
            .collect()
    }

    #[test]
    fn keys_values_and_lines() {
        let text = "# a comment\nredis:\n  url: redis://h # why\n  nodes: [a, 'b']\ngateway.pod: 007\nlog:\n";
        let raw = |text: &str| Raw::Text(text.to_owned());
        assert_eq!(
            keys(text),
            [
                ("redis.url".to_owned(), raw("redis://h"), "c.yaml:3".to_owned()),
                (
                    "redis.nodes".to_owned(),
                    Raw::List(vec!["a".into(), "b".into()]),
                    "c.yaml:4".to_owned()
                ),
                ("gateway.pod".to_owned(), raw("007"), "c.yaml:5".to_owned()),
                ("log".to_owned(), Raw::Nothing, "c.yaml:6".to_owned()),
            ]
        );
        assert_eq!(keys(""), []);
        assert_eq!(keys("# nothing\n"), []);
    }

    #[test]
    fn every_mistake_of_a_file_is_told_with_its_line() {
        let told = |text| {
            let (_, problems) = read(Path::new("c.yaml"), text);
            problems.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(
            told("a:\n  b: 1\n  b: 2\n  c: [[1], 2]\n? [x]\n: y\n"),
            [
                "a.b (c.yaml:3): is set twice; the first time in line 2",
                "a.c (c.yaml:4): [0] is not a single value",
                "c.yaml:5: expected a name before the `:`",
            ]
        );
        assert_eq!(
            told("- a\n- b\n"),
            ["c.yaml:1: expected sections, such as `redis:`"]
        );
        let broken = told("a: [1\nb: 2");
        assert!(broken[0].contains("is not YAML"), "{broken:?}");
        assert_eq!(told("a: 1\n---\nb: 2\n").len(), 1);
        assert!(told("a: &x 1\nb: *x\n")[0].starts_with("b (c.yaml:2)"));
    }
}

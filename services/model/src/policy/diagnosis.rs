//! What is wrong with the shape of a policy: fields that are not known, that are missing, or that hold another kind of
//! value. A parser stops at the first of them. Here each is noted with its path, and its place is filled with something
//! empty, until the rest of the policy can be read as well.

use serde_json::{Value, json};
use serde_path_to_error::{Path, Segment};

use super::document::{Document, PolicyError};

/// After so many mistakes nobody reads on.
const MOST: usize = 100;

/// A step on the way to a value.
#[derive(Clone, Debug)]
enum Step {
    Field(String),
    Element(usize),
}

/// What is wrong with a policy's shape, and the rest of the policy. `None` if nothing is found here: the text is no YAML,
/// or nothing is wrong with its shape.
pub(super) fn diagnose(text: &str) -> Option<(Vec<PolicyError>, Document)> {
    let mut value: Value = serde_saphyr::from_str(text).ok()?;
    // What is no document at all has no parts to look at.
    value.as_object()?;
    let mut found: Vec<PolicyError> = Vec::new();
    // Each place as often as it was filled.
    let mut filled: Vec<String> = Vec::new();
    while found.len() <= MOST {
        let error = match serde_path_to_error::deserialize::<_, Document>(&value) {
            Ok(document) => return (!found.is_empty()).then_some((found, document)),
            Err(error) => error,
        };
        let message = error.inner().to_string();
        let missing = missing_field(&message);
        let mut place = steps(error.path())?;
        place.extend(missing.map(|field| Step::Field(field.to_owned())));
        // The parser of the text takes a number for the text that it is.
        if message.ends_with("expected a string") && make_text(&mut value, &place) {
            continue;
        }
        let path = written(&place);
        if !is_within(&path, &found) {
            let message = missing.map_or_else(|| on_one_line(&message), |_| "is missing".to_owned());
            let path = path.clone();
            found.push(PolicyError { path, message });
        }
        let times = filled.iter().filter(|at| **at == path).count();
        filled.push(path);
        let filling = match times {
            _ if message.starts_with("unknown field") => None,
            0 => Some(json!("")),
            1 => Some(json!({})),
            2 => Some(json!([])),
            3 => None,
            _ => return None,
        };
        fill(&mut value, &place, filling)?;
    }
    None
}

/// Whether a path is that of something that was found, or inside of it.
pub(super) fn is_within(path: &str, found: &[PolicyError]) -> bool {
    found.iter().any(|error| {
        let rest = path.strip_prefix(error.path.as_str());
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    })
}

fn missing_field(message: &str) -> Option<&str> {
    message.strip_prefix("missing field `")?.strip_suffix('`')
}

fn steps(path: &Path) -> Option<Vec<Step>> {
    let step = |segment: &Segment| match segment {
        Segment::Seq { index } => Some(Step::Element(*index)),
        Segment::Map { key } => Some(Step::Field(key.clone())),
        Segment::Enum { .. } | Segment::Unknown => None,
    };
    path.iter().map(step).collect()
}

fn written(place: &[Step]) -> String {
    let mut path = String::new();
    for step in place {
        match step {
            Step::Field(name) if path.is_empty() => path = on_one_line(name),
            Step::Field(name) => path = format!("{path}.{}", on_one_line(name)),
            Step::Element(index) => path = format!("{path}[{index}]"),
        }
    }
    path
}

/// A text with its control characters written out: a mistake is one line.
fn on_one_line(text: &str) -> String {
    let shown = |character: char| match character.is_control() {
        true => character.escape_default().to_string(),
        false => character.to_string(),
    };
    text.chars().map(shown).collect()
}

fn at<'v>(value: &'v mut Value, place: &[Step]) -> Option<&'v mut Value> {
    place.iter().try_fold(value, |value, step| match step {
        Step::Field(name) => value.get_mut(name),
        Step::Element(index) => value.get_mut(index),
    })
}

/// Makes a text of a number; answers whether there was one.
fn make_text(value: &mut Value, place: &[Step]) -> bool {
    match at(value, place) {
        Some(found @ (Value::Number(_) | Value::Bool(_))) => {
            *found = found.to_string().into();
            true
        }
        _ => false,
    }
}

/// Puts something into a place, or takes the field away.
fn fill(value: &mut Value, place: &[Step], filling: Option<Value>) -> Option<()> {
    let Some((last, around)) = place.split_last() else {
        *value = filling.unwrap_or_default();
        return Some(());
    };
    match (at(value, around)?, last) {
        (Value::Object(fields), Step::Field(name)) => {
            match filling {
                Some(filling) => fields.insert(name.clone(), filling),
                None => fields.remove(name),
            };
        }
        (Value::Array(elements), Step::Element(index)) => {
            *elements.get_mut(*index)? = filling?;
        }
        _ => return None,
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use crate::policy::Policy;

    fn mistakes(yaml: &str) -> Vec<String> {
        let errors = Policy::parse_yaml(yaml).unwrap_err();
        errors
            .0
            .iter()
            .map(|error| format!("{}: {}", error.path, error.message))
            .collect()
    }

    fn paths(yaml: &str) -> Vec<String> {
        let errors = Policy::parse_yaml(yaml).unwrap_err();
        errors.0.into_iter().map(|error| error.path).collect()
    }

    #[test]
    fn every_mistake_is_told_whatever_its_kind() {
        let yaml = "anonymous: { sessions: maybe }\nrooms:\n- { match: a, join: everybody }\n- { match: b, history: { size: many, age: long } }\n\
                    - { match: c, presense: true }\n- { join: anyone }\n- just a text\n- { match: 007, slow: never }\nrums: []\n";
        let mut told = paths(yaml);
        told.sort();
        assert_eq!(
            told,
            [
                "anonymous.sessions",
                "rooms[0].join",
                "rooms[1].history.age",
                "rooms[1].history.size",
                "rooms[2].presense",
                "rooms[3].match",
                "rooms[4]",
                "rooms[5].slow",
                "rums",
            ]
        );
    }

    #[test]
    fn what_is_wrong_and_what_would_be_right_is_said() {
        assert_eq!(
            mistakes("rooms: [{ match: a, presense: true, publish: [] }, {}]"),
            [
                "rooms[0].presense: unknown field `presense`, expected one of `match`, `history`, `join`, `publish`, `presence`, `slow`",
                "rooms[0].publish: invalid type: sequence, expected a string",
                "rooms[1].match: is missing",
            ]
        );
    }

    #[test]
    fn sections_and_lists_of_another_kind_are_one_mistake() {
        assert_eq!(
            paths("rooms: { match: a }\nproducers: none\nintake: 5"),
            ["intake", "producers", "rooms"]
        );
        assert_eq!(paths("[1, 2]").len(), 1);
        assert_eq!(
            paths("producers: [{ name: a, key_sha256: {}, rooms: b }]"),
            ["producers[0].key_sha256", "producers[0].rooms"]
        );
    }

    #[test]
    fn a_mistake_is_one_line_whatever_a_field_is_called() {
        assert_eq!(paths("{\"ru\\nms\": []}"), ["ru\\nms"]);
    }

    #[test]
    fn what_is_no_yaml_is_told_with_its_line() {
        let told = mistakes("rooms:\n- { match: a");
        assert_eq!(told.len(), 1);
        assert!(told[0].contains("line"), "{told:?}");
    }
}

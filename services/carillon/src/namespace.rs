//! Namespaces that the operator is told to watch.

use carillon_chassis::settings::SettingValue;

/// The name of a namespace, or `*` for all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WatchedNamespace(String);

impl WatchedNamespace {
    /// The name, or `*`.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl SettingValue for WatchedNamespace {
    fn expects() -> String {
        "the name of a namespace, or `*`".to_owned()
    }

    /// A name is a label of RFC 1123, as the API server demands it.
    fn parse_text(text: &str) -> Result<Self, String> {
        let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let bytes = text.as_bytes();
        let label = (1..=63).contains(&bytes.len())
            && bytes.iter().all(|&byte| inner(byte) || byte == b'-')
            && bytes.first().copied().is_some_and(inner)
            && bytes.last().copied().is_some_and(inner);
        match label || text == "*" {
            true => Ok(Self(text.to_owned())),
            false => Err(format!(
                "expected {}: lower-case letters, digits and `-`, at most 63; a list is separated by commas",
                Self::expects()
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_a_namespace_can_have_are_taken() {
        for name in ["a", "team-1", "*", "0", &"a".repeat(63)] {
            assert_eq!(WatchedNamespace::parse_text(name).unwrap().as_str(), name);
        }
        for name in ["", "Team", "-a", "a-", "a.b", "[\"a\"]", "**", &"a".repeat(64)] {
            assert!(WatchedNamespace::parse_text(name).is_err(), "{name}");
        }
    }
}

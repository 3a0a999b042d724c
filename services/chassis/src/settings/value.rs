//! What a setting's value may be: the types a section's fields can have, and how each is read from text.

use std::{cmp::Ordering, net::SocketAddr, path::PathBuf, time::Duration};

use bytesize::ByteSize;

use super::secret::{MASK, Secret, SecretUrl, mask_url};

/// A value as a source gave it, before anyone knows its type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Raw {
    /// One value. Environment and flags give nothing else; a list is then separated by commas.
    Text(String),
    /// A YAML list.
    List(Vec<String>),
    /// Said to have no value (YAML's `null`), which an optional setting accepts.
    Nothing,
}

/// A type that a setting can have.
///
/// Implemented for `String`, `bool`, the unsigned integers, `f64`, [`Duration`] (`30s`), [`ByteSize`] (`1MiB`),
/// [`SocketAddr`], [`PathBuf`], [`Secret`], [`SecretUrl`], `Option` and `Vec` of these, and the enums that
/// [`setting_words!`](crate::setting_words) makes. A crate may implement it for a type of its own.
pub trait SettingValue: Sized {
    /// What may stand there, for the reference and for errors: "a duration, such as `30s`".
    fn expects() -> String;

    /// Reads the value; the error says what is wrong with it, without repeating it.
    fn parse_text(text: &str) -> Result<Self, String>;

    /// Reads the value in any of the forms of a source.
    fn parse(raw: &Raw) -> Result<Self, String> {
        match raw {
            Raw::Text(text) => Self::parse_text(text),
            Raw::List(_) => Err(format!("is a list; expected {}", Self::expects())),
            Raw::Nothing => Err(format!("has no value; expected {}", Self::expects())),
        }
    }

    /// The text as it may be shown to people.
    fn show_text(text: &str) -> String {
        text.to_owned()
    }

    /// The value as it may be shown to people, in any of the forms of a source.
    fn show(raw: &Raw) -> String {
        match raw {
            Raw::Text(text) => Self::show_text(text),
            Raw::List(parts) => parts
                .iter()
                .map(|part| Self::show_text(part))
                .collect::<Vec<_>>()
                .join(", "),
            Raw::Nothing => "(none)".to_owned(),
        }
    }

    /// Whether this type hides its text.
    fn is_secret() -> bool {
        false
    }

    /// Whether a setting of this type may be left without a value.
    fn is_optional() -> bool {
        false
    }

    /// Whether a flag may be repeated to give several values.
    fn is_list() -> bool {
        false
    }

    /// Whether a flag without value means `true`.
    fn is_switch() -> bool {
        false
    }

    /// The order that a setting's range is checked by; `None` where there is none.
    fn order(&self, _other: &Self) -> Option<Ordering> {
        None
    }
}

impl SettingValue for String {
    fn expects() -> String {
        "text".to_owned()
    }

    fn parse_text(text: &str) -> Result<Self, String> {
        Ok(text.to_owned())
    }
}

impl SettingValue for bool {
    fn expects() -> String {
        "`true` or `false`".to_owned()
    }

    fn parse_text(text: &str) -> Result<Self, String> {
        match text {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err(format!("expected {}", Self::expects())),
        }
    }

    fn is_switch() -> bool {
        true
    }
}

macro_rules! whole_number {
    ($($number:ty),*) => {$(
        impl SettingValue for $number {
            fn expects() -> String {
                "a whole number".to_owned()
            }

            fn parse_text(text: &str) -> Result<Self, String> {
                text.replace('_', "").parse().map_err(|_| {
                    format!("expected a whole number from {} to {}", <$number>::MIN, <$number>::MAX)
                })
            }

            fn order(&self, other: &Self) -> Option<Ordering> {
                Some(self.cmp(other))
            }
        }
    )*};
}

whole_number!(u8, u16, u32, u64, usize);

impl SettingValue for f64 {
    fn expects() -> String {
        "a number".to_owned()
    }

    fn parse_text(text: &str) -> Result<Self, String> {
        match text.parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(number),
            _ => Err(format!("expected {}", Self::expects())),
        }
    }

    fn order(&self, other: &Self) -> Option<Ordering> {
        self.partial_cmp(other)
    }
}

impl SettingValue for Duration {
    fn expects() -> String {
        "a duration, such as `30s`, `500ms` or `1h 30m`".to_owned()
    }

    fn parse_text(text: &str) -> Result<Self, String> {
        humantime::parse_duration(text).map_err(|_| format!("expected {}", Self::expects()))
    }

    fn order(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl SettingValue for ByteSize {
    fn expects() -> String {
        "a size in bytes, such as `64KiB` or `1MiB`".to_owned()
    }

    fn parse_text(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| format!("expected {}", Self::expects()))
    }

    fn order(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl SettingValue for SocketAddr {
    fn expects() -> String {
        "an address to listen on, such as `0.0.0.0:3000` or `[::]:3000`; port 0 takes a free one".to_owned()
    }

    fn parse_text(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| format!("expected {}", Self::expects()))
    }
}

impl SettingValue for PathBuf {
    fn expects() -> String {
        "a path".to_owned()
    }

    fn parse_text(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("is empty; expected a path".to_owned());
        }
        Ok(Self::from(text))
    }
}

impl SettingValue for Secret {
    fn expects() -> String {
        "a secret".to_owned()
    }

    fn parse_text(text: &str) -> Result<Self, String> {
        Ok(Self::new(text))
    }

    fn show_text(_text: &str) -> String {
        MASK.to_owned()
    }

    fn is_secret() -> bool {
        true
    }
}

impl SettingValue for SecretUrl {
    fn expects() -> String {
        "a URL, such as `redis://user:password@host:6379`".to_owned()
    }

    fn parse_text(text: &str) -> Result<Self, String> {
        match text.split_once("://") {
            Some((scheme, rest)) if !scheme.is_empty() && !rest.is_empty() => Ok(Self::new(text)),
            _ => Err(format!("expected {}", Self::expects())),
        }
    }

    fn show_text(text: &str) -> String {
        mask_url(text)
    }

    fn is_secret() -> bool {
        true
    }
}

impl<T: SettingValue> SettingValue for Option<T> {
    fn expects() -> String {
        T::expects()
    }

    fn parse_text(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Ok(None);
        }
        T::parse_text(text).map(Some)
    }

    fn parse(raw: &Raw) -> Result<Self, String> {
        match raw {
            Raw::Nothing => Ok(None),
            Raw::Text(text) => Self::parse_text(text),
            Raw::List(_) => T::parse(raw).map(Some),
        }
    }

    fn show_text(text: &str) -> String {
        T::show_text(text)
    }

    fn show(raw: &Raw) -> String {
        T::show(raw)
    }

    fn is_secret() -> bool {
        T::is_secret()
    }

    fn is_optional() -> bool {
        true
    }

    fn is_list() -> bool {
        T::is_list()
    }

    fn is_switch() -> bool {
        T::is_switch()
    }

    fn order(&self, other: &Self) -> Option<Ordering> {
        match (self, other) {
            (Some(own), Some(other)) => own.order(other),
            _ => None,
        }
    }
}

impl<T: SettingValue> SettingValue for Vec<T> {
    fn expects() -> String {
        format!("a list, in which each is {}", T::expects())
    }

    fn parse_text(text: &str) -> Result<Self, String> {
        let parts: Vec<String> = text
            .split(',')
            .map(str::trim)
            .filter(|part| !part.is_empty())
            .map(str::to_owned)
            .collect();
        Self::parse(&Raw::List(parts))
    }

    fn parse(raw: &Raw) -> Result<Self, String> {
        match raw {
            Raw::Text(text) => Self::parse_text(text),
            Raw::Nothing => Ok(Self::new()),
            Raw::List(parts) => parts
                .iter()
                .enumerate()
                .map(|(place, part)| T::parse_text(part).map_err(|why| format!("[{place}] {why}")))
                .collect(),
        }
    }

    fn show_text(text: &str) -> String {
        // A comma inside a secret tears it apart, and no piece could be masked rightly.
        if T::is_secret() && Self::parse_text(text).is_err() {
            return MASK.to_owned();
        }
        text.split(',')
            .map(|part| T::show_text(part.trim()))
            .collect::<Vec<_>>()
            .join(", ")
    }

    fn show(raw: &Raw) -> String {
        match raw {
            Raw::Text(text) => Self::show_text(text),
            Raw::List(parts) => parts
                .iter()
                .map(|part| T::show_text(part))
                .collect::<Vec<_>>()
                .join(", "),
            Raw::Nothing => "(none)".to_owned(),
        }
    }

    fn is_secret() -> bool {
        T::is_secret()
    }

    fn is_list() -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_as_people_write_them() {
        assert_eq!(Duration::parse_text("1h 30m"), Ok(Duration::from_secs(5400)));
        assert_eq!(ByteSize::parse_text("64KiB"), Ok(ByteSize::kib(64)));
        assert_eq!(u32::parse_text("10_000"), Ok(10_000));
        assert_eq!(
            Vec::<String>::parse_text(" a, b ,,"),
            Ok(vec!["a".to_owned(), "b".to_owned()])
        );
        assert_eq!(Option::<PathBuf>::parse(&Raw::Nothing), Ok(None));
        assert_eq!(Option::<String>::parse_text(""), Ok(None));
        assert!(Duration::parse_text("30").is_err(), "a duration needs its unit");
        assert!(u8::parse_text("300").unwrap_err().contains("255"));
        assert!(f64::parse_text("NaN").is_err());
        assert!(
            Vec::<u8>::parse(&Raw::List(vec!["1".into(), "x".into()]))
                .unwrap_err()
                .starts_with("[1]")
        );
    }

    #[test]
    fn a_list_of_urls_hides_each_password() {
        assert_eq!(
            Vec::<SecretUrl>::show_text("redis://:a@one, redis://:b@two"),
            "redis://:***@one, redis://:***@two"
        );
        assert_eq!(Vec::<SecretUrl>::show_text("redis://:a,b@one"), "***");
        assert_eq!(
            Vec::<SecretUrl>::show(&Raw::List(vec!["redis://:a,b@one".to_owned()])),
            "redis://:***@one"
        );
    }
}

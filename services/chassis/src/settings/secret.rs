//! Values that must not end up in a log.

use std::fmt;

/// What is shown in place of a secret.
pub const MASK: &str = "***";

/// A secret: its `Debug` and `Display` show [`MASK`]; [`Secret::expose`] is the one way to its text.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The secret itself. Whoever calls this answers for where it goes.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(MASK)
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(MASK)
    }
}

/// A URL that may carry a password, like `redis://user:password@host:6379/0`. It is shown without it.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretUrl(String);

impl SecretUrl {
    /// Wraps a URL; whether it is one is checked by [`crate::settings::SettingValue::parse`] and by whoever connects.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The URL with its password.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&mask_url(&self.0))
    }
}

impl fmt::Display for SecretUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&mask_url(&self.0))
    }
}

/// The URL with its password replaced, and the values of its query as well: `?password=…` is a habit of some.
///
/// It errs on the side of hiding: whatever stands between the first `:` of the authority and its last `@` is taken
/// for a password, so one that holds an unescaped `/`, `?` or `@` is hidden too.
pub(crate) fn mask_url(url: &str) -> String {
    let (scheme, rest) = match url.split_once("://") {
        Some((scheme, rest)) => (format!("{scheme}://"), rest),
        None => (String::new(), url),
    };
    let (user, address) = match rest.rsplit_once('@') {
        Some((userinfo, address)) => {
            let user = match userinfo.split_once(':') {
                Some((user, _)) => format!("{user}:{MASK}@"),
                None if userinfo.contains('?') => format!("{MASK}@"),
                None => format!("{userinfo}@"),
            };
            (user, address)
        }
        None => (String::new(), rest),
    };
    let address = match address.split_once('?') {
        Some((address, query)) => {
            let masked: Vec<String> = query
                .split('&')
                .map(|pair| match pair.split_once('=') {
                    Some((name, _)) => format!("{name}={MASK}"),
                    None => pair.to_owned(),
                })
                .collect();
            format!("{address}?{}", masked.join("&"))
        }
        None => address.to_owned(),
    };
    format!("{scheme}{user}{address}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_shows_a_secret() {
        let secret = Secret::new("hunter2");
        assert_eq!(format!("{secret} {secret:?}"), "*** ***");
        assert_eq!(secret.expose(), "hunter2");
        let url = SecretUrl::new("redis://app:hunter2@redis:6379/1");
        assert_eq!(format!("{url}"), "redis://app:***@redis:6379/1");
        assert_eq!(format!("{url:?}"), "redis://app:***@redis:6379/1");
    }

    #[test]
    fn passwords_with_odd_letters_are_hidden_whole() {
        assert_eq!(mask_url("redis://:p@ss/w:rd?@host/0"), "redis://:***@host/0");
        assert_eq!(mask_url("redis://host:6379"), "redis://host:6379");
        assert_eq!(mask_url("redis://user@host"), "redis://user@host");
        assert_eq!(
            mask_url("redis://host?password=x&db=1"),
            "redis://host?password=***&db=***"
        );
        assert_eq!(mask_url("redis://host?password=a@b"), "redis://***@b");
        assert_eq!(mask_url("app:hunter2@host:6379"), "app:***@host:6379");
    }
}

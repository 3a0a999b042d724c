//! What the fuzz targets of `e2e/fuzz` see of identities: their parsers.

use super::{CookieSecrets, Key, cookies, keys, percent};

/// The value of a cookie.
pub fn cookie(cookies: &str, name: &str) -> Option<String> {
    cookies::cookie(cookies, name)
}

/// The id in a signed value.
pub fn opened<'a>(secrets: &CookieSecrets, value: &'a str) -> Option<&'a str> {
    secrets.open(value)
}

/// A text without its URL encoding.
pub fn decoded(text: &str, plus_is_space: bool) -> String {
    percent::percent_decoded(text, plus_is_space)
}

/// The keys of a JSON Web Key Set; `None` if it is none.
pub fn key_set(json: &[u8]) -> Option<Vec<Key>> {
    keys::from_jwks(json)
}

//! A key and its hash. The hash may be seen; the key stays in the Secret.

use std::fmt;

use ring::rand::{SecureRandom as _, SystemRandom};
use sha2::{Digest as _, Sha256};

/// What keys begin with, so that one that leaked is known for what it is.
const MARK: &str = "carillon_";
/// Bytes of randomness in a key.
const RANDOM_BYTES: usize = 32;
/// Somebody may put a key of their own into the Secret; a shorter one is guessed.
const LEAST_LENGTH: usize = 20;

/// A producer's key. Never in a log, an Event or Redis.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Key(String);

/// The operating system gives no random bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the operating system gives no random bytes to make a key of")]
pub(crate) struct NoRandomness;

impl Key {
    /// A key that nobody can guess.
    pub(crate) fn random() -> Result<Self, NoRandomness> {
        let mut bytes = [0; RANDOM_BYTES];
        SystemRandom::new().fill(&mut bytes).map_err(|_| NoRandomness)?;
        Ok(Self(format!("{MARK}{}", hex::encode(bytes))))
    }

    /// A key from a Secret, if it is one that a request's header can carry and nobody guesses.
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?;
        let usable = text.len() >= LEAST_LENGTH && text.bytes().all(|byte| byte.is_ascii_graphic());
        usable.then(|| Self(text.to_owned()))
    }

    /// The key itself, for the Secret.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }

    /// What ingest knows it by.
    pub(crate) fn hash(&self) -> KeyHash {
        KeyHash(Sha256::digest(&self.0).into())
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Key({})", self.hash().fingerprint())
    }
}

/// The SHA-256 of a key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct KeyHash(pub(crate) [u8; 32]);

impl KeyHash {
    /// Reads 64 hexadecimal digits.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).ok()?;
        Some(Self(bytes))
    }

    /// Its first digits: enough to tell keys apart, nothing to find one by.
    pub(crate) fn fingerprint(&self) -> String {
        hex::encode(&self.0[..4])
    }
}

impl fmt::Display for KeyHash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for KeyHash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.fingerprint())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_long_different_and_kept_quiet() {
        let (one, other) = (Key::random().unwrap(), Key::random().unwrap());
        assert_ne!(one, other);
        assert_eq!(one.expose().len(), MARK.len() + 64);
        assert_eq!(Key::read(one.expose().as_bytes()), Some(one.clone()));
        assert!(!format!("{one:?}").contains(one.expose()));
        assert_eq!(KeyHash::parse(&one.hash().to_string()), Some(one.hash()));
        for bad in [
            &b"short"[..],
            b"has spaces in it, so no header carries it",
            &[0xff; 40],
        ] {
            assert_eq!(Key::read(bad), None);
        }
    }
}

//! Keys that tokens are checked with. What a key is says how a token must be signed to be checked with it.
//!
//! A token names its algorithm itself, and old libraries believed it: `none` needs no key at all, and an RSA key, which
//! is public, makes a fine HMAC secret for whoever has it. So the algorithm belongs to the key here: HS256 to a secret,
//! RS256 to RSA, ES256 to P-256, EdDSA to Ed25519, and nothing else is checked.

use std::fmt;

use jsonwebtoken::{
    Algorithm, DecodingKey,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, PublicKeyUse},
};
use serde::Deserialize;
use serde_json::Value;

/// Bytes of an RSA modulus at least: 2048 bits, as RFC 7518 asks for.
const MODULUS: usize = 256;
/// Keys that are taken from one set.
const KEYS: usize = 64;

/// A key, and the one algorithm it is for.
#[derive(Clone)]
pub struct Key {
    /// Its name (`kid`), if it has one.
    pub(super) id: Option<String>,
    pub(super) algorithm: Algorithm,
    pub(super) key: DecodingKey,
}

/// Never shows the key itself.
impl fmt::Debug for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Key({:?}, {:?})", self.algorithm, self.id)
    }
}

/// A text that is no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "not a public key that tokens can be checked with: it must be PEM (`-----BEGIN PUBLIC KEY-----`) of RSA, P-256 or Ed25519"
)]
pub struct InvalidKey;

impl Key {
    /// A shared secret, for HS256.
    pub fn hs256(secret: &[u8]) -> Self {
        Self::new(Algorithm::HS256, DecodingKey::from_secret(secret))
    }

    /// A public key in PEM.
    pub fn from_pem(pem: &[u8]) -> Result<Self, InvalidKey> {
        // Each reader takes its own kind only.
        if let Ok(key) = DecodingKey::from_rsa_pem(pem) {
            return Ok(Self::new(Algorithm::RS256, key));
        }
        if let Ok(key) = DecodingKey::from_ed_pem(pem) {
            return Ok(Self::new(Algorithm::EdDSA, key));
        }
        let key = DecodingKey::from_ec_pem(pem).map_err(|_| InvalidKey)?;
        // A point of P-256, uncompressed: other curves are longer.
        match key.try_get_as_bytes() {
            Ok(point) if point.len() == 65 => Ok(Self::new(Algorithm::ES256, key)),
            _ => Err(InvalidKey),
        }
    }

    fn new(algorithm: Algorithm, key: DecodingKey) -> Self {
        Self {
            id: None,
            algorithm,
            key,
        }
    }

    /// A public key of a set (RFC 7517). Keys for something else are no mistake, they are passed over; so are secrets,
    /// which have no place in a set that everybody can read.
    fn from_jwk(json: Value) -> Option<Self> {
        let jwk: Jwk = serde_json::from_value(json).ok()?;
        if !matches!(jwk.common.public_key_use, None | Some(PublicKeyUse::Signature)) {
            return None;
        }
        let algorithm = match &jwk.algorithm {
            AlgorithmParameters::RSA(_) => Algorithm::RS256,
            AlgorithmParameters::EllipticCurve(of) if of.curve == EllipticCurve::P256 => Algorithm::ES256,
            AlgorithmParameters::OctetKeyPair(of) if of.curve == EllipticCurve::Ed25519 => Algorithm::EdDSA,
            _ => return None,
        };
        if jwk
            .common
            .key_algorithm
            .is_some_and(|named| named != algorithm.into())
        {
            return None;
        }
        let key = DecodingKey::from_jwk(&jwk).ok()?;
        if let jsonwebtoken::DecodingKeyKind::RsaModulusExponent { n, .. } = key.kind()
            && n.len() < MODULUS
        {
            return None;
        }
        Some(Self {
            id: jwk.common.key_id,
            algorithm,
            key,
        })
    }

    /// Whether a token with this header may have been signed with it.
    pub(super) fn fits(&self, algorithm: Algorithm, id: Option<&str>) -> bool {
        let named = match (&self.id, id) {
            (Some(own), Some(named)) => own == named,
            _ => true,
        };
        self.algorithm == algorithm && named
    }
}

/// The keys of a JSON Web Key Set; `None` if it is none.
pub(super) fn from_jwks(json: &[u8]) -> Option<Vec<Key>> {
    #[derive(Deserialize)]
    struct Set {
        // One by one, so that a key of a kind nobody has heard of does not spoil the others.
        keys: Vec<Value>,
    }
    let set: Set = serde_json::from_slice(json).ok()?;
    Some(
        set.keys
            .into_iter()
            .filter_map(Key::from_jwk)
            .take(KEYS)
            .collect(),
    )
}

//! Who a client is, by its token: a JWT (RFC 7519).
//!
//! `sub` is the user, `rooms` a list of patterns it may join beyond policy; `exp` and `nbf` hold with some leeway,
//! because clocks differ. `aud` and `iss` are asked for where they are set.

use std::{sync::Arc, time::Duration};

use carillon_model::{Room, policy::RoomPattern};
use jsonwebtoken::{Algorithm, Header, Validation, errors::ErrorKind};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    Identified,
    jwks::Jwks,
    keys::Key,
    refused::{IdentityCode, Unidentified},
};
use crate::hub::Identity;

/// Patterns a token may carry.
const PATTERNS: usize = 100;
/// Keys that one token is tried with, where it names none.
const TRIES: usize = 8;
/// Bytes of a token: as many as headers of a request may have.
const BYTES: usize = 16 << 10;

/// What tokens are checked with.
#[derive(Clone, Debug)]
pub struct Tokens {
    /// Keys of the settings.
    pub keys: Arc<[Key]>,
    /// Keys that somebody else serves.
    pub jwks: Option<Jwks>,
    /// Of which a token must name one in `aud`; empty: it may name any.
    pub audience: Vec<String>,
    /// Of which a token must have one as `iss`; empty: it may have any.
    pub issuers: Vec<String>,
    /// By how much clocks may differ.
    pub leeway: Duration,
}

impl Default for Tokens {
    fn default() -> Self {
        Self {
            keys: Arc::default(),
            jwks: None,
            audience: Vec::new(),
            issuers: Vec::new(),
            leeway: Duration::from_secs(30),
        }
    }
}

#[derive(Deserialize)]
struct Claims {
    sub: String,
    #[serde(default)]
    rooms: Vec<String>,
    exp: Option<f64>,
}

/// What came of the keys that are known.
enum Tried {
    Claims(Claims),
    Failed(Unidentified),
    /// None of them is the one it was signed with, as far as its header says.
    NoKey,
}

impl Tokens {
    /// Checks a token and says whose it is.
    pub(super) async fn identify(&self, token: &str) -> Result<Identified, Unidentified> {
        let header = header(token)?;
        let algorithm = header.alg;
        let known = |key: &Key| key.algorithm == algorithm;
        if !self.keys.iter().any(known) && (self.jwks.is_none() || algorithm == Algorithm::HS256) {
            let (code, message) = match (self.keys.is_empty(), &self.jwks) {
                (true, None) => (
                    IdentityCode::TokenUnknownKey,
                    "this gateway has no key to check tokens with".to_owned(),
                ),
                _ => (
                    IdentityCode::TokenBadAlgorithm,
                    format!("this gateway has no key that {algorithm:?} is for"),
                ),
            };
            return Err(Unidentified::new(code, message));
        }
        let claims = match self.attempt(token, &header, &self.keys) {
            Tried::Claims(claims) => claims,
            tried => match &self.jwks {
                None => return Err(failure(tried, &header)),
                // A secret has no place in a set that everybody can read.
                Some(_) if algorithm == Algorithm::HS256 => return Err(failure(tried, &header)),
                Some(jwks) => self.by_jwks(token, &header, jwks, tried).await?,
            },
        };
        identified(claims)
    }

    async fn by_jwks(
        &self,
        token: &str,
        header: &Header,
        jwks: &Jwks,
        before: Tried,
    ) -> Result<Claims, Unidentified> {
        // What a key of the settings has vouched for is not asked of others.
        let before = match before {
            Tried::Failed(refusal) if refusal.code != IdentityCode::TokenBadSignature => return Err(refusal),
            Tried::Failed(refusal) if header.kid.is_none() => Some(refusal),
            _ => None,
        };
        let mut looked = false;
        loop {
            let keys = jwks.keys();
            let tried = keys.as_ref().map(|keys| self.attempt(token, header, keys));
            match tried {
                Some(Tried::Claims(claims)) => return Ok(claims),
                Some(Tried::Failed(refusal)) => return Err(refusal),
                // The issuer may have a new key since.
                None | Some(Tried::NoKey) if !looked => {
                    looked = true;
                    jwks.look_again().await;
                }
                Some(tried @ Tried::NoKey) => return Err(before.unwrap_or_else(|| failure(tried, header))),
                None => {
                    let message = "the keys to check tokens with can't be fetched at the moment";
                    return Err(Unidentified::new(IdentityCode::TokenKeysUnavailable, message));
                }
            }
        }
    }

    fn attempt(&self, token: &str, header: &Header, keys: &[Key]) -> Tried {
        let validation = self.validation(header.alg);
        let fitting = keys
            .iter()
            .filter(|key| key.fits(header.alg, header.kid.as_deref()));
        let mut tried = Tried::NoKey;
        for key in fitting.take(TRIES) {
            // As text first: claims that nobody reads must be UTF-8, too (RFC 7519, section 7.2).
            let decoded = jsonwebtoken::decode::<Box<RawValue>>(token, &key.key, &validation);
            match decoded.and_then(|decoded| Ok(serde_json::from_str(decoded.claims.get())?)) {
                Ok(claims) => return Tried::Claims(claims),
                Err(error) => {
                    let refusal = refusal(error.kind());
                    let certain = refusal.code != IdentityCode::TokenBadSignature;
                    tried = Tried::Failed(refusal);
                    if certain {
                        break;
                    }
                }
            }
        }
        tried
    }

    fn validation(&self, algorithm: Algorithm) -> Validation {
        let mut validation = Validation::new(algorithm);
        validation.leeway = self.leeway.as_secs();
        validation.validate_nbf = true;
        // A token without `exp` lasts as long as its key: that is its issuer's choice.
        validation.required_spec_claims.clear();
        validation.validate_aud = !self.audience.is_empty();
        if !self.audience.is_empty() {
            validation.set_audience(&self.audience);
            validation.required_spec_claims.insert("aud".to_owned());
        }
        if !self.issuers.is_empty() {
            validation.set_issuer(&self.issuers);
            validation.required_spec_claims.insert("iss".to_owned());
        }
        validation
    }
}

fn header(token: &str) -> Result<Header, Unidentified> {
    let invalid = |message: &str| Unidentified::new(IdentityCode::TokenInvalid, message);
    if token.len() > BYTES {
        return Err(invalid("the token has more than 16 KiB"));
    }
    let header = jsonwebtoken::decode_header(token).map_err(|error| match error.kind() {
        // Of the header only the algorithm can have a wrong value; `none` is one.
        ErrorKind::Json(_) if names_algorithm(token) => Unidentified::new(
            IdentityCode::TokenBadAlgorithm,
            "the token is not signed with HS256, RS256, ES256 or EdDSA",
        ),
        _ => invalid("the token is not a JWT"),
    })?;
    match header.alg {
        _ if header.crit.is_some() => Err(invalid("the token's `crit` is not understood here")),
        Algorithm::HS256 | Algorithm::RS256 | Algorithm::ES256 | Algorithm::EdDSA => Ok(header),
        other => Err(Unidentified::new(
            IdentityCode::TokenBadAlgorithm,
            format!("the token is signed with {other:?}, not with HS256, RS256, ES256 or EdDSA"),
        )),
    }
}

/// Whether this is a JWT whose header names an algorithm at all.
fn names_algorithm(token: &str) -> bool {
    use base64::Engine as _;
    let header = token.split('.').next().unwrap_or_default();
    let json = base64::engine::general_purpose::URL_SAFE_NO_PAD
        .decode(header)
        .ok();
    let header = json.and_then(|json| serde_json::from_slice::<serde_json::Value>(&json).ok());
    token.split('.').count() == 3 && header.is_some_and(|header| header["alg"].is_string())
}

fn failure(tried: Tried, header: &Header) -> Unidentified {
    match tried {
        Tried::Failed(refusal) => refusal,
        Tried::Claims(_) | Tried::NoKey => {
            let message = match header.kid {
                Some(_) => "the key that the token's `kid` names is not known here",
                None => "no key here is of the kind the token was signed with",
            };
            Unidentified::new(IdentityCode::TokenUnknownKey, message)
        }
    }
}

fn identified(claims: Claims) -> Result<Identified, Unidentified> {
    let invalid = |message: String| Unidentified::new(IdentityCode::TokenInvalid, message);
    Room::of_user(&claims.sub)
        .map_err(|error| invalid(format!("`sub` of the token can't be a user: {error}")))?;
    if claims.rooms.len() > PATTERNS {
        return Err(invalid(format!(
            "`rooms` of the token has at most {PATTERNS} patterns"
        )));
    }
    let rooms = claims
        .rooms
        .iter()
        .enumerate()
        .map(|(place, pattern)| {
            RoomPattern::new(pattern)
                .map_err(|error| invalid(format!("`rooms[{place}]` of the token: {error}")))
        })
        .collect::<Result<Vec<_>, _>>()?;
    Ok(Identified {
        identity: Identity {
            user: Some(claims.sub.into()),
            rooms: rooms.into(),
        },
        expires: claims.exp.map(milliseconds),
        login: None,
    })
}

/// Seconds of a claim in milliseconds; what is too much for that never comes.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // saturates, which is meant
fn milliseconds(seconds: f64) -> u64 {
    (seconds * 1000.0) as u64
}

fn refusal(kind: &ErrorKind) -> Unidentified {
    let (code, message) = match kind {
        ErrorKind::ExpiredSignature => (
            IdentityCode::TokenExpired,
            "the token's `exp` has passed; get a new token and connect again",
        ),
        ErrorKind::ImmatureSignature => (
            IdentityCode::TokenNotYetValid,
            "the token's `nbf` has not come yet; do the clocks differ?",
        ),
        ErrorKind::InvalidAudience => (
            IdentityCode::TokenWrongAudience,
            "the token's `aud` does not name this gateway",
        ),
        ErrorKind::InvalidIssuer => (
            IdentityCode::TokenWrongIssuer,
            "the token's `iss` is nobody this gateway trusts",
        ),
        ErrorKind::MissingRequiredClaim(claim) => match claim.as_str() {
            "aud" => (
                IdentityCode::TokenWrongAudience,
                "the token has no `aud`, which this gateway asks for",
            ),
            _ => (
                IdentityCode::TokenWrongIssuer,
                "the token has no `iss`, which this gateway asks for",
            ),
        },
        ErrorKind::Json(_) | ErrorKind::InvalidClaimFormat(_) => (
            IdentityCode::TokenInvalid,
            "the token's claims are wrong; it needs `sub`, a text, and may have `rooms`, a list of texts, and the times `exp` and `nbf` as numbers",
        ),
        ErrorKind::InvalidAlgorithm => (
            IdentityCode::TokenBadAlgorithm,
            "the token is not signed as the key it names",
        ),
        ErrorKind::InvalidToken | ErrorKind::Utf8(_) => {
            (IdentityCode::TokenInvalid, "the token is not a JWT")
        }
        // A signature of the wrong length, too.
        _ => (
            IdentityCode::TokenBadSignature,
            "the token's signature is wrong; was it signed with this gateway's key?",
        ),
    };
    Unidentified::new(code, message)
}

#[cfg(test)]
mod tests;

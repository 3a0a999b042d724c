//! Who a session is, by its token: a JWT (RFC 7519) signed with HS256.
//!
//! `sub` is the user, `rooms` a list of patterns it may join beyond policy, `exp` and `nbf` hold with 30 s of leeway.

use std::{fmt, sync::Arc};

use carillon_model::{Room, policy::RoomPattern};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, errors::ErrorKind};
use serde::Deserialize;

use super::handshake::{HandshakeCode, HandshakeRefusal};
use crate::hub::Identity;

/// By how much clocks of token issuers may be off, in seconds.
const LEEWAY: u64 = 30;
/// Patterns a token may carry.
const PATTERNS: usize = 100;

/// The secret that tokens are signed with.
#[derive(Clone)]
pub struct TokenKey(Arc<DecodingKey>);

impl TokenKey {
    /// A shared secret, for HS256.
    pub fn hs256(secret: &[u8]) -> Self {
        Self(Arc::new(DecodingKey::from_secret(secret)))
    }
}

/// Never shows the secret.
impl fmt::Debug for TokenKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("TokenKey(HS256)")
    }
}

#[derive(Deserialize)]
struct Claims {
    sub: String,
    #[serde(default)]
    rooms: Vec<String>,
}

impl TokenKey {
    /// Checks a token and says whose it is.
    pub(super) fn identify(&self, token: &str) -> Result<Identity, HandshakeRefusal> {
        let mut validation = Validation::new(Algorithm::HS256);
        validation.leeway = LEEWAY;
        validation.validate_nbf = true;
        validation.validate_aud = false;
        // A token without `exp` lasts as long as its key: that is its issuer's choice.
        validation.required_spec_claims.clear();
        let claims = jsonwebtoken::decode::<Claims>(token, &self.0, &validation)
            .map_err(|error| refusal(error.kind()))?
            .claims;
        let invalid = |message: String| HandshakeRefusal::new(HandshakeCode::TokenInvalid, message);
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
        Ok(Identity {
            user: Some(claims.sub.into()),
            rooms: rooms.into(),
        })
    }
}

fn refusal(kind: &ErrorKind) -> HandshakeRefusal {
    let (code, message) = match kind {
        ErrorKind::ExpiredSignature => (
            HandshakeCode::TokenExpired,
            "the token's `exp` has passed; get a new token and connect again",
        ),
        ErrorKind::ImmatureSignature => (HandshakeCode::TokenInvalid, "the token's `nbf` has not come yet"),
        ErrorKind::InvalidSignature => (
            HandshakeCode::TokenInvalid,
            "the token's signature is wrong; was it signed with this gateway's key?",
        ),
        ErrorKind::InvalidAlgorithm => (HandshakeCode::TokenInvalid, "the token is not signed with HS256"),
        ErrorKind::Json(_) => (
            HandshakeCode::TokenInvalid,
            "the token's claims are wrong; it needs `sub`, a text, and may have `rooms`, a list of texts",
        ),
        _ => (HandshakeCode::TokenInvalid, "the token is not a JWT"),
    };
    HandshakeRefusal::new(code, message)
}

#[cfg(test)]
mod tests {
    use carillon_model::time::wall_clock_milliseconds;
    use jsonwebtoken::{EncodingKey, Header};
    use serde_json::{Value, json};

    use super::*;

    fn signed(claims: &Value, secret: &str) -> String {
        jsonwebtoken::encode(
            &Header::default(),
            claims,
            &EncodingKey::from_secret(secret.as_bytes()),
        )
        .unwrap()
    }

    fn code(claims: &Value) -> HandshakeCode {
        let key = TokenKey::hs256(b"secret");
        key.identify(&signed(claims, "secret")).unwrap_err().code
    }

    #[test]
    fn a_good_token_names_its_user_and_rooms() {
        let key = TokenKey::hs256(b"secret");
        let now = wall_clock_milliseconds() / 1000;
        let claims = json!({ "sub": "42", "rooms": ["team-*"], "exp": now - 20, "nbf": now + 20 });
        let identity = key.identify(&signed(&claims, "secret")).unwrap();
        assert_eq!(identity.user.as_deref(), Some("42"));
        assert!(identity.rooms[0].matches(&Room::new("team-a").unwrap()));
        assert_eq!(format!("{key:?}"), "TokenKey(HS256)");
    }

    #[test]
    fn bad_tokens_say_why() {
        let now = wall_clock_milliseconds() / 1000;
        assert_eq!(
            code(&json!({ "sub": "42", "exp": now - 40 })),
            HandshakeCode::TokenExpired
        );
        assert_eq!(
            code(&json!({ "sub": "42", "nbf": now + 40 })),
            HandshakeCode::TokenInvalid
        );
        assert_eq!(code(&json!({ "name": "42" })), HandshakeCode::TokenInvalid);
        assert_eq!(code(&json!({ "sub": "" })), HandshakeCode::TokenInvalid);
        assert_eq!(
            code(&json!({ "sub": "4", "rooms": ["a["] })),
            HandshakeCode::TokenInvalid
        );
        let key = TokenKey::hs256(b"secret");
        for wrong in [
            signed(&json!({ "sub": "42" }), "other"),
            "no.jwt".to_owned(),
            String::new(),
        ] {
            assert_eq!(
                key.identify(&wrong).unwrap_err().code,
                HandshakeCode::TokenInvalid
            );
        }
        // `alg: none` and other algorithms are no way around the key.
        let unsigned = "eyJhbGciOiJub25lIn0.eyJzdWIiOiI0MiJ9.";
        assert_eq!(
            key.identify(unsigned).unwrap_err().code,
            HandshakeCode::TokenInvalid
        );
    }
}

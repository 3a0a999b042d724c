//! Who forwards a request proves that it is a gateway: an HMAC (RFC 2104) of the session's id under the gateways' shared
//! secret. Whoever sees one can forward for that one session, which it could see anyway.

use std::fmt;

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::{HeaderMap, HeaderName, HeaderValue};
use sha2::Sha256;

/// Carries the proof.
pub(crate) const HEADER: HeaderName = HeaderName::from_static("carillon-forwarded");

/// What all gateways of an installation know.
#[derive(Clone)]
pub struct ForwardingSecret(Hmac<Sha256>);

impl ForwardingSecret {
    /// A secret of any length.
    pub fn new(secret: &[u8]) -> Option<Self> {
        Hmac::new_from_slice(secret).ok().map(Self)
    }

    pub(super) fn signed(&self, sid: &str) -> Hmac<Sha256> {
        self.0.clone().chain_update(sid)
    }

    /// The header's value for a session.
    pub(crate) fn prove(&self, sid: &str) -> Option<HeaderValue> {
        let proof = self.signed(sid).finalize().into_bytes();
        HeaderValue::from_str(&BASE64_URL_SAFE_NO_PAD.encode(proof)).ok()
    }

    /// Whether a request was forwarded: `None` if it says nothing of it.
    pub(crate) fn judge(&self, headers: &HeaderMap, sid: &str) -> Option<bool> {
        let proof = headers.get(HEADER)?;
        let proof = BASE64_URL_SAFE_NO_PAD.decode(proof.as_bytes());
        Some(proof.is_ok_and(|proof| self.signed(sid).verify_slice(&proof).is_ok()))
    }
}

/// Never shows the secret.
impl fmt::Debug for ForwardingSecret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("ForwardingSecret")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proof_is_for_one_session_and_one_secret() {
        let secret = ForwardingSecret::new(b"of the gateways").unwrap();
        let mut headers = HeaderMap::new();
        assert_eq!(secret.judge(&headers, "g.X"), None);
        headers.insert(HEADER, secret.prove("g.X").unwrap());
        assert_eq!(secret.judge(&headers, "g.X"), Some(true));
        assert_eq!(secret.judge(&headers, "g.Y"), Some(false));
        let other = ForwardingSecret::new(b"of somebody else").unwrap();
        assert_eq!(other.judge(&headers, "g.X"), Some(false));
        headers.insert(HEADER, HeaderValue::from_static("~"));
        assert_eq!(secret.judge(&headers, "g.X"), Some(false));
    }
}

//! The seal of an Engine.IO id: whoever brings a sealed one got it from a gateway, so the gateway that it names exists,
//! or did. Only for such ids a gateway looks for another one that it does not know.
//!
//! It stands behind the id, so that a gateway of an earlier version, which knows no seals, hands the request on as well.

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use hmac::Mac as _;

use super::ForwardingSecret;

/// Bytes of the HMAC that are kept.
const BYTES: usize = 16;
/// The same in Base64.
const CHARACTERS: usize = 22;

impl ForwardingSecret {
    /// The seal of a session's id at a gateway.
    pub(crate) fn seal(&self, gateway: &str, id: &str) -> String {
        let code = self.signed(&sealed_text(gateway, id)).finalize().into_bytes();
        BASE64_URL_SAFE_NO_PAD.encode(code.get(..BYTES).unwrap_or_default())
    }

    /// Whether it is the seal of this id at this gateway.
    pub(crate) fn is_seal(&self, seal: &str, gateway: &str, id: &str) -> bool {
        BASE64_URL_SAFE_NO_PAD.decode(seal).is_ok_and(|seal| {
            let code = self.signed(&sealed_text(gateway, id));
            seal.len() == BYTES && code.verify_truncated_left(&seal).is_ok()
        })
    }
}

/// Ids have no line feeds, so it is nothing that a request's proof is made of.
fn sealed_text(gateway: &str, id: &str) -> String {
    format!("id\n{gateway}\n{id}")
}

/// An id and its seal; an earlier version's has none.
pub(crate) fn unsealed(id: &str) -> (&str, Option<&str>) {
    let place = id.len().checked_sub(CHARACTERS).filter(|place| *place > 0);
    match place.and_then(|place| id.split_at_checked(place)) {
        Some((id, seal)) => (id, Some(seal)),
        None => (id, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seal_is_for_one_id_one_gateway_and_one_secret() {
        let secret = ForwardingSecret::new(b"of the gateways").unwrap();
        let id = "AAAAAAAAAAAAAAAA";
        let seal = secret.seal("g", id);
        assert_eq!(unsealed(&format!("{id}{seal}")), (id, Some(&*seal)));
        assert!(secret.is_seal(&seal, "g", id));
        assert!(!secret.is_seal(&seal, "h", id));
        assert!(!secret.is_seal(&seal, "g", "AAAAAAAAAAAAAAAB"));
        assert!(
            !secret.is_seal(seal.get(..20).unwrap(), "g", id),
            "all of it counts"
        );
        let other = ForwardingSecret::new(b"of somebody else").unwrap();
        assert!(!other.is_seal(&seal, "g", id));
    }

    #[test]
    fn ids_of_an_earlier_version_have_none() {
        for id in ["AAAAAAAAAAAAAAAA", "", "ééééééééééé", "éééééééééééé"] {
            assert_eq!(
                unsealed(id).0.len() + unsealed(id).1.map_or(0, str::len),
                id.len()
            );
        }
        assert_eq!(unsealed("AAAAAAAAAAAAAAAA"), ("AAAAAAAAAAAAAAAA", None));
    }
}

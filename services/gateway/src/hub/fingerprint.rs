//! What an idempotency key of a client stands for.

use carillon_model::Data;
use sha2::{Digest, Sha256};

use super::publish::Publish;

/// The same content gives the same fingerprint.
pub(super) fn fingerprint(publish: &Publish) -> bytes::Bytes {
    let mut hash = Sha256::new();
    hash.update(publish.room.as_str());
    hash.update([0]);
    hash.update(publish.event.as_str());
    match &publish.data {
        Data::Json(json) => {
            hash.update([0]);
            hash.update(json);
        }
        Data::Binary(binary) => {
            hash.update([1]);
            hash.update(binary);
        }
    }
    bytes::Bytes::copy_from_slice(&hash.finalize())
}

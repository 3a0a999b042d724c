//! Keys of producers: how they are made, kept in Secrets, and changed without a refused request.

mod key;
mod rotation;
mod secret;

pub(crate) use key::{Key, KeyHash, NoRandomness};
pub(crate) use rotation::{Former, Happened, KeyState, Step, Wishes, step};
pub(crate) use secret::{PRODUCER_LABEL, ROTATE_ANNOTATION, is_of, manifest, state};

//! A hash map for look-ups only.
//!
//! Its hasher is fixed, so it behaves the same in every process, but its order still means nothing: whoever iterates
//! wants an `IndexMap` or a `BTreeMap`.

use std::hash::BuildHasherDefault;

/// A hash map with a fixed, fast hasher. Never iterate over it where order could be seen.
#[allow(clippy::disallowed_types)]
pub type LookupMap<K, V> =
    std::collections::HashMap<K, V, BuildHasherDefault<xxhash_rust::xxh3::Xxh3Default>>;

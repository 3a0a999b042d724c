//! A message's place in a room.
//!
//! An offset is the Redis stream id of the message's queue entry (<https://redis.io/docs/latest/develop/data-types/streams/>).
//! Within a room offsets only grow; one is never changed and never given twice. It looks like a time and is none:
//! clients treat it as opaque.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::wire;

/// A place in a room, or just below one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Offset {
    /// The first half of the stream id, in milliseconds of Redis' clock or above it.
    pub milliseconds: u64,
    /// The second half: counts entries of one millisecond.
    pub sequence: u64,
}

impl Offset {
    /// Below every message.
    pub const ZERO: Self = Self {
        milliseconds: 0,
        sequence: 0,
    };
    /// Above every message.
    pub const MAX: Self = Self {
        milliseconds: u64::MAX,
        sequence: u64::MAX,
    };

    /// The offset with these two halves.
    pub const fn new(milliseconds: u64, sequence: u64) -> Self {
        Self {
            milliseconds,
            sequence,
        }
    }

    /// The greatest offset below this one: the handled position where this is the head of a queue.
    #[must_use]
    pub const fn just_below(self) -> Self {
        match (self.milliseconds, self.sequence) {
            (0, 0) => Self::ZERO,
            (milliseconds, 0) => Self::new(milliseconds - 1, u64::MAX),
            (milliseconds, sequence) => Self::new(milliseconds, sequence - 1),
        }
    }

    /// The least offset above this one; there is none above the greatest, so that is its own.
    #[must_use]
    pub const fn just_above(self) -> Self {
        match (self.milliseconds, self.sequence) {
            (u64::MAX, u64::MAX) => Self::MAX,
            (milliseconds, u64::MAX) => Self::new(milliseconds + 1, 0),
            (milliseconds, sequence) => Self::new(milliseconds, sequence + 1),
        }
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}-{}", self.milliseconds, self.sequence)
    }
}

/// A text that is no offset.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an offset: expected what `meta.offset` held, like `1732377600000-0`")]
pub struct InvalidOffset(pub String);

impl FromStr for Offset {
    type Err = InvalidOffset;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = |half: &str| -> Option<u64> {
            (!half.is_empty() && half.bytes().all(|byte| byte.is_ascii_digit())).then(|| half.parse().ok())?
        };
        text.split_once('-')
            .and_then(|(milliseconds, sequence)| Some(Self::new(digits(milliseconds)?, digits(sequence)?)))
            .ok_or_else(|| InvalidOffset(text.chars().take(64).collect()))
    }
}

impl Serialize for Offset {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Offset {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl From<Offset> for wire::Offset {
    fn from(offset: Offset) -> Self {
        Self {
            milliseconds: offset.milliseconds,
            sequence: offset.sequence,
        }
    }
}

impl From<wire::Offset> for Offset {
    fn from(offset: wire::Offset) -> Self {
        Self::new(offset.milliseconds, offset.sequence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_are_neighbours() {
        for offset in [Offset::new(5, 0), Offset::new(5, 7), Offset::new(1, 0)] {
            assert!(offset.just_below() < offset);
            assert_eq!(offset.just_below().just_above(), offset);
        }
        assert_eq!(Offset::new(5, 0).just_below(), Offset::new(4, u64::MAX));
        assert_eq!(Offset::MAX.just_above(), Offset::MAX);
    }

    #[test]
    fn text_round_trips_and_bad_text_is_refused() {
        let offset = Offset::new(1_732_377_600_000, 3);
        assert_eq!(offset.to_string().parse(), Ok(offset));
        for bad in [
            "",
            "5",
            "5-",
            "-5",
            "+5-1",
            "5-1-1",
            "a-b",
            "99999999999999999999999-0",
        ] {
            assert!(bad.parse::<Offset>().is_err(), "{bad}");
        }
    }
}

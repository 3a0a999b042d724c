//! The parts of a policy.

use std::{num::NonZeroU32, time::Duration};

use globset::{GlobBuilder, GlobMatcher};

use crate::Room;

/// A glob over room names: `*` any text, `?` one character, `[a-z]`, `{a,b}`.
#[derive(Clone, Debug)]
pub struct RoomPattern {
    text: String,
    matcher: GlobMatcher,
}

impl RoomPattern {
    /// Compiles a glob; the error is a sentence.
    pub fn new(text: &str) -> Result<Self, String> {
        let glob = GlobBuilder::new(text)
            .literal_separator(false)
            .build()
            .map_err(|error| error.to_string())?;
        Ok(Self {
            text: text.to_owned(),
            matcher: glob.compile_matcher(),
        })
    }

    /// Whether the room's name matches.
    pub fn matches(&self, room: &Room) -> bool {
        self.matcher.is_match(room.as_str())
    }

    /// The glob as written.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

/// How much of a room is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistoryLimits {
    /// Messages; 0 keeps none.
    pub size: u64,
    /// The whole history is forgotten when nothing was added for this long.
    pub age: Duration,
    /// Bytes of entries.
    pub bytes: u64,
}

impl HistoryLimits {
    /// 100 messages, 10 minutes, 1 MiB.
    pub const DEFAULT: Self = Self {
        size: 100,
        age: Duration::from_secs(600),
        bytes: 1 << 20,
    };
    /// Nothing is kept.
    pub const NONE: Self = Self {
        size: 0,
        age: Duration::from_secs(600),
        bytes: 0,
    };

    /// Whether anything is kept.
    pub const fn keeps_any(self) -> bool {
        self.size > 0
    }
}

/// Who may do something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Every session.
    Anyone,
    /// Sessions with a user.
    Authenticated,
    /// No session.
    Nobody,
}

impl Access {
    /// Whether a session may, given whether it has a user.
    pub const fn allows(self, authenticated: bool) -> bool {
        match self {
            Self::Anyone => true,
            Self::Authenticated => authenticated,
            Self::Nobody => false,
        }
    }
}

/// What a session gets whose outbox is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlowSessions {
    /// What it missed, from history, as soon as it reads again.
    CatchUp,
    /// Only what comes after; it is told of the gap.
    Latest,
    /// Its transport closed.
    Close,
}

/// The policy of the rooms that match a pattern.
#[derive(Clone, Debug)]
pub struct RoomRule {
    /// Which rooms.
    pub pattern: RoomPattern,
    /// What is kept of them.
    pub history: HistoryLimits,
    /// Who may join.
    pub join: Access,
    /// Which sessions may publish.
    pub publish: Access,
    /// Whether members may be listed.
    pub presence: bool,
    /// What a session that falls behind gets.
    pub slow: SlowSessions,
}

/// So many per so long, evenly, and so many at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// How many.
    pub count: NonZeroU32,
    /// In which time.
    pub period: Duration,
    /// How many may come at once after a pause: `count`, if nothing else was said. Also the largest batch.
    pub burst: NonZeroU32,
}

impl RateLimit {
    /// How many per second, evenly.
    pub fn per_second(&self) -> f64 {
        f64::from(self.count.get()) / self.period.as_secs_f64()
    }
}

/// A credential for ingest.
#[derive(Clone, Debug)]
pub struct Producer {
    /// Its name, in answers, logs and idempotency keys.
    pub name: String,
    /// SHA-256 of each key it may use: two while one is being rotated.
    pub key_hashes: Vec<[u8; 32]>,
    /// Rooms it may send to.
    pub rooms: Vec<RoomPattern>,
    /// Its quota in messages; `None` has none.
    pub rate: Option<RateLimit>,
}

impl Producer {
    /// Whether it may send to this room.
    pub fn may_send_to(&self, room: &Room) -> bool {
        self.rooms.iter().any(|pattern| pattern.matches(room))
    }
}

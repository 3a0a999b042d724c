//! What can go wrong between a service and its broker.

/// The result of a broker's method.
pub type Result<T> = std::result::Result<T, BrokerError>;

/// A failed call. [`BrokerError::outcome_is_unknown`] says whether it leaves open that something was written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BrokerError {
    /// Nothing was written: the server can't be reached, is loading, or moves the slot. Try again later.
    #[error("the broker is unavailable: {0}")]
    Unavailable(String),
    /// Nothing was written: the server answers that it takes no writes now, such as `MISCONF` and `NOREPLICAS`.
    #[error("the broker takes no writes: {0}")]
    NotWritable(String),
    /// The answer was lost: the write may have happened.
    #[error("the broker's answer was lost, so the outcome is unknown: {0}")]
    Unknown(String),
    /// It was written, but not as many replicas as were asked for have it in time: a failover may take it back.
    #[error(
        "{acknowledged} replicas have it, {asked} were asked for (redis.wait_replicas), so the outcome is unknown"
    )]
    Unreplicated {
        /// Replicas that have it.
        acknowledged: u64,
        /// Replicas that were to have it.
        asked: u32,
    },
    /// Nothing was written: the server is out of memory.
    #[error("the broker is out of memory: {0}")]
    OutOfMemory(String),
    /// Nothing was written: the server is of another life than the one the caller read from.
    #[error("the server failed over or restarted meanwhile")]
    LifeChanged,
    /// The broker can't be used as it is configured; the text says what to change.
    #[error("{0}")]
    Misconfigured(String),
    /// Something lies in the broker that should not, or an answer has another shape than its command gives. That says
    /// nothing about the message that was sent.
    #[error("unexpected content in the broker: {0}")]
    Corrupt(String),
    /// The server refused the call for a reason that is not known to lie in what was sent: an error that this version
    /// does not know, a command that a script's user may not run, a proxy's own words. Wait, and try again.
    #[error("the broker refuses the call: {reason}")]
    Rejected {
        /// What the server said.
        reason: String,
        /// A script was stopped halfway: what it had written stands.
        half_done: bool,
    },
    /// Nothing was written, and nothing ever will be: the message itself is to blame. Only a closed list of answers
    /// means this: a size that the server refuses, or a room whose keys hold something else.
    #[error("the broker can't hold this message: {0}")]
    Unstorable(String),
}

impl BrokerError {
    /// Every word of [`BrokerError::kind`].
    pub const KINDS: [&str; 10] = [
        "unavailable",
        "not_writable",
        "unknown",
        "unreplicated",
        "out_of_memory",
        "life_changed",
        "misconfigured",
        "corrupt",
        "rejected",
        "unstorable",
    ];

    /// A word of fixed cardinality, for metrics and logs.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Unavailable(_) => "unavailable",
            Self::NotWritable(_) => "not_writable",
            Self::Unknown(_) => "unknown",
            Self::Unreplicated { .. } => "unreplicated",
            Self::OutOfMemory(_) => "out_of_memory",
            Self::LifeChanged => "life_changed",
            Self::Misconfigured(_) => "misconfigured",
            Self::Corrupt(_) => "corrupt",
            Self::Rejected { .. } => "rejected",
            Self::Unstorable(_) => "unstorable",
        }
    }

    /// Whether something may have been written all the same.
    pub const fn outcome_is_unknown(&self) -> bool {
        matches!(
            self,
            Self::Unknown(_) | Self::Unreplicated { .. } | Self::Rejected { half_done: true, .. }
        )
    }

    /// Whether the server itself says no: another process that asked it would get the same answer.
    pub const fn is_said_by_server(&self) -> bool {
        matches!(
            self,
            Self::NotWritable(_)
                | Self::Unreplicated { .. }
                | Self::OutOfMemory(_)
                | Self::Misconfigured(_)
                | Self::Corrupt(_)
                | Self::Rejected { .. }
                | Self::Unstorable(_)
        )
    }

    /// Whether waiting alone does not help: somebody has to change the server, its rules, or what lies in it.
    pub const fn needs_help(&self) -> bool {
        matches!(
            self,
            Self::Misconfigured(_) | Self::Corrupt(_) | Self::Rejected { .. }
        )
    }
}

//! What can go wrong between a service and its broker.

/// The result of a broker's method.
pub type Result<T> = std::result::Result<T, BrokerError>;

/// A failed call. Only [`BrokerError::Unknown`] leaves open whether anything was written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BrokerError {
    /// Nothing was written: the server can't be reached, is loading, or moves the slot. Try again later.
    #[error("the broker is unavailable: {0}")]
    Unavailable(String),
    /// The answer was lost: the write may have happened.
    #[error("the broker's answer was lost, so the outcome is unknown: {0}")]
    Unknown(String),
    /// Nothing was written: the server is out of memory.
    #[error("the broker is out of memory: {0}")]
    OutOfMemory(String),
    /// Nothing was written: the server is of another life than the one the caller read from.
    #[error("the server failed over or restarted meanwhile")]
    LifeChanged,
    /// The broker can't be used as it is configured; the text says what to change.
    #[error("{0}")]
    Misconfigured(String),
    /// Something lies in the broker that should not, or an answer has another shape than its command gives.
    #[error("unexpected content in the broker: {0}")]
    Corrupt(String),
}

impl BrokerError {
    /// Every word of [`BrokerError::kind`].
    pub const KINDS: [&str; 6] = [
        "unavailable",
        "unknown",
        "out_of_memory",
        "life_changed",
        "misconfigured",
        "corrupt",
    ];

    /// A word of fixed cardinality, for metrics and logs.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Unavailable(_) => "unavailable",
            Self::Unknown(_) => "unknown",
            Self::OutOfMemory(_) => "out_of_memory",
            Self::LifeChanged => "life_changed",
            Self::Misconfigured(_) => "misconfigured",
            Self::Corrupt(_) => "corrupt",
        }
    }

    /// Whether the same call may succeed later.
    pub const fn is_temporary(&self) -> bool {
        matches!(
            self,
            Self::Unavailable(_) | Self::Unknown(_) | Self::OutOfMemory(_) | Self::LifeChanged
        )
    }
}

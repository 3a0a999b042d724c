//! Why it is not known who a client is.

use std::fmt;

/// The words of the client guide: the first word of a `connect_error`, and the code of a refused `refresh`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdentityCode {
    /// Nothing says who it is, and policy wants to know.
    AnonymousRefused,
    /// No token at all, or with claims that can't be used.
    TokenInvalid,
    /// Its `exp` has passed.
    TokenExpired,
    /// Its `nbf` has not come.
    TokenNotYetValid,
    /// Signed in a way that no key here is for.
    TokenBadAlgorithm,
    /// Not signed with the key it names.
    TokenBadSignature,
    /// It names a key that nobody here knows.
    TokenUnknownKey,
    /// Meant for somebody else.
    TokenWrongAudience,
    /// Made by somebody else.
    TokenWrongIssuer,
    /// A new token of another user.
    TokenWrongUser,
    /// The keys to check it with can't be had.
    TokenKeysUnavailable,
    /// No login cookie was sent.
    CookieMissing,
    /// The cookie was not signed with a secret of the settings.
    CookieBadSignature,
    /// The login store knows nothing of this login, or it is over.
    LoginExpired,
    /// The login names no user.
    LoginWithoutUser,
    /// The login store does not answer.
    LoginStoreUnavailable,
}

impl IdentityCode {
    /// All of them, for metrics.
    pub const ALL: [Self; 16] = [
        Self::AnonymousRefused,
        Self::TokenInvalid,
        Self::TokenExpired,
        Self::TokenNotYetValid,
        Self::TokenBadAlgorithm,
        Self::TokenBadSignature,
        Self::TokenUnknownKey,
        Self::TokenWrongAudience,
        Self::TokenWrongIssuer,
        Self::TokenWrongUser,
        Self::TokenKeysUnavailable,
        Self::CookieMissing,
        Self::CookieBadSignature,
        Self::LoginExpired,
        Self::LoginWithoutUser,
        Self::LoginStoreUnavailable,
    ];

    /// The word, also as a metric label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AnonymousRefused => "anonymous_refused",
            Self::TokenInvalid => "token_invalid",
            Self::TokenExpired => "token_expired",
            Self::TokenNotYetValid => "token_not_yet_valid",
            Self::TokenBadAlgorithm => "token_bad_algorithm",
            Self::TokenBadSignature => "token_bad_signature",
            Self::TokenUnknownKey => "token_unknown_key",
            Self::TokenWrongAudience => "token_wrong_audience",
            Self::TokenWrongIssuer => "token_wrong_issuer",
            Self::TokenWrongUser => "token_wrong_user",
            Self::TokenKeysUnavailable => "token_keys_unavailable",
            Self::CookieMissing => "cookie_missing",
            Self::CookieBadSignature => "cookie_bad_signature",
            Self::LoginExpired => "login_expired",
            Self::LoginWithoutUser => "login_without_user",
            Self::LoginStoreUnavailable => "login_store_unavailable",
        }
    }

    /// Whether something that identifies clients is away: nothing is wrong with what the client brought.
    pub const fn is_outage(self) -> bool {
        matches!(self, Self::TokenKeysUnavailable | Self::LoginStoreUnavailable)
    }
}

/// A client that is not known, and what it is told. Never holds what it brought.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Unidentified {
    /// For machines.
    pub code: IdentityCode,
    /// For people: what is wrong and what to do.
    pub message: String,
}

impl Unidentified {
    pub(super) fn new(code: IdentityCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }
}

impl fmt::Display for Unidentified {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.code.as_str(), self.message)
    }
}

//! What a client brings when it connects, and what it is told if it is not let in.
//!
//! Clients of Socket.IO 3 and 4 send `auth: { token?, since?, acknowledge? }` with their `CONNECT`; clients of version 2
//! know no `auth` and put the same into the query (`since` as JSON). Java's `auth` holds texts only, so each may be one
//! there as well.

use std::fmt;

use carillon_model::{Offset, Room};
use indexmap::IndexMap;
use serde::Deserialize;
use serde_json::Value;

use crate::{
    hub::RefusalCode,
    identity::{IdentityCode, Unidentified, percent_decoded},
};

/// Why a client was not let in: the first word of its `connect_error`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandshakeCode {
    /// `auth` has another shape than it should.
    BadRequest,
    /// The namespace is not `/`.
    InvalidNamespace,
    /// It is not known who it is.
    Identity(IdentityCode),
    /// A cursor is wrong.
    BadSince,
    /// The page it comes from may not connect.
    OriginRefused,
    /// The user has as many sessions as there may be.
    TooManySessions,
    /// More connect at this moment than are taken in.
    ConnectRate,
    /// The gateway holds as many as it may.
    GatewayFull,
    /// The broker's memory is nearly full.
    MemoryFull,
    /// The gateway is on its way out.
    Draining,
    /// The gateway can't take it in now.
    Unavailable,
}

impl HandshakeCode {
    /// All of them, for metrics.
    pub fn all() -> impl Iterator<Item = Self> {
        let own = [
            Self::BadRequest,
            Self::InvalidNamespace,
            Self::BadSince,
            Self::OriginRefused,
            Self::TooManySessions,
            Self::ConnectRate,
            Self::GatewayFull,
            Self::MemoryFull,
            Self::Draining,
            Self::Unavailable,
        ];
        own.into_iter().chain(IdentityCode::ALL.map(Self::Identity))
    }

    /// The word, also as a metric label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BadRequest => "bad_request",
            Self::InvalidNamespace => "invalid_namespace",
            Self::Identity(code) => code.as_str(),
            Self::BadSince => "bad_since",
            Self::OriginRefused => "origin_refused",
            Self::TooManySessions => "too_many_sessions",
            Self::ConnectRate => "connect_rate",
            Self::GatewayFull => "gateway_full",
            Self::MemoryFull => "memory_full",
            Self::Draining => "draining",
            Self::Unavailable => "unavailable",
        }
    }

    /// Whether trying again, here or elsewhere, may help without anything else being done.
    const fn is_passing(self) -> bool {
        match self {
            Self::Identity(code) => code.is_outage(),
            Self::ConnectRate | Self::GatewayFull | Self::MemoryFull | Self::Draining | Self::Unavailable => {
                true
            }
            _ => false,
        }
    }
}

impl From<RefusalCode> for HandshakeCode {
    fn from(code: RefusalCode) -> Self {
        match code {
            RefusalCode::Full => Self::GatewayFull,
            RefusalCode::MemoryFull => Self::MemoryFull,
            RefusalCode::Draining => Self::Draining,
            _ => Self::Unavailable,
        }
    }
}

/// A refusal, as the client reads it: `code: text`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HandshakeRefusal {
    pub(super) code: HandshakeCode,
    pub(super) message: String,
    passing: bool,
}

impl HandshakeRefusal {
    pub(super) fn new(code: HandshakeCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            passing: code.is_passing(),
        }
    }

    /// Trying again may help this client, whatever it is with others.
    pub(super) fn passing(self, passing: bool) -> Self {
        Self {
            passing: self.passing || passing,
            ..self
        }
    }

    /// Whether trying again, here or elsewhere, may help without anything else being done.
    pub(super) const fn is_passing(&self) -> bool {
        self.passing
    }
}

impl From<Unidentified> for HandshakeRefusal {
    fn from(unidentified: Unidentified) -> Self {
        Self::new(HandshakeCode::Identity(unidentified.code), unidentified.message)
    }
}

impl fmt::Display for HandshakeRefusal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.code.as_str(), self.message)
    }
}

/// What a client brought.
#[derive(Default, Deserialize)]
pub(super) struct Auth {
    token: Option<Value>,
    since: Option<Value>,
    acknowledge: Option<Value>,
}

// Tokens are in no log.
impl std::fmt::Debug for Auth {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Auth")
    }
}

impl Auth {
    /// From the JSON of a `CONNECT`.
    pub(super) fn from_connect(json: Option<&str>) -> Result<Self, HandshakeRefusal> {
        // Null and an empty object bring nothing.
        let auth = json.map(serde_json::from_str::<Option<Self>>).transpose();
        auth.map(|auth| auth.flatten().unwrap_or_default()).map_err(|_| {
            let message = "`auth` must be an object, like { token: \"…\", since: { lobby: \"…\" } }";
            HandshakeRefusal::new(HandshakeCode::BadRequest, message)
        })
    }

    /// From the query of a client of Socket.IO 2.
    pub(super) fn from_query(query: &str) -> Self {
        let field = |name: &str| {
            query.split('&').find_map(|pair| {
                let (key, value) = pair.split_once('=')?;
                (key == name).then(|| percent_decoded(value, true))
            })
        };
        Self {
            token: field("token").map(Value::String),
            since: field("since").map(Value::String),
            acknowledge: field("acknowledge").map(Value::String),
        }
    }

    /// The token it brought, if any; an empty one is none.
    pub(super) fn token(&self) -> Result<Option<&str>, HandshakeRefusal> {
        match &self.token {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(token)) => Ok(Some(token)),
            Some(_) => {
                let code = HandshakeCode::Identity(IdentityCode::TokenInvalid);
                Err(HandshakeRefusal::new(code, "`token` must be a text"))
            }
        }
    }

    /// Whether it wants to be asked for acknowledgements: `true` or `false`, also as a text.
    pub(super) fn acknowledges(&self) -> Result<bool, HandshakeRefusal> {
        match &self.acknowledge {
            None | Some(Value::Null) => Ok(false),
            Some(Value::Bool(wanted)) => Ok(*wanted),
            Some(Value::String(text)) if text == "true" => Ok(true),
            Some(Value::String(text)) if matches!(text.as_str(), "false" | "") => Ok(false),
            Some(_) => Err(HandshakeRefusal::new(
                HandshakeCode::BadRequest,
                "`acknowledge` must be true or false",
            )),
        }
    }

    /// The cursors it brought, as an object or as the JSON text of one; an empty text is none. How many rooms it may have
    /// is told it room by room: a client that has done nothing wrong must come back, whatever a limit is now.
    pub(super) fn cursors(&self) -> Result<Vec<(Room, Offset)>, HandshakeRefusal> {
        let wrong = |message: String| HandshakeRefusal::new(HandshakeCode::BadSince, message);
        let read;
        let brought = match &self.since {
            Some(Value::String(json)) if json.is_empty() => None,
            Some(Value::String(json)) => {
                read = serde_json::from_str(json).map_err(|_| {
                    wrong("`since` as a text must be JSON, like {\"lobby\":\"…\"}".to_owned())
                })?;
                Some(&read)
            }
            brought => brought.as_ref(),
        };
        let since = match brought {
            None | Some(Value::Null) => return Ok(Vec::new()),
            Some(Value::Object(since)) => since,
            Some(_) => return Err(wrong("`since` must be an object of rooms and offsets".to_owned())),
        };
        let mut cursors = IndexMap::new();
        for (name, offset) in since {
            let shown: String = name.chars().take(64).collect();
            let room =
                Room::new(name).map_err(|error| wrong(format!("`since` has a room `{shown}`: {error}")))?;
            let offset = offset
                .as_str()
                .ok_or_else(|| wrong(format!("`since.{shown}` must be a text, as `meta.offset` was")))?
                .parse()
                .map_err(|error| wrong(format!("`since.{shown}`: {error}")))?;
            cursors.insert(room, offset);
        }
        Ok(cursors.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cursors(json: &str) -> Result<Vec<(Room, Offset)>, String> {
        let auth = Auth::from_connect(Some(json)).map_err(|refusal| refusal.to_string())?;
        auth.cursors().map_err(|refusal| refusal.to_string())
    }

    #[test]
    fn cursors_are_checked_field_by_field() {
        let room = |name: &str| Room::new(name).unwrap();
        assert_eq!(
            cursors(r#"{"since":{"lobby":"5-1","session:x":"1-0"},"other":1}"#),
            Ok(vec![
                (room("lobby"), Offset::new(5, 1)),
                (room("session:x"), Offset::new(1, 0))
            ])
        );
        assert_eq!(cursors("{}"), Ok(vec![]));
        assert_eq!(cursors("null"), Ok(vec![]));
        assert_eq!(
            cursors(r#"{"since":"{\"lobby\":\"5-1\"}"}"#),
            Ok(vec![(room("lobby"), Offset::new(5, 1))])
        );
        assert_eq!(cursors(r#"{"since":""}"#), Ok(vec![]));
        for (json, start) in [
            ("[1]", "bad_request: "),
            (r#"{"since":[]}"#, "bad_since: `since` must be an object"),
            (
                r#"{"since":"lobby"}"#,
                "bad_since: `since` as a text must be JSON",
            ),
            (r#"{"since":"\"{}\""}"#, "bad_since: `since` must be an object"),
            (
                r#"{"since":{"lobby":5}}"#,
                "bad_since: `since.lobby` must be a text",
            ),
            (
                r#"{"since":{"lobby":"five"}}"#,
                "bad_since: `since.lobby`: `five` is not an offset",
            ),
            (r#"{"since":{"":"5-1"}}"#, "bad_since: `since` has a room ``: "),
        ] {
            let refusal = cursors(json).unwrap_err();
            assert!(refusal.starts_with(start), "{json}: {refusal}");
        }
    }

    #[test]
    fn old_clients_bring_theirs_in_the_query() {
        let query = "EIO=3&token=a%2Bb&since=%7B%22caf%C3%A9%22%3A%225-1%22%7D&transport=polling";
        let auth = Auth::from_query(query);
        assert_eq!(auth.token, Some(Value::from("a+b")));
        assert_eq!(
            auth.cursors().unwrap(),
            [(Room::new("café").unwrap(), Offset::new(5, 1))]
        );
        let code = |query| Auth::from_query(query).cursors().map_err(|refusal| refusal.code);
        assert_eq!(code("since="), Ok(vec![]));
        assert_eq!(code("since=x"), Err(HandshakeCode::BadSince));
        assert_eq!(percent_decoded("%é%4", true), "%é%4");
    }

    #[test]
    fn acknowledgements_are_asked_for_on_request() {
        let acknowledges = |auth: Auth| auth.acknowledges().map_err(|refusal| refusal.to_string());
        for (json, wanted) in [
            ("{}", false),
            (r#"{"acknowledge":null}"#, false),
            (r#"{"acknowledge":false}"#, false),
            (r#"{"acknowledge":"false"}"#, false),
            (r#"{"acknowledge":""}"#, false),
            (r#"{"acknowledge":true}"#, true),
            (r#"{"acknowledge":"true"}"#, true),
        ] {
            assert_eq!(
                acknowledges(Auth::from_connect(Some(json)).unwrap()),
                Ok(wanted),
                "{json}"
            );
        }
        assert_eq!(acknowledges(Auth::from_query("EIO=3&acknowledge=true")), Ok(true));
        for wrong in [r#"{"acknowledge":1}"#, r#"{"acknowledge":"yes"}"#] {
            let refused = acknowledges(Auth::from_connect(Some(wrong)).unwrap());
            assert_eq!(
                refused,
                Err("bad_request: `acknowledge` must be true or false".to_owned()),
                "{wrong}"
            );
        }
    }

    #[test]
    fn an_empty_token_is_none() {
        let token = |json: &str| {
            let auth = Auth::from_connect(Some(json)).unwrap();
            auth.token().map(|token| token.map(str::to_owned))
        };
        assert_eq!(token("{}"), Ok(None));
        assert_eq!(token(r#"{"token":null}"#), Ok(None));
        assert_eq!(token(r#"{"token":"x"}"#), Ok(Some("x".to_owned())));
        assert_eq!(
            token(r#"{"token":5}"#).unwrap_err().code,
            HandshakeCode::Identity(IdentityCode::TokenInvalid)
        );
    }
}

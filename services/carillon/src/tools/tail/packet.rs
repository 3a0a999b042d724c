//! The packets of Engine.IO 4 and Socket.IO 5 that a client meets on a WebSocket.
//!
//! A text frame is a digit of Engine.IO; behind `4` stands a digit of Socket.IO, for packets with bytes the number of
//! binary frames that follow, the number that asks for or answers with an acknowledgement, and JSON.

use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;

/// A text frame of the server.
#[derive(Debug)]
pub(super) enum Packet {
    /// The connection stands. Whoever hears nothing for as long is alone.
    Open(Duration),
    /// To be answered.
    Ping,
    /// The session stands.
    Connected,
    /// It does not, and why.
    Refused(String),
    /// Something happened: the event's name and arguments, and how many frames of bytes follow.
    Event(Vec<Box<RawValue>>, usize),
    /// An answer, by the number it was asked with.
    Answer(u64, Vec<Box<RawValue>>),
    /// The connection ends.
    Close,
    /// Nothing that matters here.
    Other,
}

/// Where bytes stood in an event's data.
#[derive(Debug, Deserialize)]
pub(super) struct Placeholder {
    _placeholder: bool,
    pub(super) num: usize,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Opening {
    ping_interval: u64,
    ping_timeout: u64,
}

#[derive(Deserialize)]
struct Refusal {
    message: String,
}

impl Packet {
    /// Reads a frame; `None`: it is none of this protocol.
    pub(super) fn parse(frame: &str) -> Option<Self> {
        let rest = frame.get(1..)?;
        match frame.as_bytes()[0] {
            b'0' => {
                let opening: Opening = serde_json::from_str(rest).ok()?;
                let silence = opening.ping_interval.saturating_add(opening.ping_timeout);
                Some(Self::Open(Duration::from_millis(silence)))
            }
            b'1' => Some(Self::Close),
            b'2' => Some(Self::Ping),
            b'4' => Self::message(rest),
            b'3' | b'5' | b'6' => Some(Self::Other),
            _ => None,
        }
    }

    fn message(text: &str) -> Option<Self> {
        let rest = text.get(1..)?;
        match text.as_bytes()[0] {
            b'0' => Some(Self::Connected),
            b'1' => Some(Self::Close),
            b'2' => Some(Self::Event(arguments(number(rest).1)?, 0)),
            b'3' => {
                let (id, json) = number(rest);
                Some(Self::Answer(id?, arguments(json)?))
            }
            b'4' => {
                let refusal: Refusal = serde_json::from_str(rest).ok()?;
                Some(Self::Refused(refusal.message))
            }
            b'5' => {
                let (count, rest) = number(rest);
                let json = number(rest.strip_prefix('-')?).1;
                Some(Self::Event(arguments(json)?, usize::try_from(count?).ok()?))
            }
            _ => Some(Self::Other),
        }
    }
}

fn arguments(json: &str) -> Option<Vec<Box<RawValue>>> {
    serde_json::from_str(json).ok()
}

/// The number at the beginning, if there is one, and what follows.
fn number(text: &str) -> (Option<u64>, &str) {
    let end = text.find(|character: char| !character.is_ascii_digit());
    let (digits, rest) = text.split_at(end.unwrap_or(text.len()));
    (digits.parse().ok(), rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(arguments: &[Box<RawValue>]) -> Vec<&str> {
        arguments.iter().map(|argument| argument.get()).collect()
    }

    #[test]
    fn packets_are_read() {
        let open = r#"0{"sid":"x","upgrades":[],"pingInterval":25000,"pingTimeout":20000,"maxPayload":1}"#;
        assert!(
            matches!(Packet::parse(open), Some(Packet::Open(silence)) if silence == Duration::from_secs(45))
        );
        assert!(matches!(Packet::parse("2"), Some(Packet::Ping)));
        assert!(matches!(
            Packet::parse(r#"40{"sid":"y"}"#),
            Some(Packet::Connected)
        ));
        let Some(Packet::Refused(why)) = Packet::parse(r#"44{"message":"token_invalid: no"}"#) else {
            panic!("a refusal")
        };
        assert_eq!(why, "token_invalid: no");
        let Some(Packet::Event(arguments, 0)) = Packet::parse(r#"42["price",1.00,{"room":"a"}]"#) else {
            panic!("an event")
        };
        assert_eq!(texts(&arguments), [r#""price""#, "1.00", r#"{"room":"a"}"#]);
        let Some(Packet::Answer(12, arguments)) = Packet::parse(r#"4312[{"ok":true}]"#) else {
            panic!("an answer")
        };
        assert_eq!(texts(&arguments), [r#"{"ok":true}"#]);
        let binary = r#"451-["avatar",{"_placeholder":true,"num":0},{}]"#;
        let Some(Packet::Event(arguments, 1)) = Packet::parse(binary) else {
            panic!("an event with bytes")
        };
        let placeholder: Placeholder = serde_json::from_str(arguments[1].get()).unwrap();
        assert_eq!(placeholder.num, 0);
    }

    #[test]
    fn nonsense_is_no_packet() {
        for frame in ["", "x", "9", "42", "42{", "43[1]", "451[]", "0{}", "ü2"] {
            assert!(Packet::parse(frame).is_none(), "{frame}");
        }
    }
}

//! Socket.IO packets as text (<https://socket.io/docs/v4/socket-io-protocol/>, revisions 4 and 5).
//!
//! `<type>[<attachments>-][<namespace>,][<ack id>][JSON]`: a digit, then what applies. Of the seven types a client
//! sends us four, and we send five. JSON is cut out, never rebuilt: what a producer wrote is what a client reads.

use bytes::Bytes;
use carillon_model::Data;
use serde::Deserialize;
use serde_json::value::RawValue;

/// What a client sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ClientPacket<'a> {
    /// It wants into a namespace, with the raw JSON of its `auth`.
    Connect {
        namespace: &'a str,
        auth: Option<&'a str>,
    },
    /// It leaves the namespace.
    Disconnect { namespace: &'a str },
    /// An event, with the raw JSON array of name and arguments; so many binary attachments follow.
    Event {
        namespace: &'a str,
        ack: Option<u64>,
        body: &'a str,
        attachments: usize,
    },
    /// The answer to a message; so many binary attachments follow.
    Ack {
        namespace: &'a str,
        id: u64,
        attachments: usize,
    },
}

/// A text that is no packet a client may send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a Socket.IO packet")]
pub(super) struct BadPacket;

impl<'a> ClientPacket<'a> {
    pub(super) fn parse(text: &'a str) -> Result<Self, BadPacket> {
        let kind = *text.as_bytes().first().ok_or(BadPacket)?;
        if !kind.is_ascii_digit() {
            return Err(BadPacket);
        }
        let mut rest = &text[1..];
        let attachments = if matches!(kind, b'5' | b'6') {
            let (count, after) = rest.split_once('-').ok_or(BadPacket)?;
            rest = after;
            count.parse().map_err(|_| BadPacket)?
        } else {
            0
        };
        let namespace = if rest.starts_with('/') {
            let (name, after) = rest.split_once(',').unwrap_or((rest, ""));
            rest = after;
            // Clients of revision 4 put a query behind the name.
            name.split_once('?').map_or(name, |(name, _)| name)
        } else {
            "/"
        };
        Ok(match kind {
            b'0' => Self::Connect {
                namespace,
                auth: (!rest.is_empty()).then_some(rest),
            },
            b'1' => Self::Disconnect { namespace },
            b'2' | b'5' => {
                let (ack, body) = leading_number(rest)?;
                Self::Event {
                    namespace,
                    ack,
                    body,
                    attachments,
                }
            }
            b'3' | b'6' => Self::Ack {
                namespace,
                // What it says besides is nobody's business.
                id: leading_number(rest)?.0.ok_or(BadPacket)?,
                attachments,
            },
            _ => return Err(BadPacket),
        })
    }
}

/// The number that a text begins with, if it does, and what follows.
fn leading_number(text: &str) -> Result<(Option<u64>, &str), BadPacket> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, rest) = text.split_at(digits);
    Ok(match number {
        "" => (None, rest),
        number => (Some(number.parse().map_err(|_| BadPacket)?), rest),
    })
}

/// An event's name and its arguments, each as raw JSON.
#[derive(Debug)]
pub(super) struct Event<'a> {
    pub(super) name: String,
    pub(super) arguments: Vec<&'a RawValue>,
}

impl<'a> Event<'a> {
    pub(super) fn parse(body: &'a str) -> Result<Self, BadPacket> {
        let mut arguments: Vec<&'a RawValue> = serde_json::from_str(body).map_err(|_| BadPacket)?;
        if arguments.is_empty() {
            return Err(BadPacket);
        }
        let name = serde_json::from_str(arguments.remove(0).get()).map_err(|_| BadPacket)?;
        Ok(Self { name, arguments })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Placeholder {
    _placeholder: bool,
    num: usize,
}

/// The content of an argument: the attachment it stands for, or its JSON. `None` if attachments hide deeper inside.
pub(super) fn data_of(argument: &RawValue, attachments: &[Bytes]) -> Option<Data> {
    if attachments.is_empty() {
        return Some(Data::raw(argument));
    }
    let placeholder: Placeholder = serde_json::from_str(argument.get()).ok()?;
    let attachment = attachments.get(placeholder.num)?;
    (placeholder._placeholder && attachments.len() == 1).then(|| Data::Binary(attachment.clone()))
}

/// What we send: a text, and the attachments that follow it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Packet {
    pub(super) text: String,
    pub(super) attachments: Vec<Bytes>,
}

impl Packet {
    /// What it counts, in bytes.
    pub(super) fn weight(&self) -> usize {
        self.text.len() + self.attachments.iter().map(Bytes::len).sum::<usize>()
    }

    fn of(text: String) -> Self {
        Self {
            text,
            attachments: Vec::new(),
        }
    }

    /// The client is in. Clients of revision 4 take the Engine.IO id for theirs and expect no content.
    pub(super) fn connect(session: Option<&str>) -> Self {
        Self::of(match session {
            Some(session) => format!("0{{\"sid\":{}}}", json_string(session)),
            None => "0".to_owned(),
        })
    }

    /// The client is not let in. Clients of revision 4 expect a plain text, later ones an object.
    pub(super) fn connect_error(namespace: &str, message: &str, plain: bool) -> Self {
        let message = json_string(message);
        let namespace = match namespace {
            "/" => String::new(),
            named => format!("{named},"),
        };
        Self::of(match plain {
            true => format!("4{namespace}{message}"),
            false => format!("4{namespace}{{\"message\":{message}}}"),
        })
    }

    /// A message: `[event, data, meta]`, to be acknowledged under an id if there is one.
    pub(super) fn message(event: &str, data: &Data, meta: &RawValue, ack: Option<u64>) -> Self {
        let name = json_string(event);
        let ack = ack.map(|id| id.to_string()).unwrap_or_default();
        match data {
            Data::Json(json) => {
                let json = String::from_utf8_lossy(json);
                let length = ack.len() + name.len() + json.len() + meta.get().len() + 5;
                let mut text = String::with_capacity(length);
                for part in ["2", &ack, "[", &name, ",", &json, ",", meta.get(), "]"] {
                    text.push_str(part);
                }
                Self::of(text)
            }
            Data::Binary(binary) => Self {
                text: format!("51-{ack}[{name},{PLACEHOLDER_0},{}]", meta.get()),
                attachments: vec![binary.clone()],
            },
        }
    }

    /// An event of ours with one argument of raw JSON.
    pub(super) fn event(event: &str, argument: &str) -> Self {
        Self::of(format!("2[{},{argument}]", json_string(event)))
    }

    /// The answer to an event: one argument of raw JSON, whose placeholders count the attachments.
    pub(super) fn ack(ack: u64, argument: &str, attachments: Vec<Bytes>) -> Self {
        let text = match attachments.len() {
            0 => format!("3{ack}[{argument}]"),
            count => format!("6{count}-{ack}[{argument}]"),
        };
        Self { text, attachments }
    }
}

const PLACEHOLDER_0: &str = r#"{"_placeholder":true,"num":0}"#;

/// The text as a JSON string.
fn json_string(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_of_both_revisions_are_cut_up() {
        use ClientPacket::*;
        let parse = ClientPacket::parse;
        assert_eq!(
            parse("0"),
            Ok(Connect {
                namespace: "/",
                auth: None
            })
        );
        assert_eq!(
            parse(r#"0{"token":"t"}"#),
            Ok(Connect {
                namespace: "/",
                auth: Some(r#"{"token":"t"}"#)
            })
        );
        assert_eq!(
            parse("0/admin?token=t"),
            Ok(Connect {
                namespace: "/admin",
                auth: None
            })
        );
        assert_eq!(
            parse("0/é,{}"),
            Ok(Connect {
                namespace: "/é",
                auth: Some("{}")
            })
        );
        assert_eq!(
            parse(r#"212["a",1]"#),
            Ok(Event {
                namespace: "/",
                ack: Some(12),
                body: r#"["a",1]"#,
                attachments: 0
            })
        );
        assert_eq!(
            parse(r#"51-/n,3["a",{"_placeholder":true,"num":0}]"#),
            Ok(Event {
                namespace: "/n",
                ack: Some(3),
                body: r#"["a",{"_placeholder":true,"num":0}]"#,
                attachments: 1
            })
        );
        let answer = |namespace, id, attachments| {
            Ok(Ack {
                namespace,
                id,
                attachments,
            })
        };
        assert_eq!(parse("37[]"), answer("/", 7, 0));
        assert_eq!(parse("3/n,7[1]"), answer("/n", 7, 0));
        assert_eq!(
            parse(r#"61-12[{"_placeholder":true,"num":0}]"#),
            answer("/", 12, 1)
        );
        for bad in [
            "",
            "é",
            "9",
            "5[1]",
            "5é-",
            "4{}",
            "2999999999999999999999[]",
            "3[]",
            "67[]",
        ] {
            assert_eq!(parse(bad), Err(BadPacket), "{bad}");
        }
    }

    #[test]
    fn data_is_an_attachment_or_raw_json() {
        let raw = |text: &str| RawValue::from_string(text.to_owned()).unwrap();
        let bytes = [Bytes::from_static(b"\x00\x01")];
        assert_eq!(
            data_of(&raw("{ \"a\" : 1.0 }"), &[]),
            Some(Data::Json("{ \"a\" : 1.0 }".into()))
        );
        assert_eq!(
            data_of(&raw(PLACEHOLDER_0), &bytes),
            Some(Data::Binary(bytes[0].clone()))
        );
        assert_eq!(
            data_of(&raw(PLACEHOLDER_0), &[]),
            Some(Data::Json(PLACEHOLDER_0.into()))
        );
        assert_eq!(
            data_of(&raw(r#"{"deep":{"_placeholder":true,"num":0}}"#), &bytes),
            None
        );
        assert_eq!(data_of(&raw(r#"{"_placeholder":true,"num":7}"#), &bytes), None);
    }

    #[test]
    fn what_we_send_is_what_clients_parse() {
        let meta = RawValue::from_string(r#"{"room":"all"}"#.to_owned()).unwrap();
        assert_eq!(
            Packet::message("a\"b", &Data::Json("{ }".into()), &meta, None).text,
            r#"2["a\"b",{ },{"room":"all"}]"#
        );
        assert_eq!(
            Packet::message("a", &Data::Json("1".into()), &meta, Some(42)).text,
            r#"242["a",1,{"room":"all"}]"#
        );
        let binary = Packet::message("bin", &Data::Binary("xyz".into()), &meta, Some(7));
        assert!(binary.text.starts_with("51-7["), "{}", binary.text);
        let binary = Packet::message("bin", &Data::Binary("xyz".into()), &meta, None);
        assert_eq!(
            binary.text,
            r#"51-["bin",{"_placeholder":true,"num":0},{"room":"all"}]"#
        );
        assert_eq!(binary.weight(), binary.text.len() + 3);
        assert_eq!(
            Packet::connect_error("/", "code: text", false).text,
            r#"4{"message":"code: text"}"#
        );
        assert_eq!(Packet::connect_error("/a", "no", true).text, r#"4/a,"no""#);
        assert_eq!(Packet::ack(7, "{}", vec![]).text, "37[{}]");
    }
}

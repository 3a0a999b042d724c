//! What the fuzz targets of `e2e/fuzz` see of the transport: its parsers, and what came of them as values.

use bytes::Bytes;
use carillon_model::{Data, EventName, Offset, Room};
use http::{HeaderMap, HeaderValue, Uri};
use serde_json::value::RawValue;

use super::{
    ForwardingSecret, Origins,
    frames::FrameWatch,
    handshake::Auth,
    origin::Source,
    packet::{ClientPacket, Event, Packet},
    peers::name,
    posted::Posted,
    publishing, requests, responses,
};

/// A Socket.IO packet of a client, taken apart.
#[derive(Debug, PartialEq, Eq)]
pub struct Heard<'a> {
    /// Its type: the digit it began with. A `5` with no attachments is a `2`, and a `6` a `3`.
    pub kind: u8,
    /// The namespace.
    pub namespace: &'a str,
    /// The number its answer is to have, or has.
    pub ack: Option<u64>,
    /// Its JSON, not yet looked at.
    pub body: Option<&'a str>,
    /// Attachments that follow.
    pub attachments: usize,
}

/// Takes a packet apart; `None` if it is none.
pub fn packet(text: &str) -> Option<Heard<'_>> {
    let heard = |kind, namespace, ack, body, attachments| Heard {
        kind,
        namespace,
        ack,
        body,
        attachments,
    };
    Some(match ClientPacket::parse(text).ok()? {
        ClientPacket::Connect { namespace, auth } => heard(b'0', namespace, None, auth, 0),
        ClientPacket::Disconnect { namespace } => heard(b'1', namespace, None, None, 0),
        ClientPacket::Event {
            namespace,
            ack,
            body,
            attachments,
        } => {
            let kind = if attachments == 0 { b'2' } else { b'5' };
            heard(kind, namespace, ack, Some(body), attachments)
        }
        ClientPacket::Ack {
            namespace,
            id,
            attachments,
        } => {
            let kind = if attachments == 0 { b'3' } else { b'6' };
            heard(kind, namespace, Some(id), None, attachments)
        }
    })
}

/// An event's name and its arguments as raw JSON; `None` if it is none.
pub fn event(body: &str) -> Option<(String, Vec<&str>)> {
    let event = Event::parse(body).ok()?;
    Some((
        event.name,
        event.arguments.into_iter().map(RawValue::get).collect(),
    ))
}

/// What a client asks for with an event of ours.
#[derive(Debug, PartialEq, Eq)]
pub enum Asked {
    /// `publish`.
    Publish {
        /// Where to.
        room: Room,
        /// The event.
        event: EventName,
        /// The content.
        data: Data,
        /// Makes repeating safe.
        key: Option<String>,
    },
    /// Another one of ours, about a room if it is about one.
    Other(Option<Room>),
    /// It is refused, in these words.
    Refused(String),
}

/// What a client asks for; `None` if that is no event of ours.
pub fn asked(body: &str, attachments: &[Bytes]) -> Option<Asked> {
    let event = Event::parse(body).ok()?;
    let asked = match event.name.as_str() {
        "publish" => publishing::read(&event, attachments).map(|publish| Asked::Publish {
            room: publish.room,
            event: publish.event,
            data: publish.data,
            key: publish.key,
        }),
        name => requests::own(name, &event)?
            .1
            .map(|request| Asked::Other(request.room().cloned())),
    };
    Some(asked.unwrap_or_else(|refusal| Asked::Refused(refusal.message)))
}

/// A message as it is written to a client, to be acknowledged under an id or not: a text, and what follows it.
pub fn written(event: &str, data: &Data, meta: &RawValue, ack: Option<u64>) -> (String, Vec<Bytes>) {
    let packet = Packet::message(event, data, meta, ack);
    (packet.text, packet.attachments)
}

/// Token and cursors that a client brought, and whether it acknowledges; or what is wrong with them.
pub type Brought = Result<(Option<String>, Vec<(Room, Offset)>, bool), String>;

/// What the JSON of a `CONNECT` brings.
pub fn connect(auth: Option<&str>) -> Brought {
    brought(Auth::from_connect(auth))
}

/// What a query brings.
pub fn query(query: &str) -> Brought {
    brought(Ok(Auth::from_query(query)))
}

fn brought(auth: Result<Auth, super::handshake::HandshakeRefusal>) -> Brought {
    let read = auth.and_then(|auth| {
        let token = auth.token()?.map(str::to_owned);
        Ok((token, auth.cursors()?, auth.acknowledges()?))
    });
    read.map_err(|refusal| refusal.to_string())
}

/// Whether a message in these pieces of a WebSocket's bytes has more than `limit` bytes.
pub fn too_large<'a>(limit: u64, pieces: impl IntoIterator<Item = &'a [u8]>) -> bool {
    let mut watch = FrameWatch::new(limit);
    pieces.into_iter().fold(false, |_, piece| watch.look(piece))
}

/// An Engine.IO id's gateway and the id there.
pub fn named_id(sid: &str) -> Option<(&str, &str)> {
    name::NamedId::read(sid).map(|named| (named.gateway, named.id))
}

/// The Engine.IO id that a client is told of a session in a pod.
pub fn name_of(pod: &str, id: &str) -> String {
    name::GatewayName::of_pod(pod).name(id)
}

/// The packet that opens a session in a pod, as a client gets it; `None` if it is no such packet.
pub fn named_open_packet(pod: &str, payload: &str) -> Option<String> {
    name::GatewayName::of_pod(pod).name_open_packet(payload, |_| String::new())
}

/// What proves that a request of a session was handed on by a gateway.
pub fn proof(secret: &ForwardingSecret, sid: &str) -> Option<HeaderValue> {
    secret.prove(sid)
}

/// Whether a request of a session was handed on by a gateway; `None` if it says nothing of it.
pub fn is_handed_on(secret: &ForwardingSecret, headers: &HeaderMap, sid: &str) -> Option<bool> {
    secret.judge(headers, sid)
}

/// What the answer to a request tells a browser about who may read it: nothing if its page is the gateway's own. `None`
/// if the page is not let in.
pub fn judged(origins: &Origins, headers: &HeaderMap) -> Option<HeaderMap> {
    let source = origins.judge(headers);
    let mut told = HeaderMap::new();
    responses::allow(&mut told, &source);
    (source != Source::Foreign).then_some(told)
}

/// The address of a request with another Engine.IO id.
pub fn with_id(uri: &Uri, id: &str) -> Option<Uri> {
    name::with_id(uri, id)
}

/// What Engine.IO 4 gets of a posted body that comes in these pieces.
pub fn posted<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut posted = Posted::new((), Some("4"));
    let pieces = pieces.into_iter().map(Bytes::copy_from_slice);
    pieces.flat_map(|piece| posted.without_breaks(piece)).collect()
}

//! The forms of a message agree: JSON from a producer, protobuf in the broker, and the types in between.

#![allow(clippy::unwrap_used)] // strategies are no test functions

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use carillon_model::{
    Data, EventName, Message, MessageId, Offset, Room, Sender, Target,
    policy::Policy,
    publish::{PublishLimits, PublishRequest},
    wire::{self, MessageRecord},
};
use proptest::prelude::*;
use prost::encode_length_delimiter as varint;
use serde_json::{Value, json};
use uuid::Uuid;

/// Text that can name a room, a user or an event.
fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z0-9:_-]{1,12}",
        proptest::collection::vec(
            any::<char>().prop_filter("no control", |c| !c.is_control()),
            1..20
        )
        .prop_map(|characters| characters.into_iter().collect()),
    ]
}

fn room_name() -> impl Strategy<Value = String> {
    name().prop_filter("a room's name", |name| Room::new(name).is_ok())
}

fn event() -> impl Strategy<Value = EventName> {
    name().prop_filter_map("an event's name", |name| EventName::new(name).ok())
}

fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 6, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            proptest::collection::vec((any::<String>(), inner), 0..6)
                .prop_map(|members| members.into_iter().collect()),
        ]
    })
}

fn data() -> impl Strategy<Value = Data> {
    prop_oneof![
        (json_value(), any::<bool>()).prop_map(|(value, pretty)| {
            let text = if pretty {
                serde_json::to_string_pretty(&value)
            } else {
                serde_json::to_string(&value)
            };
            Data::Json(text.unwrap().into())
        }),
        proptest::collection::vec(any::<u8>(), 0..200).prop_map(|bytes| Data::Binary(bytes.into())),
    ]
}

fn sender() -> impl Strategy<Value = Sender> {
    prop_oneof![
        Just(Sender::Anonymous),
        "[a-z]{1,9}".prop_map(Sender::Producer),
        ("[a-z]{1,9}", proptest::option::of("[a-z]{1,9}"))
            .prop_map(|(session, user)| Sender::Session { session, user }),
    ]
}

fn message() -> impl Strategy<Value = Message> {
    (
        any::<u128>(),
        event(),
        data(),
        any::<u64>(),
        1_u32..,
        sender(),
        "[0-9a-f-]{0,55}",
    )
        .prop_map(
            |(id, event, data, accepted_at, copies, sender, traceparent)| Message {
                id: MessageId(Uuid::from_u128(id)),
                event,
                data,
                accepted_at,
                copies,
                sender,
                traceparent,
            },
        )
}

fn target() -> impl Strategy<Value = Target> {
    let user = || name().prop_filter("a user's room", |user| Room::of_user(user).is_ok());
    prop_oneof![
        Just(Target::All),
        room_name().prop_map(Target::Room),
        proptest::collection::vec(room_name(), 1..5).prop_map(Target::Rooms),
        user().prop_map(Target::User),
        proptest::collection::vec(user(), 1..5).prop_map(Target::Users),
        user().prop_map(Target::Session),
    ]
}

/// The target as a producer writes it.
fn to_json(target: &Target) -> Value {
    match target {
        Target::All => json!("all"),
        Target::Room(room) => json!({ "room": room }),
        Target::Rooms(rooms) => json!({ "rooms": rooms }),
        Target::User(user) => json!({ "user": user }),
        Target::Users(users) => json!({ "users": users }),
        Target::Session(session) => json!({ "session": session }),
    }
}

/// A request as a producer writes it, with the data's text as it is.
fn request(target: &Target, event: &EventName, data: &Data) -> String {
    let (field, content) = match data {
        Data::Json(json) => ("data", String::from_utf8(json.to_vec()).unwrap()),
        Data::Binary(bytes) => ("data_base64", json!(STANDARD.encode(bytes)).to_string()),
    };
    format!(
        "{{ \"{field}\" : {content} ,\n\"to\":{},\"event\":{} }}",
        to_json(target),
        json!(event.as_str())
    )
}

proptest! {
    #[test]
    fn the_wire_gives_back_what_it_got(message in message()) {
        prop_assert_eq!(Message::decode(message.encode()), Ok(message));
    }

    #[test]
    fn fields_of_a_later_version_are_survived(
        message in message(),
        number in 100_usize..100_000,
        text in proptest::collection::vec(any::<u8>(), 0..50),
        count in any::<usize>(),
    ) {
        let mut bytes = message.encode().to_vec();
        // A field of bytes and one of a number, as a later version may write them: before and after what we know.
        varint(number << 3 | 2, &mut bytes).unwrap();
        varint(text.len(), &mut bytes).unwrap();
        bytes.extend(&text);
        let mut before = Vec::new();
        varint((number + 1) << 3, &mut before).unwrap();
        varint(count, &mut before).unwrap();
        before.extend(bytes);
        prop_assert_eq!(Message::decode(before.into()), Ok(message));
    }

    #[test]
    fn an_entry_that_lacks_later_fields_is_read(id in any::<u128>(), event in event(), data in data()) {
        // What the first version wrote at the least: id, event and data.
        let record = MessageRecord {
            id: Bytes::copy_from_slice(Uuid::from_u128(id).as_bytes()),
            event: event.as_str().to_owned(),
            data: Some(match data.clone() {
                Data::Json(json) => wire::message::Data::Json(json),
                Data::Binary(binary) => wire::message::Data::Binary(binary),
            }),
            ..MessageRecord::default()
        };
        let message = Message::decode(prost::Message::encode_to_vec(&record).into()).unwrap();
        prop_assert_eq!((message.id.0.as_u128(), message.copies), (id, 1));
        prop_assert_eq!((message.event, message.data, message.sender), (event, data, Sender::Anonymous));
    }

    #[test]
    fn json_and_wire_agree(
        target in target(),
        event in event(),
        data in data(),
        id in any::<u128>(),
        accepted_at in any::<u64>(),
    ) {
        let body = Bytes::from(request(&target, &event, &data));
        let parsed = PublishRequest::parse(&body, &PublishLimits::default());
        let Ok(PublishRequest::One(publish)) = parsed else {
            return Err(TestCaseError::fail(format!("{parsed:?}")));
        };
        prop_assert_eq!(&publish.to, &target);
        prop_assert_eq!(&publish.rooms, &target.rooms(100).unwrap());
        prop_assert_eq!(&publish.data, &data);
        let sender = Sender::Producer("billing".to_owned());
        let message = publish.into_message(MessageId(Uuid::from_u128(id)), sender, accepted_at, String::new());
        let decoded = Message::decode(message.encode()).unwrap();
        prop_assert_eq!((&decoded.event, &decoded.data), (&event, &data));
        prop_assert_eq!(decoded, message);
    }

    #[test]
    fn a_batch_is_its_messages(messages in proptest::collection::vec((target(), event(), data()), 1..8)) {
        let requests: Vec<_> = messages.iter().map(|(to, event, data)| request(to, event, data)).collect();
        let parse = |body: String| PublishRequest::parse(&body.into(), &PublishLimits::default()).unwrap();
        let PublishRequest::Batch(batch) = parse(format!("[{}]", requests.join(" , "))) else {
            return Err(TestCaseError::fail("no batch"));
        };
        for (publish, alone) in batch.into_iter().zip(requests) {
            prop_assert_eq!(PublishRequest::One(publish), parse(alone));
        }
    }

    #[test]
    fn offsets_keep_their_text_and_order(a in any::<(u64, u64)>(), b in any::<(u64, u64)>()) {
        let (a, b) = (Offset::new(a.0, a.1), Offset::new(b.0, b.1));
        prop_assert_eq!(a.to_string().parse(), Ok(a));
        prop_assert_eq!(serde_json::from_value::<Offset>(json!(a)).unwrap(), a);
        prop_assert_eq!(Offset::from(wire::Offset::from(a)), a);
        prop_assert_eq!(a < b, (a.milliseconds, a.sequence) < (b.milliseconds, b.sequence));
        if a > Offset::ZERO {
            prop_assert!(a.just_below() < a && a.just_below().just_above() == a);
        }
    }

    #[test]
    fn rooms_keep_their_name(name in any::<String>()) {
        if let Ok(room) = Room::new(&name) {
            prop_assert_eq!(room.as_str(), &name);
            prop_assert_eq!(serde_json::from_value::<Room>(json!(room)).unwrap(), room);
        } else {
            prop_assert!(serde_json::from_value::<Room>(json!(name)).is_err());
        }
    }

    #[test]
    fn no_offset_text_panics(text in any::<String>()) {
        if let Ok(offset) = text.parse::<Offset>() {
            prop_assert!(offset <= Offset::MAX);
        }
    }

    #[test]
    fn no_body_panics(body in proptest::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(PublishRequest::parse(&body.into(), &PublishLimits::default()).is_err());
    }

    /// Requests with a piece cut out, put in or doubled come closer to the parser's corners than noise does.
    #[test]
    fn no_broken_request_panics(
        target in target(),
        event in event(),
        data in data(),
        cut in any::<(prop::sample::Index, prop::sample::Index)>(),
        noise in proptest::collection::vec(any::<u8>(), 0..8),
    ) {
        let body = request(&target, &event, &data).into_bytes();
        let (from, to) = (cut.0.index(body.len()), cut.1.index(body.len()));
        let broken = [&body[..from], &noise, &body[to..]].concat();
        match PublishRequest::parse(&broken.into(), &PublishLimits { batch: 3, rooms: 3, data_bytes: 50 }) {
            Ok(_) => {}
            Err(errors) => {
                prop_assert!(errors.total >= 1 && !errors.errors.is_empty());
                prop_assert!(errors.errors.iter().all(|error| error.line >= 1 && error.column >= 1));
            }
        }
    }

    #[test]
    fn no_wire_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = Message::decode(bytes.into());
    }

    #[test]
    fn no_policy_text_panics(text in any::<String>(), noise in "[-a-z:{}\\[\\]\"'&*!|>%@ \n#0-9]{0,200}") {
        let _ = Policy::parse_yaml(&text);
        let _ = Policy::parse_yaml(&noise);
    }

    /// Values of any shape where the policy wants others.
    #[test]
    fn no_policy_shape_panics(value in json_value(), field in prop::sample::select(vec![
        "anonymous", "rooms", "producers", "client_events", "intake",
    ]), inner in prop::sample::select(vec!["match", "history", "name", "key_sha256", "rate", "room", "lists"])) {
        let _ = Policy::parse_yaml(&json!({ field: value }).to_string());
        let _ = Policy::parse_yaml(&json!({ field: [{ inner: value }] }).to_string());
        let _ = Policy::parse_yaml(&json!({ field: { inner: value } }).to_string());
    }
}

//! What a producer sends over gRPC.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use carillon_ingest::fuzzing;
use carillon_model::{
    Data,
    publish::{Publish, PublishErrors, PublishLimits, PublishRequest},
};
use prost::{Message, Oneof};
use serde_json::{json, value::RawValue};

use super::{
    lies_in,
    publish::{LIMITS, taken},
};

/// What clients take as the bound of trailers.
const TRAILERS: usize = 8 << 10;

/// `carillon.v1.PublishRequest`, as `publish.proto` has it.
#[derive(Clone, PartialEq, Message)]
struct Asked {
    #[prost(message, optional, tag = "1")]
    to: Option<To>,
    #[prost(string, tag = "2")]
    event: String,
    #[prost(oneof = "Content", tags = "3, 4")]
    content: Option<Content>,
    #[prost(string, tag = "5")]
    idempotency_key: String,
}

#[derive(Clone, PartialEq, Oneof)]
enum Content {
    #[prost(string, tag = "3")]
    Json(String),
    #[prost(bytes = "bytes", tag = "4")]
    Binary(Bytes),
}

#[derive(Clone, PartialEq, Message)]
struct To {
    #[prost(oneof = "Place", tags = "1, 2, 3, 4, 5, 6")]
    place: Option<Place>,
}

#[derive(Clone, PartialEq, Oneof)]
enum Place {
    #[prost(string, tag = "1")]
    Room(String),
    #[prost(message, tag = "2")]
    Rooms(Names),
    #[prost(string, tag = "3")]
    User(String),
    #[prost(message, tag = "4")]
    Users(Names),
    #[prost(string, tag = "5")]
    Session(String),
    #[prost(bool, tag = "6")]
    All(bool),
}

#[derive(Clone, PartialEq, Message)]
struct Names {
    #[prost(string, repeated, tag = "1")]
    names: Vec<String>,
}

/// A request is what the same request as JSON is: the same message, or the same mistakes.
pub fn target(bytes: &[u8]) {
    let body = Bytes::copy_from_slice(bytes);
    let called = fuzzing::called(body.clone(), &LIMITS);
    let (asked, called) = match (Asked::decode(body.clone()), called) {
        (Ok(asked), Some(called)) => (asked, called),
        (Err(_), None) => return,
        (asked, called) => panic!("{asked:?} was read as {called:?}"),
    };
    let again = fuzzing::called(asked.encode_to_vec().into(), &LIMITS);
    assert_eq!(
        again.as_ref(),
        Some(&called),
        "written in another way it is the same"
    );
    as_json(&asked, &called, &LIMITS);
    // Deep nesting needs more room.
    let wide = PublishLimits::default();
    let called_wide = fuzzing::called(body.clone(), &wide).expect("it is a request");
    as_json(&asked, &called_wide, &wide);
    match called {
        Ok(publish) => {
            if let Data::Binary(binary) = &publish.data {
                assert!(binary.is_empty() || lies_in(binary, &body), "bytes are cut out");
            }
            taken(publish);
        }
        Err(errors) => told(&errors),
    }
}

fn as_json(asked: &Asked, called: &Result<Publish, PublishErrors>, limits: &PublishLimits) {
    let mut members = vec![format!("\"event\":{}", json!(asked.event))];
    let to = asked.to.as_ref().and_then(|to| to.place.as_ref());
    let to = to.and_then(|place| match place {
        Place::Room(room) => Some(json!({ "room": room })),
        Place::Rooms(rooms) => Some(json!({ "rooms": rooms.names })),
        Place::User(user) => Some(json!({ "user": user })),
        Place::Users(users) => Some(json!({ "users": users.names })),
        Place::Session(session) => Some(json!({ "session": session })),
        Place::All(all) => all.then(|| json!("all")),
    });
    if let Some(to) = to {
        members.insert(0, format!("\"to\":{to}"));
    }
    let mut is_json = true;
    match &asked.content {
        Some(Content::Json(text)) => {
            is_json = serde_json::from_str::<&RawValue>(text).is_ok();
            // What is no JSON can't stand in JSON.
            let data = if is_json { text } else { "null" };
            members.push(format!("\"data\":{data}"));
        }
        Some(Content::Binary(bytes)) => {
            members.push(format!("\"data_base64\":\"{}\"", STANDARD.encode(bytes)))
        }
        None => {}
    }
    if !asked.idempotency_key.is_empty() {
        members.push(format!("\"idempotency_key\":{}", json!(asked.idempotency_key)));
    }
    let body = Bytes::from(format!("{{{}}}", members.join(",")));
    let posted = match PublishRequest::parse(&body, limits) {
        Ok(PublishRequest::One(publish)) => Ok(publish),
        Ok(PublishRequest::Batch(_)) => panic!("one message was sent"),
        Err(errors) => Err(errors),
    };
    let mistakes = |errors: &PublishErrors| -> Vec<_> {
        assert_eq!(errors.total, errors.errors.len());
        let same = |text: &str| text.replace("data_base64", "data_bytes");
        let mistakes = errors.errors.iter();
        mistakes
            .map(|error| (same(&error.field), error.kind, same(&error.message)))
            .collect()
    };
    match (called, posted) {
        (Ok(called), Ok(posted)) if is_json => assert_eq!(*called, posted),
        (Err(called), Err(posted)) if is_json => {
            assert_eq!(mistakes(called), mistakes(&posted));
            let kind = |errors| fuzzing::told(errors).problem["type"].clone();
            assert_eq!(kind(called), kind(&posted));
        }
        (Err(called), posted) if !is_json => {
            let mut mistakes_but_data = mistakes(called);
            mistakes_but_data
                .retain(|(field, _, message)| field != "data" || !message.starts_with("not JSON: "));
            assert_eq!(mistakes_but_data.len() + 1, called.total);
            let posted = posted.as_ref().err().map(mistakes).unwrap_or_default();
            assert_eq!(mistakes_but_data, posted);
        }
        (called, posted) => panic!("called it is {called:?}, posted {posted:?}"),
    }
}

/// Each mistake has a field and no place, and all of them together fit into trailers.
fn told(errors: &PublishErrors) {
    assert!(!errors.errors.is_empty());
    let told = fuzzing::told(errors);
    assert!(told.trailers < TRAILERS, "{} bytes of trailers", told.trailers);
    assert_eq!(told.problem.get("line"), None);
    let fields = told.fields.iter().map(|(field, message)| {
        assert!(!message.is_empty());
        field.as_str()
    });
    let expected = errors.errors.iter().map(|error| {
        assert_eq!((error.line, error.column), (0, 0));
        error.field.as_str()
    });
    assert!(fields.eq(expected), "{told:?}");
}

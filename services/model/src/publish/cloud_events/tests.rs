use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::{
    Data, Room,
    policy::Policy,
    publish::{Publish, PublishError, PublishErrorKind},
};

fn route(to: &str) -> EventRoute {
    let policy = Policy::parse_yaml(&format!("cloudevents: {{ to: {to} }}")).unwrap();
    policy.cloud_events().unwrap().clone()
}

fn by_subject() -> EventRoute {
    route("{ room: \"orders-{subject}\" }")
}

fn parse(content_type: &str, headers: &[(&str, &str)], body: &[u8]) -> Result<PublishRequest, PublishErrors> {
    let content_type = (!content_type.is_empty()).then_some(content_type);
    let request = EventRequest {
        mode: ContentMode::of(content_type).unwrap(),
        content_type,
        headers: headers
            .iter()
            .map(|(name, value)| (*name, value.as_bytes()))
            .collect(),
        body: &Bytes::copy_from_slice(body),
    };
    request.parse(&by_subject(), &PublishLimits::default())
}

fn structured(body: &str) -> Result<PublishRequest, PublishErrors> {
    parse(
        "application/cloudevents+json; charset=utf-8",
        &[],
        body.as_bytes(),
    )
}

/// A structured event with these members besides what every event has.
fn event(members: &str) -> Result<PublishRequest, PublishErrors> {
    structured(&format!(
        r#"{{"specversion":"1.0","id":"1","source":"/shop","type":"shipped","subject":"17"{members}}}"#
    ))
}

const HEADERS: [(&str, &str); 5] = [
    ("specversion", "1.0"),
    ("id", "1"),
    ("source", "/shop"),
    ("type", "shipped"),
    ("subject", "17"),
];

fn one(parsed: Result<PublishRequest, PublishErrors>) -> Publish {
    match parsed {
        Ok(PublishRequest::One(publish)) => publish,
        other => panic!("{other:?}"),
    }
}

fn refused(parsed: Result<PublishRequest, PublishErrors>) -> PublishError {
    let errors = parsed.unwrap_err();
    assert_eq!(errors.total, 1, "{errors}");
    errors.errors.into_iter().next().unwrap()
}

#[test]
fn both_ways_bring_the_same_message() {
    let structured = one(event(
        r#","data": {"n" : 1.00},"time":"2026-01-01T00:00:00Z","seq":7,"last":true"#,
    ));
    let binary = one(parse("application/json", &HEADERS, br#"{"n" : 1.00}"#));
    assert_eq!(structured, binary);
    assert_eq!(structured.rooms, [Room::new("orders-17").unwrap()]);
    assert_eq!(structured.event.as_str(), "shipped");
    assert_eq!(
        structured.data,
        Data::Json(Bytes::from_static(br#"{"n" : 1.00}"#)),
        "byte for byte"
    );
    assert!(structured.idempotency_key.is_some());
}

#[test]
fn source_and_id_are_the_key() {
    let key = |id: &str, source: &str| {
        one(structured(&format!(
            r#"{{"specversion":"1.0","id":"{id}","source":"{source}","type":"t","subject":"1","data":1}}"#
        )))
        .idempotency_key
        .unwrap()
    };
    assert_eq!(key("1", "/a"), key("1", "/a"));
    assert_ne!(key("1", "/a"), key("2", "/a"));
    assert_ne!(key("1", "/a"), key("1", "/b"));
    assert_ne!(key("b1", "/a"), key("1", "/ab"));
    assert!(crate::publish::check_key(&key(&"x".repeat(9_999), "/a")).is_ok());
}

#[test]
fn content_is_what_its_type_says() {
    let json = |text: &'static str| Data::Json(Bytes::from_static(text.as_bytes()));
    let bytes = |bytes: &'static [u8]| Data::Binary(Bytes::from_static(bytes));
    for (content_type, body, data) in [
        ("application/json", &b" [1.0] \n"[..], json("[1.0]")),
        ("text/JSON", b"1", json("1")),
        ("application/vnd.shop+json; charset=utf-8", b"{}", json("{}")),
        ("application/json", b"", Data::NULL),
        ("text/plain", "a \"bell\" é".as_bytes(), json(r#""a \"bell\" é""#)),
        ("text/plain; charset=\"UTF-8\"", b"", json(r#""""#)),
        ("text/plain; charset=iso-8859-1", b"\xe9", bytes(b"\xe9")),
        ("application/xml", b"<a/>", bytes(b"<a/>")),
        ("image/png", b"\x89PNG", bytes(b"\x89PNG")),
        ("", b"[1.0]", json("[1.0]")),
        ("", b"", Data::NULL),
    ] {
        assert_eq!(
            one(parse(content_type, &HEADERS, body)).data,
            data,
            "{content_type}"
        );
    }
    let error = refused(parse("", &HEADERS, b"\x89PNG"));
    assert_eq!(error.kind, PublishErrorKind::Syntax);
    let error = refused(parse("", &HEADERS, b"PNG"));
    assert!(
        error.message.ends_with("say so in the header `Content-Type`"),
        "{error}"
    );
    for (members, data) in [
        ("", Data::NULL),
        (r#","data":null"#, Data::NULL),
        (
            r#","data":"<a/>","datacontenttype":"application/xml""#,
            json("\"<a/>\""),
        ),
        (r#","data_base64":"AP8=""#, bytes(&[0, 255])),
        (
            r#","data_base64":"eyJhIjoxLjB9","datacontenttype":"application/json""#,
            json(r#"{"a":1.0}"#),
        ),
        (
            r#","data_base64":"aGk=","datacontenttype":"text/plain""#,
            json("\"hi\""),
        ),
        (r#","data_base64":null,"data":1"#, json("1")),
    ] {
        assert_eq!(one(event(members)).data, data, "{members}");
    }
}

#[test]
fn mistakes_name_the_attribute_and_its_place() {
    let error = refused(structured(
        "{\"specversion\":\"1.0\",\"id\":\"1\",\n \"source\":\"\",\"type\":\"t\",\"subject\":\"1\"}",
    ));
    assert_eq!(
        (error.field.as_str(), error.line, error.column),
        ("source", 2, 11)
    );
    for (body, field, says) in [
        (
            r#"{"specversion":"0.3","id":"1","source":"/","type":"t","subject":"1"}"#,
            "specversion",
            "found `0.3`",
        ),
        (
            r#"{"id":"1","source":"/","type":"t","subject":"1"}"#,
            "specversion",
            "missing; it is `1.0`",
        ),
        (
            r#"{"specversion":"1.0","source":"/","type":"t","subject":"1"}"#,
            "id",
            "missing",
        ),
        (
            r#"{"specversion":"1.0","id":null,"source":"/","type":"t","subject":"1"}"#,
            "id",
            "missing",
        ),
        (
            r#"{"specversion":"1.0","id":"1","type":"t","subject":"1"}"#,
            "source",
            "missing",
        ),
        (
            r#"{"specversion":"1.0","id":"1","source":"/","subject":"1"}"#,
            "type",
            "missing",
        ),
        (
            r#"{"specversion":"1.0","id":"1","source":"/","type":"t"}"#,
            "subject",
            "`{ room: \"orders-{subject}\" }`",
        ),
        (
            r#"{"specversion":"1.0","id":"1","source":"/","type":"disconnect","subject":"1"}"#,
            "type",
            "reserved",
        ),
        (
            r#"{"specversion":"1.0","id":7,"source":"/","type":"t","subject":"1"}"#,
            "id",
            "expected a string",
        ),
        (
            r#"{"specversion":"1.0","id":"\u0007","source":"/","type":"t","subject":"1"}"#,
            "id",
            "control",
        ),
    ] {
        let errors = structured(body).unwrap_err();
        let error = &errors.errors[0];
        assert_eq!(error.field, field, "{errors}");
        assert!(error.message.contains(says), "{errors}");
    }
    for (members, field, says) in [
        (r#","data":1,"data_base64":"""#, "data_base64", "not both"),
        (r#","data_base64":"?""#, "data_base64", "base64"),
        (
            r#","data_base64":"PA==","datacontenttype":"application/json""#,
            "data_base64",
            "no JSON",
        ),
        (
            r#","data_base64":"/w==","datacontenttype":"text/plain""#,
            "data_base64",
            "byte 0",
        ),
        (r#","Data":1"#, "Data", "lower-case"),
        (r#","tags":["a"]"#, "tags", "found an array"),
        (r#","id":"2""#, "id", "twice"),
    ] {
        let error = refused(event(members));
        assert_eq!(error.field, field, "{error}");
        assert!(error.message.contains(says), "{error}");
    }
    assert_eq!(refused(structured("{")).kind, PublishErrorKind::Syntax,);
    assert!(refused(structured("[]")).message.contains("batch"));
    let deep = format!(r#","data":{}1{}"#, "[".repeat(129), "]".repeat(129));
    assert!(refused(event(&deep)).message.contains("deep"));
    let large = format!(r#","data":"{}""#, "x".repeat(70_000));
    assert!(matches!(
        refused(event(&large)).kind,
        PublishErrorKind::TooLarge { .. }
    ));
}

#[test]
fn all_mistakes_are_told_at_once() {
    let errors = structured("{}").unwrap_err();
    let fields: Vec<_> = errors.errors.iter().map(|error| error.field.as_str()).collect();
    assert_eq!(fields, ["specversion", "id", "source", "type", "subject"]);
    let errors = parse("application/json", &[("id", "")], b"{").unwrap_err();
    let fields: Vec<_> = errors.errors.iter().map(|error| error.field.as_str()).collect();
    assert_eq!(
        fields,
        [
            "",
            "ce-id",
            "ce-specversion",
            "ce-source",
            "ce-type",
            "ce-subject"
        ]
    );
    assert!(!errors.errors[1].to_string().contains("line"), "{errors}");
}

#[test]
fn headers_are_decoded() {
    let subject = |value: &str| {
        let mut headers = HEADERS;
        headers[4].1 = value;
        parse("", &headers, b"")
    };
    for (value, room) in [
        ("17", "orders-17"),
        ("Euro%20%E2%82%AC%20%F0%9F%98%80", "orders-Euro € 😀"),
        ("é", "orders-é"),
        ("50%", "orders-50%"),
        (r#""a \"b\" \\%20""#, "orders-a \"b\" \\ "),
    ] {
        assert_eq!(one(subject(value)).rooms[0].as_str(), room);
    }
    let error = refused(subject("%FF"));
    assert_eq!(error.field, "ce-subject");
    assert!(error.message.contains("UTF-8"), "{error}");
    assert!(refused(subject("")).message.contains("empty"));
    let error = refused(subject(&"x".repeat(300)));
    assert_eq!(error.field, "ce-subject");
    assert!(error.message.contains("at most 200 bytes"), "{error}");

    let with = |more: (&'static str, &'static str)| parse("", &[&HEADERS[..], &[more]].concat(), b"");
    assert!(refused(with(("id", "2"))).message.contains("twice"));
    assert_eq!(
        refused(with(("datacontenttype", "a/b"))).field,
        "ce-datacontenttype"
    );
    assert!(with(("my-extension", "x")).is_ok());
    let error = refused(parse("application/json", &[], br#"{"specversion":"1.0"}"#));
    assert!(error.message.contains("application/cloudevents+json"), "{error}");
}

#[test]
fn numbers_of_extensions_are_whole() {
    let with = |number: &str| {
        let event = r#"{"specversion":"1.0","id":"1","source":"/","type":"t","subject":"1","size":"#;
        parse(
            "application/cloudevents+json",
            &[],
            format!("{event}{number}}}").as_bytes(),
        )
    };
    for right in ["7", "-2147483648", "2147483647", "1.0"] {
        assert!(with(right).is_ok(), "{right}");
    }
    for wrong in ["2.5", "2147483648", "2.6e-42", "1e400"] {
        let error = refused(with(wrong));
        assert!(error.message.contains("32 bits"), "{wrong}: {error}");
    }
}

#[test]
fn a_batch_is_several() {
    let batch = |body: &str| parse("application/cloudevents-batch+json", &[], body.as_bytes());
    let good = r#"{"specversion":"1.0","id":"1","source":"/","type":"t","subject":"1","data":1}"#;
    match batch(&format!("[{good},{good}]")).unwrap() {
        PublishRequest::Batch(publishes) => assert_eq!(publishes.len(), 2),
        other => panic!("{other:?}"),
    }
    assert_eq!(batch("[]").unwrap(), PublishRequest::Batch(Vec::new()));
    let error = refused(batch(&format!("[{good},7]")));
    assert_eq!(error.field, "[1]");
    assert!(refused(batch(good)).message.contains("array"));
}

#[test]
fn modes_are_told_by_the_content_type() {
    for (content_type, mode) in [
        (None, Some(ContentMode::Binary)),
        (Some("Application/JSON"), Some(ContentMode::Binary)),
        (
            Some("application/CloudEvents+json;charset=utf-8"),
            Some(ContentMode::Structured),
        ),
        (
            Some("application/cloudevents-batch+json"),
            Some(ContentMode::Batched),
        ),
        (Some("application/cloudevents+avro"), None),
        (Some("application/cloudevents"), None),
    ] {
        assert_eq!(ContentMode::of(content_type), mode, "{content_type:?}");
    }
}

/// JSON that is nearly an event, so that more than its syntax is looked at.
fn nearly() -> impl Strategy<Value = String> {
    let name = prop_oneof![
        Just("specversion"),
        Just("id"),
        Just("source"),
        Just("type"),
        Just("subject"),
        Just("datacontenttype"),
        Just("data"),
        Just("data_base64"),
        Just("X"),
    ];
    let value = prop_oneof![
        Just("\"1.0\"".to_owned()),
        Just("null".to_owned()),
        Just("\"text/plain\"".to_owned()),
        Just("\"application/json\"".to_owned()),
        Just("[[{}]]".to_owned()),
        "\"[A-Za-z0-9+/=]{0,8}\"",
        "\"\\PC{0,8}\"",
    ];
    prop::collection::vec((name, value), 0..12).prop_map(|members| {
        let members: Vec<_> = members
            .iter()
            .map(|(name, value)| format!("\"{name}\":{value}"))
            .collect();
        format!("{{{}}}", members.join(","))
    })
}

proptest! {
    #[test]
    fn nothing_makes_it_panic(
        body in prop_oneof![any::<Vec<u8>>().boxed(), nearly().prop_map(String::into_bytes).boxed()],
        content_type in prop::sample::select(vec![
            "", "application/json", "text/plain", "a/b", "application/cloudevents+json", "application/cloudevents-batch+json",
        ]),
        values in prop::collection::vec(any::<Vec<u8>>(), 5),
    ) {
        let names = ["specversion", "id", "source", "type", "subject"];
        let headers: Vec<(&str, &[u8])> = names.into_iter().zip(values.iter().map(Vec::as_slice)).collect();
        for headers in [headers, HEADERS.iter().map(|(name, value)| (*name, value.as_bytes())).collect()] {
            let request = EventRequest {
                mode: ContentMode::of(Some(content_type)).unwrap(),
                content_type: (!content_type.is_empty()).then_some(content_type),
                headers,
                body: &Bytes::copy_from_slice(&body),
            };
            match request.parse(&by_subject(), &PublishLimits::default()) {
                Ok(PublishRequest::One(publish)) => {
                    prop_assert_eq!(publish.rooms.len(), 1);
                    if let Data::Json(json) = publish.data {
                        prop_assert!(serde_json::from_slice::<serde_json::Value>(&json).is_ok());
                    }
                }
                Ok(PublishRequest::Batch(_)) => {}
                Err(errors) => prop_assert!(errors.total > 0),
            }
        }
    }
}

//! Sessions that look back: what they may not have is never read, and what many want is read once.

use carillon_gateway::hub::{CursorNote, Identity, RefusalCode, Start};
use carillon_model::{Data, Offset};
use futures::future::join_all;

use super::fixture::{Fixture, room};

const RULES: &str =
    "- { match: \"secret*\", join: nobody }\n- { match: lobby, join: anyone, history: { size: 1000 } }";
const READS: &str = "carillon_gateway_newest_reads_total";
const REQUESTS: &str = "carillon_gateway_history_requests_total";

fn count(fixture: &Fixture, name: &str) -> u64 {
    fixture.counter(name) as u64
}

/// A gateway that has nothing of the lobby in memory, and 20 messages there.
async fn lobby() -> Fixture {
    let mut fixture = Fixture::new(RULES).await;
    for number in 0..20 {
        fixture.publish("lobby", &number.to_string()).await;
    }
    fixture.another_gateway().await
}

#[tokio::test(start_paused = true)]
async fn what_a_session_may_not_have_is_never_read() {
    let mut fixture = lobby().await;
    for number in 0..10 {
        let mut session = fixture.connect(&format!("s{number}"), &[]).await;
        for (name, code) in [
            ("secret", RefusalCode::Forbidden),
            ("user:1", RefusalCode::ReservedRoom),
        ] {
            let refused = session.join(name, Start::Rewind(100)).await.unwrap_err();
            assert_eq!(refused.code, code, "{name}");
        }
        let refused = session.handle().history(room("lobby"), None, 100).await;
        assert_eq!(refused.unwrap_err().code, RefusalCode::NotJoined);
    }
    assert_eq!((count(&fixture, READS), count(&fixture, REQUESTS)), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn equal_rewinds_share_their_reads_and_each_goes_back_as_far_as_it_asked() {
    let mut fixture = lobby().await;
    let mut sessions = Vec::new();
    for number in 0..100 {
        sessions.push(fixture.connect(&format!("s{number}"), &[]).await);
    }
    let depth = |place: usize| 1 + place % 10;
    let joins = sessions
        .iter_mut()
        .enumerate()
        .map(|(place, session)| session.join("lobby", Start::Rewind(depth(place))));
    for joined in join_all(joins).await {
        assert!(joined.unwrap().recovered);
    }
    for (place, session) in sessions.iter_mut().enumerate() {
        for number in 20 - depth(place)..20 {
            assert_eq!(session.next_text().await, number.to_string());
        }
    }
    let reads = count(&fixture, READS) + count(&fixture, "carillon_gateway_history_reads_total");
    assert!(reads <= 10, "100 rewinds took {reads} reads");
    assert_eq!(fixture.counter_of(REQUESTS, "answered") as u64, 100);
}

#[tokio::test(start_paused = true)]
async fn history_is_read_below_an_offset_and_not_where_nothing_can_be() {
    let mut fixture = lobby().await;
    let mut session = fixture.connect("s", &[]).await;
    session.join("lobby", Start::Now).await.unwrap();
    let texts = async |before, limit| {
        let found = session
            .handle()
            .history(room("lobby"), before, limit)
            .await
            .unwrap();
        let text = |data: &Data| match data {
            Data::Json(json) => serde_json::from_slice::<String>(json).unwrap(),
            Data::Binary(_) => panic!("binary"),
        };
        let texts: Vec<String> = found.iter().map(|message| text(&message.message.data)).collect();
        (texts, found.last().map(|oldest| oldest.offset))
    };
    let (newest, oldest) = texts(None, 3).await;
    assert_eq!(newest, ["19", "18", "17"]);
    let (older, _) = texts(oldest, 2).await;
    assert_eq!(older, ["16", "15"]);
    let greatest = Offset::new(u64::MAX, u64::MAX);
    assert_eq!(texts(Some(greatest), 1).await.0, ["19"]);
    let reads = count(&fixture, READS);
    assert_eq!(texts(Some(Offset::ZERO), 100).await.0, Vec::<String>::new());
    assert_eq!(count(&fixture, READS), reads);
}

#[tokio::test(start_paused = true)]
async fn many_requests_of_one_session_wait_their_turn_and_are_all_answered() {
    let mut fixture = lobby().await;
    let mut session = fixture.connect("s", &[]).await;
    session.join("lobby", Start::Now).await.unwrap();
    let handle = session.handle();
    let asked = (0..30).map(|limit| handle.history(room("lobby"), None, 1 + limit % 20));
    for (limit, found) in join_all(asked).await.into_iter().enumerate() {
        assert_eq!(found.unwrap().len(), 1 + limit % 20);
    }
    let asked = (0..100).map(|_| handle.history(room("lobby"), None, 1));
    let answers = join_all(asked).await;
    let refused = answers.iter().filter_map(|answer| answer.as_ref().err());
    let codes: Vec<RefusalCode> = refused.map(|refusal| refusal.code).collect();
    assert!(!codes.is_empty() && codes.len() < 100, "{}", codes.len());
    assert!(codes.iter().all(|code| *code == RefusalCode::TooManyRequests));
}

#[tokio::test(start_paused = true)]
async fn over_the_gateways_bound_a_request_is_refused_for_a_while_and_joins_go_on() {
    let mut fixture = lobby().await;
    fixture.newest_waiting = 0;
    fixture.restart().await;
    let mut session = fixture.connect("s", &[]).await;
    let refused = session.join("lobby", Start::Rewind(5)).await.unwrap_err();
    assert_eq!(refused.code, RefusalCode::Busy);
    assert!(refused.retry_after_ms.is_some());
    assert_eq!(fixture.counter_of(REQUESTS, "refused") as u64, 1);
    session.join("lobby", Start::Now).await.unwrap();
    let refused = session.handle().history(room("lobby"), None, 1).await;
    assert_eq!(refused.unwrap_err().code, RefusalCode::Busy);
}

#[tokio::test(start_paused = true)]
async fn a_room_that_is_being_rewound_counts_and_can_be_left() {
    let mut fixture = lobby().await;
    let mut session = fixture.connect("s", &[]).await;
    for number in 0..199 {
        session.join(&format!("room{number}"), Start::Now).await.unwrap();
    }
    let handle = session.handle();
    let (joined, second, again) = tokio::join!(
        handle.join(room("lobby"), Start::Rewind(2)),
        handle.join(room("other"), Start::Rewind(2)),
        handle.join(room("lobby"), Start::Now),
    );
    let joined = joined.unwrap();
    assert_eq!(again.unwrap(), joined, "both are the same join");
    assert_eq!(second.unwrap_err().code, RefusalCode::TooManyRooms);
    handle.leave(room("lobby")).await.unwrap();

    let (joined, left) = tokio::join!(
        handle.join(room("lobby"), Start::Rewind(2)),
        handle.leave(room("lobby"))
    );
    assert_eq!(joined.unwrap_err().code, RefusalCode::NotJoined);
    left.unwrap();
    assert_eq!(
        handle.leave(room("lobby")).await.unwrap_err().code,
        RefusalCode::NotJoined
    );
    session.join("lobby", Start::Rewind(1)).await.unwrap();
    for text in ["18", "19", "19"] {
        assert_eq!(
            session.next_text().await,
            text,
            "of the first join, and of the last"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_session_comes_back_to_all_its_rooms_and_hears_of_each_it_can_not_have() {
    let mut fixture = Fixture::new(RULES).await;
    let identity = Identity {
        user: Some("ann".into()),
        ..Identity::default()
    };
    let names: Vec<String> = (0..201).map(|number| format!("room{number:0>3}")).collect();
    let mut since: Vec<(&str, Offset)> = vec![
        ("all", Offset::new(1, 0)),
        ("user:ann", Offset::new(1, 0)),
        ("user:ben", Offset::new(1, 0)),
        ("session:before", Offset::new(1, 0)),
    ];
    since.extend(names.iter().map(|name| (&**name, Offset::new(1, 0))));
    let mut session = fixture.connect_as("s", identity, &since).await;
    // The fixture has taken the note on `all`.
    for name in ["user:ann"]
        .into_iter()
        .chain(names[..200].iter().map(|name| &**name))
    {
        let note = session.note(name).await;
        assert!(matches!(note, CursorNote::At { .. }), "{name}: {note:?}");
    }
    for (name, code) in [
        ("user:ben", RefusalCode::ReservedRoom),
        ("room200", RefusalCode::TooManyRooms),
    ] {
        let note = session.note(name).await;
        assert!(
            matches!(&note, CursorNote::Refused { error } if error.code == code),
            "{name}: {note:?}"
        );
    }
    assert_eq!(session.note("session:before").await, CursorNote::Left);
}

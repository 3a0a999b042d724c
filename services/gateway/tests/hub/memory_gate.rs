//! What a gateway refuses while the broker's memory is nearly full, and what goes on.

use std::time::Duration;

use carillon_broker::{MemoryFull, Pressure};
use carillon_gateway::hub::{CursorNote, Identity, Publish, Refusal, RefusalCode, SessionHandle, Start};
use carillon_model::{Data, EventName};
use tokio::time::sleep;

use super::fixture::{Fixture, room};

const PRESENCE: &str = "- { match: \"desk*\", join: anyone, presence: true }";

impl Fixture {
    fn used(&self, memory: f64) {
        self.memory_gate.saw(Pressure {
            memory,
            complete: true,
        });
    }
}

async fn publish(handle: &SessionHandle) -> Result<(), Refusal> {
    let publish = Publish {
        room: room("lobby"),
        event: EventName::new("test").unwrap(),
        data: Data::NULL,
        key: None,
        trace: tracing::Span::none(),
    };
    handle.enqueue_publish(publish)?.await.unwrap().map(|_| ())
}

/// Its code, after it was seen that it says when to come back.
fn code<T: std::fmt::Debug>(refused: Result<T, Refusal>) -> RefusalCode {
    let refusal = refused.unwrap_err();
    let wait = u64::try_from(MemoryFull::RETRY_AFTER.as_millis()).unwrap();
    assert_eq!(refusal.retry_after_ms, Some(wait), "{refusal}");
    refusal.code
}

#[tokio::test(start_paused = true)]
async fn messages_are_refused_first_then_new_rooms_then_new_sessions() {
    let mut fixture = Fixture::new("").await;
    let mut first = fixture.connect("first", &[]).await;
    first.join("lobby", Start::Now).await.unwrap();
    publish(first.handle()).await.unwrap();

    fixture.used(0.85);
    assert_eq!(code(publish(first.handle()).await), RefusalCode::QueueFull);
    let mut second = fixture.connect("second", &[]).await;
    second.join("new at 85 %", Start::Now).await.unwrap();

    fixture.used(0.92);
    assert_eq!(
        code(second.join("new at 92 %", Start::Now).await),
        RefusalCode::MemoryFull
    );
    second.join("lobby", Start::Now).await.unwrap();
    second.join("lobby", Start::Now).await.unwrap();
    // Somebody who comes back brings its rooms along.
    let offset = fixture.publish("lobby", "delivered all the same").await;
    let mut back = fixture
        .connect("back", &[("elsewhere", offset), ("lobby", offset)])
        .await;
    for name in ["elsewhere", "lobby"] {
        let note = back.note(name).await;
        assert!(matches!(note, CursorNote::At { .. }), "{name}: {note:?}");
    }
    assert_eq!(second.next_text().await, "delivered all the same");

    fixture.used(0.96);
    assert_eq!(
        code(fixture.try_connect("too many").await),
        RefusalCode::MemoryFull
    );
    fixture.publish("lobby", "still delivered").await;
    assert_eq!(second.next_text().await, "still delivered");

    fixture.used(0.7);
    publish(first.handle()).await.unwrap();
    second.join("new at 92 %", Start::Now).await.unwrap();
    fixture.try_connect("one more").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_room_that_was_left_a_moment_ago_costs_no_memory() {
    let mut fixture = Fixture::new("").await;
    let mut session = fixture.connect("a", &[]).await;
    session.join("lobby", Start::Now).await.unwrap();
    session.handle().leave(room("lobby")).await.unwrap();
    fixture.used(0.92);
    session.join("lobby", Start::Now).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn whoever_comes_into_a_room_is_shown_later_and_whoever_goes_is_gone_at_once() {
    let mut fixture = Fixture::new(PRESENCE).await;
    let user = |name: &str| Identity {
        user: Some(name.into()),
        ..Identity::default()
    };
    let mut here = fixture.connect_as("a", user("ann"), &[]).await;
    here.join("desk", Start::Now).await.unwrap();
    let mut goes = fixture.connect_as("b", user("ben"), &[]).await;
    goes.join("desk", Start::Now).await.unwrap();
    // Its own gateway knows without Redis who came.
    let mut elsewhere = fixture.another_gateway().await;
    let mut looks = elsewhere.connect_as("e", user("eve"), &[]).await;
    looks.join("desk", Start::Now).await.unwrap();
    let until_users = async |wanted: &[&str]| {
        let mut found: Vec<String> = Vec::new();
        for _ in 0..100 {
            let summary = looks.handle().presence(room("desk")).await.unwrap();
            found = summary.users.iter().map(ToString::to_string).collect();
            if found == wanted {
                return;
            }
            sleep(Duration::from_millis(100)).await;
        }
        panic!("{wanted:?} never were in the room, but {found:?}");
    };
    until_users(&["ann", "ben", "eve"]).await;
    fixture.used(0.92);
    let mut comes = fixture.connect_as("c", user("cleo"), &[]).await;
    comes.join("desk", Start::Now).await.unwrap();
    goes.handle().leave(room("desk")).await.unwrap();
    until_users(&["ann", "eve"]).await;
    fixture.used(0.5);
    until_users(&["ann", "cleo", "eve"]).await;
}

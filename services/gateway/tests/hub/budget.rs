//! What waits for all sessions together is bounded: whoever reads gets everything, whoever does not waits or goes.

use std::time::Duration;

use carillon_gateway::hub::{CloseReason, Start};
use tokio::time::{sleep, timeout};

use super::fixture::{Fixture, TestSession};

/// Kept whole by the room's history.
const HISTORY: &str = "- { match: lobby, join: anyone, history: { size: 1000, bytes: 10MiB } }";
const OUTBOXES: usize = 256 << 10;
const HELD: &str = "carillon_gateway_outbox_bytes";

async fn tight(rules: &str) -> Fixture {
    let mut fixture = Fixture::new(rules).await;
    fixture.outboxes_bytes = OUTBOXES;
    fixture.restart().await;
    fixture
}

async fn in_lobby(fixture: &mut Fixture, count: usize) -> Vec<TestSession> {
    let mut sessions = Vec::new();
    for number in 0..count {
        let mut session = fixture.connect(&format!("s{number}"), &[]).await;
        session.join("lobby", Start::Now).await.unwrap();
        sessions.push(session);
    }
    sessions
}

async fn held(fixture: &Fixture) -> usize {
    // It is shown once a second.
    sleep(Duration::from_secs(2)).await;
    fixture.gauge(HELD) as usize
}

#[tokio::test(start_paused = true)]
async fn sessions_that_do_not_read_fill_the_budget_and_not_more_and_are_caught_up() {
    let mut fixture = tight(HISTORY).await;
    let mut slow = in_lobby(&mut fixture, 50).await;
    let mut quick = in_lobby(&mut fixture, 1).await.remove(0);
    let texts: Vec<String> = (0..100).map(|number| format!("{number:0>200}")).collect();
    for text in &texts {
        fixture.publish("lobby", text).await;
        assert_eq!(quick.next_text().await, *text, "whoever reads gets it at once");
    }
    let held = held(&fixture).await;
    assert!(held <= OUTBOXES, "{held} bytes are held");
    assert!(
        held > OUTBOXES / 4,
        "{held} bytes are held: it is the budget that bounds them"
    );
    assert!(fixture.counter("carillon_gateway_outboxes_over_budget_total") > 0.0);
    for (number, session) in slow.iter_mut().enumerate() {
        for text in &texts {
            assert_eq!(session.next_text().await, *text, "session {number}");
        }
        assert_eq!(session.gaps_told, 0, "history had all of it");
    }
    let left = self::held(&fixture).await;
    assert_eq!(left, 0, "all of it was given back");
}

#[tokio::test(start_paused = true)]
async fn where_policy_closes_the_reason_says_that_memory_was_short() {
    let mut fixture = tight("- { match: lobby, join: anyone, slow: close }").await;
    let mut slow = in_lobby(&mut fixture, 100).await;
    for number in 0..100 {
        fixture.publish("lobby", &format!("{number:0>200}")).await;
    }
    let reason = timeout(Duration::from_secs(60), slow[99].closed()).await.unwrap();
    assert_eq!(reason, CloseReason::MemoryBudget);
}

#[tokio::test(start_paused = true)]
async fn where_nearly_nothing_is_left_whoever_reads_nothing_goes() {
    let mut fixture = tight("- { match: \"*\", join: anyone, history: { size: 1000, bytes: 10MiB } }").await;
    let mut sessions = in_lobby(&mut fixture, 3).await;
    // One message is larger than what one may hold at the end: it passes where nothing waits.
    let large = "x".repeat(OUTBOXES / 3 - 1_000);
    for session in &mut sessions {
        session.join("wide", Start::Now).await.unwrap();
        session.note("lobby").await;
        session.note("wide").await;
    }
    fixture.publish("wide", &large).await;
    fixture.publish("wide", "small").await;
    let closed = sessions.iter_mut().map(|session| session.closed());
    let (reason, ..) = timeout(
        Duration::from_secs(60),
        futures::future::select_all(closed.map(Box::pin)),
    )
    .await
    .unwrap();
    assert_eq!(reason, CloseReason::MemoryBudget);
}

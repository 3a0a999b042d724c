//! The end of a session's identity: when its token's `exp` comes, it is told, and has some time to bring another token.
//!
//! `exp` is a time of day, so the clock on the wall is asked, and asked again now and then: it can be set.

use std::time::Duration;

use carillon_model::time::wall_clock_milliseconds;
use serde::Serialize;
use serde_json::json;
use tokio::{sync::watch, time::Instant};

use super::{
    answers::{Answer, ok},
    packet::Packet,
    session::Session,
    writer::write,
};
use crate::hub::{CloseReason, OutboxReceiver, Refusal};

/// After how long the clock is looked at again.
const LOOK: Duration = Duration::from_secs(60);

/// When it ends, in milliseconds since 1970, as the newest token says.
#[derive(Debug)]
pub(super) struct Expiry(watch::Sender<Option<u64>>);

impl Expiry {
    pub(super) fn new(expires: Option<u64>) -> Self {
        Self(watch::Sender::new(expires))
    }
}

/// A good answer to `refresh`.
#[derive(Serialize)]
struct Refreshed {
    /// When the new token expires.
    #[serde(skip_serializing_if = "Option::is_none")]
    expires: Option<u64>,
}

/// Writes what the session gets, until the hub or the end of its identity closes it.
pub(super) async fn write_until_expired(session: &Session, outbox: &OutboxReceiver) -> CloseReason {
    tokio::select! {
        biased;
        () = session.expired() => CloseReason::TokenExpired,
        () = session.login_ended() => CloseReason::LoginEnded,
        reason = write(session, outbox) => reason,
    }
}

impl Session {
    /// Takes a new token in place of the one before.
    pub(super) async fn refresh(&self, token: &str) -> Result<Answer, Refusal> {
        let user = self.handle.identity().user.as_deref();
        match self.shared.settings.identities.refresh(user, token).await {
            Ok(identified) => {
                self.handle.change_rooms(identified.identity.rooms).await?;
                self.expiry.0.send_replace(identified.expires);
                self.login.replace();
                ok(Refreshed {
                    expires: identified.expires,
                })
            }
            Err(refusal) => {
                self.shared.metrics.request_refused(refusal.code.as_str());
                let error = json!({ "code": refusal.code.as_str(), "message": refusal.message });
                Ok((json!({ "ok": false, "error": error }).to_string(), Vec::new()))
            }
        }
    }

    /// Waits until the session's identity has ended, it was told so, and nothing was done about it in time.
    async fn expired(&self) {
        let mut newest = self.expiry.0.subscribe();
        loop {
            let Some(expires) = *newest.borrow_and_update() else {
                // Whoever has no end gets one only by a refresh.
                if newest.changed().await.is_err() {
                    return std::future::pending().await;
                }
                continue;
            };
            let left = expires.saturating_sub(wall_clock_milliseconds());
            if left > 0 {
                tokio::select! {
                    biased;
                    _ = newest.changed() => {}
                    () = tokio::time::sleep(Duration::from_millis(left).min(LOOK)) => {}
                }
                continue;
            }
            let grace = self.shared.settings.refresh_grace;
            let deadline = Instant::now() + grace;
            let told = json!({ "refresh_within_ms": u64::try_from(grace.as_millis()).unwrap_or(u64::MAX) });
            let told = async {
                let _ = self
                    .sender
                    .send(Packet::event("token_expired", &told.to_string()))
                    .await;
                std::future::pending::<()>().await;
            };
            tokio::select! {
                biased;
                _ = newest.changed() => {}
                () = tokio::time::sleep_until(deadline) => return,
                () = told => {}
            }
        }
    }
}

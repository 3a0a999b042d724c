//! The end of a session's login: the application that keeps it may end or extend it at any time, so it is looked at again
//! for as long as the session lasts.
//!
//! A login store that does not answer ends nobody's session: what is known counts until it answers.

use std::{future::pending, time::Duration};

use carillon_model::time::wall_clock_milliseconds;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::{packet::Packet, session::Session};
use crate::identity::{CookieLogins, UserLogin};

/// Between two looks at one login at least, however soon it ends.
const LEAST: Duration = Duration::from_secs(1);

/// The login a session is known by, if it is known by one.
#[derive(Debug)]
pub(super) struct SessionLogin {
    found: Option<UserLogin>,
    /// The session has brought a token, which counts from then on.
    replaced: CancellationToken,
}

/// What became of a look at a login.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LoginLook {
    /// It lasts.
    Lasts,
    /// It has ended, or is another user's.
    Ended,
    /// The store did not answer.
    Unanswered,
}

impl LoginLook {
    pub(super) const ALL: [Self; 3] = [Self::Lasts, Self::Ended, Self::Unanswered];

    /// The metric's label.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Lasts => "lasts",
            Self::Ended => "ended",
            Self::Unanswered => "unanswered",
        }
    }
}

impl SessionLogin {
    pub(super) fn new(found: Option<UserLogin>) -> Self {
        Self {
            found,
            replaced: CancellationToken::new(),
        }
    }

    /// A token of the same user came: the login does not matter any more.
    pub(super) fn replace(&self) {
        self.replaced.cancel();
    }
}

impl Session {
    /// Waits until the session's login has ended and the client was told so.
    pub(super) async fn login_ended(&self) {
        let (Some(login), Some(logins)) = (&self.login.found, &self.shared.settings.identities.logins) else {
            return pending().await;
        };
        tokio::select! {
            biased;
            () = self.login.replaced.cancelled() => return pending().await,
            () = self.look_until_over(logins, login.clone()) => {}
        }
        // Who does not read is not waited for.
        let told = self.sender.send(Packet::event("login_expired", "{}"));
        let _ = timeout(self.shared.settings.close_timeout, told).await;
    }

    async fn look_until_over(&self, logins: &CookieLogins, mut login: UserLogin) {
        let mut pause = next_look(logins.recheck.every, login.expires);
        loop {
            sleep(pause).await;
            let looked = match logins.look_again(&login).await {
                Ok(Some(found)) => {
                    login = found;
                    pause = next_look(logins.recheck.every, login.expires);
                    LoginLook::Lasts
                }
                Ok(None) => LoginLook::Ended,
                Err(error) => {
                    tracing::debug!(%error, "a login can't be looked at again");
                    pause = next_look(logins.recheck.every, None);
                    LoginLook::Unanswered
                }
            };
            self.shared.metrics.looked_at_login(looked);
            if looked == LoginLook::Ended {
                return;
            }
        }
    }
}

/// Looks are spread, so that those who came together do not ask together; and at its end a login is looked at in any case.
fn next_look(every: Duration, expires: Option<u64>) -> Duration {
    let spread = every.mul_f64(0.75 + fastrand::f64() / 2.0);
    let Some(expires) = expires else { return spread };
    let left = Duration::from_millis(expires.saturating_sub(wall_clock_milliseconds()) + 1);
    spread.min(left.max(LEAST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_are_spread_and_at_the_end_there_is_one() {
        let every = Duration::from_secs(60);
        let (least, most) = (Duration::from_secs(45), Duration::from_secs(75));
        let looks: Vec<Duration> = (0..100).map(|_| next_look(every, None)).collect();
        assert!(
            looks.iter().all(|look| (least..=most).contains(look)),
            "{looks:?}"
        );
        assert!(looks.iter().any(|look| *look < every) && looks.iter().any(|look| *look > every));
        let soon = next_look(every, Some(wall_clock_milliseconds() + 5_000));
        assert!(soon <= Duration::from_millis(5_001), "{soon:?}");
        assert_eq!(next_look(every, Some(0)), LEAST);
        let later = next_look(every, Some(wall_clock_milliseconds() + 3_600_000));
        assert!(later <= most, "the application may end it before: {later:?}");
    }
}

//! What one process takes on: connects per second, sessions per user, events per second and session.
//!
//! All are counted in this process alone. Nothing is shared with other gateways, so nothing of it can fail or wait; a
//! user who is to have at most n sessions may have n on each gateway. Client addresses are not counted: behind a proxy
//! they are the proxy's, and a header that says otherwise can be made up by anybody. That is the ingress' business.

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use carillon_model::collections::LookupMap;
use governor::{
    Quota, RateLimiter,
    clock::{Clock, DefaultClock},
    middleware::NoOpMiddleware,
    state::{InMemoryState, NotKeyed},
};
use parking_lot::Mutex;

use super::{
    handshake::{HandshakeCode, HandshakeRefusal},
    settings::TransportSettings,
};
use crate::hub::{Refusal, RefusalCode};

type Limiter =
    RateLimiter<NotKeyed, InMemoryState, DefaultClock, NoOpMiddleware<<DefaultClock as Clock>::Instant>>;

/// How many times the events it may send a session has to send to be closed for it.
const FLOOD: u32 = 10;

fn limiter(per_second: u32, at_once: u32) -> Limiter {
    let one = |count: u32| NonZeroU32::new(count).unwrap_or(NonZeroU32::MIN);
    RateLimiter::direct(Quota::per_second(one(per_second)).allow_burst(one(at_once)))
}

/// The limits of the process.
#[derive(Debug)]
pub(super) struct Limits {
    connects: Limiter,
    per_user: usize,
    users: Arc<Users>,
}

/// Sessions by user.
#[derive(Debug, Default)]
struct Users(Mutex<LookupMap<Arc<str>, usize>>);

/// A user's place for one session, until it is dropped.
#[derive(Debug)]
pub(super) struct Place(Option<(Arc<Users>, Arc<str>)>);

impl Drop for Place {
    fn drop(&mut self) {
        let Some((users, user)) = self.0.take() else {
            return;
        };
        let mut users = users.0.lock();
        if let Some(sessions) = users.get_mut(&user) {
            *sessions -= 1;
            if *sessions == 0 {
                users.remove(&user);
            }
        }
    }
}

impl Limits {
    pub(super) fn new(settings: &TransportSettings) -> Self {
        Self {
            connects: limiter(settings.connects, settings.connects),
            per_user: settings.sessions_per_user,
            users: Arc::default(),
        }
    }

    /// Whether one more client may connect in this second.
    pub(super) fn may_connect(&self) -> bool {
        self.connects.check().is_ok()
    }

    /// Takes a place for a session of a user. Sessions without a user need none.
    pub(super) fn enter(&self, user: Option<&Arc<str>>) -> Result<Place, HandshakeRefusal> {
        let Some(user) = user else {
            return Ok(Place(None));
        };
        let mut users = self.users.0.lock();
        let sessions = users.entry(Arc::clone(user)).or_insert(0);
        if *sessions >= self.per_user {
            let message = format!("this user has {sessions} sessions here already; close one of them");
            return Err(HandshakeRefusal::new(HandshakeCode::TooManySessions, message));
        }
        *sessions += 1;
        Ok(Place(Some((Arc::clone(&self.users), Arc::clone(user)))))
    }
}

/// The events of one session: a generic cell rate algorithm, and a second one for those who don't care about the first.
#[derive(Debug)]
pub(super) struct EventLimits {
    allowed: Limiter,
    borne: Limiter,
    clock: DefaultClock,
    per_second: u32,
}

/// What becomes of an event.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Handle,
    Refuse(Refusal),
    /// The session goes.
    Close,
}

impl EventLimits {
    pub(super) fn new(settings: &TransportSettings) -> Self {
        let (rate, burst) = (settings.events, settings.events_at_once);
        Self {
            allowed: limiter(rate, burst),
            borne: limiter(rate.saturating_mul(FLOOD), burst.saturating_mul(FLOOD)),
            clock: DefaultClock::default(),
            per_second: rate,
        }
    }

    /// Whether the session may send one more thing that nobody answers: as many as it may before it is closed.
    pub(super) fn bear(&self) -> bool {
        self.borne.check().is_ok()
    }

    /// Judges one more event.
    pub(super) fn judge(&self) -> Verdict {
        if !self.bear() {
            return Verdict::Close;
        }
        match self.allowed.check() {
            Ok(()) => Verdict::Handle,
            Err(not_until) => {
                let wait = not_until.wait_time_from(self.clock.now());
                let message = format!("a session may send {} events per second", self.per_second);
                Verdict::Refuse(Refusal::new(RefusalCode::RateLimited, message).retry_after(rounded_up(wait)))
            }
        }
    }
}

fn rounded_up(wait: Duration) -> Duration {
    let milliseconds = u64::try_from(wait.as_micros().div_ceil(1000)).unwrap_or(u64::MAX);
    Duration::from_millis(milliseconds.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_users_place_is_given_back() {
        let limits = Limits::new(&TransportSettings {
            sessions_per_user: 2,
            ..TransportSettings::default()
        });
        let (ann, ben) = (Arc::from("ann"), Arc::from("ben"));
        let one = limits.enter(Some(&ann)).unwrap();
        let two = limits.enter(Some(&ann)).unwrap();
        assert_eq!(
            limits.enter(Some(&ann)).unwrap_err().code,
            HandshakeCode::TooManySessions
        );
        let other = limits.enter(Some(&ben)).unwrap();
        let nobody: Vec<_> = (0..5).map(|_| limits.enter(None).unwrap()).collect();
        drop(one);
        let again = limits.enter(Some(&ann)).unwrap();
        assert!(limits.enter(Some(&ann)).is_err());
        drop((two, again, other, nobody));
        assert!(
            limits.users.0.lock().is_empty(),
            "users without sessions are forgotten"
        );
    }

    #[test]
    fn connects_and_events_come_in_bursts_and_then_slowly() {
        let settings = TransportSettings {
            connects: 3,
            events: 1,
            events_at_once: 2,
            ..TransportSettings::default()
        };
        let limits = Limits::new(&settings);
        let let_in = (0..10).filter(|_| limits.may_connect()).count();
        assert_eq!(let_in, 3);

        let events = EventLimits::new(&settings);
        assert_eq!(
            (events.judge(), events.judge()),
            (Verdict::Handle, Verdict::Handle)
        );
        for _ in 2..20 {
            let Verdict::Refuse(refusal) = events.judge() else {
                panic!("one that is a little too quick is told")
            };
            assert_eq!(refusal.code, RefusalCode::RateLimited);
            let wait = refusal.retry_after_ms.unwrap();
            assert!((1..=1000).contains(&wait), "{wait}");
        }
        assert_eq!(events.judge(), Verdict::Close);
    }
}

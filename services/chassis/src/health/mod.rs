//! Health: three questions that Kubernetes asks, and never mixes up.
//!
//! *Alive?* (`/livez`) A restart would help. It depends on nothing outside the process: it fails only when the
//! runtime has stopped running its watchdog. Redis away is no reason to restart anything.
//!
//! *Ready?* (`/readyz`) This process' own path works. Every part of the path has a named check, and whoever notices
//! pushes the result: [`Health::register`] gives a [`CheckHandle`] to `pass` and `fail`. Parts that keep their own
//! state are asked instead, by [`Health::observe`]. The answer lists every check, and for one that fails what to do
//! about it. Until the process has started the check `startup` fails, and while draining the check `drain`. What others
//! lack is a note ([`Health::note`]): whoever looks is told, and the process stays ready, because taking it out of service
//! would help nobody.
//!
//! *Started?* (`/startupz`) The process has said [`Health::started`]: settings and policy are read and its listeners
//! are bound. It does not wait for Redis, or a Redis outage would turn into a crash loop.
//!
//! ```
//! let (_drain, watch) = carillon_chassis::drain::channel();
//! let health = carillon_chassis::health::Health::new(watch);
//! let redis = health.register("redis");
//! health.started();
//! assert!(!health.readiness().ready(), "a check that nobody passed yet fails");
//! redis.pass();
//! assert!(health.readiness().ready());
//! redis.fail("no answer for 3 s from redis:6379; is it up, and redis.url right?");
//! assert_eq!(
//!     health.readiness().to_string(),
//!     "ok startup\nok drain\nfail redis: no answer for 3 s from redis:6379; is it up, and redis.url right?\n"
//! );
//! ```

mod admin;
mod metrics;

use std::{
    borrow::Cow,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use indexmap::IndexMap;
use parking_lot::Mutex;
use serde::Serialize;
use tokio::time::Instant;

pub use admin::{AdminGuard, AdminServer};
pub use metrics::HealthCollector;

use crate::drain::DrainWatch;

/// How often the watchdog beats.
const BEAT: Duration = Duration::from_secs(1);

/// How long the watchdog may be silent before the process counts as stuck.
const STUCK: Duration = Duration::from_secs(10);

type Observer = Box<dyn Fn() -> Vec<(&'static str, Option<String>)> + Send + Sync>;

struct Shared {
    drain: DrainWatch,
    /// Why each check fails, or `None`.
    checks: Mutex<IndexMap<&'static str, Option<Cow<'static, str>>>>,
    observers: Mutex<Vec<Observer>>,
    notes: Mutex<IndexMap<&'static str, Cow<'static, str>>>,
    started: AtomicBool,
    beat: Mutex<Instant>,
}

/// The health of a process. Cheap to clone.
#[derive(Clone)]
pub struct Health(Arc<Shared>);

impl Health {
    /// A health whose check `drain` fails as soon as the drain starts.
    pub fn new(drain: DrainWatch) -> Self {
        Self(Arc::new(Shared {
            drain,
            checks: Mutex::default(),
            observers: Mutex::default(),
            notes: Mutex::default(),
            started: AtomicBool::new(false),
            beat: Mutex::new(Instant::now()),
        }))
    }

    /// Adds a check of readiness. It fails until it is passed for the first time, and again when its handle is
    /// dropped, because then nobody looks any more.
    pub fn register(&self, name: &'static str) -> CheckHandle {
        let handle = CheckHandle {
            health: self.clone(),
            name,
        };
        handle.fail("not checked yet");
        handle
    }

    /// Asks `observer` for checks whenever readiness is asked for: names, and why each fails if it does. It must not
    /// block.
    pub fn observe(
        &self,
        observer: impl Fn() -> Vec<(&'static str, Option<String>)> + Send + Sync + 'static,
    ) {
        self.0.observers.lock().push(Box::new(observer));
    }

    /// Tells whoever asks for readiness what is amiss elsewhere, or takes that back with `None`.
    pub fn note(&self, name: &'static str, text: Option<Cow<'static, str>>) {
        let mut notes = self.0.notes.lock();
        match text {
            Some(text) => notes.insert(name, text),
            None => notes.shift_remove(name),
        };
    }

    /// Says that the process has started; see the module's text for what that means.
    pub fn started(&self) {
        self.0.started.store(true, Ordering::Release);
    }

    /// Whether the process has started.
    pub fn is_started(&self) -> bool {
        self.0.started.load(Ordering::Acquire)
    }

    /// Beats for ever, on the runtime it is spawned on; [`Health::stuck_for`] tells when it stops.
    pub async fn watchdog(self) {
        loop {
            *self.0.beat.lock() = Instant::now();
            tokio::time::sleep(BEAT).await;
        }
    }

    /// How long the runtime has been stuck, if it is.
    pub fn stuck_for(&self) -> Option<Duration> {
        let silence = self.0.beat.lock().elapsed();
        (silence > STUCK).then_some(silence)
    }

    /// All checks of readiness as they stand.
    pub fn readiness(&self) -> Readiness {
        let drain = self
            .0
            .drain
            .is_draining()
            .then(|| "draining: this process is ending".to_owned());
        // Before that, what will have a check may have none yet, and nobody listens.
        let startup = (!self.is_started()).then(|| "still starting".to_owned());
        let mut checks = vec![
            Check {
                name: "startup",
                why: startup,
            },
            Check {
                name: "drain",
                why: drain,
            },
        ];
        for (name, why) in self.0.checks.lock().iter() {
            checks.push(Check {
                name,
                why: why.as_ref().map(ToString::to_string),
            });
        }
        for observer in self.0.observers.lock().iter() {
            checks.extend(observer().into_iter().map(|(name, why)| Check { name, why }));
        }
        let notes = self.0.notes.lock();
        let notes = notes.iter().map(|(name, text)| Note {
            name,
            text: text.to_string(),
        });
        Readiness {
            checks,
            notes: notes.collect(),
        }
    }

    fn set(&self, name: &'static str, why: Option<Cow<'static, str>>) {
        let mut checks = self.0.checks.lock();
        let before = checks.insert(name, why.clone());
        drop(checks);
        match (before, why) {
            // Parts of a process that is ending end, too.
            (Some(None), Some(why)) if self.0.drain.is_draining() => {
                tracing::debug!(check = name, why = %why, "readiness check fails");
            }
            (Some(None), Some(why)) => tracing::warn!(check = name, why = %why, "readiness check fails"),
            (Some(Some(_)), None) => tracing::info!(check = name, "readiness check passes"),
            _ => {}
        }
    }
}

impl fmt::Debug for Health {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Health")
            .field("checks", &self.0.checks.lock())
            .finish_non_exhaustive()
    }
}

/// The one who knows whether a check passes. A change is logged.
#[derive(Debug)]
pub struct CheckHandle {
    health: Health,
    name: &'static str,
}

impl CheckHandle {
    /// The check passes.
    pub fn pass(&self) {
        self.health.set(self.name, None);
    }

    /// The check fails: say why, and what to do about it.
    pub fn fail(&self, why: impl Into<Cow<'static, str>>) {
        self.health.set(self.name, Some(why.into()));
    }
}

impl Drop for CheckHandle {
    fn drop(&mut self) {
        self.fail("the task that watches this has ended");
    }
}

/// One check of readiness.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// Its name.
    pub name: &'static str,
    /// Why it fails, if it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// Something amiss elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Note {
    /// What it is about.
    pub name: &'static str,
    /// What is amiss, and what to do.
    pub text: String,
}

/// What `/readyz` answers. Its `Display` is one line per check, `ok name` or `fail name: why`, then one per note,
/// `note name: text`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Readiness {
    /// All checks.
    pub checks: Vec<Check>,
    /// All notes.
    pub notes: Vec<Note>,
}

impl Readiness {
    /// Whether every check passes.
    pub fn ready(&self) -> bool {
        self.checks.iter().all(|check| check.why.is_none())
    }
}

impl fmt::Display for Readiness {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for check in &self.checks {
            match &check.why {
                None => writeln!(formatter, "ok {}", check.name)?,
                // One line per check, whatever the reason holds.
                Some(why) => writeln!(formatter, "fail {}: {}", check.name, why.replace('\n', " "))?,
            }
        }
        for note in &self.notes {
            writeln!(formatter, "note {}: {}", note.name, note.text.replace('\n', " "))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drain;

    #[tokio::test(start_paused = true)]
    async fn the_drain_and_lost_watchers_make_unready() {
        let (drain, watch) = drain::channel();
        let health = Health::new(watch);
        let redis = health.register("redis");
        redis.pass();
        health.observe(|| vec![("channel", None)]);
        assert_eq!(
            health.readiness().to_string(),
            "fail startup: still starting\nok drain\nok redis\nok channel\n"
        );
        assert!(!health.readiness().ready(), "nothing is before it has started");
        health.started();
        assert!(health.readiness().ready());
        drop(redis);
        assert!(
            health
                .readiness()
                .to_string()
                .contains("fail redis: the task that watches this has ended")
        );
        health.register("redis").pass();
        drain.start(Duration::from_secs(1));
        assert!(
            health
                .readiness()
                .to_string()
                .starts_with("ok startup\nfail drain: draining")
        );
        assert!(!health.readiness().ready());
    }

    #[tokio::test(start_paused = true)]
    async fn a_note_is_told_and_leaves_ready() {
        let health = Health::new(drain::channel().1);
        health.started();
        health.note("dispatchers", Some("none is alive".into()));
        assert_eq!(
            health.readiness().to_string(),
            "ok startup\nok drain\nnote dispatchers: none is alive\n"
        );
        assert!(health.readiness().ready());
        health.note("dispatchers", None);
        assert_eq!(health.readiness().to_string(), "ok startup\nok drain\n");
    }

    #[tokio::test(start_paused = true)]
    async fn alive_until_the_watchdog_falls_silent() {
        let health = Health::new(drain::channel().1);
        let watchdog = tokio::spawn(health.clone().watchdog());
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(health.stuck_for(), None);
        watchdog.abort();
        tokio::time::sleep(STUCK + BEAT).await;
        assert!(health.stuck_for().is_some_and(|silence| silence > STUCK));
    }
}

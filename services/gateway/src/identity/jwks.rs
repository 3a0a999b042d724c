//! Keys from a JSON Web Key Set that somebody else serves, and changes.
//!
//! One task fetches, nobody else does: every [`refresh`](JwksSettings::refresh), and at once when a token names a key
//! that is not known, but never more often than every [`cooldown`](JwksSettings::cooldown), because anybody can make up
//! such a token. When a fetch fails the keys stay, until they are [`stale`](JwksSettings::stale): an issuer that is
//! down for an hour must not lock everybody out, and one that has withdrawn a key must be heard some day.

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};
use tokio_util::task::AbortOnDropHandle;

use super::{
    keys::{self, Key},
    metrics::IdentityMetrics,
};

/// Pauses after failures grow from this to `refresh`.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// Where a key set comes from.
#[async_trait]
pub trait KeySource: fmt::Debug + Send + Sync + 'static {
    /// The set as JSON, or why it can't be had.
    async fn fetch(&self) -> Result<Bytes, String>;
}

/// How keys are kept.
#[derive(Clone, Copy, Debug)]
pub struct JwksSettings {
    /// How old keys get before they are fetched anew.
    pub refresh: Duration,
    /// How old keys may be that can't be fetched anew.
    pub stale: Duration,
    /// How soon after one fetch an unknown key may lead to the next.
    pub cooldown: Duration,
    /// How long one fetch may take.
    pub timeout: Duration,
}

/// The keys of a set. The task that fetches them ends with the last clone.
#[derive(Clone, Debug)]
pub struct Jwks {
    shared: Arc<Shared>,
    _task: Arc<AbortOnDropHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    source: Arc<dyn KeySource>,
    settings: JwksSettings,
    metrics: IdentityMetrics,
    kept: Mutex<Kept>,
    wanted: Notify,
    /// How many fetches have ended.
    ended: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Kept {
    keys: Arc<[Key]>,
    fetched: Option<Instant>,
    tried: Option<Instant>,
    fetching: bool,
}

impl Jwks {
    /// Starts to fetch.
    pub fn start(source: Arc<dyn KeySource>, settings: JwksSettings, metrics: IdentityMetrics) -> Self {
        let shared = Arc::new(Shared {
            source,
            settings,
            metrics,
            kept: Mutex::new(Kept {
                fetching: true,
                ..Kept::default()
            }),
            wanted: Notify::new(),
            ended: watch::Sender::new(0),
        });
        let task = tokio::spawn(keep_fresh(Arc::clone(&shared)));
        Self {
            shared,
            _task: Arc::new(AbortOnDropHandle::new(task)),
        }
    }

    /// The keys, unless there are none that may still be believed.
    pub(super) fn keys(&self) -> Option<Arc<[Key]>> {
        let kept = self.shared.kept.lock();
        let limit = self.shared.settings.stale.max(self.shared.settings.refresh);
        (kept.fetched?.elapsed() < limit).then(|| Arc::clone(&kept.keys))
    }

    /// Has them fetched if that was not done just now, and waits for the outcome.
    pub(super) async fn look_again(&self) {
        let mut ended = self.shared.ended.subscribe();
        {
            let kept = self.shared.kept.lock();
            let just_now = kept
                .tried
                .is_some_and(|tried| tried.elapsed() < self.shared.settings.cooldown);
            match (kept.fetching, just_now) {
                (true, _) => {}
                (false, true) => return,
                (false, false) => self.shared.wanted.notify_one(),
            }
        }
        let patience = self.shared.settings.timeout + Duration::from_millis(100);
        let _ = tokio::time::timeout(patience, ended.changed()).await;
    }
}

async fn keep_fresh(shared: Arc<Shared>) {
    let mut pause = FIRST_PAUSE;
    loop {
        let started = Instant::now();
        {
            let mut kept = shared.kept.lock();
            kept.fetching = true;
            kept.tried = Some(started);
        }
        let fetched = fetch(&shared).await;
        let rest = match &fetched {
            Ok(_) => {
                pause = FIRST_PAUSE;
                shared.settings.refresh
            }
            Err(why) => {
                tracing::warn!(%why, "the keys for tokens can't be fetched; those that are known are kept for a while");
                let rest = pause.min(shared.settings.refresh);
                pause = (pause * 2).min(shared.settings.refresh);
                rest
            }
        };
        {
            let mut kept = shared.kept.lock();
            kept.fetching = false;
            let outcome = if fetched.is_ok() { "ok" } else { "failed" };
            shared.metrics.fetches.with_label_values(&[outcome]).inc();
            if let Ok(keys) = fetched {
                shared
                    .metrics
                    .keys
                    .set(i64::try_from(keys.len()).unwrap_or(i64::MAX));
                kept.keys = keys.into();
                kept.fetched = Some(started);
            }
        }
        shared.ended.send_modify(|ended| *ended += 1);
        tokio::select! {
            biased;
            () = shared.wanted.notified() => {}
            () = tokio::time::sleep(rest) => {}
        }
    }
}

async fn fetch(shared: &Shared) -> Result<Vec<Key>, String> {
    let timeout = shared.settings.timeout;
    let json = tokio::time::timeout(timeout, shared.source.fetch())
        .await
        .map_err(|_| format!("no answer within {timeout:?}"))??;
    let keys = keys::from_jwks(&json).ok_or("the answer is no JSON Web Key Set")?;
    // An empty set is more often an accident of the issuer than its wish.
    match keys.is_empty() {
        true => Err("the key set has no key of RSA, P-256 or Ed25519 for signatures".to_owned()),
        false => Ok(keys),
    }
}

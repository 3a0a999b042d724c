//! The policy file: read at start, watched, and swapped atomically.
//!
//! At start it must be right, or the process does not start. Later a wrong file changes nothing: the policy that holds
//! goes on holding, one log line says everything that is wrong, and `carillon_policy_rejected_total` counts it, which
//! is what an alert looks at. `carillon_policy_info{revision}` says what holds.
//!
//! A ConfigMap in Kubernetes is a directory in which a symbolic link (`..data`) is swapped to a new directory; the file
//! itself, a link through it, is never written. So it is the directory that is watched, and the file's text that is
//! compared. Watching can fail silently (network file systems, exhausted watches), so the file is also read every few
//! seconds.
//!
//! ```no_run
//! # async fn start(chassis: &carillon_chassis::run::Chassis<()>) -> anyhow::Result<()> {
//! use carillon_model::policy::Policy;
//! use carillon_chassis::policy_file::{self, PolicyMetrics};
//! let metrics = PolicyMetrics::new(&chassis.metrics)?;
//! let policy = policy_file::watch("policy.yaml".into(), Policy::parse_yaml, metrics)?;
//! let now = policy.load();
//! # Ok(()) }
//! ```

use std::{
    fmt::Display,
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use notify::{RecursiveMode, Watcher as _};
use prometheus::{IntCounter, IntGaugeVec, Opts};
use tokio::sync::mpsc;

use crate::{
    live::{Live, LiveWriter, live},
    metrics::Metrics,
};

/// How often the file is read even though nothing was noticed.
const POLL: Duration = Duration::from_secs(5);

/// How long a change may take to be complete: an editor writes in several steps.
const SETTLE: Duration = Duration::from_millis(50);

/// A policy that can say which one it is.
pub trait Revisioned {
    /// A short hash of its content: equal content, equal revision.
    fn revision(&self) -> &str;
}

impl Revisioned for carillon_model::policy::Policy {
    fn revision(&self) -> &str {
        &self.revision
    }
}

/// Why a process does not start with this policy file. It then exits with
/// [`exit::BAD_USAGE`](crate::run::exit::BAD_USAGE).
#[derive(Debug, thiserror::Error)]
pub enum PolicyFileError {
    /// It cannot be read.
    #[error("cannot read the policy file {}: {error}; is policy.file right?", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        error: io::Error,
    },
    /// It is wrong.
    #[error("the policy file {} is wrong:\n{problems}", .path.display())]
    Wrong {
        /// The file.
        path: PathBuf,
        /// Everything that is wrong with it.
        problems: String,
    },
}

/// What is counted about the policy, from wherever it comes.
#[derive(Clone, Debug)]
pub struct PolicyMetrics {
    rejected: IntCounter,
    replaced: IntCounter,
    info: IntGaugeVec,
}

impl PolicyMetrics {
    /// Registers them; fails if they are registered already.
    pub fn new(metrics: &Metrics) -> Result<Self, prometheus::Error> {
        let service = metrics.service("policy");
        let rejected = service.counter(
            "rejected_total",
            "Changed policies that were wrong and not taken.",
        )?;
        let replaced = service.counter("replaced_total", "Changed policies that were taken.")?;
        let options = Opts::new("carillon_policy_info", "The policy that holds, by its revision.");
        let info = IntGaugeVec::new(options, &["revision"])?;
        metrics.registry().register(Box::new(info.clone()))?;
        Ok(Self {
            rejected,
            replaced,
            info,
        })
    }

    /// A wrong policy was not taken.
    pub fn rejected(&self) {
        self.rejected.inc();
    }

    /// Another policy was taken.
    pub fn replaced(&self, revision: &str) {
        self.replaced.inc();
        self.holds(revision);
    }

    /// This policy holds. There is one series at a time.
    pub fn holds(&self, revision: &str) {
        self.info.reset();
        self.info.with_label_values(&[revision]).set(1);
    }
}

/// Reads the file, and goes on watching it on the current runtime for as long as anyone reads the policy.
pub fn watch<P, E, F>(path: PathBuf, parse: F, metrics: PolicyMetrics) -> Result<Live<P>, PolicyFileError>
where
    P: Revisioned + Send + Sync + 'static,
    E: Display + 'static,
    F: Fn(&str) -> Result<P, E> + Send + 'static,
{
    watch_and_poll(path, parse, metrics, POLL)
}

fn watch_and_poll<P, E, F>(
    path: PathBuf,
    parse: F,
    metrics: PolicyMetrics,
    poll: Duration,
) -> Result<Live<P>, PolicyFileError>
where
    P: Revisioned + Send + Sync + 'static,
    E: Display + 'static,
    F: Fn(&str) -> Result<P, E> + Send + 'static,
{
    // Watching starts before the first read, or a change between the two would wait for the next poll.
    let (noticed, changes) = mpsc::channel(1);
    let watcher = watch_directory(&path, noticed);
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) => return Err(PolicyFileError::Unreadable { path, error }),
    };
    let policy = match parse(&text) {
        Ok(policy) => policy,
        Err(problems) => {
            return Err(PolicyFileError::Wrong {
                path,
                problems: problems.to_string(),
            });
        }
    };
    tracing::info!(path = %path.display(), revision = policy.revision(), "policy read");
    metrics.holds(policy.revision());
    let (writer, policy) = live(policy);
    let file = PolicyFile {
        path,
        parse,
        metrics,
        writer,
        poll,
        seen: Ok(text),
    };
    tokio::spawn(file.follow(changes, watcher));
    Ok(policy)
}

/// Watches the directory of the file; without it, polling is what is left.
fn watch_directory(path: &Path, noticed: mpsc::Sender<()>) -> Option<notify::RecommendedWatcher> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let watching = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        // Reading the file is an event too, and must not lead to the next read.
        if !event.is_ok_and(|event| event.kind.is_access()) {
            // Full means that a look is due anyway.
            let _ = noticed.try_send(());
        }
    })
    .and_then(|mut watcher| {
        watcher.watch(directory, RecursiveMode::NonRecursive)?;
        Ok(watcher)
    });
    watching
        .inspect_err(|error| tracing::warn!(%error, "the policy file is polled only; it cannot be watched"))
        .ok()
}

struct PolicyFile<P, F> {
    path: PathBuf,
    parse: F,
    metrics: PolicyMetrics,
    writer: LiveWriter<P>,
    poll: Duration,
    /// What was found last, so that the same text or the same trouble is told once.
    seen: Result<String, io::ErrorKind>,
}

impl<P, E, F> PolicyFile<P, F>
where
    P: Revisioned + Send + Sync + 'static,
    E: Display,
    F: Fn(&str) -> Result<P, E>,
{
    async fn follow(mut self, mut changes: mpsc::Receiver<()>, watcher: Option<notify::RecommendedWatcher>) {
        let _watching = watcher;
        let mut watched = true;
        loop {
            tokio::select! {
                biased;
                () = self.writer.closed() => return,
                noticed = changes.recv(), if watched => {
                    watched = noticed.is_some();
                    tokio::time::sleep(SETTLE).await;
                }
                () = tokio::time::sleep(self.poll) => {}
            }
            self.look();
        }
    }

    /// Reads the file and takes the policy in it, if it is another and right. The file is small and local; reading it
    /// takes less than handing it to another thread.
    fn look(&mut self) {
        let found = std::fs::read_to_string(&self.path);
        let found = found.map_err(|error| (error.kind(), error));
        match (&found, &self.seen) {
            (Ok(text), Ok(seen)) if text == seen => return,
            (Err((kind, _)), Err(seen)) if kind == seen => return,
            _ => {}
        }
        let path = self.path.display();
        match found {
            Err((kind, error)) => {
                tracing::error!(%path, %error, "cannot read the policy file; the policy that holds stays");
                self.metrics.rejected();
                self.seen = Err(kind);
            }
            Ok(text) => {
                match (self.parse)(&text) {
                    Ok(policy) if policy.revision() == self.writer.load().revision() => {}
                    Ok(policy) => {
                        tracing::info!(%path, revision = policy.revision(), "policy replaced");
                        self.metrics.replaced(policy.revision());
                        self.writer.replace(policy);
                    }
                    Err(problems) => {
                        tracing::error!(
                            %path,
                            revision = self.writer.load().revision(),
                            %problems,
                            "the changed policy file is wrong; the policy that holds stays"
                        );
                        self.metrics.rejected();
                    }
                }
                self.seen = Ok(text);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink, sync::Arc};

    use super::*;

    #[derive(Debug, PartialEq)]
    struct Words(String);

    impl Revisioned for Words {
        fn revision(&self) -> &str {
            &self.0
        }
    }

    fn parse(text: &str) -> Result<Words, String> {
        match text.trim() {
            "" | "wrong" => Err("rooms[0].match: is no pattern\nrooms[1].join: is no access".to_owned()),
            word => Ok(Words(word.to_owned())),
        }
    }

    fn metrics() -> (Metrics, PolicyMetrics) {
        let metrics = Metrics::new().unwrap();
        let policy = PolicyMetrics::new(&metrics).unwrap();
        (metrics, policy)
    }

    async fn until(what: &str, condition: impl Fn() -> bool) {
        let waiting = async {
            while !condition() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), waiting)
            .await
            .unwrap_or_else(|_| panic!("never: {what}"));
    }

    #[tokio::test]
    async fn a_process_does_not_start_with_a_wrong_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("policy.yaml");
        let missing = watch(path.clone(), parse, metrics().1).unwrap_err().to_string();
        assert!(
            missing.contains("cannot read the policy file") && missing.contains("policy.yaml"),
            "{missing}"
        );
        fs::write(&path, "wrong").unwrap();
        let wrong = watch(path, parse, metrics().1).unwrap_err().to_string();
        assert!(
            wrong.contains("rooms[0].match") && wrong.contains("rooms[1].join"),
            "{wrong}"
        );
    }

    #[tokio::test]
    async fn a_swapped_config_map_is_taken_and_a_wrong_one_is_not() {
        let mount = tempfile::tempdir().unwrap();
        let at = |name: &str| mount.path().join(name);
        // As the kubelet does it: a new directory, and one rename that makes `..data` point to it.
        let swap = |version: &str, text: &str| {
            fs::create_dir(at(version)).unwrap();
            fs::write(at(version).join("policy.yaml"), text).unwrap();
            symlink(version, at("..data_tmp")).unwrap();
            fs::rename(at("..data_tmp"), at("..data")).unwrap();
        };
        swap("..1", "first");
        symlink("..data/policy.yaml", at("policy.yaml")).unwrap();

        let (registry, metrics) = metrics();
        // It is noticed, not found by polling.
        let never = Duration::from_secs(3600);
        let policy = watch_and_poll(at("policy.yaml"), parse, metrics.clone(), never).unwrap();
        let mut changes = policy.subscribe();
        assert_eq!(policy.load().0, "first");
        swap("..2", "second");
        tokio::time::timeout(Duration::from_secs(20), changes.changed())
            .await
            .unwrap()
            .unwrap();
        assert_eq!(changes.borrow_and_update().0, "second");
        assert_eq!(policy.load().0, "second");

        let held: Arc<Words> = policy.load();
        swap("..3", "wrong");
        until("rejected", || metrics.rejected.get() == 1).await;
        assert_eq!(policy.load(), held);
        let text = registry.encode().unwrap();
        assert!(text.contains("carillon_policy_rejected_total 1"), "{text}");
        assert!(text.contains("carillon_policy_replaced_total 1"), "{text}");
        assert!(
            text.contains("carillon_policy_info{revision=\"second\"} 1"),
            "{text}"
        );
        assert!(
            !text.contains("revision=\"first\""),
            "one revision at a time: {text}"
        );

        swap("..4", "fourth");
        until("recovered", || policy.load().0 == "fourth").await;
    }

    #[tokio::test]
    async fn a_change_that_nobody_announces_is_found_by_polling() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("policy.yaml");
        fs::write(&path, "first").unwrap();
        let (writer, policy) = live(Words("first".to_owned()));
        let (_registry, metrics) = metrics();
        let file = PolicyFile {
            path: path.clone(),
            parse,
            metrics: metrics.clone(),
            writer,
            poll: POLL,
            seen: Ok("first".into()),
        };
        let (noticed, changes) = mpsc::channel(1);
        drop(noticed);
        tokio::time::pause();
        let following = tokio::spawn(file.follow(changes, None));
        fs::write(&path, "second").unwrap();
        until("polled", || policy.load().0 == "second").await;
        fs::remove_file(&path).unwrap();
        until("missing", || metrics.rejected.get() == 1).await;
        tokio::time::sleep(POLL * 3).await;
        assert_eq!(metrics.rejected.get(), 1, "the same trouble is told once");
        drop(policy);
        following.await.unwrap();
    }
}

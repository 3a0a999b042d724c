//! What every service's `main` does the same way, so that a `main` only wires.
//!
//! [`Service::run`] reads the settings, sets up logs and traces, binds and serves the administration server (before
//! anything is waited for, so that probes are answered early), watches for signals, and then calls the service with a
//! [`Chassis`]. When the service returns or is told to drain, it waits for those who hold the drain, flushes the
//! traces and gives the exit code.
//!
//! SIGTERM and SIGINT start the drain; a second one ends the process at once, with code 1. Signals are handled on the
//! administration server's thread, so they work even when the service's runtime is stuck.
//!
//! ```no_run
//! use carillon_chassis::{run::{self, Chassis, Service}, settings::{AdminSettings, LogSettings, TelemetrySettings}};
//!
//! carillon_chassis::settings_tree! {
//!     /// All that can be set.
//!     pub struct Settings { log: LogSettings, admin: AdminSettings, telemetry: TelemetrySettings }
//! }
//!
//! async fn serve(chassis: Chassis<Settings>) -> anyhow::Result<()> {
//!     let redis = chassis.health.register("redis");
//!     redis.pass();
//!     chassis.health.started();
//!     chassis.drain.signaled().await;
//!     Ok(())
//! }
//!
//! fn main() -> std::process::ExitCode {
//!     Service::new("bell", "carillon bell").arguments(std::env::args().skip(1)).run(serve)
//! }
//! ```

use std::{
    io::{self, Write as _},
    net::SocketAddr,
    pin::pin,
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;

use crate::{
    build_info::BUILD,
    drain::{self, Drain, DrainWatch},
    health::{AdminServer, Health, HealthCollector},
    metrics::Metrics,
    settings::{AdminSettings, Loader, LogSettings, Request, TelemetrySettings, Tree},
    signals,
    telemetry::{self, Telemetry},
};

/// Exit codes of every command.
pub mod exit {
    /// Something failed that usage and settings are not to blame for.
    pub const FAILED: u8 = 1;
    /// The command line, the settings or the policy file are wrong (`EX_USAGE` of `sysexits.h`).
    pub const BAD_USAGE: u8 = 64;

    /// The code of an error: [`BAD_USAGE`] if usage, settings or policy are to blame.
    pub fn code_of(error: &anyhow::Error) -> u8 {
        let usage = error.chain().any(|cause| {
            cause.is::<super::Misconfigured>()
                || cause.is::<crate::settings::SettingsErrors>()
                || cause.is::<crate::policy_file::PolicyFileError>()
        });
        if usage { BAD_USAGE } else { FAILED }
    }
}

/// How long others may still hold the drain after the service itself failed.
const AFTER_FAILURE: Duration = Duration::from_secs(5);

/// What a service stands on. Cheap to clone.
#[derive(Debug)]
pub struct Chassis<T> {
    /// The settings.
    pub settings: Arc<T>,
    /// The registry of metrics.
    pub metrics: Metrics,
    /// The checks of readiness.
    pub health: Health,
    /// Tells when to end, and makes the end wait.
    pub drain: DrainWatch,
    /// Where the administration server listens.
    pub admin: SocketAddr,
}

impl<T> Clone for Chassis<T> {
    fn clone(&self) -> Self {
        Self {
            settings: Arc::clone(&self.settings),
            metrics: self.metrics.clone(),
            health: self.health.clone(),
            drain: self.drain.clone(),
            admin: self.admin,
        }
    }
}

/// An error of a service that wrong settings are to blame for, found only when they were used: the process exits with
/// [`exit::BAD_USAGE`].
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Misconfigured(pub String);

/// A process to be run.
#[derive(Debug)]
pub struct Service<T> {
    name: &'static str,
    loader: Loader,
    patience: fn(&T) -> Duration,
}

impl<T> Service<T>
where
    T: Tree + AsRef<LogSettings> + AsRef<AdminSettings> + AsRef<TelemetrySettings> + Send + Sync + 'static,
{
    /// A service of this name (in traces), called by this command (in help). It reads the environment.
    pub fn new(name: &'static str, command: &'static str) -> Self {
        let loader = Loader::new(command).environment();
        Self {
            name,
            loader,
            patience: |_| Duration::from_secs(30),
        }
    }

    /// The flags behind the command.
    #[must_use]
    pub fn arguments(mut self, arguments: impl IntoIterator<Item = String>) -> Self {
        self.loader = self.loader.arguments(arguments);
        self
    }

    /// A default of this command only; see [`Loader::preset`].
    #[must_use]
    pub fn preset(mut self, key: &'static str, value: impl Into<String>) -> Self {
        self.loader = self.loader.preset(key, value);
        self
    }

    /// How long a drain may take; 30 s if not said.
    #[must_use]
    pub fn drain_timeout(mut self, patience: fn(&T) -> Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Runs the service to its end. Only the end of `main` should follow.
    pub fn run<F, Fut>(self, serve: F) -> ExitCode
    where
        F: FnOnce(Chassis<T>) -> Fut,
        Fut: Future<Output = anyhow::Result<()>>,
    {
        let loaded = match self.loader.load::<T>() {
            Ok(Request::Run(loaded)) => loaded,
            Ok(Request::Print(text)) => return print(&mut io::stdout(), &text, 0),
            Err(errors) => return print(&mut io::stderr(), &format!("{errors}\n"), exit::BAD_USAGE),
        };
        let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => {
                let text = format!("cannot start the runtime: {error}\n");
                return print(&mut io::stderr(), &text, exit::FAILED);
            }
        };
        let code = runtime.block_on(attend(self.name, Arc::new(loaded.settings), self.patience, serve));
        // Whatever still blocks a thread must not keep the process.
        runtime.shutdown_background();
        ExitCode::from(code)
    }
}

async fn attend<T, F, Fut>(name: &'static str, settings: Arc<T>, patience: fn(&T) -> Duration, serve: F) -> u8
where
    T: AsRef<LogSettings> + AsRef<AdminSettings> + AsRef<TelemetrySettings> + Send + Sync + 'static,
    F: FnOnce(Chassis<T>) -> Fut,
    Fut: Future<Output = anyhow::Result<()>>,
{
    let telemetry = match Telemetry::init(name, (*settings).as_ref(), (*settings).as_ref()) {
        Ok(telemetry) => telemetry,
        Err(error) => {
            let _ = writeln!(io::stderr(), "{error}");
            return exit::FAILED;
        }
    };
    telemetry::log_panics();
    tracing::info!(service = name, build = %BUILD, "starting");
    let patience = patience(&settings);
    let outcome = serve_until_drained(settings, patience, serve).await;
    let code = match outcome {
        Ok(()) => 0,
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "failed");
            exit::code_of(&error)
        }
    };
    tracing::info!(code, "ended");
    telemetry.shutdown().await;
    code
}

async fn serve_until_drained<T, F, Fut>(settings: Arc<T>, patience: Duration, serve: F) -> anyhow::Result<()>
where
    T: AsRef<AdminSettings>,
    F: FnOnce(Chassis<T>) -> Fut,
    Fut: Future<Output = anyhow::Result<()>>,
{
    let metrics = Metrics::new()?;
    let (drain, watch) = drain::channel();
    let health = Health::new(watch.clone());
    let collector = HealthCollector::new(health.clone())?;
    metrics.registry().register(Box::new(collector))?;
    let listen = AsRef::<AdminSettings>::as_ref(&*settings).listen;
    let server = AdminServer::bind(listen).with_context(|| cannot_listen("admin.listen", listen))?;
    let admin = server.address();
    let signals = signals::attend(drain.clone(), patience);
    let _admin = server.serve(health.clone(), metrics.clone(), signals)?;
    tracing::info!(setting = "admin.listen", address = %admin, "listening");
    tokio::spawn(health.clone().watchdog());

    let chassis = Chassis {
        settings,
        metrics,
        health,
        drain: watch.clone(),
        admin,
    };
    // The service itself is something that must be finished.
    let hold = watch.hold("service");
    let mut service = pin!(serve(chassis));
    let outcome = tokio::select! {
        biased;
        outcome = &mut service => outcome,
        () = deadline(&watch) => Ok(()),
    };
    let late = finish(&drain, patience, hold, outcome.is_err()).await;
    if let Some(late) = late {
        tracing::warn!(error = %late, "ended at the drain's deadline");
    }
    outcome
}

async fn deadline(watch: &DrainWatch) {
    let deadline = watch.signaled().await;
    tokio::time::sleep_until(deadline).await;
}

/// Waits for the other holders. A service that failed is not worth waiting the whole patience for, but they may need
/// to hand over what they hold.
async fn finish(
    drain: &Drain,
    patience: Duration,
    hold: drain::DrainHold,
    failed: bool,
) -> Option<drain::Unfinished> {
    drain.start(if failed {
        patience.min(AFTER_FAILURE)
    } else {
        patience
    });
    let expired = drain
        .deadline()
        .is_some_and(|deadline| deadline <= tokio::time::Instant::now());
    // A service that is late holds on, so that it is named with the others.
    let hold = expired.then_some(hold);
    let late = drain.finished().await.err();
    drop(hold);
    late
}

/// Binds a listener and logs where it listens, as tests and people with port 0 want to know. `setting` is its key.
pub async fn listen(setting: &'static str, address: SocketAddr) -> anyhow::Result<tokio::net::TcpListener> {
    let listener = tokio::net::TcpListener::bind(address)
        .await
        .with_context(|| cannot_listen(setting, address))?;
    tracing::info!(setting, address = %listener.local_addr()?, "listening");
    Ok(listener)
}

fn cannot_listen(setting: &str, address: SocketAddr) -> String {
    format!("cannot listen on {address}; set {setting} to a free address")
}

/// Prints what the command line parser has to say, and gives the exit code: 0 for help, else [`exit::BAD_USAGE`].
pub fn bad_usage(error: &clap::Error) -> ExitCode {
    // Nothing is left to do if the terminal is gone.
    let _ = error.print();
    if error.use_stderr() {
        ExitCode::from(exit::BAD_USAGE)
    } else {
        ExitCode::SUCCESS
    }
}

/// The settings' flags inside a `clap` command: takes everything behind the command's name, for
/// [`Service::arguments`].
#[derive(clap::Args, Clone, Debug, Default)]
pub struct SettingsFlags {
    /// Settings as flags, such as `--redis.url redis://localhost`; `--print-settings` shows them all.
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "--KEY VALUE"
    )]
    pub flags: Vec<String>,
}

fn print(to: &mut dyn io::Write, text: &str, code: u8) -> ExitCode {
    match to.write_all(text.as_bytes()).and_then(|()| to.flush()) {
        Ok(()) => ExitCode::from(code),
        Err(_) => ExitCode::from(code.max(exit::FAILED)),
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, FromArgMatches as _, Parser};

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(subcommand)]
        command: Command,
    }

    #[derive(clap::Subcommand)]
    enum Command {
        Bell(SettingsFlags),
    }

    fn flags(arguments: &[&str]) -> Result<Vec<String>, clap::Error> {
        let matches = Cli::command().try_get_matches_from(arguments)?;
        let Cli {
            command: Command::Bell(SettingsFlags { flags }),
        } = Cli::from_arg_matches(&matches)?;
        Ok(flags)
    }

    #[test]
    fn a_clap_command_hands_its_flags_on() {
        let given = ["--redis.url", "redis://h", "--bell.limit=3", "--print-settings"];
        let handed = flags(&["carillon", "bell", given[0], given[1], given[2], given[3]]).unwrap();
        assert_eq!(handed, given);
        assert_eq!(flags(&["carillon", "bell"]).unwrap(), Vec::<String>::new());
        assert!(flags(&["carillon", "gong"]).is_err_and(|error| error.use_stderr()));
    }

    #[test]
    fn wrong_settings_found_late_are_still_wrong_settings() {
        let late = anyhow::Error::from(Misconfigured(
            "redis.mode says cluster, the server is none".into(),
        ));
        assert_eq!(exit::code_of(&late.context("connecting")), exit::BAD_USAGE);
        assert_eq!(exit::code_of(&anyhow::anyhow!("the rope is torn")), exit::FAILED);
    }
}

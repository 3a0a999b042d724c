//! The command line: which subcommand does what.

use std::{io::Write as _, process::ExitCode};

use carillon_chassis::run::{self, Service, SettingsFlags};
use clap::{Parser, Subcommand};

use crate::{
    dead_letters::{self, DeadLetterCommand},
    services,
    settings::Settings,
};

/// Real-time push over Socket.IO: POST a message, and every listener of its room gets it, in order, once.
#[derive(Debug, Parser)]
#[command(name = "carillon", version, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Gateway, dispatcher and ingest in one process, on loopback and without Redis
    ///
    /// Example: carillon dev, then
    /// curl -X POST http://127.0.0.1:8080/v1/messages -H 'content-type: application/json'
    /// -d '{"to":"all","event":"chat message","data":"hello"}'
    Dev(SettingsFlags),
    /// Holds clients' connections and brings them their rooms' messages
    ///
    /// Example: carillon gateway --redis.url redis://redis:6379 --policy.file policy.yaml
    Gateway(SettingsFlags),
    /// Works off the queues: into histories, and on to the gateways that hold a target
    ///
    /// Example: carillon dispatcher --redis.url redis://redis:6379
    Dispatcher(SettingsFlags),
    /// Takes messages from producers over HTTP
    ///
    /// Example: carillon ingest --redis.url redis://redis:6379 --ingest.http.listen 0.0.0.0:8080
    Ingest(SettingsFlags),
    /// Prints the reference of all settings, as Markdown
    ///
    /// Example: carillon settings
    Settings,
    /// Lists, replays or drops messages that could not be handled
    ///
    /// Example: carillon dlq list --redis.url redis://redis:6379
    Dlq {
        #[command(subcommand)]
        command: DeadLetterCommand,
    },
}

/// Runs what the command line says; the exit code is that of DESIGN §13.
pub(crate) fn run() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return run::bad_usage(&error),
    };
    match arguments.command {
        Command::Dev(flags) => {
            services::dev::presets(service("carillon", "carillon dev", flags)).run(services::dev::serve)
        }
        Command::Gateway(flags) => {
            service("carillon-gateway", "carillon gateway", flags).run(services::gateway::serve)
        }
        Command::Dispatcher(flags) => {
            service("carillon-dispatcher", "carillon dispatcher", flags).run(services::dispatcher::serve)
        }
        Command::Ingest(flags) => {
            service("carillon-ingest", "carillon ingest", flags).run(services::ingest::serve)
        }
        Command::Settings => {
            let reference = carillon_chassis::settings::reference::<Settings>();
            match std::io::stdout().write_all(reference.as_bytes()) {
                Ok(()) => ExitCode::SUCCESS,
                Err(_) => ExitCode::from(run::exit::FAILED),
            }
        }
        Command::Dlq { command } => dead_letters::run(command),
    }
}

fn service(name: &'static str, command: &'static str, flags: SettingsFlags) -> Service<Settings> {
    Service::new(name, command)
        .arguments(flags.flags)
        // What the longest hand-over takes, and time to close what is left.
        .drain_timeout(|settings: &Settings| {
            settings.gateway.drain_timeout + std::time::Duration::from_secs(5)
        })
}

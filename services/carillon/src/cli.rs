//! The command line: which subcommand does what.

use std::process::ExitCode;

use carillon_chassis::run::{self, Service, SettingsFlags};
use clap::{CommandFactory as _, Parser, Subcommand};

use crate::{
    services,
    settings::Settings,
    tools::{self, ToolArguments, examples},
};

/// Real-time push over Socket.IO: POST a message, and every listener of its room gets it, in order, once
#[derive(Debug, Parser)]
#[command(name = "carillon", version, arg_required_else_help = true, after_help = examples::CARILLON)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Gateway, dispatcher and ingest in one process, on loopback and without Redis
    #[command(after_help = examples::DEV)]
    Dev(SettingsFlags),
    /// Holds clients' connections and brings them their rooms' messages
    #[command(after_help = examples::GATEWAY)]
    Gateway(SettingsFlags),
    /// Works off the queues: into histories, and on to the gateways that hold a target
    #[command(after_help = examples::DISPATCHER)]
    Dispatcher(SettingsFlags),
    /// Takes messages from producers over HTTP and gRPC
    #[command(after_help = examples::INGEST)]
    Ingest(SettingsFlags),
    /// Turns PushCluster, PushRooms and PushProducers into the policy in force, on Kubernetes
    #[command(after_help = examples::OPERATOR, args_conflicts_with_subcommands = true)]
    Operator {
        #[command(subcommand)]
        command: Option<OperatorCommand>,
        #[command(flatten)]
        flags: SettingsFlags,
    },
    /// Sends messages, and says what became of each
    #[command(after_help = examples::PUSH)]
    Push(tools::PushArguments),
    /// Shows rooms as clients see them, and misses nothing over reconnects
    #[command(after_help = examples::TAIL)]
    Tail(tools::TailArguments),
    /// Shows which gateways hold a room, or which rooms are held
    #[command(after_help = examples::ROOMS)]
    Rooms(tools::RoomsArguments),
    /// Lists the gateways that live, with their sessions
    #[command(after_help = examples::GATEWAYS)]
    Gateways(ToolArguments),
    /// Lists, replays or drops messages that could not be handled
    Dlq {
        #[command(subcommand)]
        command: tools::dead_letters::DeadLetterCommand,
    },
    /// Checks settings, policy file and Redis before a service starts on them
    Config {
        #[command(subcommand)]
        command: tools::config::ConfigCommand,
    },
    /// Checks a policy, and says which of its rules decides
    Policy {
        #[command(subcommand)]
        command: tools::PolicyCommand,
    },
    /// Prints what a shell needs to complete commands
    #[command(after_help = examples::COMPLETIONS)]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Writes manual pages
    #[command(after_help = examples::MAN)]
    Man(tools::ReferenceArguments),
    /// Prints the reference of all settings, as Markdown
    #[command(after_help = examples::SETTINGS)]
    Settings,
    /// Prints the reference of all commands, as Markdown
    #[command(after_help = examples::COMMANDS)]
    Commands,
}

/// What the operator does beside running.
#[derive(Debug, Subcommand)]
enum OperatorCommand {
    /// Prints the definitions of its three kinds, for `kubectl apply`
    #[command(after_help = examples::OPERATOR_CRDS)]
    Crds,
}

/// Runs what the command line says; the exit code is that of DESIGN §13.
pub(crate) fn run() -> ExitCode {
    let arguments = match Arguments::try_parse_from(tools::settings_last(std::env::args_os())) {
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
        Command::Operator {
            command: Some(OperatorCommand::Crds),
            ..
        } => tools::definitions(),
        Command::Operator { command: None, flags } => {
            service("carillon-operator", "carillon operator", flags).run(services::operator::serve)
        }
        Command::Push(arguments) => tools::push(arguments),
        Command::Tail(arguments) => tools::tail(arguments),
        Command::Rooms(arguments) => tools::rooms(arguments),
        Command::Gateways(arguments) => tools::gateways(&arguments),
        Command::Dlq { command } => tools::dead_letters::dead_letters(command),
        Command::Config { command } => tools::config::config(&command),
        Command::Policy { command } => tools::policy(command),
        Command::Completions { shell } => tools::completions(shell, Arguments::command()),
        Command::Man(arguments) => tools::manual(&arguments, Arguments::command()),
        Command::Settings => tools::settings(),
        Command::Commands => tools::commands(Arguments::command()),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed_and_every_command_shows_examples() {
        let mut command = Arguments::command();
        command.clone().debug_assert();
        command.build();
        let mut without = Vec::new();
        let mut look = vec![command];
        while let Some(command) = look.pop() {
            let groups = command.has_subcommands() && command.get_name() != "carillon";
            let shows = command
                .get_after_help()
                .is_some_and(|help| help.to_string().contains("\n  $ "));
            if !groups && !shows && command.get_name() != "help" {
                without.push(command.get_name().to_owned());
            }
            if command.get_name() != "help" {
                look.extend(command.get_subcommands().cloned());
            }
        }
        assert_eq!(without, Vec::<String>::new());
    }
}

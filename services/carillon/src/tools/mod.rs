//! What people use beside the services: send a message, listen to rooms, look who is where, check what was written.
//!
//! A tool reads the same settings as the services, does its work on a small runtime, and prints through the
//! [`printer`]. Errors say what to do next. Exit codes: 0 done, 1 failed, 64 bad usage or settings.

mod arguments;
pub(crate) mod config;
pub(crate) mod dead_letters;
pub(crate) mod examples;
mod gateways;
mod policy;
mod printer;
mod push;
mod reference;
mod rooms;
mod tail;

use std::process::ExitCode;

use anyhow::Context as _;
use carillon_broker::BrokerError;
use carillon_chassis::{
    run::exit,
    settings::{Loader, Request, SettingsErrors},
};

pub(crate) use arguments::{ToolArguments, settings_last};
pub(crate) use gateways::gateways;
pub(crate) use policy::{PolicyCommand, policy};
use printer::{Printer, Unread};
pub(crate) use push::{PushArguments, push};
pub(crate) use reference::{ReferenceArguments, commands, completions, definitions, manual, settings};
pub(crate) use rooms::{RoomsArguments, rooms};
pub(crate) use tail::{TailArguments, tail};

use crate::settings::Settings;

/// How a tool that ran to its end ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// All is done.
    Well,
    /// Not all is done; what is not was told already.
    Badly,
    /// What was to be checked is wrong by its author's fault; what it is was told already.
    Mistaken,
}

/// Reads the settings and runs a tool.
pub(crate) fn run<F, Fut>(command: &'static str, arguments: &ToolArguments, work: F) -> ExitCode
where
    F: FnOnce(Settings, Printer) -> Fut,
    Fut: Future<Output = anyhow::Result<Ended>>,
{
    let printer = Printer::new(arguments.output);
    match load(command, &arguments.settings) {
        Ok(Request::Run(loaded)) => finish(block_on(work(loaded.settings, printer)), printer),
        Ok(Request::Print(text)) => finish(printer::print(&text).map(|()| Ended::Well), printer),
        Err(errors) => finish(Err(errors.into()), printer),
    }
}

fn load(command: &'static str, flags: &[String]) -> Result<Request<Settings>, SettingsErrors> {
    Loader::new(command)
        .environment()
        .arguments(flags.iter().cloned())
        .load::<Settings>()
}

fn block_on(work: impl Future<Output = anyhow::Result<Ended>>) -> anyhow::Result<Ended> {
    // Another one may be installed already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let ended = runtime.block_on(work);
    // Whatever still reads the terminal must not keep the process.
    runtime.shutdown_background();
    ended
}

/// The exit code of what happened, which is told if it was a failure.
fn finish(ended: anyhow::Result<Ended>, printer: Printer) -> ExitCode {
    match ended {
        Ok(Ended::Well) => ExitCode::SUCCESS,
        Ok(Ended::Badly) => ExitCode::from(exit::FAILED),
        Ok(Ended::Mistaken) => ExitCode::from(exit::BAD_USAGE),
        Err(error) if error.is::<Unread>() => ExitCode::SUCCESS,
        Err(error) => {
            let away = matches!(
                error.downcast_ref(),
                Some(BrokerError::Unavailable(_) | BrokerError::NotWritable(_))
            );
            let advice = if away {
                "; `carillon config check --connect` looks closer"
            } else {
                ""
            };
            let code = exit::code_of(&error);
            printer.failure(code, &format!("{error:#}{advice}"));
            ExitCode::from(code)
        }
    }
}

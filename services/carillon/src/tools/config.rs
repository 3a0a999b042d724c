//! `carillon config check`: everything that can be known to be wrong before a service starts.

use std::process::ExitCode;

use carillon_broker::BrokerError;
use carillon_model::policy::Policy;
use clap::Subcommand;
use serde_json::json;

use super::{
    Ended, ToolArguments, block_on, examples, finish, load,
    printer::{BAD, GOOD, Printer, styled},
};
use crate::{broker, settings::Settings};
use carillon_chassis::settings::Request;

/// What to do with the settings.
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Checks settings and policy file, and with --connect Redis as well; tells all mistakes at once
    #[command(after_help = examples::CONFIG_CHECK)]
    Check {
        /// Look at Redis, too: is it there, new enough, of the right mode, does it keep what it is given?
        #[arg(long)]
        connect: bool,
        #[command(flatten)]
        tool: ToolArguments,
    },
}

pub(crate) fn config(command: &ConfigCommand) -> ExitCode {
    let ConfigCommand::Check { connect, tool } = command;
    let printer = Printer::new(tool.output);
    let mut report = Report::new(printer);
    let checked = match load("carillon config check", &tool.settings) {
        Ok(Request::Print(text)) => {
            return finish(super::printer::print(&text).map(|()| Ended::Well), printer);
        }
        Err(errors) => errors.0.iter().try_for_each(|problem| {
            report.mistake = true;
            report.tell("settings", None, Some(&problem.to_string()))
        }),
        Ok(Request::Run(loaded)) => {
            let file = loaded.file.as_ref().map(|file| file.display().to_string());
            let found = file.unwrap_or_else(|| "no file, environment and flags".to_owned());
            report.tell("settings", Some(&found), None).and_then(|()| {
                block_on(async {
                    report.policy(&loaded.settings)?;
                    if *connect {
                        report.redis(&loaded.settings).await?;
                    }
                    Ok(Ended::Well)
                })
                .map(drop)
            })
        }
    };
    finish(checked.map(|()| report.ended()), printer)
}

struct Report {
    printer: Printer,
    mistake: bool,
    failure: bool,
}

impl Report {
    fn new(printer: Printer) -> Self {
        Self {
            printer,
            mistake: false,
            failure: false,
        }
    }

    fn ended(&self) -> Ended {
        match (self.mistake, self.failure) {
            (true, _) => Ended::Mistaken,
            (false, true) => Ended::Badly,
            (false, false) => Ended::Well,
        }
    }

    fn tell(&self, check: &str, found: Option<&str>, problem: Option<&str>) -> anyhow::Result<()> {
        let object = json!({ "check": check, "ok": problem.is_none(), "found": found, "problem": problem });
        self.printer.item(&object, || match problem {
            None => format!("{}   {check}: {}", styled(GOOD, "ok"), found.unwrap_or_default()),
            Some(problem) => format!("{}  {check}: {problem}", styled(BAD, "bad")),
        })
    }

    fn policy(&mut self, settings: &Settings) -> anyhow::Result<()> {
        let Some(file) = &settings.policy.file else {
            return self.tell(
                "policy",
                Some("no file; the snapshot in Redis decides, or the defaults"),
                None,
            );
        };
        let problem = match std::fs::read_to_string(file) {
            Err(error) => vec![format!(
                "cannot read {}: {error}; is policy.file right?",
                file.display()
            )],
            Ok(text) => match Policy::parse_yaml(&text) {
                Ok(policy) => {
                    let found = format!("{}, revision {}", file.display(), policy.revision);
                    return self.tell("policy", Some(&found), None);
                }
                Err(errors) => super::policy::lines(file, &errors),
            },
        };
        self.mistake = true;
        problem
            .iter()
            .try_for_each(|problem| self.tell("policy", None, Some(problem)))
    }

    async fn redis(&mut self, settings: &Settings) -> anyhow::Result<()> {
        let findings = match broker::connect(settings) {
            Ok(redis) => redis.diagnose().await,
            Err(error) => Err(BrokerError::Misconfigured(format!("{error:#}"))),
        };
        match findings {
            Ok(findings) => {
                for finding in findings {
                    self.failure |= finding.problem.is_some();
                    let check = format!("redis {} {}", finding.place, finding.subject);
                    self.tell(&check, Some(&finding.found), finding.problem.as_deref())?;
                }
                Ok(())
            }
            Err(error) => {
                self.failure = true;
                let text = match error {
                    BrokerError::Misconfigured(text) => text,
                    other => format!("{other}; is redis.url right, and Redis running?"),
                };
                self.tell("redis", None, Some(&text))
            }
        }
    }
}

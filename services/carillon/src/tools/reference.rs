//! What the binary says about itself: completions for shells, manual pages, and the references of the documentation.

use std::{fmt::Write as _, path::PathBuf, process::ExitCode};

use anyhow::Context as _;
use clap::Command;

use super::{
    Ended,
    printer::{Output, Printer, print},
};
use crate::settings::Settings;

/// Where manual pages go, or for which shell completions are.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct ReferenceArguments {
    /// The folder to write to; it is made if it is not there
    folder: PathBuf,
}

/// All of these are texts, whoever reads them.
fn finish(ended: anyhow::Result<Ended>) -> ExitCode {
    super::finish(ended, Printer::new(Output::Text))
}

pub(crate) fn completions(shell: clap_complete::Shell, mut command: Command) -> ExitCode {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, "carillon", &mut script);
    finish(print(&String::from_utf8_lossy(&script)).map(|()| Ended::Well))
}

pub(crate) fn manual(arguments: &ReferenceArguments, command: Command) -> ExitCode {
    let folder = &arguments.folder;
    let written = std::fs::create_dir_all(folder)
        .and_then(|()| clap_mangen::generate_to(command, folder))
        .with_context(|| format!("cannot write manual pages to {}", folder.display()));
    finish(written.map(|()| Ended::Well))
}

pub(crate) fn settings() -> ExitCode {
    let reference = carillon_chassis::settings::reference::<Settings>();
    finish(print(&reference).map(|()| Ended::Well))
}

/// The definitions of the operator's kinds, as one stream of YAML documents.
pub(crate) fn definitions() -> ExitCode {
    let documents = carillon_operator::resources::manifests().context("cannot write the definitions");
    finish(documents.and_then(|documents| {
        let text: String = documents
            .iter()
            .map(|(_, document)| format!("---\n{document}"))
            .collect();
        print(&text).map(|()| Ended::Well)
    }))
}

pub(crate) fn commands(command: Command) -> ExitCode {
    finish(print(&reference(command)).map(|()| Ended::Well))
}

const INTRODUCTION: &str = "# The command line\n\n\
    One binary: the services, and the tools for people. Every command shows its help with `--help`, examples included; \
    this page is made of it (`make docs`), and a test runs every example.\n\n\
    What was asked for goes to standard output: text, or with `--output json` one JSON object a line. Everything else goes \
    to standard error, where a program that asked for JSON finds why a command failed: \
    `{ \"error\": …, \"exit_code\": 1 }`. Colours and progress appear on terminals only, and `NO_COLOR=1` takes the \
    colours away. Exit codes: \
    0 done, 1 failed, 64 bad usage, settings or policy.\n\n\
    The tools read the same [settings](settings.md) as the services, from the same places: `carillon.yaml`, \
    `CARILLON_REDIS__URL`, `--redis.url`.\n";

/// All commands with their help, in Markdown.
fn reference(mut command: Command) -> String {
    command.build();
    let mut out = INTRODUCTION.to_owned();
    describe(&mut out, &command, "");
    out
}

fn describe(out: &mut String, command: &Command, before: &str) {
    let name = format!("{before}{}", command.get_name());
    // Wide enough that nothing depends on the terminal of whoever made the page.
    let help = command
        .clone()
        .term_width(100)
        .bin_name(&name)
        .render_long_help()
        .to_string();
    let lines: Vec<&str> = help.lines().map(str::trim_end).collect();
    let _ = write!(
        out,
        "\n## {name}\n\n```text\n{}\n```\n",
        lines.join("\n").trim_end()
    );
    for below in command
        .get_subcommands()
        .filter(|below| below.get_name() != "help")
    {
        describe(out, below, &format!("{name} "));
    }
}

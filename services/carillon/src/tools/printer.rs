//! The one way out for what the tools print.
//!
//! What was asked for goes to standard output, as text for people or as one JSON object a line for programs; what a
//! person should know besides goes to standard error, and there a program finds why a tool failed. Colours are left out
//! where no terminal reads them or `NO_COLOR` is set. A reader that goes (`carillon tail | head`) ends the tool, and that is no failure.

use std::io::{self, Write as _};

use anstyle::{AnsiColor, Style};
use serde::Serialize;
use serde_json::json;

/// In which form it is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Output {
    /// For people
    #[default]
    Text,
    /// One JSON object a line, for programs
    Json,
}

/// Names of things.
pub(crate) const NAME: Style = AnsiColor::Cyan.on_default();
/// What matters less.
pub(crate) const FAINT: Style = Style::new().dimmed();
/// As it should be.
pub(crate) const GOOD: Style = AnsiColor::Green.on_default();
/// What needs attention.
pub(crate) const BAD: Style = AnsiColor::Red.on_default().bold();

/// A text in a style. Where nobody sees colours the printer takes them out again.
pub(crate) fn styled(style: Style, text: impl std::fmt::Display) -> String {
    format!("{style}{text}{style:#}")
}

/// Nobody reads any more.
#[derive(Debug, thiserror::Error)]
#[error("nobody reads the output any more")]
pub(crate) struct Unread;

/// Prints.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Printer {
    output: Output,
}

impl Printer {
    pub(crate) fn new(output: Output) -> Self {
        Self { output }
    }

    /// Whether programs read.
    pub(crate) fn is_json(self) -> bool {
        self.output == Output::Json
    }

    /// One thing: its object for programs, or what `text` makes of it for people.
    pub(crate) fn item(self, object: &impl Serialize, text: impl FnOnce() -> String) -> anyhow::Result<()> {
        let line = match self.output {
            Output::Json => serde_json::to_string(object)?,
            Output::Text => text(),
        };
        if line.is_empty() {
            return Ok(());
        }
        print(&(line + "\n"))
    }

    /// Why a tool ends with an exit code other than 0: on standard error, for programs as one object.
    pub(crate) fn failure(self, exit_code: u8, text: &str) {
        match self.output {
            Output::Json => tell(&json!({ "error": text, "exit_code": exit_code }).to_string()),
            Output::Text => tell(text),
        }
    }
}

/// Prints a text as it is.
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    let mut out = anstream::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(Unread.into()),
        Err(error) => Err(anyhow::Error::from(error).context("cannot write to standard output")),
    }
}

/// Tells the person in front of the terminal, who may have gone.
pub(crate) fn tell(text: &str) {
    let _ = writeln!(anstream::stderr().lock(), "{text}");
}

/// Columns under their titles.
pub(crate) fn row(widths: &[usize], cells: &[&str]) -> String {
    let mut line = String::new();
    for (place, cell) in cells.iter().enumerate() {
        let width = widths.get(place).copied().unwrap_or(0);
        let missing = width.saturating_sub(cell.chars().count());
        line.push_str(cell);
        if place + 1 < cells.len() {
            line.push_str(&" ".repeat(missing + 2));
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_under_each_other() {
        assert_eq!(row(&[4, 2], &["ab", "c", "d"]), "ab    c   d");
        assert_eq!(row(&[1], &["größer", "x"]), "größer  x");
    }

    #[test]
    fn programs_are_told_from_people() {
        assert!(Printer::new(Output::Json).is_json());
        assert!(!Printer::new(Output::default()).is_json());
    }
}

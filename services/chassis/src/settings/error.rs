//! Where a value came from, and what can be wrong with it.

use std::{fmt, path::PathBuf};

/// Where a setting's value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Nobody said anything.
    Default,
    /// The command has a default of its own, as `carillon dev` has.
    Command(&'static str),
    /// The settings file.
    File {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
    /// An environment variable.
    Environment(String),
    /// A flag, with its dashes.
    Flag(String),
}

impl fmt::Display for Source {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => formatter.write_str("default"),
            Self::Command(command) => write!(formatter, "default of {command}"),
            Self::File { path, line } => write!(formatter, "{}:{line}", path.display()),
            Self::Environment(name) => write!(formatter, "environment variable {name}"),
            Self::Flag(flag) => write!(formatter, "flag {flag}"),
        }
    }
}

/// One mistake in the settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingsProblem {
    /// The key it is about, if it is about one.
    pub key: Option<String>,
    /// Where it was written, if it was written.
    pub source: Option<Source>,
    /// What is wrong, and what would be right.
    pub what: String,
}

impl fmt::Display for SettingsProblem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.key, &self.source) {
            (Some(key), Some(source)) => write!(formatter, "{key} ({source}): {}", self.what),
            (Some(key), None) => write!(formatter, "{key}: {}", self.what),
            (None, Some(source)) => write!(formatter, "{source}: {}", self.what),
            (None, None) => formatter.write_str(&self.what),
        }
    }
}

/// Every mistake in the settings, one a line. A process that meets it exits with
/// [`exit::BAD_USAGE`](crate::run::exit::BAD_USAGE).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingsErrors(pub Vec<SettingsProblem>);

impl fmt::Display for SettingsErrors {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.0.len();
        write!(
            formatter,
            "{count} {} in the settings:",
            if count == 1 { "mistake" } else { "mistakes" }
        )?;
        for problem in &self.0 {
            write!(formatter, "\n  {problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for SettingsErrors {}

//! The tools' command lines: their own flags, and the settings' among them.
//!
//! Settings are flags with a dot, such as `--redis.url`. The settings read them, not the parser of the command line, so
//! they are moved behind a `--`, wherever they stand: `carillon rooms --redis.url redis://h lobby --output json` works.

use std::ffi::OsString;

use super::printer::Output;

/// What every tool takes.
#[derive(clap::Args, Clone, Debug, Default)]
pub(crate) struct ToolArguments {
    /// How it is printed
    #[arg(long, value_enum, default_value_t, value_name = "FORM")]
    pub(crate) output: Output,
    /// Settings as flags, such as `--redis.url redis://localhost`
    #[arg(last = true, hide = true)]
    pub(crate) settings: Vec<String>,
}

/// Commands that take their settings so. The services take nothing else, and read them themselves.
const TOOLS: [&str; 7] = ["push", "tail", "dlq", "rooms", "gateways", "config", "policy"];

/// Moves the settings' flags behind everything else.
pub(crate) fn settings_last(arguments: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = arguments.into_iter().collect();
    let is_tool = arguments
        .get(1)
        .and_then(|command| command.to_str())
        .is_some_and(|command| TOOLS.contains(&command));
    if !is_tool || arguments.iter().any(|argument| argument == "--") {
        return arguments;
    }
    let mut own = Vec::new();
    let mut settings = Vec::new();
    let mut rest = arguments.drain(..).peekable();
    while let Some(argument) = rest.next() {
        let Some(flag) = argument.to_str().filter(|text| is_setting(text)) else {
            own.push(argument);
            continue;
        };
        let attached = flag.contains('=');
        settings.push(argument);
        if !attached {
            settings.extend(rest.next_if(|next| !next.to_string_lossy().starts_with("--")));
        }
    }
    drop(rest);
    if !settings.is_empty() {
        own.push("--".into());
        own.extend(settings);
    }
    own
}

fn is_setting(argument: &str) -> bool {
    let Some(flag) = argument.strip_prefix("--") else {
        return false;
    };
    let name = flag.split('=').next().unwrap_or_default();
    let of_settings = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_.".contains(&byte);
    matches!(name, "config" | "print-settings")
        || (name.contains('.') && !name.starts_with('.') && name.bytes().all(of_settings))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moved(line: &str) -> String {
        let arguments = line.split(' ').map(OsString::from);
        let moved: Vec<String> = settings_last(arguments)
            .into_iter()
            .map(|argument| argument.into_string().unwrap())
            .collect();
        moved.join(" ")
    }

    #[test]
    fn settings_go_behind_everything_else() {
        for (line, expected) in [
            ("carillon rooms lobby", "carillon rooms lobby"),
            (
                "carillon rooms --redis.url redis://h lobby --output json",
                "carillon rooms lobby --output json -- --redis.url redis://h",
            ),
            (
                "carillon rooms --redis.url=redis://h --config f x",
                "carillon rooms x -- --redis.url=redis://h --config f",
            ),
            (
                "carillon gateway --redis.url redis://h",
                "carillon gateway --redis.url redis://h",
            ),
            ("carillon push --all -- --a.b", "carillon push --all -- --a.b"),
            ("carillon push --file a.b", "carillon push --file a.b"),
        ] {
            assert_eq!(moved(line), expected);
        }
    }
}

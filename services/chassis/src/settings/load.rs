//! Putting the sources together: defaults ← a command's defaults ← file ← environment ← flags.

use std::{collections::BTreeMap, path::PathBuf};

use super::{
    declare::{Preset, SectionInfo, Setting, Tree},
    environment,
    error::{SettingsErrors, SettingsProblem, Source},
    flags::Flags,
    report,
    suggest::nearest,
    value::{Raw, SettingValue},
    yaml,
};

pub(super) type Declared = BTreeMap<&'static str, Setting>;

/// The file that is read if nobody names one and it is there.
const DEFAULT_FILE: &str = "carillon.yaml";

/// A value somebody gave.
#[derive(Clone, Debug)]
pub(super) struct Given {
    pub(super) key: String,
    pub(super) raw: Raw,
    pub(super) source: Source,
}

/// Settings that were read, and where each came from.
#[derive(Clone, Debug)]
pub struct Loaded<T> {
    /// The settings.
    pub settings: T,
    /// The file they were read from, if there was one.
    pub file: Option<PathBuf>,
    pub(super) printed: String,
}

impl<T> Loaded<T> {
    /// Every setting with its value and where that came from, secrets masked: what `--print-settings` prints.
    pub fn print(&self) -> &str {
        &self.printed
    }
}

/// What the command line asks for.
#[derive(Clone, Debug)]
pub enum Request<T> {
    /// To run with these settings.
    Run(Box<Loaded<T>>),
    /// To print this (`--print-settings`, `--help`) and end.
    Print(String),
}

/// Reads the settings of a process from everything that may set them.
#[derive(Clone, Debug, Default)]
pub struct Loader {
    command: &'static str,
    presets: Vec<(&'static str, String)>,
    variables: Vec<(String, String)>,
    problems: Vec<SettingsProblem>,
    arguments: Vec<String>,
    directory: PathBuf,
}

impl Loader {
    /// A loader that reads nothing yet. `command` is how a person calls the process, such as `carillon gateway`.
    pub fn new(command: &'static str) -> Self {
        Self {
            command,
            ..Self::default()
        }
    }

    /// A default that holds for this command only; anyone who sets the key overrules it.
    #[must_use]
    pub fn preset(mut self, key: &'static str, value: impl Into<String>) -> Self {
        self.presets.push((key, value.into()));
        self
    }

    /// Takes these environment variables.
    #[must_use]
    pub fn variables(mut self, variables: impl IntoIterator<Item = (String, String)>) -> Self {
        self.variables.extend(variables);
        self
    }

    /// Takes the environment of this process. A variable of ours that is not UTF-8 is a mistake.
    #[must_use]
    pub fn environment(mut self) -> Self {
        for (name, value) in std::env::vars_os() {
            match (name.into_string(), value.into_string()) {
                (Ok(name), Ok(value)) => self.variables.push((name, value)),
                (Ok(name), Err(_)) if name.starts_with("CARILLON_") => self.problems.push(SettingsProblem {
                    key: None,
                    source: Some(Source::Environment(name)),
                    what: "is not UTF-8".to_owned(),
                }),
                _ => {}
            }
        }
        self.variables.sort();
        self
    }

    /// Takes these flags: what stands behind the command's name.
    #[must_use]
    pub fn arguments(mut self, arguments: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// Looks for `carillon.yaml` in this directory instead of the current one.
    #[must_use]
    pub fn directory(mut self, directory: impl Into<PathBuf>) -> Self {
        self.directory = directory.into();
        self
    }

    /// Reads everything; all mistakes of all sources are told at once.
    pub fn load<T: Tree>(self) -> Result<Request<T>, SettingsErrors> {
        let sections = T::sections();
        let mut problems = self.problems.clone();
        let declared = declared(&sections, &mut problems);
        let flags = Flags::read(&self.arguments, &declared);
        if flags.help {
            return Ok(Request::Print(report::help(self.command, &sections)));
        }

        let mut chosen: BTreeMap<&'static str, (Raw, Source)> = BTreeMap::new();
        for setting in declared.values() {
            let raw = match &setting.preset {
                Preset::Text(value) | Preset::Computed { value, .. } => Raw::Text(value.clone()),
                Preset::Nothing => Raw::Nothing,
                Preset::Required => continue,
            };
            chosen.insert(setting.key, (raw, Source::Default));
        }
        for (key, value) in &self.presets {
            if declared.contains_key(key) {
                chosen.insert(key, (Raw::Text(value.clone()), Source::Command(self.command)));
            } else {
                problems.push(unknown_key(key, Source::Command(self.command), &declared));
            }
        }

        let (file, from_file) = self.read_file(&flags, &mut problems);
        let from_file = check_keys(from_file, &declared, &mut problems);
        let (from_environment, mistakes) = environment::read(&self.variables, &declared);
        problems.extend(mistakes);
        problems.extend(flags.problems);
        for given in from_file.into_iter().chain(from_environment).chain(flags.given) {
            if let Some(setting) = declared.get(given.key.as_str()) {
                chosen.insert(setting.key, (given.raw, given.source));
            }
        }

        let mut reader = Reader {
            declared: &declared,
            chosen: &chosen,
            problems,
        };
        let settings = T::read(&mut reader);
        match settings {
            Some(settings) if reader.problems.is_empty() => {
                let printed = report::print(&sections, &chosen);
                if flags.print_settings {
                    return Ok(Request::Print(printed));
                }
                Ok(Request::Run(Box::new(Loaded {
                    settings,
                    file,
                    printed,
                })))
            }
            _ => Err(SettingsErrors(reader.problems)),
        }
    }

    fn read_file(&self, flags: &Flags, problems: &mut Vec<SettingsProblem>) -> (Option<PathBuf>, Vec<Given>) {
        let by_variable = self
            .variables
            .iter()
            .find(|(name, value)| name == environment::CONFIG && !value.is_empty())
            .map(|(name, value)| (value.clone(), Source::Environment(name.clone())));
        let by_flag = flags
            .config
            .clone()
            .map(|path| (path, Source::Flag("--config".to_owned())));
        let (path, named_by) = match by_flag.or(by_variable) {
            Some((path, source)) => (PathBuf::from(path), Some(source)),
            None => (self.directory.join(DEFAULT_FILE), None),
        };
        if named_by.is_none() && !path.exists() {
            return (None, Vec::new());
        }
        match std::fs::read_to_string(&path) {
            Ok(text) => {
                let (given, mistakes) = yaml::read(&path, &text);
                problems.extend(mistakes);
                (Some(path), given)
            }
            Err(error) => {
                let what = format!("cannot read {}: {error}", path.display());
                problems.push(SettingsProblem {
                    key: None,
                    source: named_by,
                    what,
                });
                (None, Vec::new())
            }
        }
    }
}

/// The declared settings by key. A declaration that cannot work is told like any other mistake, so that any test that
/// loads the tree finds it.
fn declared(sections: &[SectionInfo], problems: &mut Vec<SettingsProblem>) -> Declared {
    let mut declared = Declared::new();
    for setting in sections.iter().flat_map(|section| &section.settings) {
        let well_formed = setting.key.split('.').all(|part| {
            !part.is_empty()
                && !part.starts_with('_')
                && !part.ends_with('_')
                && !part.contains("__")
                && part
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
        });
        let twice = declared.insert(setting.key, setting.clone()).is_some();
        if twice || !well_formed {
            problems.push(SettingsProblem {
                key: Some(setting.key.to_owned()),
                source: None,
                what: "is declared twice or is not made of lower-case words".to_owned(),
            });
        }
    }
    declared
}

/// Leaves out the keys that nobody declared, and tells of them.
fn check_keys(given: Vec<Given>, declared: &Declared, problems: &mut Vec<SettingsProblem>) -> Vec<Given> {
    let mut known = Vec::new();
    for given in given {
        if declared.contains_key(given.key.as_str()) {
            known.push(given);
            continue;
        }
        let inside = format!("{}.", given.key);
        let first_inside = declared.keys().find(|key| key.starts_with(&inside));
        let parent = declared
            .keys()
            .find(|key| given.key.starts_with(&format!("{key}.")));
        let what = match (first_inside, parent) {
            // `redis:` with nothing below it sets nothing.
            (Some(_), _) if given.raw == Raw::Nothing => continue,
            (Some(first), _) => format!("is a group of settings, such as {first}, not a value"),
            (None, Some(parent)) => format!("is not known; {parent} is one value, without parts"),
            (None, None) => {
                problems.push(unknown_key(&given.key, given.source, declared));
                continue;
            }
        };
        problems.push(SettingsProblem {
            key: Some(given.key),
            source: Some(given.source),
            what,
        });
    }
    known
}

fn unknown_key(key: &str, source: Source, declared: &Declared) -> SettingsProblem {
    let what = match nearest(key, declared.keys().copied()) {
        Some(known) => format!("is not known; did you mean {known}?"),
        None => "is not known; `--print-settings` lists all".to_owned(),
    };
    SettingsProblem {
        key: Some(key.to_owned()),
        source: Some(source),
        what,
    }
}

/// What sections are read from. It notes every mistake.
#[derive(Debug)]
pub struct Reader<'a> {
    declared: &'a Declared,
    chosen: &'a BTreeMap<&'static str, (Raw, Source)>,
    problems: Vec<SettingsProblem>,
}

impl Reader<'_> {
    /// The value of a declared key; a mistake is noted, and `None`.
    pub fn value<T: SettingValue>(&mut self, key: &str) -> Option<T> {
        let setting = self.declared.get(key)?;
        let Some((raw, source)) = self.chosen.get(key) else {
            let what = format!(
                "must be set (in the file, as {}, or as --{key}): {}",
                setting.environment_variable(),
                setting.expects
            );
            self.problems.push(SettingsProblem {
                key: Some(key.to_owned()),
                source: None,
                what,
            });
            return None;
        };
        let value = T::parse(raw).and_then(|value| within(value, setting.range.as_ref()));
        value
            .map_err(|why| {
                let what = match raw {
                    Raw::Text(text) if !setting.secret => format!("`{text}`: {why}"),
                    _ => why,
                };
                let source = Some(source.clone());
                self.problems.push(SettingsProblem {
                    key: Some(key.to_owned()),
                    source,
                    what,
                });
            })
            .ok()
    }

    /// Notes a mistake that only a section's check sees, such as two settings that exclude each other.
    pub fn problem(&mut self, key: &str, what: impl Into<String>) {
        let source = self.chosen.get(key).map(|(_, source)| source.clone());
        self.problems.push(SettingsProblem {
            key: Some(key.to_owned()),
            source,
            what: what.into(),
        });
    }
}

fn within<T: SettingValue>(value: T, range: Option<&(String, String)>) -> Result<T, String> {
    let Some((least, greatest)) = range else {
        return Ok(value);
    };
    let bound = |text: &str| {
        T::parse_text(text).map_err(|why| format!("the declared range is wrong: `{text}`: {why}"))
    };
    let too_small = value.order(&bound(least)?).is_some_and(std::cmp::Ordering::is_lt);
    let too_great = value
        .order(&bound(greatest)?)
        .is_some_and(std::cmp::Ordering::is_gt);
    if too_small || too_great {
        return Err(format!("must be from {least} to {greatest}"));
    }
    Ok(value)
}

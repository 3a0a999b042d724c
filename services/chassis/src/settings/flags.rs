//! Settings from flags: `--redis.url redis://host` or `--redis.url=redis://host`; a switch may stand alone. Besides
//! the settings there are `--config FILE`, `--print-settings` and `--help`.

use super::{
    error::{SettingsProblem, Source},
    load::{Declared, Given},
    suggest::nearest,
    value::Raw,
};

/// What the flags say.
#[derive(Debug, Default)]
pub(super) struct Flags {
    pub(super) given: Vec<Given>,
    pub(super) problems: Vec<SettingsProblem>,
    pub(super) config: Option<String>,
    pub(super) print_settings: bool,
    pub(super) help: bool,
}

impl Flags {
    pub(super) fn read(arguments: &[String], declared: &Declared) -> Self {
        let mut flags = Self::default();
        let mut rest = arguments.iter().peekable();
        while let Some(argument) = rest.next() {
            let Some(flag) = argument.strip_prefix("--").filter(|flag| !flag.is_empty()) else {
                if argument == "-h" {
                    flags.help = true;
                } else {
                    flags.problem(
                        None,
                        format!("`{argument}` is not a flag; flags look like `--redis.url`"),
                    );
                }
                continue;
            };
            let (name, attached) = match flag.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (flag, None),
            };
            match name {
                "help" => flags.help = true,
                "print-settings" => flags.print_settings = true,
                _ => {
                    let value = attached.or_else(|| rest.next_if(|next| !next.starts_with("--")).cloned());
                    flags.flag(name, value, declared);
                }
            }
        }
        flags
    }

    fn problem(&mut self, flag: Option<&str>, what: String) {
        let source = flag.map(|flag| Source::Flag(format!("--{flag}")));
        self.problems.push(SettingsProblem {
            key: None,
            source,
            what,
        });
    }

    fn flag(&mut self, name: &str, value: Option<String>, declared: &Declared) {
        if name == "config" {
            match value {
                Some(path) => self.config = Some(path),
                None => self.problem(Some(name), "needs a path".to_owned()),
            }
            return;
        }
        let Some(setting) = declared.get(name) else {
            let known = declared
                .keys()
                .copied()
                .chain(["config", "print-settings", "help"]);
            let what = match nearest(name, known) {
                Some(known) => format!("is not known; did you mean --{known}?"),
                None => "is not known; `--help` lists all".to_owned(),
            };
            self.problem(Some(name), what);
            return;
        };
        let value = match value {
            Some(value) => value,
            None if setting.switch => "true".to_owned(),
            None => {
                self.problem(Some(name), format!("needs a value: {}", setting.expects));
                return;
            }
        };
        match self.given.iter_mut().find(|given| given.key == name) {
            Some(Given {
                raw: Raw::Text(before),
                ..
            }) if setting.list => {
                before.push(',');
                before.push_str(&value);
            }
            Some(_) => self.problem(Some(name), "is given twice".to_owned()),
            None => self.given.push(Given {
                key: name.to_owned(),
                raw: Raw::Text(value),
                source: Source::Flag(format!("--{name}")),
            }),
        }
    }
}

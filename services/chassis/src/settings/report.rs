//! The settings as people read them: with their sources, as help, and as the reference in the documentation.

use std::{collections::BTreeMap, fmt::Write as _};

use super::{
    declare::{Preset, SectionInfo, Setting, Tree},
    error::Source,
    value::Raw,
};

/// One line per setting: `key = value  # source`, in the order of declaration.
pub(super) fn print(sections: &[SectionInfo], chosen: &BTreeMap<&'static str, (Raw, Source)>) -> String {
    let lines: Vec<(String, String)> = sections
        .iter()
        .flat_map(|section| &section.settings)
        .filter_map(|setting| {
            let (raw, source) = chosen.get(setting.key)?;
            Some((
                format!("{} = {}", setting.key, (setting.show)(raw)),
                source.to_string(),
            ))
        })
        .collect();
    let width = lines
        .iter()
        .map(|(value, _)| value.chars().count())
        .max()
        .unwrap_or(0)
        .min(60);
    lines.iter().fold(String::new(), |mut out, (value, source)| {
        let _ = writeln!(out, "{value:<width$}  # {source}");
        out
    })
}

fn preset_of(setting: &Setting) -> String {
    match &setting.preset {
        Preset::Text(text) => format!("`{}`", (setting.show)(&Raw::Text(text.clone()))),
        Preset::Computed { described, .. } => (*described).to_owned(),
        Preset::Nothing => "none".to_owned(),
        Preset::Required => "must be set".to_owned(),
    }
}

fn expects_of(setting: &Setting) -> String {
    match &setting.range {
        Some((least, greatest)) => format!("{}, from {least} to {greatest}", setting.expects),
        None => setting.expects.clone(),
    }
}

/// What `--help` prints.
pub(super) fn help(command: &str, sections: &[SectionInfo]) -> String {
    let mut out = format!(
        "Usage: {command} [--config FILE] [--print-settings] [--KEY VALUE]…\n\n\
         Settings come from defaults, then the file (carillon.yaml, CARILLON_CONFIG or --config),\n\
         then the environment (CARILLON_SECTION__KEY), then flags (--section.key VALUE).\n"
    );
    for section in sections {
        let _ = writeln!(out, "\n{}", section.doc);
        for setting in &section.settings {
            let _ = writeln!(
                out,
                "  --{}  [default: {}]",
                setting.key,
                preset_of(setting).replace('`', "")
            );
            let _ = writeln!(out, "      {}", setting.doc);
        }
    }
    out
}

/// The reference of all settings of a tree, in Markdown.
pub fn reference<T: Tree>() -> String {
    let mut out = String::from(
        "# Settings\n\n\
         Settings are read once, at start: defaults ← file (YAML: `--config FILE`, `CARILLON_CONFIG`, or `carillon.yaml` \
         in the current directory) ← environment ← flags. The key `gateway.drain.timeout` is `CARILLON_GATEWAY__DRAIN__TIMEOUT` \
         in the environment and `--gateway.drain.timeout 30s` as a flag. An unknown key is a mistake, and all mistakes are told \
         at once; the process then exits with 64. `--print-settings` shows what each value is and where it came from.\n",
    );
    for section in T::sections() {
        let _ = write!(out, "\n## {}\n\n{}\n", section.name, section.doc);
        out.push_str("\n| key | default | what |\n|---|---|---|\n");
        for setting in &section.settings {
            let secret = if setting.secret { " Hidden when shown." } else { "" };
            let _ = writeln!(
                out,
                "| `{}` | {} | {} Expects {}.{secret} |",
                setting.key,
                cell(&preset_of(setting)),
                cell(&setting.doc),
                cell(&expects_of(setting)),
            );
        }
    }
    out
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

//! Settings: what an operator of Carillon can turn, read once at start.
//!
//! Every crate that can be set declares a *section* next to the code it sets, with
//! [`settings_section!`](crate::settings_section): one line per setting, with key, type, default, range and a sentence
//! about it. The binary joins the sections to one *tree* with [`settings_tree!`](crate::settings_tree). From that one
//! description come the typed structs, the parsing, `--help`, `--print-settings` and the reference in the
//! documentation ([`reference()`]), so none of them can go stale.
//!
//! Four sources, the later ones winning: the defaults in the declaration (which a command may move, as `carillon dev`
//! does, by [`Loader::preset`]), the YAML file, the environment, the flags.
//!
//! Two rules make mistakes cheap. A key that nobody declared is refused in every source, with the nearest one that
//! exists: a setting that is silently ignored is found in production. And all mistakes are told at once, each with its
//! key and its place, because fixing a deployment one restart at a time is no fun.
//!
//! Values that must stay secret have the types [`Secret`] and [`SecretUrl`], which mask themselves in every output.

mod declare;
mod environment;
mod error;
mod flags;
mod load;
mod report;
mod secret;
mod sections;
mod suggest;
#[cfg(test)]
mod tests;
mod value;
mod words;
mod yaml;

pub use declare::{IntoPreset, Preset, Section, SectionInfo, Setting, Tree, join_doc};
pub use error::{SettingsErrors, SettingsProblem, Source};
pub use load::{Loaded, Loader, Reader, Request};
pub use report::reference;
pub use secret::{MASK, Secret, SecretUrl};
pub use sections::{AdminSettings, LogFormat, LogLevel, LogSettings, PolicySettings, TelemetrySettings};
pub use value::{Raw, SettingValue};

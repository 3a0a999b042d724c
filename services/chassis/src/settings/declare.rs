//! How a crate says which settings it has: [`settings_section!`](crate::settings_section) and
//! [`settings_tree!`](crate::settings_tree), and what they make.

use super::{
    load::Reader,
    value::{Raw, SettingValue},
};

/// What a setting is if nobody sets it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Preset {
    /// This text, read as any other.
    Text(String),
    /// A value found out at start, such as the host's name.
    Computed {
        /// How it is found, for the reference.
        described: &'static str,
        /// What was found here.
        value: String,
    },
    /// No value.
    Nothing,
    /// Somebody must set it.
    Required,
}

impl Preset {
    /// A default found out at start; the reference shows how, not what.
    pub fn computed(described: &'static str, find: impl FnOnce() -> String) -> Self {
        Self::Computed {
            described,
            value: find(),
        }
    }
}

/// What may stand behind the `=` of a declared setting.
pub trait IntoPreset {
    /// The preset it stands for.
    fn into_preset(self) -> Preset;
}

impl IntoPreset for Preset {
    fn into_preset(self) -> Preset {
        self
    }
}

macro_rules! preset_by_its_text {
    ($($type:ty),*) => {$(
        impl IntoPreset for $type {
            fn into_preset(self) -> Preset {
                Preset::Text(self.to_string())
            }
        }
    )*};
}

preset_by_its_text!(&str, String, bool, i32, u64, f64);

/// One declared setting. Made by [`settings_section!`](crate::settings_section).
#[derive(Clone, Debug)]
pub struct Setting {
    /// The full key, such as `gateway.drain.timeout`.
    pub key: &'static str,
    /// What it does, in a sentence or two.
    pub doc: String,
    /// What it is if nobody sets it.
    pub preset: Preset,
    /// The least and greatest value, as text.
    pub range: Option<(String, String)>,
    /// What may stand there.
    pub expects: String,
    /// Whether it is hidden when shown.
    pub secret: bool,
    pub(super) list: bool,
    pub(super) switch: bool,
    pub(super) show: fn(&Raw) -> String,
}

impl Setting {
    /// A setting of type `T`. Lines of documentation as the compiler gives them.
    pub fn declare<T: SettingValue>(
        key: &'static str,
        doc: &[&str],
        preset: Option<Preset>,
        range: Option<(String, String)>,
    ) -> Self {
        let nothing = if T::is_optional() || T::is_list() {
            Preset::Nothing
        } else {
            Preset::Required
        };
        Self {
            key,
            doc: join_doc(doc),
            preset: preset.unwrap_or(nothing),
            range,
            expects: T::expects(),
            secret: T::is_secret(),
            list: T::is_list(),
            switch: T::is_switch(),
            show: T::show,
        }
    }

    /// The environment variable of this setting: `CARILLON_GATEWAY__DRAIN__TIMEOUT`.
    pub fn environment_variable(&self) -> String {
        super::environment::variable_of(self.key)
    }
}

/// Joins the lines of a doc comment to one paragraph.
pub fn join_doc(lines: &[&str]) -> String {
    lines
        .iter()
        .map(|line| line.trim())
        .collect::<Vec<_>>()
        .join(" ")
        .trim()
        .to_owned()
}

/// A group of settings under one name, declared with [`settings_section!`](crate::settings_section).
pub trait Section: Sized {
    /// The first part of all its keys.
    const NAME: &'static str;

    /// What it is about.
    fn doc() -> String;

    /// Its settings, in the order of declaration.
    fn settings() -> Vec<Setting>;

    /// Reads it; `None` if any of its values is wrong, which the reader has then noted.
    fn read(reader: &mut Reader<'_>) -> Option<Self>;
}

/// A section as the reference shows it.
#[derive(Clone, Debug)]
pub struct SectionInfo {
    /// The first part of its keys.
    pub name: &'static str,
    /// What it is about.
    pub doc: String,
    /// Its settings.
    pub settings: Vec<Setting>,
}

/// All sections of a process, declared with [`settings_tree!`](crate::settings_tree).
pub trait Tree: Sized {
    /// The sections, in the order of declaration.
    fn sections() -> Vec<SectionInfo>;

    /// Reads all of them, so that every mistake is noted, and gives the tree if there is none.
    fn read(reader: &mut Reader<'_>) -> Option<Self>;
}

/// Declares a section: a struct, and for every field its key, type, default, range and documentation.
///
/// ```
/// use std::{net::SocketAddr, time::Duration};
/// use carillon_chassis::{settings::{Preset, Reader, Secret}, settings_section};
///
/// settings_section! {
///     /// Where bells hang and how long they ring.
///     pub struct BellSettings in "bell", check = check_bell {
///         /// Where ringers connect. Port 0 takes a free one.
///         "listen" => listen: SocketAddr = "0.0.0.0:4000";
///         /// How long a bell rings.
///         "ring.time" => ring_time: Duration = "3s", range "100ms"..="1m";
///         /// Bells at most.
///         "limit" => limit: u32 = 8, range 1..=100;
///         /// The tower's name.
///         "tower" => tower: String = Preset::computed("the host's name", || "belfry".to_owned());
///         /// What the ringer must know. Without it anyone may ring.
///         "password" => password: Option<Secret>;
///         /// Who may ring at night.
///         "night_ringers" => night_ringers: Vec<String>;
///     }
/// }
///
/// /// What one value alone cannot show. Optional, as is `, check = …` above.
/// fn check_bell(bell: &BellSettings, reader: &mut Reader<'_>) {
///     if !bell.night_ringers.is_empty() && bell.password.is_none() {
///         reader.problem("bell.password", "must be set if bell.night_ringers is");
///     }
/// }
/// ```
///
/// The keys become `bell.listen`, `bell.ring.time`, …: in YAML, as `--bell.ring.time 5s`, and as
/// `CARILLON_BELL__RING__TIME`. They are lower-case words joined by single underscores, in parts joined by dots. A field
/// without default must be set, unless it is an `Option` or a `Vec`. Defaults and ranges are written as a person would
/// write the value, in quotes; plain numbers and `true` need none.
#[macro_export]
macro_rules! settings_section {
    (
        $(#[doc = $section_doc:literal])*
        $visibility:vis struct $name:ident in $section:literal $(, check = $check:path)? {
            $(
                $(#[doc = $doc:literal])*
                $key:literal => $field:ident : $type:ty
                    $(= $preset:expr)? $(, range $least:literal ..= $greatest:literal)? ;
            )*
        }
    ) => {
        $(#[doc = $section_doc])*
        #[derive(Clone, Debug)]
        $visibility struct $name {
            $($(#[doc = $doc])* pub $field: $type,)*
        }

        impl $crate::settings::Section for $name {
            const NAME: &'static str = $section;

            fn doc() -> String {
                $crate::settings::join_doc(&[$($section_doc),*])
            }

            fn settings() -> Vec<$crate::settings::Setting> {
                vec![$({
                    let preset: Option<$crate::settings::Preset> = None;
                    $(let preset = preset.or(Some($crate::settings::IntoPreset::into_preset($preset)));)?
                    let range: Option<(String, String)> = None;
                    $(let range = range.or(Some(($least.to_string(), $greatest.to_string())));)?
                    $crate::settings::Setting::declare::<$type>(
                        concat!($section, ".", $key), &[$($doc),*], preset, range,
                    )
                }),*]
            }

            fn read(reader: &mut $crate::settings::Reader<'_>) -> Option<Self> {
                $(let $field = reader.value::<$type>(concat!($section, ".", $key));)*
                let section = Self { $($field: $field?),* };
                $($check(&section, reader);)?
                Some(section)
            }
        }
    };
}

/// Declares the tree of a process: a struct whose fields are sections.
///
/// ```
/// use carillon_chassis::{settings::{AdminSettings, LogSettings}, settings_tree};
///
/// settings_tree! {
///     /// All that can be set.
///     pub struct Settings {
///         log: LogSettings,
///         admin: AdminSettings,
///     }
/// }
/// ```
///
/// The tree is an `AsRef` of each of its sections, which is how [`run`](crate::run) finds its own.
///
/// There is one tree for all commands of a binary, so that they can share a file: a key that none of its sections
/// declares is a mistake.
#[macro_export]
macro_rules! settings_tree {
    (
        $(#[$attribute:meta])*
        $visibility:vis struct $name:ident { $($field:ident : $section:ty),* $(,)? }
    ) => {
        $(#[$attribute])*
        #[derive(Clone, Debug)]
        $visibility struct $name {
            $(
                #[doc = concat!("The settings under `", stringify!($field), "`.")]
                pub $field: $section,
            )*
        }

        $(
            impl AsRef<$section> for $name {
                fn as_ref(&self) -> &$section {
                    &self.$field
                }
            }
        )*

        impl $crate::settings::Tree for $name {
            fn sections() -> Vec<$crate::settings::SectionInfo> {
                vec![$($crate::settings::SectionInfo {
                    name: <$section as $crate::settings::Section>::NAME,
                    doc: <$section as $crate::settings::Section>::doc(),
                    settings: <$section as $crate::settings::Section>::settings(),
                }),*]
            }

            fn read(reader: &mut $crate::settings::Reader<'_>) -> Option<Self> {
                $(let $field = <$section as $crate::settings::Section>::read(reader);)*
                Some(Self { $($field: $field?),* })
            }
        }
    };
}

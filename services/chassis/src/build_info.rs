//! What this binary was built from.

use std::fmt;

/// Version, revision and compiler of a binary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BuildInfo {
    /// The version of the workspace.
    pub version: &'static str,
    /// The git revision; `development` in an unoptimised build, `unknown` where there was no git.
    pub revision: &'static str,
    /// The compiler, as it names itself.
    pub rustc: &'static str,
}

/// What this binary was built from.
pub const BUILD: BuildInfo = BuildInfo {
    version: env!("CARGO_PKG_VERSION"),
    revision: env!("CARILLON_BUILD_REVISION"),
    rustc: env!("CARILLON_BUILD_RUSTC"),
};

impl fmt::Display for BuildInfo {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} ({}, {})", self.version, self.revision, self.rustc)
    }
}

//! Carillon chassis.

pub mod settings;
/// Running.
pub mod run {
    /// Exit codes.
    pub mod exit {
        /// Bad usage.
        pub const BAD_USAGE: u8 = 64;
    }
}

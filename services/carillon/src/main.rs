//! Carillon: one binary, one subcommand per service.

mod broker;
mod cli;
mod memory;
mod namespace;
mod policy;
mod services;
mod settings;
mod tools;

use std::process::ExitCode;

/// glibc keeps freed memory: a gateway that lost 8,000 sessions would look as if it leaked.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    cli::run()
}

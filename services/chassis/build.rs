//! Finds out what is being built: the git revision and the compiler.

use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=CARILLON_REVISION");
    println!("cargo:rustc-env=CARILLON_BUILD_REVISION={}", revision());
    let compiler = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    let rustc = output(&compiler, &["--version"]).unwrap_or_else(|| "unknown".to_owned());
    println!("cargo:rustc-env=CARILLON_BUILD_RUSTC={rustc}");
}

/// The revision that the image's build names, else that of git. A development build does not look: it would be
/// compiled anew, and everything above it, at every commit.
fn revision() -> String {
    if let Ok(named) = std::env::var("CARILLON_REVISION")
        && !named.is_empty()
    {
        return named;
    }
    if std::env::var("PROFILE").as_deref() != Ok("release") {
        return "development".to_owned();
    }
    if let Some(directory) = output("git", &["rev-parse", "--absolute-git-dir"]) {
        println!("cargo:rerun-if-changed={directory}/HEAD");
        println!("cargo:rerun-if-changed={directory}/logs/HEAD");
    }
    output("git", &["rev-parse", "--short=12", "HEAD"]).unwrap_or_else(|| "unknown".to_owned())
}

fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && !text.is_empty()).then_some(text)
}

//! What libFuzzer drives: the target that `FUZZ_TARGET` names, so that one program is built for all of them. Without a
//! name it prints them.

#![no_main]
#![allow(unsafe_code)] // libFuzzer calls its entries by name, which Rust calls unsafe
#![allow(clippy::expect_used)] // whoever runs it has to say what
#![allow(clippy::print_stdout)] // the list is for the script

use std::sync::LazyLock;

use carillon_fuzz::{TARGETS, Target, target};

static CHOSEN: LazyLock<Target> = LazyLock::new(|| {
    let name = std::env::var("FUZZ_TARGET").unwrap_or_default();
    if name.is_empty() {
        TARGETS.iter().for_each(|(name, _)| println!("{name}"));
        std::process::exit(0);
    }
    target(&name).expect("FUZZ_TARGET names no target; without it they are listed")
});

libfuzzer_sys::fuzz_target!(
    init: { LazyLock::force(&CHOSEN); },
    |bytes: &[u8]| CHOSEN(bytes)
);

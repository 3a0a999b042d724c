//! Replays one schedule, or runs many of one mix.
//!
//! ```text
//! carillon-simulator all 4711                     one schedule with its trace
//! carillon-simulator all 0..2000                  many
//! carillon-simulator all 0..2000 UnfencedTrim     many, with a rule broken
//! carillon-simulator LostFrame 7 broken           a directed scenario, with the rule broken that it shows to be needed
//! ```

#![allow(clippy::print_stdout, clippy::print_stderr)] // a command line tool

use std::{ops::Range, process::ExitCode};

use carillon_simulator::{Mix, Mutation, Scenario, Verdict, mix::MIXES, run, run_directed};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match ask(&arguments) {
        Ok(broken) => ExitCode::from(u8::from(broken)),
        Err(usage) => {
            eprintln!(
                "{usage}\nusage: carillon-simulator MIX SEED|FROM..TO [MUTATION]\n       carillon-simulator SCENARIO SEED [broken]"
            );
            ExitCode::from(64)
        }
    }
}

fn ask(arguments: &[String]) -> Result<bool, String> {
    let name = arguments.first().ok_or("which mix?")?;
    if let Some(scenario) = Scenario::named(name) {
        return directed(scenario, &arguments[1..]);
    }
    let known: Vec<&str> = MIXES.iter().map(|mix| mix.name).collect();
    let mix = *Mix::named(name).ok_or_else(|| format!("no mix `{name}`; there are {}", known.join(", ")))?;
    let seeds = arguments.get(1).ok_or("which seed?")?;
    let mutation: Option<Mutation> = arguments.get(2).map(|name| name.parse()).transpose()?;
    match seeds.split_once("..") {
        None => {
            let seed = seeds.parse().map_err(|_| format!("`{seeds}` is no seed"))?;
            Ok(show(&run(mix, seed, mutation, true)))
        }
        Some((from, to)) => {
            let number = |text: &str| text.parse::<u64>().map_err(|_| format!("`{text}` is no seed"));
            Ok(many(mix, number(from)?..number(to)?, mutation))
        }
    }
}

fn directed(scenario: Scenario, arguments: &[String]) -> Result<bool, String> {
    let seed = arguments.first().ok_or("which seed?")?;
    let seed = seed.parse().map_err(|_| format!("`{seed}` is no seed"))?;
    let mutation = match arguments.get(1).map(String::as_str) {
        None => None,
        Some("broken") => Some(scenario.mutation()),
        Some(other) => return Err(format!("`{other}`? `broken` breaks the scenario's rule")),
    };
    Ok(show(&run_directed(scenario, seed, mutation, true)))
}

/// Prints a schedule; whether it broke a promise.
fn show(verdict: &Verdict) -> bool {
    for line in &verdict.trace {
        println!("{line}");
    }
    println!("{:#?}", verdict.violations);
    !verdict.violations.is_empty()
}

fn many(mix: Mix, seeds: Range<u64>, mutation: Option<Mutation>) -> bool {
    let (mut broken, mut trues, mut falses, mut needless, mut accepted) = (0_u64, 0, 0, 0, 0);
    for seed in seeds.clone() {
        let verdict = run(mix, seed, mutation, false);
        trues += verdict.trues;
        falses += verdict.falses;
        needless += verdict.needless;
        accepted += verdict.accepted;
        if let Some(first) = verdict.violations.first() {
            broken += 1;
            println!("seed {seed}: {}: {}", first.promise, first.detail);
        }
    }
    let count = seeds.end.saturating_sub(seeds.start);
    println!(
        "{}: {count} schedules, {broken} broken, {accepted} messages, {trues} complete, {falses} gaps told, {needless} of them needlessly",
        mix.name
    );
    broken > 0
}

//! Runs many seeds of the simulation and prints the figures that `docs/reliability.md` shows.
//!
//! `cargo run --release -p aquifer-store --example sim -- --seeds 100000 [--from N] [--every K --offset I] [--log FILE]`
//!
//! With `--every K --offset I` one of K processes runs its share. With `--log` each thousand seeds leaves a line in the file, and
//! a run that is started again goes on behind the last one. It ends with 1 when a seed fails, after printing the failure made
//! small.
#[path = "../tests/sim/simulation/mod.rs"]
#[allow(dead_code, reason = "tests use more of it")]
mod simulation;

use std::collections::BTreeMap;
use std::io::Write;
use std::process::ExitCode;

use aquifer_testkit::FaultKind;

use simulation::case::Case;
use simulation::shrink::{check, report, shrink};

const SHRINK_RUNS_MAX: usize = 2000;
const LOGGED: u64 = 1000;

struct Arguments {
    from: u64,
    seeds: u64,
    every: u64,
    offset: u64,
    log: Option<String>,
}

fn arguments() -> Result<Arguments, String> {
    let mut parsed = Arguments {
        from: 0,
        seeds: 1000,
        every: 1,
        offset: 0,
        log: None,
    };
    let mut given = std::env::args().skip(1);
    while let Some(name) = given.next() {
        let value = given.next().ok_or(format!("{name} needs a value"))?;
        let number = || {
            value
                .parse::<u64>()
                .map_err(|_| format!("{name} takes a number, but was given {value}"))
        };
        match name.as_str() {
            "--from" => parsed.from = number()?,
            "--seeds" => parsed.seeds = number()?,
            "--every" => parsed.every = number()?.max(1),
            "--offset" => parsed.offset = number()?,
            "--log" => parsed.log = Some(value),
            _ => return Err(format!("there is no option {name}")),
        }
    }
    Ok(parsed)
}

/// Where the log says that a run got to: the seed after the last that is done.
fn done(log: &str) -> Option<u64> {
    let text = std::fs::read_to_string(log).ok()?;
    let last = text.lines().rfind(|line| line.starts_with("up to "))?;
    last.split_whitespace().nth(2)?.parse().ok()
}

fn main() -> ExitCode {
    let arguments = match arguments() {
        Ok(arguments) => arguments,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(2);
        }
    };
    let end = arguments.from + arguments.seeds;
    let start = arguments.log.as_deref().and_then(done);
    let start = start.unwrap_or(arguments.from).max(arguments.from);
    let (mut seeds, mut ops, mut requests, mut attempts, mut commits) = (0u64, 0, 0, 0, 0);
    let mut faults = BTreeMap::<FaultKind, u64>::new();
    let mut failed = 0;
    for seed in start..end {
        if seed % arguments.every == arguments.offset {
            let case = Case::from_seed(seed);
            match check(&case) {
                Ok(outcome) => {
                    ops += outcome.ops;
                    requests += outcome.requests;
                    attempts += outcome.attempts;
                    commits += outcome.commits;
                    for (kind, count) in outcome.history.faults() {
                        *faults.entry(*kind).or_default() += count;
                    }
                }
                Err(failure) => {
                    failed += 1;
                    let (small, small_failure) = shrink(&case, &failure, SHRINK_RUNS_MAX);
                    println!("{}", report(&case, &failure, &small, &small_failure));
                }
            }
            seeds += 1;
        }
        if seed + 1 == end || (seed + 1) % LOGGED == 0 {
            let codes: Vec<String> = faults
                .iter()
                .map(|(kind, count)| format!("{} {count}", kind.describe().0))
                .collect();
            let line = format!(
                "up to {} : {seeds} seeds, {ops} operations, {requests} requests, {attempts} attempts, {commits} checkpoints, \
                 {failed} failed; {}",
                seed + 1,
                codes.join(", ")
            );
            println!("{line}");
            if let Some(log) = &arguments.log {
                let file = std::fs::OpenOptions::new()
                    .create(true)
                    .append(true)
                    .open(log);
                if let Err(error) = file.and_then(|mut file| writeln!(file, "{line}")) {
                    eprintln!("{log} cannot be written: {error}");
                }
            }
            (seeds, ops, requests, attempts, commits) = (0, 0, 0, 0, 0);
            faults.clear();
        }
    }
    ExitCode::from(u8::from(failed > 0))
}

//! Benchmarks of Aquifer's store beside RocksDB, SlateDB, Cobble and fjall, and of its state backends, in one run and as ratios.
//!
//! ```text
//! aquifer-bench [--sections throughput,distance,space,memtables,growth,state] [--keys 5000000] [--engines aquifer,rocksdb,…]
//!               [--only put,get,…] [--rounds 3] [--seconds 1.5] [--sizes 100,500,2000,8000] [--dir DIR]
//!               [--state-keys 10000,1000000] [--pause-megabytes 1000]
//! ```
//! In section `state`, `--engines` names backends and `--only` rows such as `value get`. Sizes are megabytes of state. Progress goes to standard error, a Markdown report to standard output. States that take long to build
//! stay in the directory and are used again. Cobble is served by another build: `--cobble PROGRAM`.
#![cfg_attr(
    not(all(feature = "rocksdb", feature = "fjall", feature = "slatedb")),
    allow(
        dead_code,
        reason = "the harness has more than a build without some peers needs"
    )
)]
mod child;
mod contender;
mod data;
mod distance;
mod engine;
mod growth;
mod measure;
mod memtables;
mod remote;
mod report;
mod space;
mod state;
mod throughput;
mod work;

use std::path::PathBuf;
use std::time::Duration;

use child::ChildProcess;
use contender::{Contender, seat};
use engine::Result;

struct Arguments {
    sections: Vec<String>,
    keys: u64,
    engines: Option<Vec<String>>,
    only: Option<Vec<String>>,
    rounds: u64,
    read_seconds: f64,
    megabytes: Vec<u64>,
    state_keys: Vec<u64>,
    pause_megabytes: u64,
    directory: PathBuf,
    /// Another build of this program that has Cobble.
    cobble: Option<String>,
    serve: Option<String>,
    /// Measure this one structure and print its line.
    structure: Option<usize>,
}

const SECTIONS: [&str; 6] = [
    "throughput",
    "distance",
    "space",
    "memtables",
    "growth",
    "state",
];

fn arguments() -> Result<Arguments> {
    let mut this = Arguments {
        sections: SECTIONS.map(str::to_owned).into(),
        keys: 5_000_000,
        engines: None,
        only: None,
        rounds: 3,
        read_seconds: 1.5,
        megabytes: vec![100, 500, 2000, 8000],
        state_keys: vec![10_000, 1_000_000],
        pause_megabytes: 1000,
        directory: std::env::temp_dir().join("aquifer-bench"),
        cobble: None,
        serve: None,
        structure: None,
    };
    let list = |text: String| -> Vec<String> { text.split(',').map(str::to_owned).collect() };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut next = || words.next().ok_or_else(|| format!("{word} needs a value"));
        match word.as_str() {
            "--sections" => this.sections = list(next()?),
            "--keys" => this.keys = next()?.parse()?,
            "--engines" => this.engines = Some(list(next()?)),
            "--only" => this.only = Some(list(next()?)),
            "--rounds" => this.rounds = next()?.parse()?,
            "--seconds" => this.read_seconds = next()?.parse()?,
            "--sizes" => this.megabytes = numbers(&next()?)?,
            "--state-keys" => this.state_keys = numbers(&next()?)?,
            "--pause-megabytes" => this.pause_megabytes = next()?.parse()?,
            "--cobble" => this.cobble = Some(next()?),
            "--structure" => this.structure = Some(next()?.parse()?),
            "--serve" => this.serve = Some(next()?),
            "--dir" => this.directory = next()?.into(),
            _ => return Err(format!("{word} is not an option of this program").into()),
        }
    }
    for section in &this.sections {
        if !SECTIONS.contains(&section.as_str()) {
            return Err(format!(
                "there is no section {section}: there are {}",
                SECTIONS.join(", ")
            )
            .into());
        }
    }
    Ok(this)
}

fn numbers(text: &str) -> Result<Vec<u64>> {
    let numbers = text.split(',').map(str::parse);
    Ok(numbers.collect::<std::result::Result<_, _>>()?)
}

/// A line for whoever waits.
pub fn progress(line: &str) {
    eprintln!("{line}");
}

fn contenders(arguments: &Arguments) -> Result<Vec<Box<dyn Contender>>> {
    let directory = |name: &str| {
        arguments
            .directory
            .join("throughput")
            .join(name.replace('/', "-"))
    };
    let mut all = vec![seat::<engine::aquifer::Aquifer>(
        "aquifer",
        directory("aquifer"),
    )];
    #[cfg(feature = "rocksdb")]
    {
        all.push(seat::<engine::rocksdb::Plain>(
            "rocksdb",
            directory("rocksdb"),
        ));
        all.push(seat::<engine::rocksdb::Partitioned>(
            "rocksdb/part",
            directory("rocksdb/part"),
        ));
    }
    #[cfg(feature = "fjall")]
    all.push(seat::<engine::fjall::Fjall>("fjall", directory("fjall")));
    #[cfg(feature = "slatedb")]
    all.push(seat::<engine::slatedb::SlateDb>(
        "slatedb",
        directory("slatedb"),
    ));
    let wants = |name: &str| {
        arguments
            .engines
            .as_ref()
            .is_none_or(|wanted| wanted.iter().any(|w| w == name))
    };
    if let Some(program) = arguments.cobble.as_deref().filter(|_| wants("cobble")) {
        all.push(ChildProcess::start("cobble", program, directory("cobble"))?);
    }
    all.retain(|contender| wants(contender.name()));
    Ok(all)
}

/// What this build can serve to another.
fn serveable(name: &str, directory: PathBuf) -> Option<Box<dyn Contender>> {
    match name {
        "aquifer" => Some(seat::<engine::aquifer::Aquifer>("aquifer", directory)),
        #[cfg(feature = "cobble")]
        "cobble" => Some(seat::<engine::cobble::Cobble>("cobble", directory)),
        _ => None,
    }
}

fn throughput(arguments: &Arguments) -> Result<String> {
    let directory = arguments.directory.join("throughput");
    let _ = std::fs::remove_dir_all(&directory);
    let mut contenders = contenders(arguments)?;
    let wanted = |name: &str| {
        arguments
            .only
            .as_ref()
            .is_none_or(|only| only.iter().any(|w| w == name))
    };
    let sizes = throughput::Sizes {
        keys: arguments.keys,
        rounds: arguments.rounds,
        read_budget: Duration::from_secs_f64(arguments.read_seconds),
        write_budget: Duration::from_secs(3),
    };
    let rows = throughput::run(&mut contenders, &sizes, &wanted)?;
    let _ = std::fs::remove_dir_all(&directory);
    Ok(report::markdown(&rows))
}

fn state(arguments: &Arguments) -> Result<String> {
    let sizes = state::Sizes {
        keys: arguments.state_keys.clone(),
        rounds: arguments.rounds,
        pause_bytes: arguments.pause_megabytes * 1_000_000,
    };
    let named = |names: &Option<Vec<String>>, name: &str| {
        names
            .as_ref()
            .is_none_or(|names| names.iter().any(|n| n == name))
    };
    state::run(
        &arguments.directory,
        &sizes,
        &|backend| named(&arguments.engines, backend),
        &|row| named(&arguments.only, row),
    )
}

fn main() -> Result<()> {
    let arguments = arguments()?;
    if let Some(structure) = arguments.structure {
        println!("{}", memtables::measure_one(structure, arguments.keys)?);
        return Ok(());
    }
    std::fs::create_dir_all(&arguments.directory)?;
    if let Some(name) = &arguments.serve {
        let served = serveable(name, arguments.directory.clone());
        return child::serve(&mut *served.ok_or_else(|| format!("{name} is not in this build"))?);
    }
    for section in &arguments.sections {
        let report = match section.as_str() {
            "throughput" => throughput(&arguments)?,
            "growth" => {
                let sizes: Vec<u64> = arguments
                    .megabytes
                    .iter()
                    .map(|megabytes| megabytes * 1_000_000)
                    .collect();
                growth::run(&arguments.directory, &sizes)?
            }
            "distance" => distance::run(&arguments.directory, 500_000_000)?,
            "space" => space::run(&arguments.directory, arguments.keys / 2)?,
            "state" => state(&arguments)?,
            "memtables" => memtables::run(&[500_000, 5_000_000])?,
            _ => continue,
        };
        println!("## {section}\n\n{report}");
    }
    Ok(())
}

//! Operations per second: everything that one thread does with a store of one size.
//!
//! Each engine is loaded alone. Then they take turns, in short rounds, so that whatever else the machine does meets all of them; the
//! median of the rounds counts.
use std::fs::File;
use std::path::Path;
use std::time::Duration;

use crate::contender::{Contender, Drain};
use crate::data::{self, Draw, Random};
use crate::engine::Result;
use crate::report::Row;
use crate::work::{Outcome, Work};

/// How much of everything.
#[derive(Clone, Debug)]
pub struct Sizes {
    pub keys: u64,
    pub rounds: u64,
    /// A round of reads ends after this.
    pub read_budget: Duration,
    /// A round of writes ends after this, though it has a number of operations to do.
    pub write_budget: Duration,
}

impl Sizes {
    fn data_bytes(&self) -> u64 {
        self.keys * (data::KEY_BYTES + data::VALUE_BYTES) as u64
    }

    /// Rows of maps.
    fn map_rows(&self) -> u64 {
        (self.keys / 5).next_multiple_of(data::MAP_ROWS)
    }

    fn lists(&self) -> u64 {
        (self.keys / 20).max(1)
    }
}

/// Names of workloads, as the report and `--only` know them.
pub const NAMES: [&str; 12] = [
    "put",
    "get",
    "absent",
    "multi-get",
    "scan",
    "rmw-uniform",
    "rmw-zipf",
    "append",
    "get-list",
    "put-delete",
    "multi-get-10%",
    "get-10%",
];

/// Runs the workloads that are wanted.
pub fn run(
    contenders: &mut [Box<dyn Contender>],
    sizes: &Sizes,
    wanted: &dyn Fn(&str) -> bool,
) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    rows.push(load(contenders, sizes)?);
    let keys = sizes.keys;
    let reads = (4_000_000 * sizes.read_budget.as_millis() as usize / 1000).max(1000);
    let writes = (keys / 5) as usize;
    let mut table = |name: &str, contenders: &mut [Box<dyn Contender>]| -> Result<()> {
        if !wanted(name) {
            return Ok(());
        }
        rows.push(match name {
            "get" => rounds(
                contenders,
                sizes,
                name,
                Drain::No,
                |seed| drawn(keys, reads, seed),
                Work::Get,
            )?,
            "absent" => rounds(
                contenders,
                sizes,
                name,
                Drain::No,
                |seed| absent(keys, reads, seed),
                Work::GetAbsent,
            )?,
            "multi-get" | "multi-get-10%" => rounds(
                contenders,
                sizes,
                name,
                Drain::No,
                |seed| drawn(keys, reads, seed),
                Work::MultiGet,
            )?,
            "get-10%" => rounds(
                contenders,
                sizes,
                name,
                Drain::No,
                |seed| drawn(keys, reads, seed),
                Work::Get,
            )?,
            "scan" => {
                let maps = sizes.map_rows() / data::MAP_ROWS;
                rounds(
                    contenders,
                    sizes,
                    name,
                    Drain::No,
                    |seed| drawn(maps, reads / 20, seed),
                    Work::Scan,
                )?
            }
            "rmw-uniform" => rounds(
                contenders,
                sizes,
                name,
                Drain::Settle,
                |seed| drawn(keys, writes, seed),
                Work::ReadModifyWrite,
            )?,
            "rmw-zipf" => {
                let zipf = |seed| data::draw(Draw::Zipf(0.99), keys, writes, seed);
                rounds(
                    contenders,
                    sizes,
                    name,
                    Drain::Settle,
                    zipf,
                    Work::ReadModifyWrite,
                )?
            }
            "append" => {
                let lists = sizes.lists();
                rounds(
                    contenders,
                    sizes,
                    name,
                    Drain::Settle,
                    |seed| drawn(lists, writes, seed),
                    Work::Append,
                )?
            }
            "get-list" => {
                let lists = sizes.lists();
                rounds(
                    contenders,
                    sizes,
                    name,
                    Drain::No,
                    |seed| drawn(lists, reads / 4, seed),
                    Work::GetLists,
                )?
            }
            "put-delete" => {
                let sequence = |seed: u64| (0..writes as u64).map(|i| i + (seed << 32)).collect();
                rounds(
                    contenders,
                    sizes,
                    name,
                    Drain::Settle,
                    sequence,
                    Work::PutDelete,
                )?
            }
            _ => return Ok(()),
        });
        Ok(())
    };
    for name in NAMES.iter().skip(1).take(9) {
        table(name, contenders)?;
    }
    let small_cache = ["multi-get-10%", "get-10%"];
    if small_cache.iter().any(|name| wanted(name)) {
        for contender in contenders.iter_mut() {
            contender.close()?;
            contender.setup().cache_bytes = sizes.data_bytes() / 10;
            read_all(&contender.setup().directory)?;
            contender.open()?;
            let warm_up = drawn(keys, reads, 99);
            contender.work(Work::MultiGet, &warm_up, sizes.read_budget, Drain::No)?;
        }
        for name in small_cache {
            table(name, contenders)?;
        }
    }
    for contender in contenders.iter_mut() {
        contender.close()?;
    }
    Ok(rows)
}

/// Reads all files below a directory, so that the system has them in memory. The workloads before found all rows in their caches, and
/// the system takes memory away from files that nobody reads.
fn read_all(directory: &Path) -> Result<()> {
    // A client of an engine in another process has no directory of its own.
    let Ok(entries) = std::fs::read_dir(directory) else {
        return Ok(());
    };
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            read_all(&path)?;
        } else if let Ok(mut file) = File::open(path) {
            // A file that is not there any more was compacted away.
            std::io::copy(&mut file, &mut std::io::sink())?;
        }
    }
    Ok(())
}

/// Every key once, in random order, and maps for the scans.
fn load(contenders: &mut [Box<dyn Contender>], sizes: &Sizes) -> Result<Row> {
    let ids: Vec<u64> = (0..sizes.keys).collect();
    let mut map_rows: Vec<u64> = (0..sizes.map_rows()).collect();
    shuffle(&mut map_rows);
    let mut row = Row::new("put");
    for contender in contenders.iter_mut() {
        contender.setup().cache_bytes = (sizes.data_bytes() * 2).max(256 << 20);
        contender.open()?;
        let outcome = contender.work(Work::Put(0), &ids, Duration::MAX, Drain::Flush)?;
        row.add(contender.name(), outcome);
        contender.work(Work::PutMaps, &map_rows, Duration::MAX, Drain::Flush)?;
        contender.warm()?;
        crate::progress(&format!("loaded {}", contender.name()));
    }
    Ok(row)
}

fn drawn(bound: u64, count: usize, seed: u64) -> Vec<u64> {
    data::draw(Draw::Uniform, bound, count, seed)
}

fn absent(keys: u64, count: usize, seed: u64) -> Vec<u64> {
    drawn(keys, count, seed)
        .into_iter()
        .map(|id| id + (1 << 40))
        .collect()
}

fn shuffle(ids: &mut [u64]) {
    let mut random = Random::new(3);
    for i in (1..ids.len()).rev() {
        ids.swap(i, random.below(i as u64 + 1) as usize);
    }
}

fn rounds(
    contenders: &mut [Box<dyn Contender>],
    sizes: &Sizes,
    name: &str,
    drain: Drain,
    draw: impl Fn(u64) -> Vec<u64>,
    work: Work,
) -> Result<Row> {
    let budget = if drain == Drain::No {
        sizes.read_budget
    } else {
        sizes.write_budget
    };
    let mut row = Row::new(name);
    for round in 0..sizes.rounds {
        let ids = draw(round + 1);
        for contender in contenders.iter_mut() {
            let outcome: Outcome = contender.work(work, &ids, budget, drain)?;
            row.add(contender.name(), outcome);
        }
    }
    crate::progress(&row.line());
    Ok(row)
}

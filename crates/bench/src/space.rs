//! What writing costs beyond the bytes that were put: bytes written again, bytes kept twice, requests.
//!
//! All keys are put once in random order, then as many random updates follow, and the background comes to rest. Bytes written are those that
//! the process handed to the system; bytes kept are those of the engine's files at the end, without files that only
//! an older checkpoint needs.
use std::path::Path;
use std::sync::Arc;

use crate::data::{self, Draw, KEY_BYTES, VALUE_BYTES};
use crate::engine::aquifer::{Aquifer, Place, runtime};
use crate::engine::{Engine, Result, Setup};
use crate::measure::Spent;
use crate::remote::{Counts, Remote};
use crate::work::{Work, run as work};

struct Cost {
    engine: &'static str,
    raw_bytes: u64,
    live_bytes: u64,
    spent: Spent,
    disk_bytes: u64,
    requests: Option<Counts>,
}

fn churn<E: Engine>(
    engine: &'static str,
    keys: u64,
    directory: &Path,
    open: impl FnOnce(&Setup) -> Result<(E, Option<Remote>)>,
) -> Result<Cost> {
    let _ = std::fs::remove_dir_all(directory);
    std::fs::create_dir_all(directory)?;
    let setup = Setup::new(directory.to_owned());
    let (mut store, remote) = open(&setup)?;
    let stretch = crate::measure::Stretch::start();
    let all: Vec<u64> = (0..keys).collect();
    let updates = data::draw(Draw::Uniform, keys, keys as usize, 7);
    for (version, ids) in [(0, &all), (1, &updates)] {
        work(
            &mut store,
            Work::Put(version),
            ids,
            std::time::Duration::MAX,
        )?;
    }
    store.flush()?;
    store.settle()?;
    let spent = stretch.spent();
    let row = (KEY_BYTES + VALUE_BYTES) as u64;
    let cost = Cost {
        engine,
        raw_bytes: 2 * keys * row,
        live_bytes: keys * row,
        spent,
        disk_bytes: store.kept_bytes(directory)?,
        requests: remote.map(|remote| remote.counts()),
    };
    store.close()?;
    let _ = std::fs::remove_dir_all(directory);
    Ok(cost)
}

/// Measures Aquifer, RocksDB and SlateDB and returns a Markdown table.
pub fn run(parent: &Path, keys: u64) -> Result<String> {
    #[allow(unused_mut, reason = "peers are optional")]
    let mut costs = vec![churn(
        "aquifer",
        keys,
        &parent.join("space-aquifer"),
        |setup| {
            let remote = Remote::new(Place::local(&setup.directory)?.objects);
            let place = Place {
                objects: Arc::new(remote.clone()),
                local_root: None,
            };
            Ok((
                Aquifer::open_with(setup, runtime()?, place, vec![])?,
                Some(remote),
            ))
        },
    )?];
    #[cfg(feature = "rocksdb")]
    costs.push(churn(
        "rocksdb",
        keys,
        &parent.join("space-rocksdb"),
        |setup| Ok((crate::engine::rocksdb::Plain::open(setup)?, None)),
    )?);
    #[cfg(feature = "slatedb")]
    costs.push(churn(
        "slatedb (garbage collection off)",
        keys,
        &parent.join("space-slatedb"),
        |setup| {
            let remote = Remote::new(Arc::new(
                object_store::local::LocalFileSystem::new_with_prefix(&setup.directory)?,
            ));
            let objects = Arc::new(remote.clone());
            let engine = crate::engine::slatedb::SlateDb::open_at(
                "db",
                objects,
                setup.cache_bytes,
                setup.memtable_bytes,
            )?;
            Ok((engine, Some(remote)))
        },
    )?);
    let mut out = String::from(
        "| engine | write amplification | space amplification | requests per GB put (writes, reads, others) | seconds | CPU seconds |\n\
         |---|---|---|---|---|---|\n",
    );
    for cost in &costs {
        let requests = cost.requests.map_or(String::from("–"), |counts| {
            let per_gb = |n: u64| n as f64 / (cost.raw_bytes as f64 / 1e9);
            let [writes, reads, others] = [counts.writes, counts.reads, counts.others].map(per_gb);
            format!(
                "{:.0} ({writes:.0}, {reads:.0}, {others:.0})",
                writes + reads + others
            )
        });
        let line = format!(
            "| {} | {:.2} | {:.2} | {requests} | {:.1} | {:.1} |\n",
            cost.engine,
            cost.spent.written as f64 / cost.raw_bytes as f64,
            cost.disk_bytes as f64 / cost.live_bytes as f64,
            cost.spent.wall.as_secs_f64(),
            cost.spent.cpu.as_secs_f64(),
        );
        crate::progress(line.trim_end());
        out += &line;
    }
    Ok(out)
}

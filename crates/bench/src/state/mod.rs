//! State through its handles, on every backend and through both APIs: what a call costs, and how long a snapshot holds the worker up.
//!
//! The shape is that of Flink's own state micro-benchmarks: keys and values of 8 bytes, lists of 100 elements, maps of 10 entries, each call
//! preceded by setting the current key. All backends are open at the same time in this process and take turns, so that ratios hold on a
//! machine whose speed changes.
mod backends;
mod micro;
mod pause;

use std::fmt::Write as _;
use std::path::Path;

use self::backends::Backend;
use crate::engine::Result;

/// What is to be measured.
pub struct Sizes {
    /// Keys of each state; one table of figures for each.
    pub keys: Vec<u64>,
    pub rounds: u64,
    /// Bytes of state whose snapshots are timed; none if 0.
    pub pause_bytes: u64,
}

/// Measures all of it; Markdown.
pub fn run(
    directory: &Path,
    sizes: &Sizes,
    backends: &dyn Fn(&str) -> bool,
    rows: &dyn Fn(&str) -> bool,
) -> Result<String> {
    let directory = directory.join("state");
    let mut report = String::new();
    let kinds: Vec<_> = backends::all()
        .into_iter()
        .filter(|kind| backends(kind.name()))
        .collect();
    let that_take = |keys: u64| -> Vec<Backend> {
        let kinds = kinds.iter().copied();
        kinds.filter(|kind| kind.takes(keys)).collect()
    };
    for &keys in &sizes.keys {
        let measured = micro::run(&directory, &that_take(keys), keys, sizes.rounds, rows)?;
        let _ = writeln!(report, "### {keys} keys\n\n{measured}");
    }
    if sizes.pause_bytes > 0 {
        let keys = sizes.pause_bytes / pause::VALUE_BYTES;
        let measured = pause::run(&directory, &that_take(keys), keys)?;
        let megabytes = sizes.pause_bytes / 1_000_000;
        let _ = writeln!(report, "### Snapshots of {megabytes} MB\n\n{measured}");
    }
    let _ = std::fs::remove_dir_all(&directory);
    Ok(report)
}

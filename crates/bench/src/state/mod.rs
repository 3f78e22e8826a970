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
    let kinds: Vec<_> = backends::kinds()
        .into_iter()
        .filter(|kind| backends(kind.name()))
        .collect();
    for &keys in &sizes.keys {
        let measured = micro::run(&directory, &kinds, keys, sizes.rounds, rows)?;
        let _ = writeln!(report, "### {keys} keys\n\n{measured}");
    }
    if sizes.pause_bytes > 0 {
        let measured = pause::run(&directory, &kinds, sizes.pause_bytes)?;
        let megabytes = sizes.pause_bytes / 1_000_000;
        let _ = writeln!(report, "### Snapshots of {megabytes} MB\n\n{measured}");
    }
    let _ = std::fs::remove_dir_all(&directory);
    Ok(report)
}

//! Where things lie when nothing is configured: below the user's data directory.

use std::path::PathBuf;

use etcetera::BaseStrategy;

/// `<data dir>/aquifer`: `$XDG_DATA_HOME` or `~/.local/share` on Linux. `None` when the system names no home directory.
pub fn data() -> Option<PathBuf> {
    let strategy = etcetera::choose_base_strategy().ok()?;
    Some(strategy.data_dir().join("aquifer"))
}

/// Checkpoints of jobs that configure no directory.
pub fn checkpoints() -> Option<String> {
    data().map(|data| data.join("checkpoints").display().to_string())
}

/// Caches and working files of jobs that configure no local directory.
pub fn local() -> Option<String> {
    data().map(|data| data.join("local").display().to_string())
}

/// What was typed at the prompt.
pub fn history() -> Option<PathBuf> {
    data().map(|data| data.join("history.sql"))
}

//! From the databases of a checkpoint to those of a worker.
//!
//! A database that one worker has and that it alone wants is downloaded and opened. If the parallelism has changed, an operator may have
//! several: the one of which most is wanted becomes the worker's, without the key groups that are not, and the rows of the others are
//! put into it.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use aquifer_store::KeyGroupRange;

use super::directory::LocalDirectory;
use super::disk;
use super::rows::Laid;
use super::transfer::Transfers;
use crate::blocking::wait;
use crate::{DbFile, DbSnapshot, StateError};

/// What the names of the two kinds of files look like.
const TABLE_END: &str = ".sst";
const MANIFEST_START: &str = "MANIFEST-";
/// The file that says which manifest counts.
const CURRENT: &str = "CURRENT";

/// What a file of a database is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FileKind {
    /// Rows. It never changes.
    Table,
    /// Which files there are.
    Manifest,
    /// Nothing that a checkpoint needs.
    Dispensable,
}

/// What a file of this name is for; None if it is none of RocksDB's.
pub(super) fn kind_of(name: &str) -> Option<FileKind> {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if name.strip_suffix(TABLE_END).is_some_and(digits) {
        return Some(FileKind::Table);
    }
    if name.strip_prefix(MANIFEST_START).is_some_and(digits) {
        return Some(FileKind::Manifest);
    }
    let dispensable = [CURRENT, "IDENTITY", "LOCK"].contains(&name)
        || name.starts_with("OPTIONS-")
        || name.starts_with("LOG")
        // The write-ahead log is off, so it is empty.
        || name.strip_suffix(".log").is_some_and(digits);
    dispensable.then_some(FileKind::Dispensable)
}

/// Which of several databases becomes the worker's: that of which most key groups are wanted, and of equals the one that is wanted more
/// completely. `parts` are the key groups that each has and those that are wanted of it. None if of all of them less than
/// `fraction_min` is wanted.
pub(super) fn choose_base(
    parts: &[(KeyGroupRange, KeyGroupRange)],
    fraction_min: f64,
) -> Option<usize> {
    let groups = |range: KeyGroupRange| u32::from(range.end.saturating_sub(range.start)) + 1;
    let parts = parts.iter().enumerate();
    let worthy = parts.filter_map(|(index, (has, wanted))| {
        let (has, wanted) = (groups(*has), groups(*wanted));
        let fraction = f64::from(wanted) / f64::from(has);
        (fraction >= fraction_min).then_some((wanted, std::cmp::Reverse(has), index))
    });
    // Of equals the first, so that it does not depend on chance.
    worthy
        .max_by_key(|(wanted, has, index)| (*wanted, *has, std::cmp::Reverse(*index)))
        .map(|(_, _, index)| index)
}

/// Downloads databases, each into a directory of its own, and waits for it.
pub(super) fn download(
    databases: &[&DbSnapshot],
    directory: &LocalDirectory,
    transfers: &Transfers,
    at_once: usize,
) -> Result<Vec<Laid>, StateError> {
    let mut laid = Vec::with_capacity(databases.len());
    let mut files: Vec<(DbFile, std::path::PathBuf)> = Vec::new();
    for database in databases {
        let path = directory.fresh_directory("db")?;
        let manifest = manifest_of(database)?;
        let current = path.join(CURRENT);
        fs::write(&current, format!("{manifest}\n")).map_err(|e| disk("write", &current, e))?;
        for file in &database.files {
            files.push((file.clone(), path.join(&file.name)));
        }
        laid.push(Laid {
            path,
            operator: database.operator.clone(),
            families: database.families.clone(),
        });
    }
    let transfers = transfers.clone();
    let runtime = transfers.runtime.clone();
    let downloads = async move {
        let transfers = &transfers;
        let each = files
            .into_iter()
            .map(|(file, into)| async move { transfers.download(&file, into).await });
        transfers.all(at_once, each).await
    };
    wait(
        &runtime,
        "downloading the databases of a checkpoint",
        downloads,
    )??;
    Ok(laid)
}

/// The manifest among the files of a database, all of whose names are checked: they become paths.
fn manifest_of(database: &DbSnapshot) -> Result<&str, StateError> {
    let wrong = |what: String| {
        StateError::Corrupt(format!(
            "the database of operator `{}` in a checkpoint {what}",
            database.operator
        ))
    };
    let mut names: Vec<&str> = Vec::with_capacity(database.files.len());
    let mut manifest = None;
    for file in &database.files {
        match kind_of(&file.name) {
            Some(FileKind::Table) => {}
            Some(FileKind::Manifest) if manifest.is_none() => manifest = Some(file.name.as_str()),
            _ => {
                return Err(wrong(format!(
                    "has a file `{}`, expected SSTs and one manifest",
                    file.name.escape_default()
                )));
            }
        }
        names.push(&file.name);
    }
    names.sort_unstable();
    if let Some([name, _]) = names
        .windows(2)
        .find(|pair| matches!(pair, [a, b] if a == b))
    {
        return Err(wrong(format!("has two files `{name}`")));
    }
    manifest.ok_or_else(|| wrong("has no manifest".into()))
}

/// The files of a frozen database that belong to a checkpoint, by name.
pub(super) fn files_in(path: &Path) -> Result<Vec<(String, FileKind)>, StateError> {
    let entries = fs::read_dir(path).map_err(|error| disk("list", path, error))?;
    let mut files = Vec::new();
    for entry in entries {
        let name = entry
            .map_err(|error| disk("list", path, error))?
            .file_name();
        let name = name.to_string_lossy().into_owned();
        match kind_of(&name) {
            Some(FileKind::Dispensable) => {}
            Some(kind) => files.push((name, kind)),
            None => {
                return Err(StateError::Corrupt(format!(
                    "RocksDB has made a file `{name}` in `{}` that is not known here",
                    path.display()
                )));
            }
        }
    }
    files.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(files)
}

/// Removes the copies of frozen databases. What cannot be removed goes with the whole directory.
pub(super) fn remove(paths: &[std::path::PathBuf], directory: Arc<LocalDirectory>) {
    for path in paths {
        if let Err(error) = fs::remove_dir_all(path) {
            tracing::warn!(directory = %path.display(), %error, "a local copy of a database could not be removed");
        }
    }
    drop(directory);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(start: u16, end: u16) -> KeyGroupRange {
        KeyGroupRange { start, end }
    }

    #[test]
    fn the_database_of_which_most_is_wanted_becomes_the_workers() {
        let choose = |parts: &[_], fraction_min| choose_base(parts, fraction_min);
        assert_eq!(choose(&[], 0.0), None);
        let whole = (range(0, 9), range(0, 9));
        let half = (range(0, 9), range(5, 9));
        let small = (range(10, 14), range(10, 14));
        let one = (range(20, 99), range(20, 20));
        assert_eq!(choose(&[half, whole], 0.0), Some(1));
        assert_eq!(choose(&[one, half], 0.0), Some(1));
        // As many groups, but nothing has to be cut off.
        assert_eq!(choose(&[half, small], 0.0), Some(1));
        assert_eq!(choose(&[small, small], 0.0), Some(0));
        assert_eq!(choose(&[half, one], 0.6), None);
        assert_eq!(choose(&[half, one, small], 0.6), Some(2));
        assert_eq!(
            choose(&[(range(0, u16::MAX), range(0, u16::MAX))], 1.0),
            Some(0)
        );
    }

    #[test]
    fn names_of_files_are_checked() {
        use FileKind::{Dispensable, Manifest, Table};
        for (name, kind) in [
            ("000012.sst", Some(Table)),
            ("MANIFEST-000005", Some(Manifest)),
            ("CURRENT", Some(Dispensable)),
            ("OPTIONS-000007", Some(Dispensable)),
            ("000009.log", Some(Dispensable)),
            ("LOG.old.1", Some(Dispensable)),
            (".sst", None),
            ("../1.sst", None),
            ("MANIFEST-", None),
            ("MANIFEST-1/2", None),
            ("000001.blob", None),
        ] {
            assert_eq!(kind_of(name), kind, "{name}");
        }
        let database = |names: &[&str]| DbSnapshot {
            operator: "7-x".into(),
            range: KeyGroupRange::ALL,
            families: vec![],
            files: names
                .iter()
                .map(|name| DbFile {
                    name: (*name).into(),
                    path: "p".into(),
                    size_bytes: 0,
                    checksum: 0,
                    shared: false,
                })
                .collect(),
        };
        let good = database(&["1.sst", "MANIFEST-2"]);
        assert_eq!(manifest_of(&good).unwrap(), "MANIFEST-2");
        for bad in [
            &["1.sst"][..],
            &["MANIFEST-1", "MANIFEST-2"],
            &["MANIFEST-1", "1.sst", "1.sst"],
            &["MANIFEST-1", "CURRENT"],
            &["MANIFEST-1", "../1.sst"],
        ] {
            let database = database(bad);
            let error = manifest_of(&database).unwrap_err();
            assert!(
                matches!(&error, StateError::Corrupt(text) if text.contains("`7-x`")),
                "{error}"
            );
        }
    }
}

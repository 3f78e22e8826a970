//! The `rocksdb` backend: a worker's keyed state in RocksDB on the local disk.
//!
//! There is one database per operator and worker, and in it one column family per table, because the states of an operator have to be
//! frozen at one instant, and an instant of a database is cheap: a checkpoint of hard links. Rows are those of the other backends
//! (`docs/format/rocksdb.md` has their bytes); the write-ahead log is off, for sources replay.
//!
//! A snapshot is either *incremental*: the files of the frozen databases are uploaded as they are, and files that the last completed
//! checkpoint has are named again; or *full*: the rows are written into SSTs of our own, like those of any other backend. A restore of
//! the former opens the downloaded files; of everything else it reads rows. Local directories hold nothing that a checkpoint needs.
//!
//! What always holds: a checkpoint names only files that it uploaded itself or that a completed checkpoint (or the restored one) names;
//! local copies are removed when they are uploaded; nothing of a directory is left when its backend is dropped.
//!
//! Only the safe interface of the crate `rocksdb` is used. It has no pool of high priority in caches and cannot say whether a database of
//! another range may be taken over file by file without a look at its keys; so these of Flink's options are accepted and change nothing.
//!
//! [`RocksdbOptions`] is there in every build; the rest needs the feature `rocksdb`.

mod options;

#[cfg(feature = "rocksdb")]
mod backend;
#[cfg(feature = "rocksdb")]
mod database;
#[cfg(feature = "rocksdb")]
mod directory;
#[cfg(feature = "rocksdb")]
mod expiry;
#[cfg(feature = "rocksdb")]
mod memory;
#[cfg(feature = "rocksdb")]
mod open_databases;
#[cfg(feature = "rocksdb")]
mod restore;
#[cfg(feature = "rocksdb")]
mod row;
#[cfg(feature = "rocksdb")]
mod rows;
#[cfg(feature = "rocksdb")]
mod snapshot;
#[cfg(feature = "rocksdb")]
mod table;
#[cfg(feature = "rocksdb")]
mod transfer;
#[cfg(feature = "rocksdb")]
mod tuning;
#[cfg(feature = "rocksdb")]
mod uploaded;

pub use self::options::{
    MemoryBudget, RocksdbCompactionStyle, RocksdbLog, RocksdbLogLevel, RocksdbOptions,
    RocksdbShared,
};

#[cfg(feature = "rocksdb")]
pub(crate) use self::backend::RocksdbBackend;
#[cfg(feature = "rocksdb")]
pub(crate) use self::open_databases::OpenDatabases;
#[cfg(feature = "rocksdb")]
pub(crate) use self::rows::DatabaseRows;

/// An error of RocksDB as one of ours. `what` says what was being done.
#[cfg(feature = "rocksdb")]
fn failed(what: impl std::fmt::Display, error: ::rocksdb::Error) -> crate::StateError {
    use ::rocksdb::ErrorKind;
    let message = format!("{what} failed: RocksDB says `{}`", error.as_ref());
    match error.kind() {
        ErrorKind::Corruption => crate::StateError::Corrupt(message),
        ErrorKind::InvalidArgument | ErrorKind::NotSupported => crate::StateError::Usage(message),
        _ => crate::StateError::Store(aquifer_store::Error::retry(message)),
    }
}

/// An error of the local disk.
#[cfg(feature = "rocksdb")]
fn disk(action: &str, path: &std::path::Path, error: std::io::Error) -> crate::StateError {
    crate::StateError::Store(aquifer_store::Error {
        kind: aquifer_store::ErrorKind::Retry,
        message: format!(
            "could not {action} `{}` on the local disk: {error}",
            path.display()
        ),
        source: Some(std::sync::Arc::new(error)),
    })
}

//! Which backend keeps working state and where snapshots go, chosen from configuration keys old and new.
//!
//! Flink once had one key for both: the backends `jobmanager` and `filesystem` were the heap with a place for snapshots. Such a name
//! still decides both and outweighs `execution.checkpointing.storage`; the names of today decide the backend only. Storage that is not
//! named is `filesystem` if there is a checkpoint directory. (Flink's `CheckpointStorageLoader` has the same rules.)

use std::str::FromStr;

use crate::{StateDescription, StateError};

/// `state.backend.type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackendKind {
    /// Everything on the heap; a snapshot writes all of it.
    Hashmap,
    /// RocksDB on the local disk; a snapshot uploads its files.
    Rocksdb,
    /// The LSM store on the object store; a snapshot writes what has changed.
    Forst,
}

impl BackendKind {
    /// As the configuration calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Hashmap => "hashmap",
            Self::Rocksdb => "rocksdb",
            Self::Forst => "forst",
        }
    }

    /// An error if snapshots of this backend cannot go there.
    pub fn check_storage(self, storage: StorageKind) -> Result<(), StateError> {
        match (self, storage) {
            (Self::Hashmap, _) | (_, StorageKind::FileSystem) => Ok(()),
            (Self::Rocksdb | Self::Forst, StorageKind::JobManager) => {
                Err(StateError::Usage(format!(
                    "the state backend `{}` writes files, which storage `jobmanager` does not keep: set execution.checkpointing.storage to \
                     filesystem, or state.backend.type to hashmap",
                    self.name()
                )))
            }
        }
    }
}

impl FromStr for BackendKind {
    type Err = StateError;

    fn from_str(name: &str) -> Result<Self, StateError> {
        named_backend(name).map(|(kind, _)| kind)
    }
}

/// `execution.checkpointing.storage`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StorageKind {
    /// Within the metadata, which is small.
    JobManager,
    /// Files in the checkpoint directory.
    FileSystem,
}

impl StorageKind {
    /// As the configuration calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::JobManager => "jobmanager",
            Self::FileSystem => "filesystem",
        }
    }
}

impl FromStr for StorageKind {
    type Err = StateError;

    fn from_str(name: &str) -> Result<Self, StateError> {
        match plain(name).as_str() {
            "jobmanager" | "class:jobmanagercheckpointstorage" => Ok(Self::JobManager),
            "filesystem" | "class:filesystemcheckpointstorage" => Ok(Self::FileSystem),
            _ => Err(StateError::Usage(format!(
                "execution.checkpointing.storage is `{name}`, expected `jobmanager` or `filesystem`"
            ))),
        }
    }
}

/// Where snapshots go, and how much may go there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SnapshotStorage {
    /// Everything in the metadata.
    JobManager {
        /// Bytes of one state on one worker at most (`execution.checkpointing.max-memory-state-size`): of the keys, values and times of its
        /// rows.
        state_bytes_max: u64,
        /// Bytes of all states of one worker at most (`pekko.framesize`).
        total_bytes_max: u64,
        /// Whether it is written in the background (`state.backend.async`); otherwise the operator waits.
        asynchronous: bool,
    },
    /// Files.
    FileSystem {
        /// A snapshot that is smaller goes into the metadata (`execution.checkpointing.data-inline-threshold`).
        inline_bytes_max: u64,
        /// Whether it is written in the background (`state.backend.async`); otherwise the operator waits.
        asynchronous: bool,
    },
}

impl SnapshotStorage {
    /// Default of `execution.checkpointing.max-memory-state-size`: 5 MiB.
    pub const STATE_BYTES_MAX: u64 = 5 << 20;
    /// Default of `pekko.framesize`: 10 MiB.
    pub const TOTAL_BYTES_MAX: u64 = 10 << 20;
    /// Default of `execution.checkpointing.data-inline-threshold`: 20 KiB.
    pub const INLINE_BYTES_MAX: u64 = 20 << 10;
    /// The most that `execution.checkpointing.data-inline-threshold` may be: 1 MiB.
    pub const INLINE_BYTES_LIMIT: u64 = 1 << 20;

    /// Whether snapshots are written in the background.
    pub fn is_asynchronous(self) -> bool {
        match self {
            Self::JobManager { asynchronous, .. } | Self::FileSystem { asynchronous, .. } => {
                asynchronous
            }
        }
    }

    /// Which of the two it is.
    pub fn kind(self) -> StorageKind {
        match self {
            Self::JobManager { .. } => StorageKind::JobManager,
            Self::FileSystem { .. } => StorageKind::FileSystem,
        }
    }

    /// An error if the options of the storage mean nothing.
    pub fn check(self) -> Result<(), StateError> {
        match self {
            Self::FileSystem {
                inline_bytes_max, ..
            } if inline_bytes_max > Self::INLINE_BYTES_LIMIT => Err(StateError::Usage(format!(
                "execution.checkpointing.data-inline-threshold is {inline_bytes_max} bytes, expected at most {}",
                Self::INLINE_BYTES_LIMIT
            ))),
            _ => Ok(()),
        }
    }

    /// An error if a state with this many bytes in a snapshot is more than the storage takes.
    pub fn check_state(self, state: &StateDescription, bytes: u64) -> Result<(), StateError> {
        match self {
            Self::JobManager {
                state_bytes_max, ..
            } if bytes > state_bytes_max => Err(StateError::Limit(format!(
                "State `{}` of operator `{}` is {bytes} bytes, more than the {state_bytes_max} that storage `jobmanager` takes for one \
                 state. Set execution.checkpointing.storage to filesystem, or raise execution.checkpointing.max-memory-state-size.",
                state.state, state.operator
            ))),
            _ => Ok(()),
        }
    }

    /// An error if a worker's snapshot of this many bytes is more than the storage takes.
    pub fn check_total(self, bytes: u64) -> Result<(), StateError> {
        match self {
            Self::JobManager {
                total_bytes_max, ..
            } if bytes > total_bytes_max => Err(StateError::Limit(format!(
                "The state of a worker is {bytes} bytes, more than the {total_bytes_max} that storage `jobmanager` takes of one worker. \
                 Set execution.checkpointing.storage to filesystem, or raise pekko.framesize."
            ))),
            _ => Ok(()),
        }
    }
}

impl Default for SnapshotStorage {
    fn default() -> Self {
        StorageKind::FileSystem.into()
    }
}

/// With the default limits.
impl From<StorageKind> for SnapshotStorage {
    fn from(kind: StorageKind) -> Self {
        match kind {
            StorageKind::JobManager => Self::JobManager {
                state_bytes_max: Self::STATE_BYTES_MAX,
                total_bytes_max: Self::TOTAL_BYTES_MAX,
                asynchronous: true,
            },
            StorageKind::FileSystem => Self::FileSystem {
                inline_bytes_max: Self::INLINE_BYTES_MAX,
                asynchronous: true,
            },
        }
    }
}

/// Chooses backend and storage. `backend` is what `state.backend.type` (or `state.backend`) says, `storage` what
/// `execution.checkpointing.storage` says, and `checkpoint_dir` the directory, under whichever key it is set. Also returns what the user
/// should be told.
pub fn choose(
    backend: Option<&str>,
    storage: Option<&str>,
    checkpoint_dir: Option<&str>,
) -> Result<(BackendKind, StorageKind, Vec<String>), StateError> {
    let (kind, implied) = match backend {
        Some(name) => named_backend(name)?,
        None => (BackendKind::Forst, None),
    };
    let asked = storage.map(str::parse::<StorageKind>).transpose()?;
    let has_directory = checkpoint_dir.is_some_and(|directory| !directory.trim().is_empty());
    let mut notes = Vec::new();
    if let (Some(implied), Some(asked)) = (implied, asked)
        && implied != asked
    {
        notes.push(format!(
            "execution.checkpointing.storage `{}` is not used: the backend `{}` is an old name that means `hashmap` with storage `{}`",
            asked.name(),
            backend.unwrap_or_default(),
            implied.name(),
        ));
    }
    // Only the heap can do without files.
    let by_default = if has_directory || kind != BackendKind::Hashmap {
        StorageKind::FileSystem
    } else {
        StorageKind::JobManager
    };
    let named = implied.or(asked);
    let chosen = named.unwrap_or(by_default);
    kind.check_storage(chosen)?;
    if named == Some(StorageKind::FileSystem) && !has_directory {
        return Err(StateError::Usage(
            "snapshots are to be kept in storage `filesystem`, but execution.checkpointing.dir is not set".into(),
        ));
    }
    if !has_directory {
        notes.push(
            "execution.checkpointing.dir is not set: checkpoints are kept in memory and end with the process"
                .into(),
        );
    }
    Ok((kind, chosen, notes))
}

/// A backend, and the storage that comes with an old name.
fn named_backend(name: &str) -> Result<(BackendKind, Option<StorageKind>), StateError> {
    Ok(match plain(name).as_str() {
        "hashmap" | "class:hashmapstatebackend" => (BackendKind::Hashmap, None),
        "jobmanager" | "class:memorystatebackend" => {
            (BackendKind::Hashmap, Some(StorageKind::JobManager))
        }
        "filesystem" | "class:fsstatebackend" => {
            (BackendKind::Hashmap, Some(StorageKind::FileSystem))
        }
        "rocksdb" | "class:rocksdbstatebackend" | "class:embeddedrocksdbstatebackend" => {
            (BackendKind::Rocksdb, None)
        }
        "forst" | "class:forststatebackend" => (BackendKind::Forst, None),
        _ => {
            return Err(StateError::Usage(format!(
                "state.backend.type is `{name}`, expected `hashmap`, `rocksdb` or `forst` (or one of the old names `jobmanager` and `filesystem`)"
            )));
        }
    })
}

/// A name in small letters; of one of Flink's classes, `class:` and the class without its package and without `Factory`.
fn plain(name: &str) -> String {
    let name = name.trim();
    let class = name
        .strip_prefix("org.apache.flink.")
        .and_then(|rest| rest.rsplit('.').next());
    match class {
        None => name.to_ascii_lowercase(),
        Some(class) => {
            let small = class.to_ascii_lowercase();
            format!("class:{}", small.strip_suffix("factory").unwrap_or(&small))
        }
    }
}

#[cfg(test)]
mod tests;

//! The cases that tests run in: each backend with each place for its snapshots, through either API.
//!
//! A test is a function `fn(&World)`, so a case costs a shim and nothing else. `ask!`, `try_ask!` and `all!` are the only places where it matters
//! which API a test goes through. A case of another backend is a constant here and two lines in `conformance!`.

use aquifer_state::{BackendKind, SnapshotStorage};

/// A backend, and where its snapshots go.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    pub kind: BackendKind,
    pub storage: SnapshotStorage,
    /// Of `rocksdb`: files that a completed checkpoint has are named again.
    pub incremental: bool,
}

impl Case {
    pub const HASHMAP_MEMORY_ASYNC: Self = Self::memory(true);
    pub const HASHMAP_MEMORY_SYNC: Self = Self::memory(false);
    /// Never inline: whoever looks for files finds them.
    pub const HASHMAP_FILES_ASYNC: Self = Self::files(BackendKind::Hashmap, 0, true);
    /// Small snapshots inline, others in files.
    pub const HASHMAP_FILES_SYNC: Self = Self::files(BackendKind::Hashmap, 2 << 10, false);
    pub const FORST: Self = Self::files(BackendKind::Forst, 0, true);
    /// Snapshots are rows.
    #[cfg(feature = "rocksdb")]
    pub const ROCKSDB_FULL: Self = Self::files(BackendKind::Rocksdb, 0, true);
    /// Snapshots are RocksDB's files.
    #[cfg(feature = "rocksdb")]
    pub const ROCKSDB_INCREMENTAL: Self = Self {
        incremental: true,
        ..Self::ROCKSDB_FULL
    };

    const fn memory(asynchronous: bool) -> Self {
        Self {
            kind: BackendKind::Hashmap,
            storage: SnapshotStorage::JobManager {
                state_bytes_max: 64 << 20,
                total_bytes_max: 256 << 20,
                asynchronous,
            },
            incremental: false,
        }
    }

    pub const fn files(kind: BackendKind, inline_bytes_max: u64, asynchronous: bool) -> Self {
        Self {
            kind,
            storage: SnapshotStorage::FileSystem {
                inline_bytes_max,
                asynchronous,
            },
            incremental: false,
        }
    }
}

/// The backends of this build.
pub const BACKENDS: &[BackendKind] = &[
    BackendKind::Hashmap,
    BackendKind::Forst,
    #[cfg(feature = "rocksdb")]
    BackendKind::Rocksdb,
];

/// The backend that a job goes on with that has had enough of this one.
pub fn after(kind: BackendKind) -> BackendKind {
    let at = BACKENDS.iter().position(|known| *known == kind);
    BACKENDS[(at.unwrap() + 1) % BACKENDS.len()]
}

/// Runs test functions, `fn(&World)`, in every case through both APIs.
macro_rules! conformance {
    ($($test:ident),* $(,)?) => {
        crate::cases::conformance! { @case hashmap_memory_async_v2 HASHMAP_MEMORY_ASYNC true $($test)* }
        crate::cases::conformance! { @case hashmap_memory_async_v1 HASHMAP_MEMORY_ASYNC false $($test)* }
        crate::cases::conformance! { @case hashmap_memory_sync_v2 HASHMAP_MEMORY_SYNC true $($test)* }
        crate::cases::conformance! { @case hashmap_memory_sync_v1 HASHMAP_MEMORY_SYNC false $($test)* }
        crate::cases::conformance! { @case hashmap_files_async_v2 HASHMAP_FILES_ASYNC true $($test)* }
        crate::cases::conformance! { @case hashmap_files_async_v1 HASHMAP_FILES_ASYNC false $($test)* }
        crate::cases::conformance! { @case hashmap_files_sync_v2 HASHMAP_FILES_SYNC true $($test)* }
        crate::cases::conformance! { @case hashmap_files_sync_v1 HASHMAP_FILES_SYNC false $($test)* }
        crate::cases::conformance! { @case forst_v2 FORST true $($test)* }
        crate::cases::conformance! { @case forst_v1 FORST false $($test)* }
        #[cfg(feature = "rocksdb")]
        crate::cases::conformance! { @case rocksdb_full_v2 ROCKSDB_FULL true $($test)* }
        #[cfg(feature = "rocksdb")]
        crate::cases::conformance! { @case rocksdb_full_v1 ROCKSDB_FULL false $($test)* }
        #[cfg(feature = "rocksdb")]
        crate::cases::conformance! { @case rocksdb_incremental_v2 ROCKSDB_INCREMENTAL true $($test)* }
        #[cfg(feature = "rocksdb")]
        crate::cases::conformance! { @case rocksdb_incremental_v1 ROCKSDB_INCREMENTAL false $($test)* }
    };
    (@case $module:ident $case:ident $asynchronous:literal $($test:ident)*) => {
        mod $module {
            $(
                #[test]
                fn $test() {
                    let case = crate::cases::Case::$case;
                    super::$test(&crate::world::World::of(case, $asynchronous));
                }
            )*
        }
    };
}
pub(crate) use conformance;

/// The answer of a method that both APIs have: awaited, or of `sync()`.
macro_rules! try_ask {
    ($worker:expr, $handle:ident . $method:ident ( $($argument:expr),* $(,)? )) => {
        if $worker.is_v2() {
            $worker.run($handle.$method($($argument),*))
        } else {
            $handle.sync().$method($($argument),*)
        }
    };
}
pub(crate) use try_ask;

/// The same, which must not be an error.
macro_rules! ask {
    ($($call:tt)*) => { crate::cases::try_ask!($($call)*).unwrap() };
}
pub(crate) use ask;

/// All items of a method that is a stream in one API and an iterator in the other.
macro_rules! all {
    ($worker:expr, $handle:ident . $method:ident ( $($argument:expr),* $(,)? )) => {
        if $worker.is_v2() {
            $worker.collect($handle.$method($($argument),*))
        } else {
            $handle.sync().$method($($argument),*).collect::<Result<Vec<_>, _>>().unwrap()
        }
    };
}
pub(crate) use all;

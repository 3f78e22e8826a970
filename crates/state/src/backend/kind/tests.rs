//! Every combination of old and new keys has one outcome.

use super::*;
use crate::serializer::StateSchema;

use BackendKind::{Forst, Hashmap, Rocksdb};
use StorageKind::{FileSystem, JobManager};

/// backend, storage, whether there is a directory, and what is chosen or what the error says.
type Case<'a> = (
    Option<&'a str>,
    Option<&'a str>,
    bool,
    Result<(BackendKind, StorageKind), &'a str>,
);

#[test]
fn storage_is_loaded_as_flink_does() {
    let needs_files = "writes files";
    let no_directory = "execution.checkpointing.dir is not set";
    let cases: &[Case<'_>] = &[
        // Nothing is said.
        (None, None, false, Ok((Forst, FileSystem))),
        (None, None, true, Ok((Forst, FileSystem))),
        // Names of today decide the backend only; a directory decides the storage.
        (Some("hashmap"), None, false, Ok((Hashmap, JobManager))),
        (Some("hashmap"), None, true, Ok((Hashmap, FileSystem))),
        (Some("rocksdb"), None, false, Ok((Rocksdb, FileSystem))),
        (Some("rocksdb"), None, true, Ok((Rocksdb, FileSystem))),
        (Some("forst"), None, false, Ok((Forst, FileSystem))),
        (Some("forst"), None, true, Ok((Forst, FileSystem))),
        // A storage that is asked for is given where it can be.
        (
            Some("hashmap"),
            Some("jobmanager"),
            false,
            Ok((Hashmap, JobManager)),
        ),
        (
            Some("hashmap"),
            Some("jobmanager"),
            true,
            Ok((Hashmap, JobManager)),
        ),
        (
            Some("hashmap"),
            Some("filesystem"),
            true,
            Ok((Hashmap, FileSystem)),
        ),
        (
            Some("hashmap"),
            Some("filesystem"),
            false,
            Err(no_directory),
        ),
        (
            Some("rocksdb"),
            Some("filesystem"),
            true,
            Ok((Rocksdb, FileSystem)),
        ),
        (
            Some("rocksdb"),
            Some("filesystem"),
            false,
            Err(no_directory),
        ),
        (Some("rocksdb"), Some("jobmanager"), false, Err(needs_files)),
        (Some("rocksdb"), Some("jobmanager"), true, Err(needs_files)),
        (
            Some("forst"),
            Some("filesystem"),
            true,
            Ok((Forst, FileSystem)),
        ),
        (Some("forst"), Some("jobmanager"), true, Err(needs_files)),
        (None, Some("jobmanager"), true, Err(needs_files)),
        (None, Some("filesystem"), true, Ok((Forst, FileSystem))),
        // Old names decide both, whatever else is said.
        (Some("jobmanager"), None, false, Ok((Hashmap, JobManager))),
        (Some("jobmanager"), None, true, Ok((Hashmap, JobManager))),
        (
            Some("jobmanager"),
            Some("jobmanager"),
            true,
            Ok((Hashmap, JobManager)),
        ),
        (
            Some("jobmanager"),
            Some("filesystem"),
            true,
            Ok((Hashmap, JobManager)),
        ),
        (Some("filesystem"), None, true, Ok((Hashmap, FileSystem))),
        (Some("filesystem"), None, false, Err(no_directory)),
        (
            Some("filesystem"),
            Some("filesystem"),
            true,
            Ok((Hashmap, FileSystem)),
        ),
        (
            Some("filesystem"),
            Some("jobmanager"),
            true,
            Ok((Hashmap, FileSystem)),
        ),
        // Capitals and blanks do not matter.
        (
            Some(" HashMap "),
            Some("JobManager"),
            true,
            Ok((Hashmap, JobManager)),
        ),
        (
            Some("ROCKSDB"),
            Some(" FileSystem"),
            true,
            Ok((Rocksdb, FileSystem)),
        ),
        // Classes of Flink.
        (
            Some("org.apache.flink.runtime.state.memory.MemoryStateBackendFactory"),
            None,
            true,
            Ok((Hashmap, JobManager)),
        ),
        (
            Some("org.apache.flink.runtime.state.filesystem.FsStateBackendFactory"),
            None,
            true,
            Ok((Hashmap, FileSystem)),
        ),
        (
            Some("org.apache.flink.runtime.state.hashmap.HashMapStateBackendFactory"),
            None,
            true,
            Ok((Hashmap, FileSystem)),
        ),
        (
            Some("org.apache.flink.contrib.streaming.state.EmbeddedRocksDBStateBackendFactory"),
            None,
            true,
            Ok((Rocksdb, FileSystem)),
        ),
        (
            Some("org.apache.flink.contrib.streaming.state.RocksDBStateBackendFactory"),
            None,
            true,
            Ok((Rocksdb, FileSystem)),
        ),
        (
            Some("org.apache.flink.state.forst.ForStStateBackendFactory"),
            None,
            true,
            Ok((Forst, FileSystem)),
        ),
        (
            Some("hashmap"),
            Some("org.apache.flink.runtime.state.storage.JobManagerCheckpointStorage"),
            true,
            Ok((Hashmap, JobManager)),
        ),
        (
            Some("hashmap"),
            Some("org.apache.flink.runtime.state.storage.FileSystemCheckpointStorage"),
            true,
            Ok((Hashmap, FileSystem)),
        ),
        // Nothing else is a name.
        (
            Some("heap"),
            None,
            true,
            Err("state.backend.type is `heap`"),
        ),
        (Some(""), None, true, Err("state.backend.type is ``")),
        (
            Some("com.example.MyBackendFactory"),
            None,
            true,
            Err("com.example.MyBackendFactory"),
        ),
        (
            Some("MemoryStateBackend"),
            None,
            true,
            Err("`MemoryStateBackend`"),
        ),
        (
            Some("org.apache.flink.Unknown"),
            None,
            true,
            Err("org.apache.flink.Unknown"),
        ),
        (
            Some("hashmap"),
            Some("s3"),
            true,
            Err("execution.checkpointing.storage is `s3`"),
        ),
        (
            Some("jobmanager"),
            Some("s3"),
            true,
            Err("execution.checkpointing.storage is `s3`"),
        ),
    ];
    for (backend, storage, directory, expected) in cases {
        let directory = directory.then_some("file:///checkpoints");
        let what = format!("{backend:?} {storage:?} {directory:?}");
        match (choose(*backend, *storage, directory), expected) {
            (Ok((kind, storage, _)), Ok(expected)) => {
                assert_eq!((kind, storage), *expected, "{what}")
            }
            (Err(StateError::Usage(text)), Err(part)) => {
                assert!(text.contains(part), "{what}: {text}")
            }
            (found, _) => panic!("{what}: {found:?}, expected {expected:?}"),
        }
    }
}

#[test]
fn what_is_overruled_or_lost_is_said() {
    let notes = |backend, storage, directory| choose(backend, storage, directory).unwrap().2;
    let there = Some("file:///c");
    assert!(notes(Some("filesystem"), None, there).is_empty());
    assert!(notes(Some("jobmanager"), Some("jobmanager"), there).is_empty());
    let overruled = notes(Some("jobmanager"), Some("filesystem"), there);
    assert!(
        matches!(&overruled[..], [one] if one.contains("`filesystem` is not used") && one.contains("`jobmanager`")),
        "{overruled:?}"
    );
    for nowhere in [None, Some(""), Some("  ")] {
        let lost = notes(None, None, nowhere);
        assert!(
            matches!(&lost[..], [one] if one.contains("in memory")),
            "{lost:?}"
        );
    }
}

#[test]
fn names_go_both_ways() {
    for kind in [Hashmap, Rocksdb, Forst] {
        assert_eq!(kind.name().parse::<BackendKind>().unwrap(), kind);
    }
    for kind in [JobManager, FileSystem] {
        assert_eq!(kind.name().parse::<StorageKind>().unwrap(), kind);
        assert_eq!(SnapshotStorage::from(kind).kind(), kind);
    }
}

#[test]
fn limits_are_those_of_the_jobmanager_only_and_exact() {
    let state = StateDescription {
        schema: StateSchema::raw("x"),
        ..StateDescription::raw("7-x", "counts", Default::default(), "x")
    };
    let memory = SnapshotStorage::from(JobManager);
    assert!(memory.check_state(&state, 5_242_880).is_ok());
    let error = memory.check_state(&state, 5_242_881).unwrap_err();
    assert!(matches!(error, StateError::Limit(_)));
    assert_eq!(
        error.to_string(),
        "State `counts` of operator `7-x` is 5242881 bytes, more than the 5242880 that storage `jobmanager` takes for one state. Set \
         execution.checkpointing.storage to filesystem, or raise execution.checkpointing.max-memory-state-size."
    );
    assert!(memory.check_total(10 << 20).is_ok());
    assert!(matches!(
        memory.check_total((10 << 20) + 1),
        Err(StateError::Limit(_))
    ));
    let files = SnapshotStorage::from(FileSystem);
    assert!(files.check_state(&state, u64::MAX).is_ok() && files.check_total(u64::MAX).is_ok());
}

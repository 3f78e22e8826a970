//! Where snapshots go: into the metadata up to a limit, into files above a threshold.

use aquifer_state::{BackendKind, SnapshotStorage, StateError};
use aquifer_store::TableId;
use aquifer_testkit::{RequestKind, Rng};

use crate::backends::table;
use crate::cases::Case;
use crate::world::{Saved, Worker, World};

const STATE_BYTES_MAX: usize = SnapshotStorage::STATE_BYTES_MAX as usize;

fn memory(state_bytes_max: u64, total_bytes_max: u64, asynchronous: bool) -> World {
    let world = World::of(Case::HASHMAP_MEMORY_ASYNC, true);
    world.storage.set(SnapshotStorage::JobManager {
        state_bytes_max,
        total_bytes_max,
        asynchronous,
    });
    world
}

/// Rows of a table with so many bytes of keys and values, in several key groups.
fn fill(worker: &Worker, table: TableId, bytes: usize) {
    let (piece, mut rng) = (100_000, Rng::new(7));
    let mut left = bytes;
    for i in 0u64.. {
        let size = left.min(piece);
        if size == 0 {
            break;
        }
        let key = i.to_be_bytes();
        // The last row may be too small for a key of eight bytes: then it is a key and nothing else.
        let key = &key[..size.min(8)];
        // Nothing that can be compressed.
        let value: Vec<u8> = (key.len()..size).map(|_| rng.below(256) as u8).collect();
        worker
            .access
            .put(table, (i % 16) as u16, key, &value)
            .unwrap();
        left -= size;
    }
}

/// Asks for a checkpoint and returns why it failed.
fn failed(worker: &Worker, id: u64) -> StateError {
    worker.begin(id);
    worker.finished(id).unwrap_err()
}

#[test]
fn a_state_beyond_the_limit_of_jobmanager_storage_is_refused() {
    for asynchronous in [true, false] {
        let world = memory(
            SnapshotStorage::STATE_BYTES_MAX,
            SnapshotStorage::TOTAL_BYTES_MAX,
            asynchronous,
        );
        let worker = world.worker();
        let counts = table(&worker, "counts", false);
        fill(&worker, counts, STATE_BYTES_MAX);
        let saved = worker.checkpoint(1);
        assert!(saved.keyed[0].1.inline_bytes() > 0);

        worker.access.put(counts, 3, b"", b"1").unwrap();
        let error = failed(&worker, 2);
        assert!(matches!(error, StateError::Limit(_)), "{error:?}");
        assert_eq!(
            error.to_string(),
            "State `counts` of operator `op` is 5242881 bytes, more than the 5242880 that storage `jobmanager` takes for one state. \
             Set execution.checkpointing.storage to filesystem, or raise execution.checkpointing.max-memory-state-size."
        );
        // The state is what it was, and the next checkpoint is whole.
        let last = worker.access.get_blocking(counts, 3, b"").unwrap();
        assert_eq!(last.as_deref(), Some(&b"1"[..]));
        worker.access.delete(counts, 3, b"").unwrap();
        let saved = worker.checkpoint(3);
        let next = world.restore(&saved);
        let counts = table(&next, "counts", false);
        let value = next.access.get_blocking(counts, 1, &1u64.to_be_bytes());
        assert_eq!(value.unwrap().unwrap().len(), 100_000 - 8);
    }
}

#[test]
fn the_limit_is_of_one_state_and_all_together_have_their_own() {
    let world = memory(1000, 2500, true);
    let worker = world.worker();
    let states: Vec<_> = ["a", "b", "c"]
        .into_iter()
        .map(|name| table(&worker, name, name == "b"))
        .collect();
    fill(&worker, states[0], 1000);
    fill(&worker, states[1], 1000);
    worker.checkpoint(1);
    fill(&worker, states[2], 500);
    worker.checkpoint(2);
    // A time counts as eight bytes.
    worker
        .access
        .put_at(states[2], 9, b"", b"", Some(1))
        .unwrap();
    let error = failed(&worker, 3);
    assert!(matches!(error, StateError::Limit(_)), "{error:?}");
    assert_eq!(
        error.to_string(),
        "The state of a worker is 2508 bytes, more than the 2500 that storage `jobmanager` takes of one worker. \
         Set execution.checkpointing.storage to filesystem, or raise pekko.framesize."
    );
    fill(&worker, states[0], 1001);
    let error = failed(&worker, 4).to_string();
    assert!(
        error.contains("State `a` of operator `op` is 1001 bytes"),
        "{error}"
    );
}

#[test]
fn small_snapshots_lie_in_the_metadata() {
    let inline = |bytes| SnapshotStorage::FileSystem {
        inline_bytes_max: bytes,
        asynchronous: true,
    };
    let world = World::hashmap(true);
    let mut expected = Vec::new();
    let fill_one = |worker: &Worker| {
        let rows = table(worker, "rows", false);
        fill(worker, rows, 40_000);
        rows
    };
    let bytes = |saved: &Saved| -> u64 {
        let files = &saved.keyed[0].1.files.files;
        files.iter().map(|file| file.size_bytes).sum()
    };
    let restored = |saved: &Saved| {
        let worker = world.restore(saved);
        table(&worker, "rows", false);
        worker.rows("rows")
    };
    // Storage `filesystem` without a threshold: always files.
    world.storage.set(inline(0));
    let worker = world.worker();
    fill_one(&worker);
    let in_files = worker.checkpoint(1);
    assert_eq!(in_files.keyed[0].1.inline, []);
    let size = bytes(&in_files);
    assert!(size > 0);
    expected.extend(worker.rows("rows"));

    for (threshold, is_inline) in [(size - 1, false), (size, false), (size + 1, true)] {
        world.storage.set(inline(threshold));
        let before = world.objects.counts().bytes_written;
        let worker = world.worker();
        fill_one(&worker);
        let saved = worker.checkpoint(1);
        let part = &saved.keyed[0].1;
        assert_eq!(part.inline_bytes(), if is_inline { size } else { 0 });
        let written = world.objects.counts().bytes_written - before;
        assert_eq!(written, if is_inline { 0 } else { size });
        let mut named = 0;
        part.for_each_path(&mut |_, _| named += 1);
        assert_eq!(named == 0, is_inline);
        assert_eq!(restored(&saved), expected, "threshold {threshold}");
        // What was inline is read by the other backend, too.
        world.kind.set(BackendKind::Forst);
        assert_eq!(restored(&saved), expected, "threshold {threshold}");
        world.kind.set(BackendKind::Hashmap);
    }
}

#[test]
fn the_threshold_has_a_bound() {
    let world = World::hashmap(true);
    world.storage.set(SnapshotStorage::FileSystem {
        inline_bytes_max: SnapshotStorage::INLINE_BYTES_LIMIT,
        asynchronous: true,
    });
    world.try_worker().unwrap();
    world.storage.set(SnapshotStorage::FileSystem {
        inline_bytes_max: SnapshotStorage::INLINE_BYTES_LIMIT + 1,
        asynchronous: true,
    });
    let error = world.try_worker().map(|_| ()).unwrap_err();
    assert!(matches!(error, StateError::Usage(_)), "{error:?}");
    for part in [
        "execution.checkpointing.data-inline-threshold",
        "1048577",
        "1048576",
    ] {
        assert!(error.to_string().contains(part), "{error}");
    }
}

#[test]
fn jobmanager_storage_writes_no_files() {
    for asynchronous in [true, false] {
        let world = memory(1 << 20, 2 << 20, asynchronous);
        let worker = world.worker();
        let rows = table(&worker, "rows", true);
        fill(&worker, rows, 300_000);
        let saved = worker.checkpoint(1);
        let part = &saved.keyed[0].1;
        assert!(part.files.files.len() > 1, "the memtable is small");
        assert_eq!(part.files.files.len(), part.inline.len());
        let expected = worker.rows("rows");
        drop(worker);
        let next = world.restore(&saved);
        table(&next, "rows", true);
        assert_eq!(next.rows("rows"), expected);
        assert_eq!(
            world.objects.counts().total(),
            0,
            "nothing was read or written"
        );
        let puts = world.objects.counts().requests(RequestKind::Put);
        assert_eq!(puts, 0);
    }
}

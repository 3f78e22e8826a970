//! States that a checkpoint has and the program has no more: their rows stay, and compactions treat them by the options that the
//! checkpoint's metadata gives.
use std::sync::Arc;
use std::time::Duration;

use aquifer_store::{
    BlockCache, Checkpoint, Environment, FileRef, KeyGroupRange, Lookup, Merge, Store,
    StoreOptions, TableId, TableOptions,
};

use crate::backends::table;
use crate::world::{Saved, World};

fn store(
    world: &World,
    name: &str,
    options: StoreOptions,
    files: Vec<(Checkpoint, KeyGroupRange)>,
) -> Store {
    let environment = Environment::new(
        Arc::new(world.objects.clone()),
        "job/shared".into(),
        world.runtime.handle().clone(),
        BlockCache::new(64 << 10),
        name,
    );
    Store::open(environment, options, files).unwrap()
}

fn list() -> TableOptions {
    TableOptions {
        ordered: true,
        merge: Merge::Append,
        ..TableOptions::default()
    }
}

/// Lists whose operands lie in as many files as `rounds`.
fn scattered(world: &World, lists: TableId, rounds: u8) -> Checkpoint {
    let options = StoreOptions {
        l0_files_max: 100,
        ..world.options.clone()
    };
    let mut store = store(world, "lists", options, vec![]);
    store.create_table(lists, list()).unwrap();
    let mut files = Checkpoint::default();
    for round in 0..rounds {
        for key in 0..50u8 {
            store.merge(lists, 0, &[key], &[round]).unwrap();
        }
        store.freeze(lists).unwrap();
        store.checkpoint().unwrap();
        files = loop {
            if let Some(files) = store.poll().unwrap() {
                break files;
            }
            let wait = async { tokio::time::sleep(Duration::from_millis(1)).await };
            world.runtime.block_on(wait);
        };
    }
    files
}

/// Runs a program that has only the other state, until compactions have gone over all files.
fn ran_without_lists(world: &World, saved: &Saved) -> Checkpoint {
    let worker = world.restore(saved);
    let other = table(&worker, "other", false);
    let before = |file: &FileRef| {
        let parts = saved.keyed.iter();
        let mut files = parts.flat_map(|(_, part)| &part.files.files);
        files.any(|old| old.path == file.path)
    };
    let mut last = Checkpoint::default();
    for id in 2..3000u64 {
        for group in [0, 15] {
            let key = id.to_be_bytes();
            worker.access.put(other, group, &key, &[1; 100]).unwrap();
        }
        last = worker.checkpoint(id).keyed.remove(0).1.files;
        // Checkpoints must not outrun the compactions that the test waits for.
        worker.quiet();
        if id >= 30 && !last.files.iter().any(before) {
            return last;
        }
    }
    panic!("files from before are still there: {:?}", last.files);
}

/// What a reader without the merge sees: a value if the operands have been folded, and an error as long as they have not.
fn folded(
    world: &World,
    lists: TableId,
    files: Checkpoint,
) -> Result<Option<Vec<u8>>, aquifer_store::Error> {
    let options = world.options.clone();
    let files = vec![(files, KeyGroupRange::ALL)];
    let mut store = store(world, "reader", options, files);
    store.create_table(lists, TableOptions::default()).unwrap();
    match store.get(lists, 0, &[7])? {
        Lookup::Found(value) => Ok(Some(value.to_vec())),
        Lookup::Absent => Ok(None),
        Lookup::Cold(read) => {
            let mut values = world.runtime.block_on(store.fetch(vec![read]))?;
            Ok(values.remove(0).map(|value| value.to_vec()))
        }
    }
}

/// The metadata of checkpoints used to say of a list that it had no merge. When a restored program did not have the list any more,
/// nobody said otherwise, and its operands were carried from file to file for ever.
#[test]
fn a_list_that_nobody_registers_is_compacted_by_its_rule() {
    let world = World::forst(true);
    let worker = world.worker();
    let lists = table(&worker, "lists", true);
    table(&worker, "other", false);
    let mut saved = worker.checkpoint(1);
    drop(worker);
    let files = scattered(&world, lists, 6);
    assert_eq!(files.files.len(), 6);
    saved.keyed[0].1.files = files;
    let mut run_with = |options: TableOptions| {
        let described = saved.tables.iter_mut().find(|(_, id)| *id == lists);
        described.unwrap().0.options = options;
        ran_without_lists(&world, &saved)
    };
    let unfolded = run_with(TableOptions::default());
    assert!(folded(&world, lists, unfolded).is_err());
    let files = run_with(list());
    let value = folded(&world, lists, files).unwrap();
    assert_eq!(value.as_deref(), Some(&[0, 1, 2, 3, 4, 5][..]));
}

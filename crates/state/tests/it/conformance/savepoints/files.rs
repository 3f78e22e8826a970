//! Writing savepoints of checkpoints, reading, moving and deleting them.
use std::collections::BTreeMap;
use std::sync::Arc;

use aquifer_state::StateError;
use aquifer_state::checkpoint::{
    CheckpointMetadata, CheckpointStorage, ForeignCheckpoint, SavepointFormat, SavepointLocation,
    SavepointSource, write_savepoint,
};
use aquifer_store::{BackgroundThreads, BlockCache, Environment, Executor, Job};
use bytes::Bytes;
use futures_util::TryStreamExt;
use futures_util::future::BoxFuture;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};

use crate::world::World;

/// The address of the object store.
pub const ROOT: &str = "memory://world";

fn location(world: &World, name: &str) -> SavepointLocation {
    let directory = Path::from(format!("savepoints/{name}"));
    SavepointLocation::in_store(Arc::new(world.objects.clone()), ROOT, directory)
}

/// Makes no pauses before it tries again, so that what fails for good is over soon.
struct Impatient(Arc<dyn Executor>);

impl Executor for Impatient {
    fn start(&self, name: &'static str, job: Job) {
        self.0.start(name, job);
    }

    fn block_on(&self, future: BoxFuture<'_, ()>) {
        self.0.block_on(future);
    }

    fn threads(&self) -> BackgroundThreads {
        self.0.threads()
    }

    fn skips_pauses(&self) -> bool {
        true
    }
}

/// What savepoints are written and read in.
pub fn environment(world: &World) -> Environment {
    let mut environment = Environment::new(
        Arc::new(world.objects.clone()),
        "job/shared".into(),
        world.runtime.handle().clone(),
        BlockCache::new(1 << 20),
        "reader",
    );
    environment.executor = Arc::new(Impatient(Arc::clone(&environment.executor)));
    environment.temporary_directories = world.rocksdb.local_directories.clone();
    let time_ms = Arc::clone(&world.time_ms);
    environment.clock = Arc::new(move || time_ms.load(std::sync::atomic::Ordering::Relaxed));
    environment
}

/// Writes a savepoint of a checkpoint.
pub fn try_write(
    world: &World,
    metadata: &CheckpointMetadata,
    format: SavepointFormat,
    name: &str,
) -> Result<CheckpointMetadata, StateError> {
    let storage = CheckpointStorage::new(Arc::new(world.objects.clone()), "job".into());
    let source = SavepointSource {
        metadata,
        storage: &storage,
        root: ROOT,
    };
    let (to, environment) = (location(world, name), environment(world));
    let writing = write_savepoint(source, &to, format, &environment, Arc::new(|_| ()));
    world.runtime.block_on(writing)
}

/// Writes a savepoint that names nothing outside of it, and says what a job finds in it.
pub fn written(
    world: &World,
    metadata: &CheckpointMetadata,
    format: SavepointFormat,
    name: &str,
) -> CheckpointMetadata {
    let written = try_write(world, metadata, format, name).unwrap();
    let mut paths = Vec::new();
    written.for_each_path(&mut |path, _| paths.push(path.to_owned()));
    assert!(paths.iter().all(|path| path.starts_with("./")), "{paths:?}");
    read(world, &format!("savepoints/{name}"))
}

/// The savepoint in a directory, if there is one.
pub fn found(world: &World, directory: &str) -> Option<ForeignCheckpoint> {
    let objects = Arc::new(world.objects.clone());
    let finding = ForeignCheckpoint::savepoint_in(objects, ROOT, Path::from(directory));
    world.runtime.block_on(finding).unwrap()
}

/// What a job restores from a savepoint.
pub fn read(world: &World, directory: &str) -> CheckpointMetadata {
    found(world, directory)
        .expect("the savepoint is there")
        .metadata
}

/// All objects below a directory, with what they hold.
pub fn objects_below(world: &World, directory: &str) -> BTreeMap<String, Bytes> {
    let path = Path::from(directory);
    let listing = async {
        let listed = world.objects.list(Some(&path)).map_ok(|meta| meta.location);
        let listed: Vec<Path> = listed.try_collect().await.unwrap();
        let mut objects = BTreeMap::new();
        for path in listed {
            let body = world
                .objects
                .get(&path)
                .await
                .unwrap()
                .bytes()
                .await
                .unwrap();
            objects.insert(path.to_string(), body);
        }
        objects
    };
    world.runtime.block_on(listing)
}

/// Deletes everything below a directory.
pub fn delete_below(world: &World, directory: &str) {
    for path in objects_below(world, directory).into_keys() {
        let path = Path::from(path);
        world.runtime.block_on(world.objects.delete(&path)).unwrap();
    }
}

/// Moves everything from one directory to another.
pub fn relocate(world: &World, from: &str, to: &str) {
    for (path, body) in objects_below(world, from) {
        let moved = Path::from(path.replacen(from, to, 1));
        let put = world.objects.put(&moved, body.into());
        world.runtime.block_on(put).unwrap();
    }
    delete_below(world, from);
}

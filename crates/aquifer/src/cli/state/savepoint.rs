//! `aquifer state savepoint`: writes the state of a checkpoint into a directory of its own.

use std::sync::Arc;

use aquifer::runner::RunError;
use aquifer_state::checkpoint::{
    ForeignCheckpoint, SavepointFormat, SavepointLocation, write_savepoint,
};
use aquifer_store::{BlockCache, Environment};
use parking_lot::Mutex;

use super::arguments::{SavepointArguments, SavepointType};
use super::output::Counting;
use super::{CACHE_BYTES, failed, nothing, prepared, unreadable};
use crate::cli::clock;
use crate::cli::screen::Screen;

/// Writes the savepoint and prints where it is.
pub fn run(arguments: &SavepointArguments, screen: &Screen) -> Result<(), RunError> {
    let (settings, runtime) = prepared(&arguments.checkpoint)?;
    let opening = ForeignCheckpoint::open(&arguments.checkpoint.uri, &settings);
    let from = runtime.block_on(opening).map_err(unreadable)?;
    if !from.metadata.has_state() {
        let location = &arguments.checkpoint.uri;
        return Err(failed(nothing::why(
            location,
            &settings,
            &from.metadata,
            &runtime,
        )?));
    }
    let now_ms = clock::wall();
    let name = SavepointLocation::name(&from.metadata, now_ms());
    let to =
        SavepointLocation::below(&arguments.directory, &settings, &name).map_err(unreadable)?;
    let format = match arguments.kind {
        SavepointType::Canonical => SavepointFormat::Canonical,
        SavepointType::Native => SavepointFormat::Native,
    };
    let mut environment = Environment::new(
        from.storage.objects.clone(),
        from.storage.shared(),
        runtime.handle().clone(),
        BlockCache::new(CACHE_BYTES),
        "savepoint",
    );
    environment.clock = now_ms;
    let counting = Arc::new(Mutex::new(Counting::new(screen.clone(), false)));
    let progress = {
        let counting = Arc::clone(&counting);
        Arc::new(move |done| counting.lock().at(done))
    };
    let writing = write_savepoint(from.source(), &to, format, &environment, progress);
    let written = runtime.block_on(writing);
    counting.lock().end();
    written.map_err(unreadable)?;
    if from.metadata.finished {
        screen.tell(
            "note: the job has finished: its state can be read, but no job goes on from this savepoint",
        );
    }
    screen.answer(to.uri());
    Ok(())
}

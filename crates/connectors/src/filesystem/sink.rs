//! Writing a table of files exactly once.
//!
//! A writer's rows go to hidden files; a barrier makes them durable; the commit of a complete checkpoint renames them. What an
//! earlier attempt left hidden is removed when the next one starts, after the parts of the restored checkpoint were committed.
//! On an object store without renaming, a commit copies and deletes. A multipart upload that a crash cut off on S3 leaves no
//! object but uses space until a lifecycle rule of the bucket ends it.

use std::sync::Arc;

use aquifer_dataflow::JobError;
use aquifer_dataflow::connector::{ConnectorContext, Sink, SinkWriter};
use futures_util::{StreamExt, TryStreamExt, stream};

use super::commit::{self, Part};
use super::location::Opened;
use super::writer::FileWriter;
use super::{Files, part_name};

/// Commits and removals under way at a time.
const REQUESTS_MAX: usize = 16;

/// A table of files to write.
pub(super) struct FileSink {
    files: Arc<Files>,
    file_bytes: u64,
}

impl FileSink {
    pub(super) fn new(files: Files, file_bytes: u64) -> Self {
        Self {
            files: Arc::new(files),
            file_bytes,
        }
    }
}

impl Sink for FileSink {
    fn writer(&self, context: ConnectorContext) -> Result<Box<dyn SinkWriter>, JobError> {
        let opened = self.files.location.open_directory()?;
        Ok(Box::new(FileWriter::new(
            Arc::clone(&self.files),
            opened,
            self.file_bytes,
            context,
        )))
    }

    fn commit(
        &self,
        committables: Vec<Vec<u8>>,
        context: &ConnectorContext,
    ) -> Result<(), JobError> {
        if committables.is_empty() {
            return Ok(());
        }
        let mut parts = Vec::with_capacity(committables.len());
        for bytes in &committables {
            parts.push(Part::decode(bytes).ok_or_else(|| {
                JobError::failed(format!(
                    "a committable of table '{}' must name a part, found {bytes:?}",
                    self.files.table
                ))
            })?);
        }
        let opened = &self.files.location.open_directory()?;
        let commits = parts.iter().map(|part| commit::commit(opened, part));
        context.runtime.block_on(
            stream::iter(commits)
                .buffer_unordered(REQUESTS_MAX)
                .try_collect::<()>(),
        )
    }

    fn recover(&self, context: &ConnectorContext) -> Result<(), JobError> {
        let opened = &self.files.location.open_directory()?;
        let stem = part_name::stem(&context.run_id, &context.operator);
        context
            .runtime
            .block_on(remove_leftovers(opened, &stem, context.attempt))?;
        if let Some(directory) = self.files.location.local() {
            let depth = self.files.partitioned_by.len();
            commit::remove_staged(&directory, depth, &stem, context.attempt)?;
        }
        Ok(())
    }

    fn accepts_updates(&self) -> bool {
        false
    }
}

/// Removes the hidden files of this sink that other attempts wrote.
async fn remove_leftovers(opened: &Opened, stem: &str, attempt: u64) -> Result<(), JobError> {
    let leftovers = opened.list().await?.into_iter().filter(|(name, _)| {
        part_name::attempt_of_hidden(name, stem).is_some_and(|writer| writer != attempt)
    });
    stream::iter(leftovers.map(|(_, meta)| commit::delete(opened, meta.location)))
        .buffer_unordered(REQUESTS_MAX)
        .try_collect()
        .await
}

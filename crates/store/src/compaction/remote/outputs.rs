//! What a worker checks before it adopts files that another process wrote.
use std::sync::Arc;

use futures_util::stream::{self, StreamExt, TryStreamExt};
use object_store::ObjectStoreExt;
use object_store::path::Path;

use crate::FileRef;
use crate::compaction::picker::CompactionJob;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::objects::request_error;
use crate::sst::file::SstFile;
use crate::sst::new_file::NewFile;
use crate::version::VersionFile;

const CHECKS_AT_ONCE: usize = 16;

/// The prefix of what is written under a claim.
pub(crate) fn prefix_of_claim(task_prefix: &str, claim: u32) -> String {
    format!("{task_prefix}k{claim}")
}

/// Checks that the files are outputs of the job under this claim, lie where they should, keep to the range of the inputs, do not overlap
/// and are there in full length. The files then belong to this store, as if it had written them.
pub(crate) async fn adopt(
    context: &Arc<Context>,
    job: &CompactionJob,
    task_prefix: &str,
    claim: u32,
    files: Vec<FileRef>,
) -> Result<Vec<NewFile>> {
    let inputs = job.inputs();
    let lower = inputs.iter().map(|file| &file.lower).min();
    let upper = inputs.iter().map(|file| &file.upper).max();
    let beginning = format!("{}-", prefix_of_claim(task_prefix, claim));
    let mut last: Option<Arc<VersionFile>> = None;
    for file in &files {
        let wrong = |why: &str| {
            Err(Error::corrupt(format!(
                "{}, an output of another process's compaction, is not adopted: {why}",
                file.path
            )))
        };
        let checked = SstFile::restored(context, file)?;
        let name = checked.path().filename().unwrap_or_default();
        if context.env.directory.clone().join(name) != *checked.path()
            || !name.starts_with(&beginning)
        {
            return wrong("its name is not one that was asked for");
        }
        if file.level != job.output_level {
            return wrong("it is for another level");
        }
        let Some(placed) = VersionFile::new(checked, file.level, file.clip) else {
            return wrong("its clip hides all of it");
        };
        if lower.is_none_or(|lower| placed.lower < *lower)
            || upper.is_none_or(|upper| placed.upper > *upper)
        {
            return wrong("it reaches out of the range of its inputs");
        }
        if last.as_ref().is_some_and(|last| last.upper > placed.lower) {
            return wrong("it overlaps the file before it");
        }
        last = Some(placed);
    }
    stream::iter(files)
        .map(|file| async move {
            let path = Path::from(file.path.as_str());
            let found = context.env.objects.head(&path).await;
            let found = found.map_err(|error| request_error("find", &path, error))?;
            if found.size != file.size_bytes {
                return Err(Error::corrupt(format!(
                    "{path}, an output of another process's compaction, has {} bytes instead of {}",
                    found.size, file.size_bytes
                )));
            }
            SstFile::adopted(context, &file).map(NewFile::adopted)
        })
        .buffered(CHECKS_AT_ONCE)
        .try_collect()
        .await
}

//! The step from hidden to visible, which may be interrupted anywhere and repeated.
//!
//! | hidden file | visible file | what it means | what is done |
//! |---|---|---|---|
//! | there | – | not committed | rename |
//! | there | there | the copy was made, the hidden one not yet deleted | delete the hidden one |
//! | – | there | committed | nothing |
//! | – | – | somebody removed it | error: rows are lost |

use std::path::Path as LocalPath;

use aquifer_dataflow::JobError;
use object_store::path::Path;
use object_store::{Error as ObjectError, ObjectStoreExt};

use super::location::{Opened, failed};
use super::part_name;

const VERSION: u8 = 1;
const PATH_BYTES_MAX: usize = 4_096;

/// A prepared file: what a committable says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Part {
    /// Its visible name, below the table's path.
    pub(super) name: String,
}

impl Part {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        out.extend_from_slice(self.name.as_bytes());
        out
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (&version, name) = bytes.split_first()?;
        let name = std::str::from_utf8(name).ok()?;
        (version == VERSION && !name.is_empty() && name.len() <= PATH_BYTES_MAX).then(|| Self {
            name: name.to_owned(),
        })
    }
}

/// Makes a part visible, however far an earlier commit of it came.
pub(super) async fn commit(opened: &Opened, part: &Part) -> Result<(), JobError> {
    let visible = opened.path(&part.name)?;
    let hidden = opened.path(&part_name::hidden(&part.name))?;
    match (
        exists(opened, &hidden).await?,
        exists(opened, &visible).await?,
    ) {
        (true, false) => opened
            .objects
            .rename(&hidden, &visible)
            .await
            .map_err(|error| failed("make visible", &visible, error)),
        (true, true) => delete(opened, hidden).await,
        (false, true) => Ok(()),
        (false, false) => Err(JobError::failed(format!(
            "the prepared file '{hidden}' must be there to be committed as '{visible}', but neither is; its rows are lost"
        ))),
    }
}

async fn exists(opened: &Opened, path: &Path) -> Result<bool, JobError> {
    match opened.objects.head(path).await {
        Ok(_) => Ok(true),
        Err(ObjectError::NotFound { .. }) => Ok(false),
        Err(error) => Err(failed("look for", path, error)),
    }
}

/// Deletes an object; one that is gone already is fine.
pub(super) async fn delete(opened: &Opened, path: Path) -> Result<(), JobError> {
    match opened.objects.delete(&path).await {
        Ok(()) | Err(ObjectError::NotFound { .. }) => Ok(()),
        Err(error) => Err(failed("delete", &path, error)),
    }
}

/// Removes local files that other attempts were still writing. They have names that the object store does not list.
pub(super) fn remove_staged(
    directory: &LocalPath,
    depth: usize,
    stem: &str,
    attempt: u64,
) -> Result<(), JobError> {
    let wrong = |action: &str, path: &LocalPath, error: std::io::Error| {
        JobError::failed(format!("cannot {action} '{}': {error}", path.display()))
    };
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        // The last file of a partition may just have been removed, and its directory with it.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(wrong("list", directory, error)),
    };
    for entry in entries {
        let entry = entry.map_err(|error| wrong("list", directory, error))?;
        let kind = entry
            .file_type()
            .map_err(|error| wrong("look at", &entry.path(), error))?;
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        if kind.is_dir() {
            if depth > 0 && name.contains('=') {
                remove_staged(&entry.path(), depth - 1, stem, attempt)?;
            }
        } else if name.contains('#')
            && part_name::attempt_of_hidden(name, stem).is_some_and(|writer| writer != attempt)
        {
            match std::fs::remove_file(entry.path()) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(wrong("delete", &entry.path(), error));
                }
                _ => {}
            }
        }
    }
    Ok(())
}

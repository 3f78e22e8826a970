//! Where a table's files are: the object store and the path below it, or the local directory that stands in for one.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use aquifer_dataflow::JobError;
use aquifer_store::objects;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};

use futures_util::TryStreamExt;

/// A table's `path`, not opened yet.
pub(super) struct Location {
    uri: String,
    settings: BTreeMap<String, String>,
}

/// An opened location. Names are relative to `base`.
pub(super) struct Opened {
    pub(super) objects: Arc<dyn ObjectStore>,
    pub(super) base: Path,
}

impl Location {
    pub(super) fn new(uri: String, settings: BTreeMap<String, String>) -> Self {
        Self { uri, settings }
    }

    /// As the user wrote it.
    pub(super) fn uri(&self) -> &str {
        &self.uri
    }

    /// The local path, if it is one.
    pub(super) fn local(&self) -> Option<PathBuf> {
        let uri = self.uri.trim();
        match uri.get(..5) {
            Some(scheme) if scheme.eq_ignore_ascii_case("file:") => {
                let path = uri.get(5..)?;
                let path = path.strip_prefix("//").unwrap_or(path);
                Some(PathBuf::from(percent_decoded(path)?))
            }
            _ if uri.contains("://") => None,
            _ => Some(PathBuf::from(uri)),
        }
    }

    /// Opens the directory for writing; a local one is made if it is missing.
    pub(super) fn open_directory(&self) -> Result<Opened, JobError> {
        let (objects, base) = open(&self.uri, &self.settings)?;
        Ok(Opened { objects, base })
    }

    /// Opens what is there for reading. A path that is a local file is opened as its directory, and its name comes along.
    pub(super) fn open_existing(&self) -> Result<(Opened, Option<String>), JobError> {
        let Some(local) = self.local() else {
            return Ok((self.open_directory()?, None));
        };
        let missing = |why: String| {
            JobError::usage(format!(
                "the path '{}' must be a file or a directory: {why}",
                self.uri
            ))
        };
        let metadata = std::fs::metadata(&local).map_err(|error| missing(error.to_string()))?;
        if metadata.is_dir() {
            return Ok((self.open_directory()?, None));
        }
        let absolute = std::path::absolute(&local).map_err(|error| missing(error.to_string()))?;
        let directory = absolute.parent().and_then(|path| path.to_str());
        let name = absolute.file_name().and_then(|name| name.to_str());
        let (Some(directory), Some(name)) = (directory, name) else {
            return Err(missing("its name is not UTF-8".to_owned()));
        };
        let (objects, base) = open(directory, &self.settings)?;
        Ok((Opened { objects, base }, Some(name.to_owned())))
    }
}

fn open(
    uri: &str,
    settings: &BTreeMap<String, String>,
) -> Result<(Arc<dyn ObjectStore>, Path), JobError> {
    objects::open(uri, settings).map_err(|error| match error.kind {
        aquifer_store::ErrorKind::Usage => JobError::usage(error.to_string()),
        _ => JobError::from(error),
    })
}

impl Opened {
    /// The object of a name below the base. Names come from checkpoints too: one that leads elsewhere is refused.
    pub(super) fn path(&self, name: &str) -> Result<Path, JobError> {
        let whole = match self.base.as_ref() {
            "" => name.to_owned(),
            base => format!("{base}/{name}"),
        };
        Path::parse(&whole).map_err(|error| {
            JobError::failed(format!("'{name}' cannot be the name of a file: {error}"))
        })
    }

    /// The files below the base with their names, ordered by name. If the base itself is an object, its name is empty.
    pub(super) async fn list(&self) -> Result<Vec<(String, ObjectMeta)>, JobError> {
        let prefix = (!self.base.as_ref().is_empty()).then_some(&self.base);
        let found: Vec<ObjectMeta> = self
            .objects
            .list(prefix)
            .try_collect()
            .await
            .map_err(|error| failed("list", &self.base, error))?;
        let mut files: Vec<(String, ObjectMeta)> = found
            .into_iter()
            .filter_map(|meta| {
                let name = match prefix {
                    None => meta.location.as_ref(),
                    Some(base) => meta.location.as_ref().strip_prefix(base.as_ref())?,
                };
                Some((name.trim_start_matches('/').to_owned(), meta))
            })
            .collect();
        if files.is_empty()
            && let Some(base) = prefix
            && let Ok(meta) = self.objects.head(base).await
        {
            files.push((String::new(), meta));
        }
        files.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        Ok(files)
    }
}

/// A request to the object store that did not work.
pub(super) fn failed(action: &str, path: &Path, error: object_store::Error) -> JobError {
    JobError::from(objects::request_error(action, path, error))
}

/// `%20` and its like as the bytes they stand for; `None` if that is not UTF-8.
pub(super) fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((byte, tail)) = rest.split_first() {
        let digits = tail
            .get(..2)
            .and_then(|digits| std::str::from_utf8(digits).ok());
        match digits
            .filter(|_| *byte == b'%')
            .map(|digits| u8::from_str_radix(digits, 16))
        {
            Some(Ok(decoded)) => {
                bytes.push(decoded);
                rest = tail.get(2..).unwrap_or(&[]);
            }
            _ => {
                bytes.push(*byte);
                rest = tail;
            }
        }
    }
    String::from_utf8(bytes).ok()
}

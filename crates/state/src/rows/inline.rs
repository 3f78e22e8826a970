//! Reading files that the metadata holds itself: an object store in front of another one that answers their paths from memory.

use std::fmt;
use std::sync::Arc;

use aquifer_store::Environment;
use async_trait::async_trait;
use futures_util::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    ObjectStoreExt, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

use crate::blocking::wait;
use crate::{KeyedSnapshot, StateError};

/// Inline files in front of a store. They are only ever read.
#[derive(Debug)]
struct WithInline {
    inline: Arc<InMemory>,
    objects: Arc<dyn ObjectStore>,
}

impl fmt::Display for WithInline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} with inline files", self.objects)
    }
}

#[async_trait]
impl ObjectStore for WithInline {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        self.objects.put_opts(location, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.objects.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        if KeyedSnapshot::inline_name(location.as_ref()).is_some() {
            self.inline.get_opts(location, options).await
        } else {
            self.objects.get_opts(location, options).await
        }
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        self.objects.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.objects.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.objects.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.objects.copy_opts(from, to, options).await
    }
}

/// Surroundings in which the inline files of these snapshots are read like others.
pub(crate) fn environment<'a>(
    environment: &Environment,
    snapshots: impl IntoIterator<Item = &'a KeyedSnapshot>,
) -> std::result::Result<Environment, StateError> {
    let mut environment = environment.clone();
    let files: Vec<(Path, PutPayload)> = snapshots
        .into_iter()
        .flat_map(|snapshot| &snapshot.inline)
        .map(|file| {
            let path = Path::from(KeyedSnapshot::inline_path(&file.name));
            (path, file.bytes.clone().into())
        })
        .collect();
    if files.is_empty() {
        return Ok(environment);
    }
    let inline = Arc::new(InMemory::new());
    let memory = Arc::clone(&inline);
    let filling = async move {
        for (path, bytes) in files {
            memory.put(&path, bytes).await?;
        }
        Ok(())
    };
    let filled: Result<()> = wait(&environment.runtime, "opening inline files", filling)?;
    filled.map_err(|error| {
        StateError::Corrupt(format!(
            "an inline file of a checkpoint cannot be opened: {error}"
        ))
    })?;
    environment.objects = Arc::new(WithInline {
        inline,
        objects: Arc::clone(&environment.objects),
    });
    // Paths of inline files lead to no disk.
    environment.local_root = None;
    environment.local_paths = None;
    environment.file_cache = None;
    Ok(environment)
}

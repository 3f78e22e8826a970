//! Single requests on small objects: create-if-absent whose outcome is known in the end, bounded reads, existence.
//!
//! An error of a put says nothing about whether it was applied, and the S3 client repeats requests by itself, so that even
//! "already exists" may speak of one's own put. The answer is always found by reading the name back.

use aquifer_store::objects::request_error;
use aquifer_store::{Error, ErrorKind};
use bytes::Bytes;
use object_store::path::Path;
use object_store::{Error as ObjectError, ObjectStore, ObjectStoreExt, PutMode};

/// No object that we read whole is larger; checked before the body is read.
pub(super) const OBJECT_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// Tries of a request that fails for reasons that may pass. The client of a remote store waits and retries below this.
const TRIES_MAX: usize = 4;

/// How a create-if-absent ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Creation {
    /// The object holds what was to be written.
    Ours,
    /// The object holds something else.
    Taken,
}

/// Creates an object unless its name is taken. With `conditional = false` (a store that ignores the condition, accepted by the user)
/// it looks first and then writes, which protects nobody from a race.
pub(super) async fn create(
    objects: &dyn ObjectStore,
    path: &Path,
    body: &Bytes,
    conditional: bool,
) -> Result<Creation, Error> {
    let mut tries = 1;
    loop {
        let mode = if conditional {
            PutMode::Create
        } else {
            PutMode::Overwrite
        };
        if !conditional && let Some(found) = read(objects, path).await? {
            return Ok(if found == body {
                Creation::Ours
            } else {
                Creation::Taken
            });
        }
        let put = objects
            .put_opts(path, body.clone().into(), mode.into())
            .await;
        let Err(error) = put else {
            return Ok(Creation::Ours);
        };
        match read(objects, path).await? {
            Some(found) if found == body => return Ok(Creation::Ours),
            Some(_) => return Ok(Creation::Taken),
            // Not there: the put failed, or a conflicting request was under way (S3 answers 409 to both).
            None if tries < TRIES_MAX && may_pass(&error) => tries += 1,
            None => return Err(request_error("create", path, error)),
        }
    }
}

/// Claims a name whose body does not tell claimants apart. True only when the claim is certainly ours: a name whose put ended
/// unclear is left to nobody, and the caller moves on to the next one.
pub(super) async fn claim(
    objects: &dyn ObjectStore,
    path: &Path,
    body: Bytes,
    conditional: bool,
) -> Result<bool, Error> {
    let mut tries = 1;
    loop {
        if !conditional && size(objects, path).await?.is_some() {
            return Ok(false);
        }
        let mode = if conditional {
            PutMode::Create
        } else {
            PutMode::Overwrite
        };
        let Err(error) = objects
            .put_opts(path, body.clone().into(), mode.into())
            .await
        else {
            return Ok(true);
        };
        match size(objects, path).await? {
            Some(_) => return Ok(false),
            None if tries < TRIES_MAX && may_pass(&error) => tries += 1,
            None => return Err(request_error("create", path, error)),
        }
    }
}

/// Writes an object whatever was there.
pub(super) async fn overwrite(
    objects: &dyn ObjectStore,
    path: &Path,
    body: Bytes,
) -> Result<(), Error> {
    let mut tries = 1;
    loop {
        match objects.put(path, body.clone().into()).await {
            Ok(_) => return Ok(()),
            Err(error) if tries < TRIES_MAX && may_pass(&error) => tries += 1,
            Err(error) => return Err(request_error("write", path, error)),
        }
    }
}

/// The whole object; `None` when there is none.
pub(super) async fn read(objects: &dyn ObjectStore, path: &Path) -> Result<Option<Bytes>, Error> {
    let mut tries = 1;
    loop {
        let answer = async {
            let answer = objects.get(path).await?;
            let size = answer.meta.size;
            if size > OBJECT_BYTES_MAX {
                Ok(Err(size))
            } else {
                answer.bytes().await.map(Ok)
            }
        };
        match answer.await {
            Ok(Ok(bytes)) => return Ok(Some(bytes)),
            Ok(Err(size)) => {
                let message =
                    format!("`{path}` has {size} bytes, expected at most {OBJECT_BYTES_MAX}");
                return Err(Error {
                    kind: ErrorKind::Corrupt,
                    message,
                    source: None,
                });
            }
            Err(ObjectError::NotFound { .. }) => return Ok(None),
            Err(error) if tries < TRIES_MAX && may_pass(&error) => tries += 1,
            Err(error) => return Err(request_error("read", path, error)),
        }
    }
}

/// The size of an object; `None` when there is none.
pub(super) async fn size(objects: &dyn ObjectStore, path: &Path) -> Result<Option<u64>, Error> {
    let mut tries = 1;
    loop {
        match objects.head(path).await {
            Ok(meta) => return Ok(Some(meta.size)),
            Err(ObjectError::NotFound { .. }) => return Ok(None),
            Err(error) if tries < TRIES_MAX && may_pass(&error) => tries += 1,
            Err(error) => return Err(request_error("read", path, error)),
        }
    }
}

/// The directories below a directory. Only a hint of what there is.
pub(super) async fn directories(
    objects: &dyn ObjectStore,
    path: &Path,
) -> Result<Vec<Path>, Error> {
    list(objects, path)
        .await
        .map(|listing| listing.common_prefixes)
}

/// The objects directly in a directory. Only a hint of what there is.
pub(super) async fn entries(objects: &dyn ObjectStore, path: &Path) -> Result<Vec<Path>, Error> {
    let listing = list(objects, path).await?;
    Ok(listing
        .objects
        .into_iter()
        .map(|meta| meta.location)
        .collect())
}

async fn list(objects: &dyn ObjectStore, path: &Path) -> Result<object_store::ListResult, Error> {
    let mut tries = 1;
    loop {
        match objects.list_with_delimiter(Some(path)).await {
            Ok(listing) => return Ok(listing),
            Err(error) if tries < TRIES_MAX && may_pass(&error) => tries += 1,
            Err(error) => return Err(request_error("list", path, error)),
        }
    }
}

fn may_pass(error: &ObjectError) -> bool {
    matches!(
        error,
        ObjectError::Generic { .. }
            | ObjectError::JoinError { .. }
            | ObjectError::AlreadyExists { .. }
            | ObjectError::Precondition { .. }
    )
}

//! Does this store honour create-if-absent? Commits and fencing stand on it, and some S3 look-alikes accept the condition and
//! overwrite all the same, or check it without a lock. So it is tried once before a job trusts the store.
//!
//! Scratch names are numbered, and only who created one deletes it: several processes may probe at once without taking each
//! other's answers for the store's fault.

use futures_util::future::join_all;
use object_store::path::Path;
use object_store::{Error as ObjectError, ObjectStore, ObjectStoreExt, PutMode, PutOptions};

use super::error::{request_error, usage};
use crate::Error;

/// The configuration key that lets a job run on a store that fails the probe.
pub const ALLOW_UNSAFE_COMMITS: &str = "execution.checkpointing.allow-unsafe-commits";

/// Scratch names tried; others may hold the first ones.
const NAMES_MAX: u32 = 64;
/// Concurrent creates in the race.
const RACERS: usize = 8;
/// Tries of a request that fails for reasons of its own.
const TRIES_MAX: usize = 4;

enum Created {
    Mine,
    Taken,
    Unsupported,
}

/// What the probe found.
#[derive(Clone, Debug)]
pub enum CreateIfAbsent {
    /// Of several conditional puts of one name exactly one succeeds.
    Honoured,
    /// Not so; the error says what was seen and which key accepts it.
    Ignored(Error),
}

/// [`create_if_absent`] for callers who accept nothing else: fails with a `Usage` error when the store does not honour the
/// condition, and with the store's own error when it cannot be asked.
pub async fn probe_create_if_absent(objects: &dyn ObjectStore, base: &Path) -> Result<(), Error> {
    match create_if_absent(objects, base).await? {
        CreateIfAbsent::Honoured => Ok(()),
        CreateIfAbsent::Ignored(error) => Err(error),
    }
}

/// Checks that of several conditional puts of one name exactly one succeeds, one after the other and at the same time.
///
/// Leaves nothing behind; an interrupted probe leaves a few bytes under `_probe/`.
pub async fn create_if_absent(
    objects: &dyn ObjectStore,
    base: &Path,
) -> Result<CreateIfAbsent, Error> {
    if let Some(found) = fault_in_turn(objects, base).await? {
        return Ok(CreateIfAbsent::Ignored(refusal(objects, &found)));
    }
    Ok(match fault_in_race(objects, base).await? {
        Some(found) => CreateIfAbsent::Ignored(refusal(objects, &found)),
        None => CreateIfAbsent::Honoured,
    })
}

async fn fault_in_turn(objects: &dyn ObjectStore, base: &Path) -> Result<Option<String>, Error> {
    for path in scratch_names(base, "turn") {
        match create(objects, &path, "first").await? {
            Created::Taken => continue,
            Created::Unsupported => {
                return Ok(Some("it does not offer conditional puts".to_owned()));
            }
            Created::Mine => {}
        }
        let second = create(objects, &path, "second").await;
        let content = content(objects, &path).await;
        remove(objects, &path).await;
        let found = match (second?, content?.as_deref()) {
            (Created::Taken, Some("first")) => return Ok(None),
            (Created::Mine, _) => "a second conditional put of the same name succeeded",
            (_, _) => "a refused conditional put has changed the object",
        };
        return Ok(Some(found.to_owned()));
    }
    // Each of the names was refused to us: the condition is looked at.
    Ok(None)
}

async fn fault_in_race(objects: &dyn ObjectStore, base: &Path) -> Result<Option<String>, Error> {
    for path in scratch_names(base, "race") {
        let racers: Vec<String> = (0..RACERS).map(|i| format!("racer {i}")).collect();
        let answers = join_all(racers.iter().map(|body| put(objects, &path, body))).await;
        let mut winners = racers
            .iter()
            .zip(&answers)
            .filter(|(_, answer)| answer.is_ok());
        let (Some((winner, _)), more) = (winners.next(), winners.count()) else {
            continue;
        };
        let content = content(objects, &path).await;
        remove(objects, &path).await;
        return Ok(if more > 0 {
            let many = more + 1;
            Some(format!(
                "{many} of {RACERS} conditional puts of one name at the same time succeeded"
            ))
        } else if content?.as_ref() == Some(winner) {
            None
        } else {
            Some("a refused conditional put in a race has changed the object".to_owned())
        });
    }
    Ok(None)
}

fn scratch_names(base: &Path, test: &str) -> impl Iterator<Item = Path> {
    let directory = base.clone().join("_probe");
    (1..=NAMES_MAX).map(move |n| {
        directory
            .clone()
            .join(format!("create-if-absent-{test}-{n:03}"))
    })
}

async fn put(objects: &dyn ObjectStore, path: &Path, body: &str) -> Result<(), ObjectError> {
    let create = PutOptions::from(PutMode::Create);
    objects
        .put_opts(path, body.to_owned().into(), create)
        .await
        .map(|_| ())
}

/// A conditional put, tried again while its outcome is an error of the store. A lost answer to a put that was applied shows as
/// `Taken` on the next try; the caller then only moves on to another name.
async fn create(objects: &dyn ObjectStore, path: &Path, body: &str) -> Result<Created, Error> {
    let mut tries = 1;
    loop {
        match put(objects, path, body).await {
            Ok(()) => return Ok(Created::Mine),
            Err(ObjectError::AlreadyExists { .. }) => return Ok(Created::Taken),
            Err(ObjectError::NotImplemented { .. } | ObjectError::NotSupported { .. }) => {
                return Ok(Created::Unsupported);
            }
            Err(ObjectError::Generic { .. }) if tries < TRIES_MAX => tries += 1,
            Err(error) => return Err(request_error("write", path, error)),
        }
    }
}

async fn content(objects: &dyn ObjectStore, path: &Path) -> Result<Option<String>, Error> {
    let mut tries = 1;
    loop {
        let answer = async { objects.get(path).await?.bytes().await }.await;
        match answer {
            Ok(bytes) => return Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
            Err(ObjectError::NotFound { .. }) => return Ok(None),
            Err(ObjectError::Generic { .. }) if tries < TRIES_MAX => tries += 1,
            Err(error) => return Err(request_error("read", path, error)),
        }
    }
}

/// Best effort: what stays behind is a few bytes under a name that later probes step over.
async fn remove(objects: &dyn ObjectStore, path: &Path) {
    for _ in 0..TRIES_MAX {
        match objects.delete(path).await {
            Ok(()) | Err(ObjectError::NotFound { .. }) => return,
            Err(error) => tracing::debug!(%path, %error, "cannot remove a scratch object"),
        }
    }
}

fn refusal(objects: &dyn ObjectStore, found: &str) -> Error {
    usage(format!(
        "the object store {objects} does not honour create-if-absent: {found}. Two coordinators of one job could then both commit a \
         checkpoint, and results could be lost or doubled. Use a store that honours `If-None-Match: *`, or set \
         `{ALLOW_UNSAFE_COMMITS}: true` if you make sure yourself that never more than one process runs the job"
    ))
}

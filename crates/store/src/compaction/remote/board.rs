//! The directory of one job on the object store: its names, and the requests both sides make there.
//!
//! Objects are created if absent and never changed. A creation whose answer was lost is resolved by reading the name back; what stays
//! unclear is said to be so. Listings are bounded, and names that are not ours are passed over.
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use object_store::path::Path;
use object_store::{Error as ObjectError, ObjectStore, ObjectStoreExt, PutMode};

use super::message::MESSAGE_BYTES_MAX;
use super::offer::{Creation, View};
use crate::error::{Error, Result};
use crate::objects::request_error;

const TRIES_MAX: u32 = 3;
const PAUSE: Duration = Duration::from_millis(100);
/// Objects of a listing that are looked at.
const LISTED_MAX: usize = 100_000;

/// What a name in a job's directory means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Name {
    Job,
    Claim(u32),
    Beat(u32, u64),
    Result,
}

impl Name {
    pub(crate) fn text(self) -> String {
        match self {
            Self::Job => "job".into(),
            Self::Claim(claim) => format!("claim-{claim:06}"),
            Self::Beat(claim, beat) => format!("beat-{claim:06}-{beat:08}"),
            Self::Result => "result".into(),
        }
    }

    /// The way back; only what [`Self::text`] makes is accepted.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let name = match text {
            "job" => Self::Job,
            "result" => Self::Result,
            _ => match text.split_once('-')? {
                ("claim", claim) => Self::Claim(claim.parse().ok()?),
                ("beat", rest) => {
                    let (claim, beat) = rest.split_once('-')?;
                    Self::Beat(claim.parse().ok()?, beat.parse().ok()?)
                }
                _ => return None,
            },
        };
        (name.text() == text).then_some(name)
    }
}

impl View {
    fn add(&mut self, name: Name) {
        match name {
            Name::Job => self.job = true,
            Name::Result => self.result = true,
            Name::Claim(claim) if claim > self.claim => (self.claim, self.beat) = (claim, 0),
            Name::Claim(_) => {}
            // A beat without its claim comes from a listing that is old in parts.
            Name::Beat(claim, beat) if claim > self.claim => {
                (self.claim, self.beat) = (claim, beat)
            }
            Name::Beat(claim, beat) if claim == self.claim => self.beat = self.beat.max(beat),
            Name::Beat(..) => {}
        }
    }
}

/// The directory of one job.
#[derive(Clone)]
pub(crate) struct Board {
    pub(crate) objects: Arc<dyn ObjectStore>,
    pub(crate) directory: Path,
}

impl Board {
    pub(crate) fn path(&self, name: Name) -> Path {
        self.directory.clone().join(name.text())
    }

    /// Creates an object. `body` must tell its author apart from everybody else.
    pub(crate) async fn create(&self, name: Name, body: Vec<u8>) -> Creation {
        let path = self.path(name);
        let body = Bytes::from(body);
        let mut failed = false;
        for _ in 0..TRIES_MAX {
            let put = self
                .objects
                .put_opts(&path, body.clone().into(), PutMode::Create.into());
            match put.await {
                Ok(_) => return Creation::Ours,
                Err(ObjectError::AlreadyExists { .. }) if !failed => return Creation::Taken,
                // It may be our own, from a try whose answer was lost.
                Err(ObjectError::AlreadyExists { .. }) => {
                    return match self.read(name).await {
                        Ok(Some(found)) if found == body => Creation::Ours,
                        Ok(Some(_)) => Creation::Taken,
                        Ok(None) | Err(_) => Creation::Unclear,
                    };
                }
                Err(error) => {
                    tracing::debug!(%path, %error, "could not create an object");
                    failed = true;
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
        match self.read(name).await {
            Ok(Some(found)) if found == body => Creation::Ours,
            Ok(Some(_)) => Creation::Taken,
            Ok(None) | Err(_) => Creation::Unclear,
        }
    }

    /// An object; `None` if it is not there.
    pub(crate) async fn read(&self, name: Name) -> Result<Option<Bytes>> {
        let path = self.path(name);
        let mut tries = 1;
        loop {
            let answer = async {
                let found = self.objects.get(&path).await?;
                match found.meta.size {
                    size if size > MESSAGE_BYTES_MAX => Ok(Err(size)),
                    _ => Ok(Ok(found.bytes().await?)),
                }
            };
            match answer.await {
                Ok(Ok(bytes)) => return Ok(Some(bytes)),
                Ok(Err(size)) => {
                    return Err(Error::corrupt(format!(
                        "{path} has {size} bytes, but a message of a compaction has at most {MESSAGE_BYTES_MAX}"
                    )));
                }
                Err(ObjectError::NotFound { .. }) => return Ok(None),
                Err(error) if tries >= TRIES_MAX => {
                    return Err(request_error("read", &path, error));
                }
                Err(_) => {
                    tries += 1;
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    /// What is there.
    pub(crate) async fn look(&self) -> Result<View> {
        let all = look_at_all(self.objects.as_ref(), &self.directory).await?;
        // Listed from the directory itself, names lie right below it.
        Ok(all.get(&self.directory).copied().unwrap_or_default())
    }

    /// Removes the directory, the job first: who still works on it sees that nobody waits. Best effort; the sweep after a recovery
    /// takes what is left.
    pub(crate) async fn remove(&self) {
        let _ = self.objects.delete(&self.path(Name::Job)).await;
        let mut listed = Vec::new();
        let mut listing = self.objects.list(Some(&self.directory)).take(LISTED_MAX);
        while let Some(Ok(object)) = listing.next().await {
            listed.push(object.location);
        }
        for path in listed {
            if let Err(error) = self.objects.delete(&path).await {
                tracing::debug!(%path, %error, "could not remove a message of a compaction");
            }
        }
    }
}

/// What is in all directories of jobs below `queue`, with one listing.
pub(crate) async fn look_at_all(
    objects: &dyn ObjectStore,
    queue: &Path,
) -> Result<BTreeMap<Path, View>> {
    let mut views: BTreeMap<Path, View> = BTreeMap::new();
    let mut listing = objects.list(Some(queue)).take(LISTED_MAX);
    while let Some(object) = listing.next().await {
        let object = object.map_err(|error| request_error("list", queue, error))?;
        let parts: Vec<_> = object.location.parts().collect();
        let Some((name, directory)) = parts.split_last() else {
            continue;
        };
        if let Some(name) = Name::parse(name.as_ref()) {
            let directory = directory.iter().cloned().collect();
            views.entry(directory).or_default().add(name);
        }
    }
    Ok(views)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_back_and_others_are_refused() {
        for name in [
            Name::Job,
            Name::Result,
            Name::Claim(1),
            Name::Claim(u32::MAX),
            Name::Beat(7, 1),
            Name::Beat(7_000_000, u64::MAX),
        ] {
            assert_eq!(Name::parse(&name.text()), Some(name));
        }
        for other in [
            "",
            "jobs",
            "claim-1",
            "claim-",
            "claim-00000x",
            "beat-000001",
            "beat-000001-1",
            "claim-0000001",
            "beat--000001-00000001",
            "claim-+00001",
        ] {
            assert_eq!(Name::parse(other), None, "{other}");
        }
    }

    #[test]
    fn the_newest_claim_and_its_beat_are_seen_in_any_order() {
        let names = [
            Name::Job,
            Name::Claim(1),
            Name::Claim(2),
            Name::Beat(1, 9),
            Name::Beat(2, 3),
            Name::Beat(2, 4),
        ];
        for start in 0..names.len() {
            let mut view = View::default();
            let mut order = names;
            order.rotate_left(start);
            order.into_iter().for_each(|name| view.add(name));
            let beat = view.beat;
            assert_eq!((view.job, view.claim, view.result), (true, 2, false));
            assert_eq!(beat, 4, "beats after {start}");
        }
    }
}

//! Who may write into the directory of a savepoint: whoever has created its `_writing`.
//!
//! What always holds: two writers never have the same directory, so neither overwrites nor removes what the other wrote; nothing but the names
//! of this module's caller is removed. What can go wrong: a writer is killed, and its mark stays. Then the name stays taken (`Usage`), which
//! costs nothing, because names of savepoints are not used again.

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use object_store::path::Path;
use object_store::{Error as ObjectError, ObjectStore};

use super::SavepointLocation;
use crate::StateError;
use crate::checkpoint::conditional;

/// Stands in the directory while it is written.
const MARK: &str = "_writing";

/// The directory is ours.
pub(super) struct Reservation<'a> {
    to: &'a SavepointLocation,
    mark: Path,
}

impl<'a> Reservation<'a> {
    /// Takes the directory; an error if somebody else writes there, or if there is a savepoint.
    pub(super) async fn take(
        to: &'a SavepointLocation,
        conditional: bool,
    ) -> Result<Self, StateError> {
        let mark = to.directory.clone().join(MARK);
        let body = Bytes::from_static(b"a savepoint is being written\n");
        if !conditional::claim(&*to.objects, &mark, body, conditional).await? {
            return Err(StateError::Usage(format!(
                "savepoint {} is being written by somebody else, or was not finished (then remove the directory): it is not overwritten",
                to.uri()
            )));
        }
        let reservation = Self { to, mark };
        // Whoever has written one had created the mark before, and has removed it only afterwards.
        match conditional::size(&*to.objects, &to.metadata_path()).await {
            Ok(None) => Ok(reservation),
            Ok(Some(_)) => {
                reservation.release().await;
                Err(taken(to))
            }
            Err(error) => {
                reservation.release().await;
                Err(error.into())
            }
        }
    }

    /// Removes these files, of a savepoint that has no metadata, and gives the directory back if they are gone.
    pub(super) async fn undo(self, written: Vec<Path>) {
        match delete(&*self.to.objects, written).await {
            Ok(()) => self.release().await,
            // Without metadata nobody reads it.
            Err(error) => {
                tracing::warn!(directory = %self.to.uri(), %error, "what was written of a failed savepoint was not removed");
            }
        }
    }

    /// Gives the directory back as it is.
    pub(super) async fn release(self) {
        if let Err(error) = delete(&*self.to.objects, vec![self.mark]).await {
            tracing::warn!(directory = %self.to.uri(), %error, "the mark of a savepoint being written was not removed");
        }
    }
}

pub(super) fn taken(to: &SavepointLocation) -> StateError {
    StateError::Usage(format!(
        "there is a savepoint at {} already: it is not overwritten",
        to.uri()
    ))
}

/// Deletes files, those that are not there included.
async fn delete(objects: &dyn ObjectStore, paths: Vec<Path>) -> object_store::Result<()> {
    let locations = stream::iter(paths.into_iter().map(Ok)).boxed();
    let answers = objects.delete_stream(locations);
    let answers = answers.map(|answer| match answer {
        Ok(_) | Err(ObjectError::NotFound { .. }) => Ok(()),
        Err(error) => Err(error),
    });
    answers.try_collect().await
}

//! What can go wrong in the store, told so that the caller knows what to do.
//!
//! Every message is one plain sentence that names the object, what was expected and what was found. Object names are
//! paths below the store's root, so they carry no credentials.
use std::sync::Arc;

/// What the caller should do about an [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The object store did not answer as it should; the same call may succeed later.
    Retry,
    /// The call's arguments are wrong.
    Usage,
    /// Bytes that were read are not what was written.
    Corrupt,
    /// A file that should exist does not.
    Missing,
}

/// An error of the store. Cheap to clone, because one failed read may answer many waiting records.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// What the caller should do.
    pub kind: ErrorKind,
    /// One sentence for people.
    pub message: String,
    /// What lies beneath, if anything.
    #[source]
    pub source: Option<Arc<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// The arguments of a call are wrong.
    pub fn usage(message: impl Into<String>) -> Self {
        Self {
            kind: ErrorKind::Usage,
            message: message.into(),
            source: None,
        }
    }

    /// Bytes are not what was written.
    pub fn corrupt(message: impl Into<String>) -> Self {
        Self {
            kind: ErrorKind::Corrupt,
            message: message.into(),
            source: None,
        }
    }

    /// Something outside did not answer as it should.
    pub fn retry(message: impl Into<String>) -> Self {
        Self {
            kind: ErrorKind::Retry,
            message: message.into(),
            source: None,
        }
    }
}

/// Shorthand for results of this crate.
pub(crate) type Result<T> = std::result::Result<T, Error>;

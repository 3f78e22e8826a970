//! What users of state get as an error. The kind says what the caller can do about it.

use crate::StateDescription;

/// An error of the state layer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StateError {
    /// The store could not answer; its own kind says whether a retry can help.
    #[error(transparent)]
    Store(#[from] aquifer_store::Error),
    /// The call is wrong: fix the program or the configuration.
    #[error("{0}")]
    Usage(String),
    /// A checkpoint holds this state in a layout that the program does not read.
    #[error("{0}")]
    Incompatible(String),
    /// More state than the configuration allows: raise the limit it names, or choose another place for snapshots.
    #[error("{0}")]
    Limit(String),
    /// A function of the program failed on a record: fix the program or the record.
    #[error("{0}")]
    User(String),
    /// Bytes that were read are not what was written.
    #[error("{0}")]
    Corrupt(String),
}

impl StateError {
    /// The same error with what it is about in front, if it is about values or keys and not about files.
    #[cold]
    pub(crate) fn about(self, what: &str) -> Self {
        let named = |text: String| format!("{what}: {text}");
        match self {
            Self::Usage(text) => Self::Usage(named(text)),
            Self::Incompatible(text) => Self::Incompatible(named(text)),
            Self::User(text) => Self::User(named(text)),
            Self::Corrupt(text) => Self::Corrupt(named(text)),
            error @ (Self::Store(_) | Self::Limit(_)) => error,
        }
    }

    /// An error of a serializer of keyed state, which knows neither state nor key.
    #[cold]
    pub(crate) fn of_state(self, state: &StateDescription, group: u16) -> Self {
        self.about(&format!(
            "state `{}` of operator `{}`, key group {group}",
            state.state, state.operator
        ))
    }

    /// Background work went away while something was waiting for it: the job is ending, or that work has panicked.
    pub(crate) fn runtime_gone(what: &str) -> Self {
        Self::Store(aquifer_store::Error {
            kind: aquifer_store::ErrorKind::Retry,
            message: format!(
                "{what} was cut off: the background task that made it has died or the runtime is shutting down"
            ),
            source: None,
        })
    }
}

//! What can end a job, told so that the caller knows what to do about it.

/// What the caller should do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobErrorKind {
    /// The job's text or configuration is wrong; running it again will not help (exit status 2).
    Usage,
    /// The data or the surroundings failed the job (exit status 1); a restart from the last checkpoint may help.
    Failed,
}

/// Why a job ended.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct JobError {
    /// What the caller should do.
    pub kind: JobErrorKind,
    /// One plain sentence: the object, what was expected, what was found.
    pub message: String,
}

impl JobError {
    /// The job's text or configuration is wrong.
    pub fn usage(message: impl Into<String>) -> Self {
        Self {
            kind: JobErrorKind::Usage,
            message: message.into(),
        }
    }

    /// The job failed while it ran.
    pub fn failed(message: impl Into<String>) -> Self {
        Self {
            kind: JobErrorKind::Failed,
            message: message.into(),
        }
    }
}

impl From<aquifer_state::StateError> for JobError {
    fn from(error: aquifer_state::StateError) -> Self {
        match error {
            aquifer_state::StateError::Store(error) => error.into(),
            // Running the same program again finds the same checkpoint.
            aquifer_state::StateError::Incompatible(message) => Self::usage(message),
            error => Self::failed(error.to_string()),
        }
    }
}

impl From<aquifer_store::Error> for JobError {
    fn from(error: aquifer_store::Error) -> Self {
        match error.kind {
            aquifer_store::ErrorKind::Usage => Self::usage(error.to_string()),
            _ => Self::failed(error.to_string()),
        }
    }
}

impl From<arrow::error::ArrowError> for JobError {
    fn from(error: arrow::error::ArrowError) -> Self {
        Self::failed(error.to_string())
    }
}

//! What can go wrong with a query, in one plain sentence.

use std::error::Error;

use aquifer_state::StateError;
use arrow::error::ArrowError;
use datafusion::error::DataFusionError;

/// What the caller can do about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// Write another query.
    Query,
    /// Give it more memory or disk, or write another query.
    Resources,
    /// The state cannot be read.
    State,
}

/// An error of a query.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct SqlError {
    /// What can be done about it.
    pub kind: ErrorKind,
    /// What happened.
    pub message: String,
}

impl From<DataFusionError> for SqlError {
    fn from(error: DataFusionError) -> Self {
        let mut cause: Option<&(dyn Error + 'static)> = Some(&error);
        while let Some(known) = cause {
            if let Some(state) = known.downcast_ref::<StateError>() {
                let kind = match state {
                    StateError::Usage(_) => ErrorKind::Query,
                    _ => ErrorKind::State,
                };
                let message = state.to_string();
                return Self { kind, message };
            }
            cause = known.source();
        }
        let kind = match error.find_root() {
            DataFusionError::ResourcesExhausted(_)
            | DataFusionError::IoError(_)
            | DataFusionError::ArrowError(_, _)
                if !is_arithmetic(&error) =>
            {
                ErrorKind::Resources
            }
            _ => ErrorKind::Query,
        };
        let text = error.strip_backtrace();
        let message = match kind {
            ErrorKind::Resources => {
                format!("the query does not fit into the memory and disk that it may use: {text}")
            }
            _ => text,
        };
        Self { kind, message }
    }
}

/// An error that a row's values made, such as an overflow.
fn is_arithmetic(error: &DataFusionError) -> bool {
    match error.find_root() {
        DataFusionError::ArrowError(error, _) => !matches!(
            **error,
            ArrowError::IoError(_, _) | ArrowError::MemoryError(_)
        ),
        _ => false,
    }
}

/// An error of reading state, on its way through DataFusion.
pub(crate) fn of_state(error: StateError) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

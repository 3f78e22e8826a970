//! A job's configuration: Flink's keys, from a file, from `SET` in a script and from the command line.
//!
//! What always holds: every key and value in a [`Configuration`] has been checked when it came in, so reading it later cannot fail for its
//! form; a later layer wins over an earlier one (default, file, `SET`, command line). What can go wrong is told as a [`ConfigError`], one sentence
//! that names the key, what was expected and what was found; values of secret keys are never shown.
//!
//! ```
//! use aquifer_dataflow::config::{Configuration, Layer, options};
//!
//! let mut configuration = Configuration::default();
//! configuration.put(Layer::File, "execution.checkpointing.interval", "10 s")?;
//! configuration.put(Layer::CommandLine, "execution.checkpointing.interval", "500ms")?;
//! assert_eq!(configuration.get(&options::CHECKPOINT_INTERVAL).unwrap().as_millis(), 500);
//!
//! let error = configuration.put(Layer::File, "execution.checkpointing.intervall", "1 s").unwrap_err();
//! assert!(error.to_string().contains("did you mean 'execution.checkpointing.interval'?"));
//! # Ok::<(), aquifer_dataflow::config::ConfigError>(())
//! ```

mod configuration;
mod job;
mod keys;
mod option;
pub mod options;
pub mod rocksdb;
pub mod value;

pub use configuration::{Configuration, Layer};
pub use job::{JobSurroundings, MiniBatch};
pub use option::ConfigOption;

/// Why a key or a value was not accepted: one plain sentence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ConfigError {
    /// Names the key, what was expected and what was found.
    pub message: String,
}

impl ConfigError {
    /// An error with this sentence.
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
        }
    }
}

impl From<ConfigError> for crate::JobError {
    fn from(error: ConfigError) -> Self {
        crate::JobError::usage(error.message)
    }
}

#[cfg(test)]
mod tests;

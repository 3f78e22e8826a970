//! What the store and its background work share: the outside world, options, names of new files, and counters.
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use object_store::path::Path;

use crate::{Environment, StoreOptions};

pub(crate) struct Context {
    pub(crate) env: Environment,
    pub(crate) options: StoreOptions,
    files_named: AtomicU64,
    pub(crate) bytes_uploaded: AtomicU64,
    pub(crate) blocks_loaded: AtomicU64,
}

impl Context {
    pub(crate) fn new(env: Environment, options: StoreOptions) -> Arc<Self> {
        Arc::new(Self {
            env,
            options,
            files_named: AtomicU64::new(0),
            bytes_uploaded: AtomicU64::new(0),
            blocks_loaded: AtomicU64::new(0),
        })
    }

    /// A file name that was never used before, if the prefix is unique.
    pub(crate) fn new_path(&self) -> Path {
        let number = self.files_named.fetch_add(1, Ordering::Relaxed);
        self.env
            .directory
            .clone()
            .join(format!("{}-{number:08}.sst", self.env.file_prefix))
    }
}

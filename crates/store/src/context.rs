//! What the store and its background work share: the outside world, options, names of new files, and counters.
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use object_store::path::Path;
use parking_lot::{Condvar, Mutex};

use crate::error::{Error, Result};
use crate::io::Files;
use crate::planted::{self, Bug};
use crate::rules::{Rules, TableRules};
use crate::{Environment, StoreOptions, TableId};

pub(crate) struct Context {
    pub(crate) env: Environment,
    pub(crate) options: StoreOptions,
    pub(crate) files: Files,
    files_named: AtomicU64,
    tables: Mutex<TableRules>,
    pub(crate) bytes_uploaded: AtomicU64,
    pub(crate) blocks_loaded: AtomicU64,
    stopped: Mutex<bool>,
    stop: Condvar,
}

impl Context {
    pub(crate) fn new(env: Environment, options: StoreOptions) -> Arc<Self> {
        let files = Files::new(&env, &options);
        Arc::new(Self {
            files,
            env,
            options,
            files_named: AtomicU64::new(0),
            tables: Mutex::default(),
            bytes_uploaded: AtomicU64::new(0),
            blocks_loaded: AtomicU64::new(0),
            stopped: Mutex::new(false),
            stop: Condvar::new(),
        })
    }

    /// Makes the rules of a table known to background work.
    pub(crate) fn describe_table(&self, table: TableId, rules: Arc<Rules>) {
        self.tables.lock().set(table, rules);
    }

    /// The rules of all tables that are known now.
    pub(crate) fn table_rules(&self) -> TableRules {
        self.tables.lock().clone()
    }

    /// A file name that was never used before, if the prefix is unique.
    pub(crate) fn new_path(&self) -> Path {
        let mut number = self.files_named.fetch_add(1, Ordering::Relaxed);
        if planted::is(Bug::NameReused) && number % 7 == 6 {
            number -= 1;
        }
        self.env
            .directory
            .clone()
            .join(format!("{}-{number:08}.sst", self.env.file_prefix))
    }

    /// Nobody waits for results any more: what fails from now on is not tried again.
    pub(crate) fn stop(&self) {
        *self.stopped.lock() = true;
        self.stop.notify_all();
    }

    /// Waits for a future on the thread of a background job.
    pub(crate) fn block_on<T: Send>(&self, future: impl Future<Output = T> + Send) -> Result<T> {
        let mut output = None;
        let slot = &mut output;
        self.env.executor.block_on(Box::pin(async move {
            *slot = Some(future.await);
        }));
        output.ok_or_else(|| Error::retry("the executor stopped before what it was to wait for"))
    }

    /// Whether nobody waits for results any more.
    pub(crate) fn is_stopped(&self) -> bool {
        *self.stopped.lock()
    }

    /// Lets a blocking thread wait before it tries again; false if it should give up instead.
    pub(crate) fn pause(&self, duration: Duration) -> bool {
        let mut stopped = self.stopped.lock();
        if !*stopped && !self.env.executor.skips_pauses() {
            self.stop.wait_for(&mut stopped, duration);
        }
        !*stopped
    }
}

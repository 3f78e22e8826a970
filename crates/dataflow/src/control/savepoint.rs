//! The coordinator's part of savepoints: which requests there are, and rewriting a complete checkpoint for them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use aquifer_state::StateError;
use aquifer_state::checkpoint::{
    CheckpointMetadata, CheckpointStorage, SavepointLocation, SavepointSource, write_savepoint,
};
use aquifer_store::{BlockCache, Environment};
use parking_lot::Mutex;

use crate::JobError;
use crate::job::{SavepointRequest, SavepointRequests};

/// Memory for blocks that are read while state is rewritten.
const CACHE_BYTES: u64 = 16 << 20;

/// Everything that savepoints of one attempt need.
pub(crate) struct Savepoints {
    /// Where requests come from.
    pub requests: Arc<SavepointRequests>,
    /// `execution.checkpointing.savepoint-dir`.
    pub directory: Option<String>,
    /// The root of the checkpoints' store, as a URI.
    pub root: String,
    /// Keys of object stores. Holds credentials.
    pub settings: BTreeMap<String, String>,
    /// Where databases of `rocksdb` are laid to be read.
    pub temporary_directories: Vec<PathBuf>,
    /// The clock.
    pub now_ms: Arc<dyn Fn() -> i64 + Send + Sync>,
    /// Accepted requests without an answer, by ticket.
    pub accepted: Mutex<BTreeMap<u64, Accepted>>,
    /// Where the savepoint is with which the job has ended.
    pub stopped_at: Mutex<Option<String>>,
}

/// A request of which the directory is known.
#[derive(Clone)]
pub(crate) struct Accepted {
    directory: String,
    request: SavepointRequest,
}

impl Savepoints {
    /// New requests: ticket, and whether the job is to end with it. Those that cannot be fulfilled are answered.
    pub fn new_requests(&self) -> Vec<(u64, bool)> {
        let mut new = Vec::new();
        for (ticket, request) in self.requests.take() {
            let directory = request.directory.clone().or_else(|| self.directory.clone());
            let Some(directory) = directory else {
                let error = JobError::usage(
                    "a savepoint was asked for, but nobody says where: give a directory, or set execution.checkpointing.savepoint-dir",
                );
                self.requests.answer(ticket, Err(error));
                continue;
            };
            new.push((ticket, request.stop));
            let accepted = Accepted { directory, request };
            self.accepted.lock().insert(ticket, accepted);
        }
        new
    }

    /// Rewrites a checkpoint for each of the requests and answers them. An error: the job was to end with one of them, and none of those was
    /// written.
    pub async fn write(
        &self,
        storage: &CheckpointStorage,
        runtime: &tokio::runtime::Handle,
        checkpoint_id: u64,
        tickets: &[u64],
    ) -> Result<(), String> {
        let metadata = storage.read(checkpoint_id).await;
        let (mut stops, mut why) = (false, None);
        for ticket in tickets {
            let accepted = self.accepted.lock().remove(ticket);
            let Some(accepted) = accepted else { continue };
            let written = match &metadata {
                Ok(metadata) => {
                    let written = self.write_one(storage, runtime, metadata, *ticket, &accepted);
                    written.await
                }
                Err(error) => Err(error.clone()),
            };
            if accepted.request.stop {
                match &written {
                    Ok(uri) => {
                        *self.stopped_at.lock() = Some(uri.clone());
                        stops = true;
                    }
                    Err(error) => why = Some(error.to_string()),
                }
            }
            self.requests
                .answer(*ticket, written.map_err(JobError::from));
        }
        match why {
            Some(why) if !stops => Err(why),
            _ => Ok(()),
        }
    }

    async fn write_one(
        &self,
        storage: &CheckpointStorage,
        runtime: &tokio::runtime::Handle,
        metadata: &CheckpointMetadata,
        ticket: u64,
        accepted: &Accepted,
    ) -> Result<String, StateError> {
        let now_ms = (self.now_ms)();
        // Two requests may be fulfilled from one checkpoint within a millisecond.
        let name = SavepointLocation::name(metadata, now_ms);
        let name = match ticket {
            1 => name,
            ticket => format!("{name}-{ticket}"),
        };
        let to = SavepointLocation::below(&accepted.directory, &self.settings, &name)?;
        let mut environment = Environment::new(
            Arc::clone(&storage.objects),
            storage.shared(),
            runtime.clone(),
            BlockCache::new(CACHE_BYTES),
            "savepoint".to_owned(),
        );
        environment.clock = Arc::clone(&self.now_ms);
        environment.temporary_directories = self.temporary_directories.clone();
        let source = SavepointSource {
            metadata,
            storage,
            root: &self.root,
        };
        let format = accepted.request.format;
        write_savepoint(source, &to, format, &environment, Arc::new(|_| ())).await?;
        Ok(to.uri().to_owned())
    }
}

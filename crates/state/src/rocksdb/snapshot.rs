//! Makes frozen databases durable, in the background.
//!
//! Incremental: the files of each database, of which those that a completed checkpoint has are named and the others uploaded. Of RocksDB's
//! files these are its SSTs and one manifest; the rest is made anew at a restore. Full: the rows of all databases, into SSTs of ours.
//! Names carry the backend's prefix and a number, so that none is ever used twice; files of a snapshot that did not come to its end are
//! orphans, which the sweep after a recovery finds.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, TryRecvError};

use aquifer_store::{Environment, KeyGroupRange, StoreOptions, TableId};

use super::database::Form;
use super::directory::LocalDirectory;
use super::expiry::Rule;
use super::restore::{self, FileKind};
use super::rows::{DatabaseRows, Laid};
use super::transfer::Transfers;
use crate::rows::{RowSink, RowSource, SstRowSink};
use crate::{DbFile, DbSnapshot, KeyedSnapshot, StateError};

/// Rows that a full snapshot takes at once.
const ROWS_PER_PIECE: usize = 4096;

/// One database on its way into a checkpoint.
pub(super) struct Frozen {
    pub(super) operator: String,
    pub(super) families: Vec<(String, TableId)>,
    pub(super) form: Form,
    /// Files that may be named without an upload.
    pub(super) shared: BTreeMap<String, DbFile>,
}

/// What a snapshot job needs.
pub(super) struct Surroundings {
    pub(super) environment: Environment,
    pub(super) store: StoreOptions,
    pub(super) directory: Arc<LocalDirectory>,
    pub(super) range: KeyGroupRange,
    /// Numbers of files.
    pub(super) named: Arc<AtomicU64>,
    pub(super) uploads_at_once: usize,
    /// What a full snapshot leaves out of tables: what has expired by this rule at this time.
    pub(super) left_out: BTreeMap<TableId, (Rule, i64)>,
}

/// What was written.
pub(super) struct Written {
    /// Files and databases; nothing of tables.
    pub(super) snapshot: KeyedSnapshot,
    pub(super) bytes_uploaded: u64,
}

/// A snapshot that is being written. Dropping it stops the writing.
pub(super) struct SnapshotJob {
    pub(super) checkpoint_id: u64,
    receiver: Receiver<Result<Written, StateError>>,
    cancelled: Arc<AtomicBool>,
}

impl SnapshotJob {
    /// Starts the work on the runtime, and wakes the worker when it is done.
    pub(super) fn start(
        checkpoint_id: u64,
        frozen: Vec<Frozen>,
        surroundings: Surroundings,
        incremental: bool,
    ) -> Self {
        let (give, receiver) = mpsc::sync_channel(1);
        let cancelled = Arc::new(AtomicBool::new(false));
        let job = Self {
            checkpoint_id,
            receiver,
            cancelled: Arc::clone(&cancelled),
        };
        let waker = Arc::clone(&surroundings.environment.waker);
        let runtime = surroundings.environment.runtime.clone();
        let directory = Arc::clone(&surroundings.directory);
        let paths: Vec<PathBuf> = frozen
            .iter()
            .filter_map(|database| match &database.form {
                Form::Directory(path) => Some(path.clone()),
                _ => None,
            })
            .collect();
        let blocking = runtime.clone();
        runtime.spawn(async move {
            // Dropped last, whatever happens: the worker hears of a task that died as well.
            let _wake = WakeOnDrop(waker);
            let give = give;
            let written = if incremental {
                upload(frozen, surroundings, cancelled).await
            } else {
                let write = move || write_rows(frozen, &surroundings, cancelled);
                let written = blocking.spawn_blocking(write).await;
                written.unwrap_or_else(|_| Err(StateError::runtime_gone("a snapshot")))
            };
            // The copies have done their work, or nobody needs it any more.
            let removed = blocking.spawn_blocking(move || restore::remove(&paths, directory));
            // It fails only if the runtime is going, and then the whole directory goes.
            let _ = removed.await;
            // The receiver is gone only if nobody waits.
            let _ = give.send(written);
        });
        job
    }

    /// The outcome, once there is one.
    pub(super) fn result(&self) -> Option<Result<Written, StateError>> {
        match self.receiver.try_recv() {
            Ok(written) => Some(written),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => Some(Err(StateError::runtime_gone(&format!(
                "the snapshot for checkpoint {}",
                self.checkpoint_id
            )))),
        }
    }
}

impl Drop for SnapshotJob {
    fn drop(&mut self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }
}

struct WakeOnDrop(Arc<dyn Fn() + Send + Sync>);

impl Drop for WakeOnDrop {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// A file that is to be uploaded, and the database it belongs to.
struct Upload {
    database: usize,
    name: String,
    kind: FileKind,
    from: PathBuf,
    number: u64,
}

async fn upload(
    frozen: Vec<Frozen>,
    surroundings: Surroundings,
    cancelled: Arc<AtomicBool>,
) -> Result<Written, StateError> {
    let environment = &surroundings.environment;
    let mut transfers = Transfers::new(
        Arc::clone(&environment.objects),
        environment.runtime.clone(),
    );
    transfers.cancelled = cancelled;
    let range = surroundings.range;
    let named = Arc::clone(&surroundings.named);
    let list = move || list_files(frozen, range, &named);
    let listed = environment.runtime.spawn_blocking(list).await;
    let (mut databases, uploads) = listed.map_err(|_| StateError::runtime_gone("a snapshot"))??;
    let transfers = &transfers;
    let each = uploads.into_iter().map(|upload| async move {
        let name = format!("{}-r{:08}.sst", environment.file_prefix, upload.number);
        let to = environment.directory.clone().join(name);
        let (size_bytes, checksum) = transfers.upload(upload.from, &to).await?;
        let file = DbFile {
            name: upload.name,
            path: to.to_string(),
            size_bytes,
            checksum,
            shared: upload.kind == FileKind::Table,
        };
        Ok((upload.database, file))
    });
    let done = transfers.all(surroundings.uploads_at_once, each).await?;
    let mut bytes_uploaded = 0;
    for (database, file) in done {
        bytes_uploaded += file.size_bytes;
        if let Some(database) = databases.get_mut(database) {
            database.files.push(file);
        }
    }
    for database in &mut databases {
        database.files.sort_by(|a, b| a.name.cmp(&b.name));
    }
    Ok(Written {
        snapshot: KeyedSnapshot {
            databases,
            ..KeyedSnapshot::default()
        },
        bytes_uploaded,
    })
}

/// The databases of the checkpoint with the files that need no upload, and the uploads.
fn list_files(
    frozen: Vec<Frozen>,
    range: KeyGroupRange,
    named: &AtomicU64,
) -> Result<(Vec<DbSnapshot>, Vec<Upload>), StateError> {
    let (mut databases, mut uploads) = (Vec::new(), Vec::new());
    for Frozen {
        operator,
        families,
        form,
        mut shared,
    } in frozen
    {
        let mut files = Vec::new();
        match form {
            Form::Empty => continue,
            Form::Unchanged(known) => files = known,
            Form::Directory(path) => {
                for (name, kind) in restore::files_in(&path)? {
                    match shared.remove(&name).filter(|_| kind == FileKind::Table) {
                        Some(known) => files.push(known),
                        None => uploads.push(Upload {
                            database: databases.len(),
                            from: path.join(&name),
                            name,
                            kind,
                            number: named.fetch_add(1, Ordering::Relaxed),
                        }),
                    }
                }
            }
        }
        databases.push(DbSnapshot {
            operator,
            range,
            families,
            files,
        });
    }
    Ok((databases, uploads))
}

fn write_rows(
    frozen: Vec<Frozen>,
    surroundings: &Surroundings,
    cancelled: Arc<AtomicBool>,
) -> Result<Written, StateError> {
    let environment = &surroundings.environment;
    let laid = frozen.into_iter().filter_map(|database| {
        let Form::Directory(path) = database.form else {
            return None;
        };
        Some(Laid {
            path,
            operator: database.operator,
            families: database.families,
        })
    });
    let number = surroundings.named.fetch_add(1, Ordering::Relaxed);
    let prefix = format!("{}-f{number:06}", environment.file_prefix);
    let mut sink = SstRowSink::new(environment, surroundings.store.clone(), prefix, cancelled)?;
    let laid: Vec<Laid> = laid.collect();
    let mut rows = DatabaseRows::read(&laid, surroundings.range)?;
    rows.leave_out(|table| surroundings.left_out.get(&table).copied());
    while rows.next(ROWS_PER_PIECE, &mut |row| sink.put(row))? {}
    drop(rows);
    let written = sink.finish()?;
    Ok(Written {
        snapshot: KeyedSnapshot::of_files(written.files),
        bytes_uploaded: written.bytes_uploaded,
    })
}

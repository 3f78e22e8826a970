//! A savepoint in the form that every backend reads: all live rows, in one sorted run of SSTs.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use aquifer_store::{Environment, KeyGroupRange, StoreOptions, TableId};
use object_store::path::Path;

use super::lists::{Ended, Expiry, OpenList};
use super::{Progress, SavepointLocation, SavepointSource};
use crate::backend::Moments;
use crate::checkpoint::conditional;
use crate::rows::{RowRefs, RowSink, SstRowSink, row_source};
use crate::serializer::StateKind;
use crate::{KeyedSnapshot, StateDescription, StateError, TableMoment};

/// Rows that are read together.
const ROWS_PER_PIECE: usize = 256;
/// How file names begin.
const FILE_PREFIX: &str = "rows";

type Parts = Vec<(KeyGroupRange, KeyedSnapshot)>;

/// Writes the rows of a checkpoint; the result names them by full paths.
pub(super) async fn write(
    source: SavepointSource<'_>,
    to: &SavepointLocation,
    environment: &Environment,
    progress: Progress,
) -> Result<Parts, StateError> {
    let mut reading = environment.clone();
    reading.objects = Arc::clone(&source.storage.objects);
    reading.local_root = None;
    let mounted = source.storage.mounted.as_ref();
    reading.local_paths = mounted.and_then(|mounted| mounted.local_paths());
    reading.remote_compaction = None;
    let mut writing = reading.clone();
    writing.objects = Arc::clone(&to.objects);
    writing.local_paths = None;
    writing.file_cache = None;
    writing.directory = directory(to);

    let mut parts = source.metadata.keyed.clone();
    parts.sort_by_key(|(range, _)| range.start);
    let cancelled = Arc::new(AtomicBool::new(false));
    let _cancel = CancelOnDrop(Arc::clone(&cancelled));
    let mut job = Job {
        parts,
        tables: source.metadata.tables.clone(),
        whole: KeyGroupRange {
            start: 0,
            end: source.metadata.max_parallelism.saturating_sub(1),
        },
        reading,
        progress,
        cancelled,
    };
    // Rows are read and written by blocking calls.
    let runtime = environment.runtime.clone();
    let done = runtime.spawn_blocking(move || job.run(writing)).await;
    done.map_err(|_| StateError::runtime_gone("the writing of a savepoint"))?
}

fn directory(to: &SavepointLocation) -> Path {
    to.directory.clone().join("state")
}

/// The files that a listing shows of a savepoint whose writing has failed.
pub(super) async fn files_below(to: &SavepointLocation) -> Vec<Path> {
    let directory = directory(to);
    let listed = conditional::entries(&*to.objects, &directory).await;
    let mut found = listed.unwrap_or_else(|error| {
        tracing::warn!(%directory, %error, "what was written of a failed savepoint is not known");
        Vec::new()
    });
    let prefix = format!("{FILE_PREFIX}-");
    found.retain(|path| {
        let name = path.filename().and_then(|name| name.strip_suffix(".sst"));
        let number = name.and_then(|name| name.strip_prefix(&prefix));
        number.is_some_and(|number| number.bytes().all(|byte| byte.is_ascii_digit()))
    });
    found
}

struct CancelOnDrop(Arc<AtomicBool>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

struct Job {
    parts: Parts,
    tables: Vec<(StateDescription, TableId)>,
    whole: KeyGroupRange,
    reading: Environment,
    progress: Progress,
    cancelled: Arc<AtomicBool>,
}

impl Job {
    fn run(&mut self, writing: Environment) -> Result<Parts, StateError> {
        for (description, _) in &mut self.tables {
            // What has expired goes, also from states that show it while it is there.
            description.options.show_expired = false;
        }
        let options = StoreOptions {
            // The same rows make the same files, however many threads there are.
            flush_part_bytes_min: usize::MAX,
            periodic_compaction_ms: None,
            ..StoreOptions::default()
        };
        let prefix = FILE_PREFIX.to_owned();
        let sink = SstRowSink::new(&writing, options, prefix, Arc::clone(&self.cancelled))?;
        let mut writer = Writer {
            sink,
            list: OpenList::default(),
            lists: BTreeMap::new(),
        };
        let mut rows = 0u64;
        for (range, snapshot) in &self.parts {
            let expiries = self.expiries(snapshot);
            let mut source = row_source(snapshot, *range, &self.tables, &self.reading)?;
            loop {
                let more = source.next(ROWS_PER_PIECE, &mut |row| {
                    rows += 1;
                    writer.put(row, &expiries)
                })?;
                (self.progress)(rows);
                if self.cancelled.load(Ordering::Relaxed) {
                    return Err(StateError::Usage("the savepoint was cancelled".into()));
                }
                if !more {
                    break;
                }
            }
        }
        let (files, lists) = writer.finish()?;
        let snapshot = KeyedSnapshot {
            tables: self.moments(&lists),
            ..KeyedSnapshot::of_files(files)
        };
        Ok(vec![(self.whole, snapshot)])
    }

    /// By table, how the elements of its lists expire.
    fn expiries(&self, part: &KeyedSnapshot) -> BTreeMap<TableId, Expiry> {
        let lists = self.tables.iter();
        let lists = lists.filter(|(description, _)| description.schema.kind == StateKind::List);
        let expiry = |(description, table): &(StateDescription, TableId)| {
            let options = &description.options;
            let moment = part.moment(*table);
            let now_ms = match options.event_time {
                true => moment.and_then(|moment| moment.event_time_ms),
                false => Some((self.reading.clock)()),
            };
            let expiry = Expiry {
                ttl_ms: options.ttl_ms,
                untimed_as_ms: options.untimed_as_ms,
                now_ms,
            };
            (*table, expiry)
        };
        lists.map(expiry).collect()
    }

    /// What tables are besides their rows: of lists it follows from the rows, so that it is the same whoever wrote them.
    fn moments(&self, lists: &BTreeMap<TableId, Ended>) -> Vec<TableMoment> {
        let before = Moments::restored(self.parts.iter().map(|(_, part)| part)).take();
        let mut moments: BTreeMap<TableId, TableMoment> = BTreeMap::new();
        for moment in before.iter().filter(|m| m.event_time_ms.is_some()) {
            let known = TableMoment {
                event_time_ms: moment.event_time_ms,
                ..TableMoment::new(moment.table)
            };
            moments.insert(moment.table, known);
        }
        for (table, list) in lists {
            if list.last_chunk == 0 && list.latest_ms.is_none() {
                continue;
            }
            let known = moments.entry(*table);
            let moment = known.or_insert_with(|| TableMoment::new(*table));
            moment.list_chunk = list.last_chunk;
            moment.list_latest_ms = list.latest_ms;
        }
        moments.into_values().collect()
    }
}

/// Takes rows of all parts in order and puts lists into their canonical form.
struct Writer {
    sink: SstRowSink,
    list: OpenList,
    /// Of the lists of each table the greatest chunk number and the newest time.
    lists: BTreeMap<TableId, Ended>,
}

impl Writer {
    fn put(
        &mut self,
        row: RowRefs<'_>,
        expiries: &BTreeMap<TableId, Expiry>,
    ) -> Result<(), StateError> {
        let Some(expiry) = expiries.get(&row.table) else {
            self.end_list()?;
            return self.sink.put(row);
        };
        let ended = self.list.put(row, *expiry, &mut self.sink)?;
        self.note(ended);
        Ok(())
    }

    fn end_list(&mut self) -> Result<(), StateError> {
        let ended = self.list.end(&mut self.sink)?;
        self.note(ended);
        Ok(())
    }

    fn note(&mut self, ended: Option<Ended>) {
        if let Some(ended) = ended {
            let known = self.lists.entry(ended.table).or_insert(ended);
            known.last_chunk = known.last_chunk.max(ended.last_chunk);
            known.latest_ms = known.latest_ms.max(ended.latest_ms);
        }
    }

    fn finish(
        mut self,
    ) -> Result<(aquifer_store::Checkpoint, BTreeMap<TableId, Ended>), StateError> {
        self.end_list()?;
        Ok((self.sink.finish()?.files, self.lists))
    }
}

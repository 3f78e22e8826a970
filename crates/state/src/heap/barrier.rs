//! What barriers and checkpoints do to the heap: freezing, writing in the background, giving up, and folding layers back afterwards.
//!
//! One snapshot is written at a time; one that was given up may still hang at the object store and hold on to its layers, so there is a bound on
//! how many of those there are. Memory is the state and, for each barrier whose layers are held or not folded yet, what was written between
//! it and the next. Layers are folded a bounded number of rows at a time, by `poll` and never by a barrier, so that neither holds the worker
//! up. Folding goes on where it stopped when the next snapshot came in between, and in larger pieces for each that did: so it keeps up
//! however often checkpoints come.

use aquifer_store::TableId;

use super::frozen_groups::FrozenGroups;
use super::group::Group;
use super::snapshot::{FrozenTable, Plan, SnapshotJob};
use super::{HeapBackend, unknown_table};
use crate::{KeyedSnapshot, StateError, TableMoment};

/// Rows that one `poll` folds before it lets the worker go on: about a millisecond.
const FOLD_ROWS_PER_POLL: usize = 4 * 1024;
/// More than what is freed in folding, less than what the system is asked for directly; see [`sort_freed`].
const LARGE_BYTES: usize = 64 * 1024;
/// Snapshots that were given up and have not ended yet: more of them, and something is wrong with the object store.
const CANCELLED_MAX: usize = 4;

/// How far the folding of layers has come: raw tables first, then typed ones.
#[derive(Clone, Copy, Default)]
pub(super) struct Folding {
    table: usize,
    group: usize,
    typed: usize,
    group_of_typed: usize,
    /// Snapshots that have ended since all layers were last folded, besides the first.
    behind: usize,
    /// Some layers before this place were held when it was passed.
    again: bool,
}

impl HeapBackend {
    /// The barrier has passed the operator that owns this table: its layers are moved out of the way.
    pub(super) fn freeze_table(&mut self, table: TableId) -> Result<(), StateError> {
        let index = usize::from(table.0);
        if self.torn == Some(table) {
            return Err(StateError::Usage(format!(
                "table {index} was not read to its end when its state was asked for: what is left of it cannot be kept"
            )));
        }
        let heap = match self.tables.get_mut(index) {
            Some(Some(heap)) => heap,
            _ => return Err(unknown_table(table)),
        };
        if matches!(self.frozen.get(index), Some(Some(_))) {
            let typed = self.typed.get(table);
            let unwritten = typed.is_none_or(|typed| typed.borrow().is_unwritten());
            return if unwritten && heap.groups.iter().all(Group::is_unwritten) {
                Ok(())
            } else {
                Err(StateError::Usage(format!(
                    "table {index} was frozen twice in one barrier, with rows written in between"
                )))
            };
        }
        let typed = self
            .typed
            .get(table)
            .map(|typed| typed.borrow_mut().freeze());
        let options = self.registry.options_of(table).unwrap_or_default();
        let now_ms = match (options.cleanup.in_full_snapshots, options.event_time) {
            (false, _) => None,
            (true, false) => Some((self.environment.clock)()),
            (true, true) => self.moments.event_time(table),
        };
        let layers = heap.groups.iter().map(|group| group.layers_frozen() + 1);
        let mut groups = FrozenGroups::with_capacity(heap.groups.len(), layers.sum());
        for group in &mut heap.groups {
            group.freeze(&mut groups);
        }
        let frozen = FrozenTable {
            table,
            groups,
            typed,
            raw_ttl: heap.ttl(),
            now_ms,
        };
        if self.frozen.len() <= index {
            self.frozen.resize_with(index + 1, || None);
        }
        self.frozen[index] = Some(frozen);
        self.moments.freeze(table);
        Ok(())
    }

    /// Starts writing what is frozen.
    pub(super) fn begin_snapshot(&mut self, checkpoint_id: u64) -> Result<(), StateError> {
        if let Some((job, _)) = &self.job {
            return Err(StateError::Usage(format!(
                "checkpoint {checkpoint_id} was started while checkpoint {} is being written",
                job.checkpoint_id
            )));
        }
        self.end_cancelled();
        if self.cancelled.len() >= CANCELLED_MAX {
            return Err(StateError::Usage(format!(
                "checkpoint {checkpoint_id} was started while {} snapshots that were given up have not stopped writing",
                self.cancelled.len()
            )));
        }
        // Tables that no operator of this program owns are not frozen by anyone.
        let missing: Vec<TableId> = self
            .registry
            .options()
            .map(|(table, _)| table)
            .filter(|table| !matches!(self.frozen.get(usize::from(table.0)), Some(Some(_))))
            .collect();
        for table in missing {
            self.freeze_table(table)?;
        }
        let tables = std::mem::take(&mut self.frozen)
            .into_iter()
            .flatten()
            .collect();
        self.snapshots_started += 1;
        let plan = Plan {
            checkpoint_id,
            number: self.snapshots_started,
            tables,
            states: self.registry.tables(),
            range: self.range,
            storage: self.storage,
            options: self.options.clone(),
        };
        let moments = self.moments.take();
        self.job = Some((SnapshotJob::start(plan, &self.environment), moments));
        Ok(())
    }

    /// The snapshot that has ended, if one has. Its layers are folded from now on, whether it has failed or not.
    pub(super) fn ended_snapshot(&mut self) -> Option<Result<(u64, KeyedSnapshot), StateError>> {
        let written = self.job.as_mut()?.0.result()?;
        let (job, mut tables) = self.job.take()?;
        self.fold_from_now_on();
        (self.environment.waker)();
        let written = match written {
            Ok(written) => written,
            Err(error) => return Some(Err(error)),
        };
        for (table, chunk) in written.lists {
            lists_reach(&mut tables, table, chunk);
        }
        let stored = written.stored;
        self.bytes_uploaded += stored.bytes_uploaded;
        self.files_of_last_snapshot = stored.files.files.len() as u64;
        let snapshot = KeyedSnapshot {
            tables,
            inline: stored.inline,
            ..KeyedSnapshot::of_files(stored.files)
        };
        Some(Ok((job.checkpoint_id, snapshot)))
    }

    /// The job has given up a checkpoint: if its snapshot is being written, that stops.
    pub(super) fn give_up(&mut self, checkpoint_id: u64) {
        let given_up = self
            .job
            .take_if(|(job, _)| job.checkpoint_id == checkpoint_id);
        if let Some((job, _)) = given_up {
            job.cancel();
            self.cancelled.push(job);
        }
    }

    /// Folds a bounded number of rows and entries; asks to be polled again if there is more.
    pub(super) fn fold_some(&mut self) {
        // While a snapshot is written it holds every layer there is to fold.
        if self.job.is_some() {
            return;
        }
        let Some(mut at) = self.folding.take() else {
            return;
        };
        let work_max = FOLD_ROWS_PER_POLL.saturating_mul(at.behind.saturating_add(1));
        let (work, done) = self.fold_from(&mut at, work_max);
        sort_freed(work);
        if !done {
            self.fold_later(at);
        } else if at.again {
            let behind = at.behind;
            self.fold_later(Folding {
                behind,
                ..Folding::default()
            });
        }
    }

    /// Returns how much was done, and whether that was all.
    fn fold_from(&mut self, at: &mut Folding, work_max: usize) -> (usize, bool) {
        let mut work = 0;
        while let Some(candidate) = self.tables.get_mut(at.table) {
            let groups = candidate
                .as_mut()
                .map(|table| &mut table.groups[..])
                .unwrap_or_default();
            let Some(next) = groups.get_mut(at.group) else {
                (at.table, at.group) = (at.table + 1, 0);
                continue;
            };
            let folded = next.fold(work_max.saturating_sub(work));
            work += folded.work;
            if !folded.done {
                return (work, false);
            }
            at.group += 1;
        }
        let typed = self.typed.all();
        while let Some(next) = typed.get(at.typed) {
            let left = work_max.saturating_sub(work);
            let folded = next.borrow_mut().fold_some(at.group_of_typed, left);
            work += folded.moved;
            match folded.next {
                Some(group) => {
                    at.group_of_typed = group;
                    return (work, false);
                }
                None => (at.typed, at.group_of_typed) = (at.typed + 1, 0),
            }
        }
        (work, true)
    }

    fn fold_later(&mut self, at: Folding) {
        self.folding = Some(at);
        (self.environment.waker)();
    }

    /// Forgets the snapshots that were given up and have ended: their layers can be folded.
    pub(super) fn end_cancelled(&mut self) {
        let before = self.cancelled.len();
        self.cancelled.retain_mut(|job| job.result().is_none());
        if self.cancelled.len() < before {
            self.fold_from_now_on();
        }
    }

    /// There are layers that no snapshot holds any more.
    fn fold_from_now_on(&mut self) {
        match &mut self.folding {
            Some(folding) => {
                folding.again = true;
                folding.behind += 1;
            }
            None => self.folding = Some(Folding::default()),
        }
    }
}

/// Lets the allocator put away now what so much folding has freed.
///
/// glibc keeps freed memory in the order in which it came, and looks through ten thousand pieces of it whenever it is asked for a size that it
/// has none of. After folding there may be a million, and whoever asks next (a barrier, say) would wait. It looks through them just as well
/// when it is asked for more than there can be. Other allocators answer such a question at once.
fn sort_freed(work: usize) {
    const LOOKED_AT_ONCE: usize = 10_000;
    for _ in 0..work.div_ceil(LOOKED_AT_ONCE) {
        drop(std::hint::black_box(Vec::<u8>::with_capacity(LARGE_BYTES)));
    }
}

/// The lists of a table have chunks up to this number: whoever goes on with the snapshot appends there or behind. Tables stay in the order of their
/// numbers.
fn lists_reach(tables: &mut Vec<TableMoment>, table: TableId, chunk: u64) {
    match tables.binary_search_by_key(&table, |moment| moment.table) {
        Ok(at) => {
            let moment = &mut tables[at];
            moment.list_chunk = moment.list_chunk.max(chunk);
            // They are numbered from 0 on.
            moment.list_oldest = 0;
            moment.list_closed.clear();
        }
        Err(_) if chunk == 0 => {}
        Err(at) => tables.insert(
            at,
            TableMoment {
                list_chunk: chunk,
                ..TableMoment::new(table)
            },
        ),
    }
}

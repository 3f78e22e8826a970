//! What grows with the state, and what must not: checkpoints, restores and rescales of states of several sizes.
//!
//! A state is built once per directory and used again by later runs. Files lie on the local disk; the page cache cannot be emptied from
//! here, so these are figures of a warm one.
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use aquifer_store::{Checkpoint, KeyGroupRange, Lookup, Store};
use tokio::runtime::Runtime;

use crate::data::{self, KEY_BYTES, KEY_GROUPS, Random, VALUE_BYTES};
use crate::engine::aquifer::{Aquifer, Place, runtime, table_id};
use crate::engine::{Result, Setup, Table};
use crate::measure::{Stretch, wait_until_quiet};
use crate::report::{human, micros};

/// Bytes of keys and values that change between two checkpoints.
const CHANGE_BYTES: u64 = 100_000_000;
/// Compactions may take this long between two checkpoints; then the next comes while they run.
const SETTLE_MAX: Duration = Duration::from_secs(15);
const READS: u64 = 1000;
const REPEATS: usize = 5;
/// Whole range of key groups of the job.
pub const ALL: KeyGroupRange = KeyGroupRange {
    start: 0,
    end: KEY_GROUPS - 1,
};

/// A state on disk.
pub struct State {
    pub directory: PathBuf,
    pub checkpoint: Checkpoint,
    pub rows: u64,
}

/// Memory is the same for every size.
pub fn setup(directory: &Path) -> Setup {
    Setup::new(directory.to_owned())
}

impl State {
    /// The state of so many bytes below `parent`; built if it is not there, or if it cannot be read any more.
    pub fn prepare(parent: &Path, bytes: u64) -> Result<Self> {
        let rows = bytes / (KEY_BYTES + VALUE_BYTES) as u64;
        let directory = parent.join(format!("state-{}m", bytes / 1_000_000));
        let known = Self::known(&directory, rows);
        if let Ok(Some(state)) = known {
            return Ok(state);
        }
        let _ = std::fs::remove_dir_all(&directory);
        std::fs::create_dir_all(&directory)?;
        let stretch = Stretch::start();
        let mut engine = Aquifer::open_with(
            &setup(&directory),
            runtime()?,
            Place::local(&directory)?,
            vec![],
        )?;
        for row in 0..rows {
            engine.write(&data::ordered_key(row, rows), &data::value(row, 0))?;
        }
        crate::engine::Engine::close(engine)?;
        crate::progress(&format!(
            "built a state of {} MB in {:?}",
            bytes / 1_000_000,
            stretch.wall()
        ));
        Self::known(&directory, rows)?
            .ok_or_else(|| "a state that was just built is not there".into())
    }

    fn known(directory: &Path, rows: u64) -> Result<Option<Self>> {
        let Some(checkpoint) = crate::engine::aquifer::saved_checkpoint(directory)? else {
            return Ok(None);
        };
        let state = Self {
            directory: directory.to_owned(),
            checkpoint,
            rows,
        };
        state.sweep()?;
        let runtime = runtime()?;
        let engine = state.open(&runtime, vec![(state.checkpoint.clone(), ALL)])?;
        let mut random = Random::new(5);
        (0..100).try_for_each(|_| state.read(&engine.store, &runtime, random.below(rows)))?;
        Ok(Some(state))
    }

    /// Removes files that only later attempts made.
    pub fn sweep(&self) -> Result<()> {
        for entry in std::fs::read_dir(self.directory.join("shared"))? {
            let path = entry?.path();
            let name = path
                .file_name()
                .and_then(|name| name.to_str())
                .unwrap_or_default();
            if !self
                .checkpoint
                .files
                .iter()
                .any(|file| file.path.ends_with(name))
            {
                std::fs::remove_file(path)?;
            }
        }
        Ok(())
    }

    fn open(
        &self,
        runtime: &Arc<Runtime>,
        restored: Vec<(Checkpoint, KeyGroupRange)>,
    ) -> Result<Aquifer> {
        Aquifer::open_with(
            &setup(&self.directory),
            runtime.clone(),
            Place::local(&self.directory)?,
            restored,
        )
    }

    /// Reads one row, cold or not, and checks it.
    pub fn read(&self, store: &Store, runtime: &Runtime, row: u64) -> Result<()> {
        let key = data::ordered_key(row, self.rows);
        let good = |value: Option<&[u8]>| value.is_some_and(|value| data::is_of(row, value));
        let found = match store.get(table_id(Table::Values), key.group, key.bytes())? {
            Lookup::Found(value) => good(Some(&value)),
            Lookup::Absent => false,
            Lookup::Cold(read) => {
                let values = runtime.block_on(store.fetch(vec![read]))?;
                good(values.first().and_then(Option::as_deref))
            }
        };
        if found {
            Ok(())
        } else {
            Err(format!("row {row} of the state is not as it was written").into())
        }
    }

    fn disk_bytes(&self) -> Result<u64> {
        disk_bytes(&self.directory.join("shared"))
    }
}

/// Bytes of all files below a directory.
pub fn disk_bytes(directory: &Path) -> Result<u64> {
    let mut sum = 0;
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        sum += if metadata.is_dir() {
            disk_bytes(&entry.path())?
        } else {
            metadata.len()
        };
    }
    Ok(sum)
}

/// The figures of one size.
struct Figures {
    bytes: u64,
    disk_bytes: u64,
    files: usize,
    /// What the operator's thread is held up for.
    frozen: Duration,
    durable: Duration,
    uploaded: u64,
    first_read: Duration,
    many_reads: Duration,
    /// 2 → 3 and 3 → 2, until every new worker has made its first read.
    rescales: [Duration; 2],
    copied: u64,
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

/// Measures all sizes and returns a Markdown table.
pub fn run(parent: &Path, sizes: &[u64]) -> Result<String> {
    let mut all = Vec::new();
    for &bytes in sizes {
        let state = State::prepare(parent, bytes)?;
        let (first_read, many_reads) = restore(&state)?;
        let (rescales, copied) = rescale(&state)?;
        let (frozen, durable, uploaded) = checkpoint(&state)?;
        let figures = Figures {
            bytes,
            disk_bytes: state.disk_bytes()?,
            files: state.checkpoint.files.len(),
            frozen,
            durable,
            uploaded,
            first_read,
            many_reads,
            rescales,
            copied,
        };
        crate::progress(&line(&figures));
        all.push(figures);
    }
    Ok(table(&all))
}

/// Opens the state with an empty cache; times to the first read and to the thousandth.
fn restore(state: &State) -> Result<(Duration, Duration)> {
    let runtime = runtime()?;
    let (mut first, mut many) = (Vec::new(), Vec::new());
    for repeat in 0..REPEATS as u64 {
        let mut random = Random::new(100 + repeat);
        let restored = vec![(state.checkpoint.clone(), ALL)];
        let stretch = Stretch::start();
        let engine = state.open(&runtime, restored)?;
        state.read(&engine.store, &runtime, random.below(state.rows))?;
        first.push(stretch.wall());
        for _ in 1..READS {
            state.read(&engine.store, &runtime, random.below(state.rows))?;
        }
        many.push(stretch.wall());
    }
    Ok((median(first), median(many)))
}

/// Key groups of worker `index` of `workers`, as Flink divides them.
fn share(index: u16, workers: u16) -> KeyGroupRange {
    KeyGroupRange {
        start: (index * KEY_GROUPS).div_ceil(workers),
        end: ((index + 1) * KEY_GROUPS - 1) / workers,
    }
}

/// What each of `workers` opens, if `parents` ran before.
fn shares(
    parents: &[(Checkpoint, KeyGroupRange)],
    workers: u16,
) -> Vec<(KeyGroupRange, Vec<(Checkpoint, KeyGroupRange)>)> {
    let worker = |index| {
        let range = share(index, workers);
        let parts = parents
            .iter()
            .filter_map(|(checkpoint, of)| Some((checkpoint.clone(), of.intersection(range)?)));
        (range, parts.collect())
    };
    (0..workers).map(worker).collect()
}

/// 1 → 2, then 2 → 3 and 3 → 2: times of the last two, and how many bytes the directory grew by.
fn rescale(state: &State) -> Result<([Duration; 2], u64)> {
    let runtime = runtime()?;
    let mut times = [Vec::new(), Vec::new()];
    let before = state.disk_bytes()?;
    for repeat in 0..REPEATS as u64 {
        let mut parents = vec![(state.checkpoint.clone(), ALL)];
        for (step, workers) in [2, 3, 2].into_iter().enumerate() {
            let shares = shares(&parents, workers);
            let stretch = Stretch::start();
            let mut engines = Vec::new();
            for (range, parts) in shares {
                let engine = state.open(&runtime, parts)?;
                let mut random = Random::new(200 + repeat);
                let row = std::iter::repeat_with(|| random.below(state.rows))
                    .find(|&row| range.contains(data::ordered_key(row, state.rows).group));
                state.read(&engine.store, &runtime, row.unwrap_or_default())?;
                engines.push((engine, range));
            }
            if let Some(times) = step.checked_sub(1).and_then(|step| times.get_mut(step)) {
                times.push(stretch.wall());
            }
            parents = Vec::new();
            for (mut engine, range) in engines {
                engine.begin_checkpoint()?;
                parents.push((engine.finish_checkpoint()?, range));
            }
        }
    }
    let [two_to_three, three_to_two] = times;
    Ok((
        [median(two_to_three), median(three_to_two)],
        state.disk_bytes()?.saturating_sub(before),
    ))
}

/// Changes rows all over the state, then takes a checkpoint: how long the operator stands still, how long until the checkpoint is durable, and how
/// many bytes were written for it.
fn checkpoint(state: &State) -> Result<(Duration, Duration, u64)> {
    let (mut frozen, mut durable, mut uploaded) = (Vec::new(), Vec::new(), 0);
    let mut engine = state.open(&runtime()?, vec![(state.checkpoint.clone(), ALL)])?;
    let mut random = Random::new(300);
    for version in 1..=3 {
        engine.settle_within(SETTLE_MAX)?;
        let before = engine.store.stats().bytes_uploaded;
        let (start, changes) = (
            random.below(state.rows),
            CHANGE_BYTES / (KEY_BYTES + VALUE_BYTES) as u64,
        );
        for i in 0..changes {
            // A prime larger than any number of rows: no row comes twice, so the change is the same whatever the size of the state.
            let row = (start + i * 2_654_435_761) % state.rows;
            engine.write(
                &data::ordered_key(row, state.rows),
                &data::value(row, version),
            )?;
        }
        let stretch = Stretch::start();
        engine.begin_checkpoint()?;
        frozen.push(stretch.wall());
        engine.finish_checkpoint()?;
        durable.push(stretch.wall());
        uploaded = engine.store.stats().bytes_uploaded - before;
    }
    drop(engine);
    // Compactions of a store that was dropped end soon, but not at once.
    wait_until_quiet();
    state.sweep()?;
    Ok((median(frozen), median(durable), uploaded))
}

fn line(figures: &Figures) -> String {
    let [up, down] = figures.rescales;
    format!(
        "state of {} MB: checkpoint held up {:?}, durable {:?} ({} MB); restore to first read {:?}, to {READS} {:?}; 2 → 3 {up:?}, 3 → 2 \
         {down:?}, {} bytes copied",
        figures.bytes / 1_000_000,
        figures.frozen,
        figures.durable,
        figures.uploaded / 1_000_000,
        figures.first_read,
        figures.many_reads,
        figures.copied
    )
}

fn millis(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1e3)
}

fn table(all: &[Figures]) -> String {
    let mut out = String::from(
        "| state | on disk | files | checkpoint: held up | durable | written | restore to first read | to 1,000 | 2 → 3 | 3 → 2 | copied |\n\
         |---|---|---|---|---|---|---|---|---|---|---|\n",
    );
    for f in all {
        let [up, down] = f.rescales.map(millis);
        out += &format!(
            "| {}B | {}B | {} | {} µs | {} | {}B | {} | {} | {up} | {down} | {} |\n",
            human(f.bytes as f64),
            human(f.disk_bytes as f64),
            f.files,
            micros(f.frozen.as_nanos() as u64),
            millis(f.durable),
            human(f.uploaded as f64),
            millis(f.first_read),
            millis(f.many_reads),
            f.copied
        );
    }
    // Largest beside smallest.
    if let (Some(least), Some(most)) = (all.first(), all.last()) {
        let ratio = |of: fn(&Figures) -> Duration| {
            let times = all.iter().map(|f| of(f).as_secs_f64());
            let (low, high) = times.fold((f64::MAX, 0.0f64), |(low, high), t| {
                (low.min(t), high.max(t))
            });
            format!("{:.2}", high / low.max(1e-9))
        };
        out += &format!(
            "| slowest ÷ fastest, {}B to {}B | | | {} | {} | | {} | {} | {} | {} | |\n",
            human(least.bytes as f64),
            human(most.bytes as f64),
            ratio(|f| f.frozen),
            ratio(|f| f.durable),
            ratio(|f| f.first_read),
            ratio(|f| f.many_reads),
            ratio(|f| f.rescales[0]),
            ratio(|f| f.rescales[1]),
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_share_all_key_groups() {
        for workers in [1, 2, 3, 5, 128] {
            let ranges: Vec<_> = (0..workers).map(|index| share(index, workers)).collect();
            assert_eq!(
                (ranges[0].start, ranges[ranges.len() - 1].end),
                (0, KEY_GROUPS - 1)
            );
            assert!(
                ranges
                    .windows(2)
                    .all(|pair| pair[0].end + 1 == pair[1].start),
                "{ranges:?}"
            );
        }
        let parents = vec![
            (Checkpoint::default(), share(0, 2)),
            (Checkpoint::default(), share(1, 2)),
        ];
        let parts: Vec<usize> = shares(&parents, 3)
            .iter()
            .map(|(_, parts)| parts.len())
            .collect();
        assert_eq!(parts, [1, 2, 1]);
    }
}

//! The timed loops: one generic function per kind of work, the same for every engine.
use std::time::Duration;

use crate::data::{self, KEY_BYTES, Key, MAP_ROWS, OPERAND_BYTES};
use crate::engine::{Engine, Result, Table};
use crate::measure::{Histogram, SAMPLE, Spent, Stretch, now};

/// Keys of one multi-get.
pub const BATCH: usize = 100;

/// What is to be done with each id of a list that was drawn before.
#[derive(Clone, Copy, Debug)]
pub enum Work {
    /// Sets each row, with a value of this version.
    Put(u64),
    /// Reads rows that are there.
    Get,
    /// Reads rows that are not.
    GetAbsent,
    /// Reads a row, changes it, and writes it.
    ReadModifyWrite,
    /// Reads rows that are there, [`BATCH`] at a time. Counted in rows.
    MultiGet,
    /// Sets rows of maps: row `id % MAP_ROWS` of map `id / MAP_ROWS`.
    PutMaps,
    /// Reads all rows of each map. Counted in rows.
    Scan,
    /// Appends to the end of each list.
    Append,
    /// Reads whole lists.
    GetLists,
    /// Sets rows that were not there, and deletes each after [`LIFETIME`] others, as timers and joins do. Counted in pairs.
    PutDelete,
}

impl Work {
    const ALL: [Self; 10] = [
        Self::Put(0),
        Self::Get,
        Self::GetAbsent,
        Self::ReadModifyWrite,
        Self::MultiGet,
        Self::PutMaps,
        Self::Scan,
        Self::Append,
        Self::GetLists,
        Self::PutDelete,
    ];

    /// The work as two numbers.
    pub fn number(self) -> (usize, u64) {
        let same = |other: &Self| std::mem::discriminant(other) == std::mem::discriminant(&self);
        let version = if let Self::Put(version) = self {
            version
        } else {
            0
        };
        (Self::ALL.iter().position(same).unwrap_or(0), version)
    }

    /// The work that these numbers stand for.
    pub fn from_number(number: usize, version: u64) -> Option<Self> {
        match *Self::ALL.get(number)? {
            Self::Put(_) => Some(Self::Put(version)),
            other => Some(other),
        }
    }
}

/// Rows between a put and its delete.
const LIFETIME: u64 = 10_000;

/// What came of it.
#[derive(Clone, Default)]
pub struct Outcome {
    /// Operations (rows, for batches and scans).
    pub operations: u64,
    pub spent: Spent,
    /// What background work took after the last operation, until nothing was left to do.
    pub drain: Spent,
    pub latency: Histogram,
}

impl Outcome {
    pub fn merge(&mut self, other: &Self) {
        self.operations += other.operations;
        self.spent += other.spent;
        self.drain += other.drain;
        self.latency.merge(&other.latency);
    }

    /// Operations per second while they were being done.
    pub fn rate(&self) -> f64 {
        self.operations as f64 / self.spent.wall.as_secs_f64().max(1e-9)
    }

    /// Operations per second until the background was done too.
    pub fn rate_drained(&self) -> f64 {
        self.operations as f64 / (self.spent.wall + self.drain.wall).as_secs_f64().max(1e-9)
    }

    /// Processor time of all threads per operation, background included, in nanoseconds.
    pub fn cpu_nanos(&self) -> f64 {
        (self.spent.cpu + self.drain.cpu).as_nanos() as f64 / self.operations.max(1) as f64
    }
}

/// Does the work until it is done or the time is up.
pub fn run<E: Engine>(
    engine: &mut E,
    work: Work,
    ids: &[u64],
    budget: Duration,
) -> Result<Outcome> {
    match work {
        Work::Put(version) => each(ids, budget, 1, |id| {
            engine.put(Table::Values, &data::key(id), &data::value(id, version))
        }),
        Work::Get => each(ids, budget, 1, |id| {
            let found = engine.get(Table::Values, &data::key(id), |v| {
                v.is_some_and(|v| data::is_of(id, v))
            })?;
            if found { Ok(()) } else { Err(lost("row", id)) }
        }),
        Work::GetAbsent => each(ids, budget, 1, |id| {
            let found = engine.get(Table::Values, &data::key(id), |v| v.is_some())?;
            if found {
                Err(format!("row {id} was never written, but there is one").into())
            } else {
                Ok(())
            }
        }),
        Work::ReadModifyWrite => each(ids, budget, 1, |id| {
            let key = data::key(id);
            let read = engine.get(Table::Values, &key, |v| {
                v.filter(|v| data::is_of(id, v))
                    .and_then(|v| <[u8; data::VALUE_BYTES]>::try_from(v).ok())
            })?;
            let Some(mut value) = read else {
                return Err(lost("row", id));
            };
            let mut count = [0; 8];
            count.copy_from_slice(&value[8..16]);
            value[8..16].copy_from_slice(&u64::from_le_bytes(count).wrapping_add(1).to_le_bytes());
            engine.put(Table::Values, &key, &value)
        }),
        Work::MultiGet => multi_get(engine, ids, budget),
        Work::PutMaps => each(ids, budget, 1, |id| {
            let key = data::map_key(id / MAP_ROWS, id % MAP_ROWS);
            engine.put(Table::Maps, &key, &data::value(id, 0))
        }),
        Work::Scan => each(ids, budget, MAP_ROWS, |map| {
            let (mut rows, mut bytes) = (0, 0);
            engine.scan(
                Table::Maps,
                &data::map_prefix(map),
                MAP_ROWS as usize,
                &mut |key, value| {
                    rows += 1;
                    bytes += key.len() + value.len();
                },
            )?;
            // Some engines give the prefix back with each key, some do not.
            let least = MAP_ROWS as usize
                * (KEY_BYTES - data::map_prefix(map).bytes().len() + data::VALUE_BYTES);
            if rows == MAP_ROWS && bytes >= least {
                Ok(())
            } else {
                Err(lost("rows of map", map))
            }
        }),
        Work::Append => each(ids, budget, 1, |id| {
            engine.append(
                Table::Lists,
                &data::key(id),
                &data::value(id, 0)[..OPERAND_BYTES],
            )
        }),
        Work::GetLists => each(ids, budget, 1, |id| {
            engine.get(Table::Lists, &data::key(id), |v| {
                let good = v.is_none_or(|v| {
                    v.len().is_multiple_of(OPERAND_BYTES) && v[..8] == id.to_le_bytes()
                });
                if good { Ok(()) } else { Err(lost("list", id)) }
            })?
        }),
        Work::PutDelete => each(ids, budget, 1, |id| {
            let id = id + (1 << 41);
            engine.put(Table::Values, &data::key(id), &data::value(id, 0))?;
            engine.delete(Table::Values, &data::key(id - LIFETIME))
        }),
    }
}

fn lost(what: &str, id: u64) -> Box<dyn std::error::Error + Send + Sync> {
    format!("{what} {id} was written, but was not found as it was").into()
}

#[inline]
fn each(
    ids: &[u64],
    budget: Duration,
    rows: u64,
    mut operation: impl FnMut(u64) -> Result<()>,
) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    let stretch = Stretch::start();
    for (i, &id) in ids.iter().enumerate() {
        if (i as u64).is_multiple_of(SAMPLE) {
            if stretch.wall() > budget {
                break;
            }
            let before = now();
            operation(id)?;
            outcome.latency.record(before.elapsed());
        } else {
            operation(id)?;
        }
        outcome.operations += rows;
    }
    outcome.spent = stretch.spent();
    Ok(outcome)
}

fn multi_get<E: Engine>(engine: &mut E, ids: &[u64], budget: Duration) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    let mut keys: Vec<Key> = Vec::with_capacity(BATCH);
    let stretch = Stretch::start();
    for batch in ids.chunks_exact(BATCH) {
        if stretch.wall() > budget {
            break;
        }
        let before = now();
        keys.clear();
        keys.extend(batch.iter().map(|&id| data::key(id)));
        let mut good = 0;
        engine.multi_get(Table::Values, &keys, &mut |i, value| {
            good += u64::from(value.is_some_and(|value| data::is_of(batch[i], value)));
        })?;
        outcome.latency.record(before.elapsed());
        if good != BATCH as u64 {
            return Err(format!(
                "a multi-get of {BATCH} rows found {good} of them as they were written"
            )
            .into());
        }
        outcome.operations += good;
    }
    outcome.spent = stretch.spent();
    Ok(outcome)
}

//! What one call of a state handle costs: value, list and map, asynchronous and synchronous.
mod list;
mod map;
mod table;
mod value;

use std::future::Future;
use std::path::Path;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use aquifer_state::access::StateAccess;

use self::table::Table;
use super::backends::{Backend, Worker};
use crate::data::Random;
use crate::engine::Result;
use crate::measure::Stretch;

/// The two APIs over the same state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Api {
    /// Blocking.
    V1,
    /// Futures and streams.
    V2,
}

/// Elements of each list, and of what `addAll` and `update` are given.
pub const LIST_ELEMENTS: usize = 100;
/// Entries of each map.
pub const MAP_ENTRIES: i64 = 10;
/// Calls between two looks at what the background has finished.
const POLL_EVERY: usize = 64;
/// Seconds that a turn may take, if it is not through with its calls before.
const TURN_SECONDS_MAX: f64 = 2.0;

/// One row of the table of figures.
#[derive(Clone, Copy)]
pub struct Row {
    pub name: &'static str,
    /// Calls of a turn.
    calls: usize,
    /// Whether keys are such that have nothing yet.
    new_keys: bool,
}

const fn row(name: &'static str, calls: usize, new_keys: bool) -> Row {
    Row {
        name,
        calls,
        new_keys,
    }
}

/// One state of one backend, filled.
trait Subject {
    /// Makes the state and gives each of `keys` keys what it has at the beginning.
    fn fill(worker: &Worker, keys: u64) -> Result<Self>
    where
        Self: Sized;
    /// Touches everything once.
    fn warm(&mut self, worker: &Worker, keys: u64) -> Result<()>;
    /// Does a row's call for each id and says how many calls a second that were, and how many ids it came to.
    fn run(&mut self, worker: &Worker, row: &str, api: Api, ids: &[i64]) -> Result<Turn>;
    /// Makes what a row has changed of a key as it was.
    fn restore(&mut self, row: &str, id: i64) -> Result<()>;
}

/// A row's turn on one backend.
pub struct Turn {
    pub calls_per_second: f64,
    done: usize,
}

/// Measures every row; Markdown.
pub fn run(
    directory: &Path,
    kinds: &[Backend],
    keys: u64,
    rounds: u64,
    wanted: &dyn Fn(&str) -> bool,
) -> Result<String> {
    let mut table = Table::new(kinds);
    let all = |name: &str, rows: &[Row], subjects: &mut dyn FnMut(&[Row]) -> Result<()>| {
        let rows: Vec<Row> = rows
            .iter()
            .copied()
            .filter(|row| wanted(row.name))
            .collect();
        if rows.is_empty() {
            return Ok(());
        }
        crate::progress(&format!("state: {name}, {keys} keys"));
        subjects(&rows)
    };
    let sizes = (directory, kinds, keys, rounds);
    all("value", &value::ROWS, &mut |rows| {
        kind::<value::Values>(sizes, rows, &mut table)
    })?;
    all("list", &list::ROWS, &mut |rows| {
        kind::<list::Lists>(sizes, rows, &mut table)
    })?;
    all("map", &map::ROWS, &mut |rows| {
        kind::<map::Maps>(sizes, rows, &mut table)
    })?;
    Ok(table.markdown())
}

/// Measures the rows of one kind of state.
fn kind<S: Subject>(
    (directory, kinds, keys, rounds): (&Path, &[Backend], u64, u64),
    rows: &[Row],
    table: &mut Table,
) -> Result<()> {
    let mut subjects = Vec::new();
    for &kind in kinds {
        crate::progress(&format!("state: filling {}", kind.name()));
        let mut worker = Worker::open(kind, directory)?;
        let mut subject = S::fill(&worker, keys)?;
        worker.settle()?;
        subject.warm(&worker, keys)?;
        subjects.push((worker, subject));
    }
    let mut fresh = i64::try_from(keys)?;
    for row in rows {
        for round in 0..rounds {
            for (at, (worker, subject)) in subjects.iter_mut().enumerate() {
                // Who begins takes turns.
                let apis = match (round + at as u64).is_multiple_of(2) {
                    true => [Api::V1, Api::V2],
                    false => [Api::V2, Api::V1],
                };
                for api in apis {
                    let mut ids = ids(row, keys, (round, api), &mut fresh)?;
                    let turn = subject.run(worker, row.name, api, &ids)?;
                    ids.truncate(turn.done);
                    ids.sort_unstable();
                    ids.dedup();
                    for ids in ids.chunks(POLL_EVERY) {
                        ids.iter()
                            .try_for_each(|&id| subject.restore(row.name, id))?;
                        worker.poll()?;
                    }
                    table.add(row.name, worker.kind, api, turn.calls_per_second);
                }
            }
        }
        crate::progress(&format!("state: {}", table.line(row.name)));
    }
    Ok(())
}

/// The keys of a turn's calls: drawn from those that are there, or new ones. Each API has its own, so that neither finds what the other has
/// just put where writes go; and every row has the same, so that gets after updates are of what was updated.
fn ids(row: &Row, keys: u64, (round, api): (u64, Api), fresh: &mut i64) -> Result<Vec<i64>> {
    if row.new_keys {
        let first = *fresh;
        *fresh += i64::try_from(row.calls)?;
        return Ok((first..*fresh).collect());
    }
    let of_api = match api {
        Api::V1 => 0,
        Api::V2 => 1,
    };
    let mut random = Random::new(round * 2 + of_api);
    Ok((0..row.calls).map(|_| random.below(keys) as i64).collect())
}

/// Does a call for each id, or for as many as there is time for.
#[inline]
fn timed(worker: &Worker, ids: &[i64], mut call: impl FnMut(i64) -> Result<()>) -> Result<Turn> {
    let stretch = Stretch::start();
    let mut done = 0;
    for ids in ids.chunks(POLL_EVERY) {
        for &id in ids {
            call(id)?;
        }
        done += ids.len();
        worker.poll()?;
        if stretch.wall().as_secs_f64() > TURN_SECONDS_MAX {
            break;
        }
    }
    Ok(Turn {
        calls_per_second: done as f64 / stretch.wall().as_secs_f64().max(1e-9),
        done,
    })
}

/// Polls a future once, as a runner does, and only waits for it if that was not enough.
#[inline]
fn drive<F: Future>(access: &StateAccess, future: F) -> F::Output {
    let mut future = pin!(future);
    match future
        .as_mut()
        .poll(&mut Context::from_waker(Waker::noop()))
    {
        Poll::Ready(output) => output,
        Poll::Pending => access.run(future),
    }
}

/// The value of a key, or of an element or entry of it.
fn value_of(id: i64, at: i64) -> i64 {
    crate::data::mix((id as u64) ^ ((at as u64) << 48)) as i64
}

fn lost(what: &str, id: i64) -> Box<dyn std::error::Error + Send + Sync> {
    format!("the {what} of key {id} was not found as it was written").into()
}

//! A store whose object store is far away: how many round trips follow each other when it is opened and read.
use std::sync::Arc;
use std::time::Duration;

use aquifer_store::Lookup;
use object_store::ObjectStoreExt;

use crate::data::{self, Random};
use crate::engine::Result;
use crate::engine::Table;
use crate::engine::aquifer::{Aquifer, Place, runtime, table_id};
use crate::growth::{ALL, State, setup};
use crate::measure::Stretch;
use crate::remote::{Remote, in_memory};

const LATENCY: Duration = Duration::from_millis(15);
/// What is not waiting, in round trips.
const TOLERANCE: f64 = 0.1;
const READS: usize = 1000;
const REPEATS: u64 = 3;

/// Elapsed time in round trips, and requests.
struct Step {
    what: &'static str,
    trips: f64,
    requests: u64,
    aim: Option<f64>,
}

/// Measures Aquifer (and SlateDB, if it is compiled in) and returns a Markdown table.
pub fn run(parent: &std::path::Path, bytes: u64) -> Result<String> {
    let mut out = String::from(
        "| 15 ms latency | | elapsed time in round trips | requests | aim |\n|---|---|---|---|---|\n",
    );
    let mut add = |engine: &str, steps: Vec<Step>| {
        for step in steps {
            let aim = step.aim.map_or(String::from("–"), |aim| {
                format!(
                    "≤ {aim}: {}",
                    if step.trips <= aim + TOLERANCE {
                        "met"
                    } else {
                        "**missed**"
                    }
                )
            });
            let line = format!(
                "| {engine} | {} | {:.1} | {} | {aim} |",
                step.what, step.trips, step.requests
            );
            crate::progress(&line);
            out += &line;
            out.push('\n');
        }
    };
    add("aquifer", aquifer(&State::prepare(parent, bytes)?)?);
    #[cfg(feature = "slatedb")]
    add("slatedb", slatedb(parent)?);
    Ok(out)
}

/// How long one request really takes: timers go by milliseconds.
fn round_trip(remote: &Remote) -> Result<Duration> {
    let runtime = runtime()?;
    let mut times = Vec::new();
    for _ in 0..9 {
        let stretch = Stretch::start();
        let answer = runtime.block_on(remote.head(&"nothing".into()));
        times.push(stretch.wall());
        if answer.is_ok() {
            return Err("there is an object where none should be".into());
        }
    }
    times.sort();
    Ok(times[times.len() / 2])
}

/// Does a step several times and keeps the fastest, which other programs disturbed least.
fn step(
    what: &'static str,
    aim: Option<f64>,
    remote: &Remote,
    mut work: impl FnMut(u64) -> Result<Stretch>,
) -> Result<Step> {
    let trip = round_trip(remote)?;
    let mut best: Option<Step> = None;
    for repeat in 0..REPEATS {
        let before = remote.counts();
        let wall = work(repeat)?.wall();
        let requests = remote.counts().since(before).requests();
        let trips = wall.as_secs_f64() / trip.as_secs_f64();
        if best.as_ref().is_none_or(|best| trips < best.trips) {
            best = Some(Step {
                what,
                trips,
                requests,
                aim,
            });
        }
    }
    best.ok_or_else(|| "nothing was measured".into())
}

fn aquifer(state: &State) -> Result<Vec<Step>> {
    let runtime = runtime()?;
    let remote = Remote::new(runtime.block_on(in_memory(&state.directory))?);
    remote.set_latency(LATENCY);
    let open = || -> Result<Aquifer> {
        let place = Place {
            objects: Arc::new(remote.clone()),
            local_root: None,
        };
        Aquifer::open_with(
            &setup(&state.directory),
            runtime.clone(),
            place,
            vec![(state.checkpoint.clone(), ALL)],
        )
    };
    let opened = step("open", Some(2.0), &remote, |_| {
        let stretch = Stretch::start();
        let engine = open()?;
        let opened = stretch.stop();
        drop(engine);
        Ok(opened)
    })?;
    let first = step("first get", Some(2.0), &remote, |repeat| {
        let engine = open()?;
        let stretch = Stretch::start();
        state.read(
            &engine.store,
            &runtime,
            Random::new(repeat).below(state.rows),
        )?;
        Ok(stretch.stop())
    })?;
    let many = step(
        "1,000 cold gets in one batch",
        Some(4.0),
        &remote,
        |repeat| {
            let engine = open()?;
            let rows = data::draw(data::Draw::Uniform, state.rows, READS, repeat);
            let keys: Vec<_> = rows
                .iter()
                .map(|&row| data::ordered_key(row, state.rows))
                .collect();
            let asked: Vec<_> = keys.iter().map(|key| (key.group, key.bytes())).collect();
            let stretch = Stretch::start();
            let (mut places, mut reads) = (Vec::new(), Vec::new());
            engine
                .store
                .multi_get(table_id(Table::Values), &asked, &mut |i, lookup| {
                    if let Lookup::Cold(read) = lookup {
                        places.push(i);
                        reads.push(read);
                    }
                })?;
            let values = runtime.block_on(engine.store.fetch(reads))?;
            let read = stretch.stop();
            let good = places.iter().zip(&values);
            let good = good.filter(|(i, value)| {
                value
                    .as_deref()
                    .is_some_and(|value| data::is_of(rows[**i], value))
            });
            if good.count() != READS {
                return Err("a batch of cold reads did not find every row".into());
            }
            Ok(read)
        },
    )?;
    Ok(vec![opened, first, many])
}

/// A database of a million rows: smaller than ours, which is to its advantage.
#[cfg(feature = "slatedb")]
fn slatedb(parent: &std::path::Path) -> Result<Vec<Step>> {
    use crate::engine::Engine;
    use crate::engine::slatedb::SlateDb;
    const ROWS: u64 = 1_000_000;
    let directory = parent.join("state-slatedb");
    let done = directory.join("DONE");
    if !done.exists() {
        let _ = std::fs::remove_dir_all(&directory);
        std::fs::create_dir_all(&directory)?;
        let mut engine = SlateDb::open(&setup(&directory))?;
        for row in 0..ROWS {
            engine.put(Table::Values, &data::key(row), &data::value(row, 0))?;
        }
        engine.flush()?;
        engine.settle()?;
        engine.close()?;
        std::fs::write(done, "")?;
    }
    let objects = crate::engine::aquifer::runtime()?.block_on(in_memory(&directory))?;
    let remote = Remote::new(objects);
    let setup = setup(&directory);
    let open = |path: &str| {
        SlateDb::open_at(
            path,
            Arc::new(remote.clone()),
            setup.cache_bytes,
            setup.memtable_bytes,
        )
    };
    remote.set_latency(LATENCY);
    let opened = step("open", None, &remote, |_| {
        let stretch = Stretch::start();
        let engine = open("db")?;
        let opened = stretch.stop();
        engine.close()?;
        Ok(opened)
    })?;
    let cloned = step(
        "clone and open (its way to go back to a checkpoint)",
        None,
        &remote,
        |repeat| {
            let clone = format!("clone-{repeat}-{}", remote.counts().requests());
            let stretch = Stretch::start();
            crate::engine::slatedb::clone("db", &clone, Arc::new(remote.clone()))?;
            let engine = open(&clone)?;
            let opened = stretch.stop();
            engine.close()?;
            Ok(opened)
        },
    )?;
    let first = step("first get", None, &remote, |repeat| {
        let mut engine = open("db")?;
        let id = Random::new(repeat).below(ROWS);
        let stretch = Stretch::start();
        let found = engine.get(Table::Values, &data::key(id), |value| value.is_some())?;
        let read = stretch.stop();
        engine.close()?;
        if found {
            Ok(read)
        } else {
            Err("SlateDB did not find a row".into())
        }
    })?;
    let many = step("1,000 cold gets, joined", None, &remote, |repeat| {
        let mut engine = open("db")?;
        let keys: Vec<_> = data::draw(data::Draw::Uniform, ROWS, READS, repeat)
            .into_iter()
            .map(data::key)
            .collect();
        let mut found = 0;
        let stretch = Stretch::start();
        engine.multi_get(Table::Values, &keys, &mut |_, value| {
            found += usize::from(value.is_some())
        })?;
        let read = stretch.stop();
        engine.close()?;
        if found == READS {
            Ok(read)
        } else {
            Err("SlateDB did not find every row".into())
        }
    })?;
    Ok(vec![opened, cloned, first, many])
}

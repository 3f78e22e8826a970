//! Map state: ten numbers per key, by numbers.
use aquifer_state::{KeyedStateStore, MapState, MapStateDescriptor, StateError};
use futures_util::TryStreamExt;

use super::{Api, MAP_ENTRIES, Row, Subject, Turn, Worker, drive, lost, row, timed, value_of};
use crate::engine::Result;

pub const ROWS: [Row; 9] = [
    row("map get", 300_000, false),
    row("map contains", 300_000, false),
    row("map isEmpty", 100_000, false),
    row("map iterate", 50_000, false),
    row("map keys", 50_000, false),
    row("map values", 50_000, false),
    row("map update", 200_000, false),
    row("map add", 200_000, false),
    row("map remove", 200_000, false),
];

pub struct Maps {
    states: KeyedStateStore<i64>,
    state: MapState<i64, i64>,
}

/// The entry that a call is about.
fn entry(id: i64) -> i64 {
    id.rem_euclid(MAP_ENTRIES)
}

/// Sums what a stream has.
macro_rules! sum {
    ($access:expr, $stream:expr, $item:pat => $number:expr) => {
        drive($access, async {
            let mut stream = $stream;
            let mut total = 0i64;
            while let Some($item) = stream.try_next().await? {
                total = total.wrapping_add($number);
            }
            Ok::<_, StateError>(total)
        })?
    };
}

impl Subject for Maps {
    fn fill(worker: &Worker, keys: u64) -> Result<Self> {
        let states = worker.states();
        let state = states.map_state(&MapStateDescriptor::new("maps"))?;
        let this = Self { states, state };
        for id in 0..keys as i64 {
            this.states.set_current_key(&id);
            for at in 0..MAP_ENTRIES {
                this.state.put(&at, &value_of(id, at))?;
            }
            if id % 16 == 0 {
                worker.poll()?;
            }
        }
        Ok(this)
    }

    fn warm(&mut self, worker: &Worker, keys: u64) -> Result<()> {
        let ids: Vec<i64> = (0..keys as i64).collect();
        ids.chunks(50_000)
            .try_for_each(|ids| self.run(worker, "map iterate", Api::V1, ids).map(drop))
    }

    fn run(&mut self, worker: &Worker, row: &str, api: Api, ids: &[i64]) -> Result<Turn> {
        let Self { states, state } = self;
        let access = &worker.access;
        let check = |id: i64, as_written: bool| {
            if as_written {
                Ok(())
            } else {
                Err(lost("map", id))
            }
        };
        let keys: i64 = (0..MAP_ENTRIES).sum();
        let values =
            |id: i64| (0..MAP_ENTRIES).fold(0i64, |sum, at| sum.wrapping_add(value_of(id, at)));
        match (row, api) {
            ("map get", Api::V1) => timed(worker, ids, |id| {
                states.set_current_key(&id);
                let found = state.sync().get(&entry(id))?;
                check(id, found == Some(value_of(id, entry(id))))
            }),
            ("map get", Api::V2) => timed(worker, ids, |id| {
                states.set_current_key(&id);
                let found = drive(access, async { state.get(&entry(id)).await })?;
                check(id, found == Some(value_of(id, entry(id))))
            }),
            ("map contains", Api::V1) => timed(worker, ids, |id| {
                states.set_current_key(&id);
                check(id, state.sync().contains(&entry(id))?)
            }),
            ("map contains", Api::V2) => timed(worker, ids, |id| {
                states.set_current_key(&id);
                check(
                    id,
                    drive(access, async { state.contains(&entry(id)).await })?,
                )
            }),
            ("map isEmpty", Api::V1) => timed(worker, ids, |id| {
                states.set_current_key(&id);
                check(id, !state.sync().is_empty()?)
            }),
            ("map isEmpty", Api::V2) => timed(worker, ids, |id| {
                states.set_current_key(&id);
                check(id, !drive(access, async { state.is_empty().await })?)
            }),
            ("map iterate", Api::V1) => timed(worker, ids, |id| {
                states.set_current_key(&id);
                let mut total = 0i64;
                for entry in state.sync().entries() {
                    let (key, value) = entry?;
                    total = total.wrapping_add(key).wrapping_add(value);
                }
                check(id, total == keys.wrapping_add(values(id)))
            }),
            ("map iterate", Api::V2) => timed(worker, ids, |id| {
                states.set_current_key(&id);
                let total = sum!(access, state.entries(), (key, value) => key.wrapping_add(value));
                check(id, total == keys.wrapping_add(values(id)))
            }),
            ("map keys", Api::V1) => timed(worker, ids, |id| {
                states.set_current_key(&id);
                let mut total = 0;
                for key in state.sync().keys() {
                    total += key?;
                }
                check(id, total == keys)
            }),
            ("map keys", Api::V2) => timed(worker, ids, |id| {
                states.set_current_key(&id);
                check(id, sum!(access, state.keys(), key => key) == keys)
            }),
            ("map values", Api::V1) => timed(worker, ids, |id| {
                states.set_current_key(&id);
                let mut total = 0i64;
                for value in state.sync().values() {
                    total = total.wrapping_add(value?);
                }
                check(id, total == values(id))
            }),
            ("map values", Api::V2) => timed(worker, ids, |id| {
                states.set_current_key(&id);
                check(
                    id,
                    sum!(access, state.values(), value => value) == values(id),
                )
            }),
            ("map remove", Api::V1) => timed(worker, ids, |id| {
                states.set_current_key(&id);
                Ok(state.sync().remove(&entry(id))?)
            }),
            ("map remove", Api::V2) => timed(worker, ids, |id| {
                states.set_current_key(&id);
                Ok(drive(access, async { state.remove(&entry(id)) })?)
            }),
            // `add` puts entries that are not there.
            (_, api) => {
                let beyond = if row == "map add" { MAP_ENTRIES } else { 0 };
                match api {
                    Api::V1 => timed(worker, ids, |id| {
                        states.set_current_key(&id);
                        let at = entry(id);
                        Ok(state.sync().put(&(at + beyond), &value_of(id, at))?)
                    }),
                    Api::V2 => timed(worker, ids, |id| {
                        states.set_current_key(&id);
                        let at = entry(id);
                        Ok(drive(access, async {
                            state.put(&(at + beyond), &value_of(id, at))
                        })?)
                    }),
                }
            }
        }
    }

    fn restore(&mut self, row: &str, id: i64) -> Result<()> {
        self.states.set_current_key(&id);
        match row {
            "map add" => self.state.remove(&(entry(id) + MAP_ENTRIES))?,
            "map remove" => self.state.put(&entry(id), &value_of(id, entry(id)))?,
            _ => {}
        }
        Ok(())
    }
}

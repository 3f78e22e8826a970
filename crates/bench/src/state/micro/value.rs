//! Value state: one number per key.
use aquifer_state::{KeyedStateStore, ValueState, ValueStateDescriptor};

use super::{Api, Row, Subject, Turn, Worker, drive, lost, row, timed, value_of};
use crate::engine::Result;

pub const ROWS: [Row; 4] = [
    row("value get", 500_000, false),
    row("value update", 500_000, false),
    // Of the keys that were updated just before: they lie where writes go, not in files.
    row("value get after update", 500_000, false),
    row("value add", 200_000, true),
];

pub struct Values {
    states: KeyedStateStore<i64>,
    state: ValueState<i64>,
}

impl Subject for Values {
    fn fill(worker: &Worker, keys: u64) -> Result<Self> {
        let states = worker.states();
        let state = states.value_state(&ValueStateDescriptor::new("values"))?;
        let this = Self { states, state };
        for id in 0..keys as i64 {
            this.states.set_current_key(&id);
            this.state.put(value_of(id, 0))?;
            if id % 64 == 0 {
                worker.poll()?;
            }
        }
        Ok(this)
    }

    fn warm(&mut self, worker: &Worker, keys: u64) -> Result<()> {
        let ids: Vec<i64> = (0..keys as i64).collect();
        self.run(worker, "value get", Api::V1, &ids).map(drop)
    }

    fn run(&mut self, worker: &Worker, row: &str, api: Api, ids: &[i64]) -> Result<Turn> {
        let Self { states, state } = self;
        let access = &worker.access;
        let right = |id: i64, found: Option<i64>| match found {
            Some(found) if found == value_of(id, 0) => Ok(()),
            _ => Err(lost("value", id)),
        };
        match (row, api) {
            ("value get" | "value get after update", Api::V1) => timed(worker, ids, |id| {
                states.set_current_key(&id);
                right(id, state.value()?)
            }),
            ("value get" | "value get after update", Api::V2) => timed(worker, ids, |id| {
                states.set_current_key(&id);
                right(id, drive(access, async { state.get().await })?)
            }),
            // Values stay as they are, so that reads can be checked.
            (_, Api::V1) => timed(worker, ids, |id| {
                states.set_current_key(&id);
                Ok(state.sync().update(&value_of(id, 0))?)
            }),
            (_, Api::V2) => timed(worker, ids, |id| {
                states.set_current_key(&id);
                Ok(drive(access, async { state.update(&value_of(id, 0)) })?)
            }),
        }
    }

    fn restore(&mut self, row: &str, id: i64) -> Result<()> {
        if row == "value add" {
            self.states.set_current_key(&id);
            self.state.clear()?;
        }
        Ok(())
    }
}

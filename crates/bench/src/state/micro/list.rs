//! List state: a hundred numbers per key. `add` begins a list, `append` and `addAll` go on with one, `update` puts a new one in its place.
use aquifer_state::{KeyedStateStore, ListState, ListStateDescriptor};
use futures_util::TryStreamExt;

use super::{Api, LIST_ELEMENTS, Row, Subject, Turn, Worker, drive, lost, row, timed, value_of};
use crate::engine::Result;

pub const ROWS: [Row; 6] = [
    row("list get", 100_000, false),
    row("list iterate", 50_000, false),
    row("list add", 200_000, true),
    row("list append", 200_000, false),
    row("list addAll", 20_000, false),
    row("list update", 50_000, false),
];

pub struct Lists {
    states: KeyedStateStore<i64>,
    state: ListState<i64>,
    elements: Vec<i64>,
}

impl Lists {
    fn set(&mut self, id: i64) -> Result<()> {
        self.states.set_current_key(&id);
        Ok(self.state.update(&self.elements)?)
    }
}

impl Subject for Lists {
    fn fill(worker: &Worker, keys: u64) -> Result<Self> {
        let states = worker.states();
        let state = states.list_state(&ListStateDescriptor::new("lists"))?;
        let mut this = Self {
            states,
            state,
            elements: (0..LIST_ELEMENTS as i64).map(|i| value_of(i, 1)).collect(),
        };
        for id in 0..keys as i64 {
            this.set(id)?;
            if id % 64 == 0 {
                worker.poll()?;
            }
        }
        Ok(this)
    }

    fn warm(&mut self, worker: &Worker, keys: u64) -> Result<()> {
        let ids: Vec<i64> = (0..keys as i64).collect();
        ids.chunks(50_000)
            .try_for_each(|ids| self.run(worker, "list iterate", Api::V1, ids).map(drop))
    }

    fn run(&mut self, worker: &Worker, row: &str, api: Api, ids: &[i64]) -> Result<Turn> {
        let Self {
            states,
            state,
            elements,
        } = self;
        let access = &worker.access;
        let first = elements.first().copied();
        let sum: i64 = elements.iter().fold(0, |sum, e| sum.wrapping_add(*e));
        let right = |id: i64, as_written: bool| {
            if as_written {
                Ok(())
            } else {
                Err(lost("list", id))
            }
        };
        match (row, api) {
            ("list get", Api::V1) => timed(worker, ids, |id| {
                states.set_current_key(&id);
                let found = state.sync().get().next().transpose()?;
                right(id, found == first)
            }),
            ("list get", Api::V2) => timed(worker, ids, |id| {
                states.set_current_key(&id);
                let found = drive(access, async { state.get().try_next().await })?;
                right(id, found == first)
            }),
            ("list iterate", Api::V1) => timed(worker, ids, |id| {
                states.set_current_key(&id);
                let mut total = 0i64;
                for element in state.sync().get() {
                    total = total.wrapping_add(element?);
                }
                right(id, total == sum)
            }),
            ("list iterate", Api::V2) => timed(worker, ids, |id| {
                states.set_current_key(&id);
                let total = drive(access, async {
                    let mut elements = state.get();
                    let mut total = 0i64;
                    while let Some(element) = elements.try_next().await? {
                        total = total.wrapping_add(element);
                    }
                    Ok::<_, aquifer_state::StateError>(total)
                })?;
                right(id, total == sum)
            }),
            ("list addAll", Api::V1) => timed(worker, ids, |id| {
                states.set_current_key(&id);
                Ok(state.sync().add_all(elements.iter())?)
            }),
            ("list addAll", Api::V2) => timed(worker, ids, |id| {
                states.set_current_key(&id);
                Ok(drive(access, async { state.add_all(elements.iter()) })?)
            }),
            ("list update", Api::V1) => timed(worker, ids, |id| {
                states.set_current_key(&id);
                Ok(state.sync().update(elements.iter())?)
            }),
            ("list update", Api::V2) => timed(worker, ids, |id| {
                states.set_current_key(&id);
                Ok(drive(access, async { state.update(elements.iter()) })?)
            }),
            (_, Api::V1) => timed(worker, ids, |id| {
                states.set_current_key(&id);
                Ok(state.sync().add(&id)?)
            }),
            (_, Api::V2) => timed(worker, ids, |id| {
                states.set_current_key(&id);
                Ok(drive(access, async { state.add(&id) })?)
            }),
        }
    }

    fn restore(&mut self, row: &str, id: i64) -> Result<()> {
        match row {
            "list add" => {
                self.states.set_current_key(&id);
                Ok(self.state.clear()?)
            }
            "list append" | "list addAll" => self.set(id),
            _ => Ok(()),
        }
    }
}

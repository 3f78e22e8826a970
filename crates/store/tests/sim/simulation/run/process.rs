//! A process of the simulated job: its stores, what they should hold, and what is under way.
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use aquifer_store::{Checkpoint, ColdRead, Environment, KeyGroupRange, Store, TableId};
use aquifer_testkit::Stormy;

use super::super::case::Case;
use super::super::commits::Commits;
use super::super::executor::SimExecutor;
use super::super::model::{Now, Row, Rows, Sight};
use super::super::op::{self, EXPIRING, TABLES};
use super::{Failure, Stop, fail};

/// The clock of the world. It can go back.
#[derive(Default)]
pub struct SimClock {
    now_ms: AtomicI64,
    latest_ms: AtomicI64,
}

impl SimClock {
    pub fn now(&self) -> Now {
        Now {
            ms: self.now_ms.load(Ordering::Relaxed),
            latest_ms: self.latest_ms.load(Ordering::Relaxed),
        }
    }

    pub fn pass(&self, ms: i64) {
        let now = self.now_ms.fetch_add(ms, Ordering::Relaxed) + ms;
        self.latest_ms.fetch_max(now, Ordering::Relaxed);
    }
}

pub struct Worker {
    pub range: KeyGroupRange,
    pub store: Store,
    pub complete: VecDeque<Checkpoint>,
}

pub struct Planned {
    pub worker: usize,
    pub read: ColdRead,
    pub expected: Expected,
    pub what: String,
}

/// What a look-up may find: the row as the model has it, and whether it can be seen.
#[derive(Clone, Debug)]
pub struct Expected {
    pub row: Option<Row>,
    pub sight: Sight,
}

impl Expected {
    /// For a read that ends later than it began: either moment may count.
    pub fn later(mut self, now: Now) -> Self {
        let sight = self.row.as_ref().map_or(Sight::Gone, |row| now.sight(row));
        if sight != self.sight {
            self.sight = Sight::Either;
        }
        self
    }

    pub fn check(&self, what: &str, found: Option<&[u8]>) -> Result<(), Failure> {
        let row = self.row.as_ref().map(|row| row.value.as_slice());
        let right = match self.sight {
            Sight::There => found == row,
            Sight::Gone => found.is_none(),
            Sight::Either => found.is_none() || found == row,
        };
        if right {
            return Ok(());
        }
        let text = |value: Option<&[u8]>| match value {
            None => "nothing".to_owned(),
            Some(value) => {
                let start = value[..value.len().min(12)].escape_ascii();
                format!("{} bytes {start}", value.len())
            }
        };
        let (found, row, sight) = (text(found), text(row), self.sight);
        fail(
            "S1",
            format!("{what} found {found}, expected {row} ({sight:?})"),
        )
    }
}

/// A process of the job: it ends, the rest of the simulation does not.
pub struct Process {
    pub attempt: u64,
    pub executor: Arc<SimExecutor>,
    pub objects: Stormy,
    pub workers: Vec<Worker>,
    pub commits: Commits,
    pub clock: Arc<SimClock>,
    pub live: Rows,
    pub frozen: [bool; TABLES as usize],
    pub cut: Rows,
    pub in_flight: VecDeque<Rows>,
    pub planned: Vec<Planned>,
}

impl Drop for Process {
    fn drop(&mut self) {
        self.objects.kill();
        self.planned.clear();
        self.executor.forget();
    }
}

impl Process {
    pub fn worker(&self, group: u16) -> &Worker {
        let found = self
            .workers
            .iter()
            .find(|worker| worker.range.contains(group));
        found.expect("every group has a worker")
    }

    fn store(&mut self, group: u16) -> &mut Store {
        let found = self
            .workers
            .iter_mut()
            .find(|worker| worker.range.contains(group));
        &mut found.expect("every group has a worker").store
    }

    fn row(&self, table: u8, value: Vec<u8>) -> Row {
        let time_ms = (table == EXPIRING).then(|| self.clock.now().ms);
        Row { value, time_ms }
    }

    pub fn put(&mut self, table: u8, group: u16, key: Vec<u8>, value: Vec<u8>) -> Result<(), Stop> {
        let row = self.row(table, value);
        let store = self.store(group);
        match row.time_ms {
            Some(time_ms) => store.put_at(id(table), group, &key, &row.value, time_ms),
            None => store.put(id(table), group, &key, &row.value),
        }
        .map_err(ended)?;
        self.live.put(table, group, key, row);
        Ok(())
    }

    pub fn merge(
        &mut self,
        table: u8,
        group: u16,
        key: Vec<u8>,
        operand: Vec<u8>,
    ) -> Result<(), Stop> {
        let now = self.clock.now();
        let before = self.live.get(table, group, &key);
        // When the clock has gone back, nobody knows what an operand would meet.
        let unclear = |row: &Row| {
            now.sight(row) == Sight::Either || row.time_ms.is_some_and(|time| time > now.ms)
        };
        if before.is_some_and(unclear) {
            return self.put(table, group, key, operand);
        }
        let row = self.row(table, operand);
        let store = self.store(group);
        match row.time_ms {
            Some(time_ms) => store.merge_at(id(table), group, &key, &row.value, time_ms),
            None => store.merge(id(table), group, &key, &row.value),
        }
        .map(drop)
        .map_err(ended)?;
        self.live.merge(table, group, key, row);
        Ok(())
    }

    pub fn delete(&mut self, table: u8, group: u16, key: Vec<u8>) -> Result<(), Stop> {
        self.store(group)
            .delete(id(table), group, &key)
            .map_err(ended)?;
        self.live.delete(table, group, &key);
        Ok(())
    }

    pub fn delete_prefix(&mut self, table: u8, group: u16, prefix: &[u8]) -> Result<(), Stop> {
        self.store(group)
            .delete_prefix(id(table), group, prefix)
            .map_err(ended)?;
        self.live.delete_prefix(table, group, prefix);
        Ok(())
    }

    /// What a look-up may find now.
    pub fn expected(&self, table: u8, group: u16, key: &[u8]) -> Expected {
        let row = self.live.get(table, group, key).cloned();
        let sight = row
            .as_ref()
            .map_or(Sight::Gone, |row| self.clock.now().sight(row));
        Expected { row, sight }
    }

    pub fn freeze(&mut self, table: u8) -> Result<(), Stop> {
        let frozen = &mut self.frozen[usize::from(table)];
        if std::mem::replace(frozen, true) {
            return Ok(());
        }
        for worker in &mut self.workers {
            worker.store.freeze(id(table)).map_err(ended)?;
        }
        self.cut.add(self.live.table(table));
        Ok(())
    }

    pub fn start_checkpoint(&mut self) -> Result<(), Stop> {
        for table in 0..TABLES {
            self.freeze(table)?;
        }
        self.frozen = Default::default();
        self.in_flight.push_back(std::mem::take(&mut self.cut));
        for worker in &mut self.workers {
            worker.store.checkpoint().map_err(ended)?;
        }
        Ok(())
    }
}

pub fn open(
    env: Environment,
    case: &Case,
    lists: Vec<(Checkpoint, KeyGroupRange)>,
) -> Result<Store, aquifer_store::Error> {
    let mut store = Store::open(env, case.shape.options(), lists)?;
    for table in 0..TABLES {
        store.create_table(id(table), op::table_options(table))?;
    }
    Ok(store)
}

pub fn id(table: u8) -> TableId {
    TableId(u16::from(table))
}

pub fn ended(error: aquifer_store::Error) -> Stop {
    Stop::Attempt(error.to_string())
}

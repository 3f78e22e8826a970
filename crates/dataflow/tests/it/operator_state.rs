//! State of operators that is not keyed, through failures and another number of workers.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use aquifer_dataflow::job::Build;
use aquifer_dataflow::operator::{Collector, StatelessOperator};
use aquifer_dataflow::process::{KeyedProcess, ProcessContext};
use aquifer_dataflow::{ChangeBatch, JobError};
use aquifer_state::operator::{OperatorList, OperatorStateStore};
use aquifer_state::{BackendKind, KeyedStateStore, ListStateDescriptor};
use parking_lot::Mutex;

use crate::fixtures::{BACKENDS, Database, DatabaseSink, Numbers, batch, options, rows, run};

/// What the operators of all workers had when they were opened: the sum of the split list, and the union list.
type Opened = Arc<Mutex<Vec<(i64, Vec<i64>)>>>;

/// Counts its rows in a list that is split, and keeps its largest value in one that everybody gets.
struct Counting {
    opened: Opened,
    lists: Option<(OperatorList<i64>, OperatorList<i64>)>,
    count: i64,
    largest: i64,
}

impl Counting {
    fn new(opened: &Opened) -> Self {
        Self {
            opened: Arc::clone(opened),
            lists: None,
            count: 0,
            largest: -1,
        }
    }
}

impl StatelessOperator<ChangeBatch, ChangeBatch> for Counting {
    fn initialize(&mut self, states: &OperatorStateStore) -> Result<(), JobError> {
        let counts = states.list_state(&ListStateDescriptor::<i64>::new("counts"))?;
        let largest = states.union_list_state(&ListStateDescriptor::<i64>::new("largest"))?;
        self.count = counts.get().iter().sum();
        let mut all = largest.get();
        all.sort_unstable();
        self.opened.lock().push((self.count, all));
        self.lists = Some((counts, largest));
        Ok(())
    }

    fn snapshot(&mut self, checkpoint_id: u64) -> Result<(), JobError> {
        assert!(checkpoint_id > 0);
        let (counts, largest) = self.lists.as_ref().expect("initialized");
        counts.update([self.count]);
        largest.update([self.largest]);
        Ok(())
    }

    fn on_batch(
        &mut self,
        batch: ChangeBatch,
        out: &mut Collector<ChangeBatch>,
    ) -> Result<(), JobError> {
        for (_, value) in rows(&batch) {
            self.count += 1;
            self.largest = self.largest.max(value);
        }
        out.emit(batch);
        Ok(())
    }
}

/// The count of an operator without keys is that of the rows in the checkpoint, whatever fails and however many workers there are.
#[test]
fn an_operator_without_keys_keeps_its_state() {
    for backend in BACKENDS {
        // The thousand rows of the first attempt have a complete checkpoint among them.
        let source = Numbers {
            pause_ms: 1,
            rows_per_epoch: 200,
            ..Numbers::default()
        };
        let database = Database::new();
        let opened = Opened::default();
        let build: Build = {
            let (source, database, opened) =
                (source.clone(), Arc::clone(&database), Arc::clone(&opened));
            Arc::new(move |env| {
                env.source("source", Arc::new(source.clone()))?
                    .stateless("counting", Counting::new(&opened))
                    .sink("sink", Arc::new(DatabaseSink(Arc::clone(&database))))
            })
        };
        let mut options = options(&format!("operator-state-{backend:?}"), 2, backend);
        options.retain_when_finished = true;
        for (attempt, (parallelism, fail_after)) in [(2, 1000), (3, 1500), (1, 1500), (2, i64::MAX)]
            .into_iter()
            .enumerate()
        {
            options.resume = attempt > 0;
            options.parallelism = parallelism;
            database.fail_after.store(fail_after, Ordering::Relaxed);
            let committed = database.committed().len() as i64;
            opened.lock().clear();
            assert_eq!(
                run(options.clone(), Arc::clone(&build)).is_ok(),
                fail_after == i64::MAX
            );
            let opened = opened.lock().clone();
            assert_eq!(opened.len(), usize::from(parallelism));
            // What is committed is what the restored checkpoint had counted: everything before it went through.
            let total: i64 = opened.iter().map(|(count, _)| count).sum();
            assert!(total <= 4000 && (attempt > 0) == (total > 0), "{opened:?}");
            assert!(total >= committed, "{committed} of {opened:?}");
            // A union is whole on every worker.
            assert!(
                opened.iter().all(|(_, all)| *all == opened[0].1),
                "{opened:?}"
            );
        }
        assert_eq!(database.committed().len(), 4000);
        // Of the finished job's checkpoint nothing is missing and nothing is twice.
        opened.lock().clear();
        let again: Build = {
            let opened = Arc::clone(&opened);
            Arc::new(move |env| {
                env.source("source", Arc::new(Numbers::default()))?
                    .stateless("counting", Counting::new(&opened))
                    .sink("sink", Arc::new(DatabaseSink(Arc::clone(&database))))
            })
        };
        run(options, again).unwrap();
        let total: i64 = opened.lock().iter().map(|(count, _)| count).sum();
        assert_eq!(total, 4000, "{backend:?}");
    }
}

/// A function over keys that remembers, beside its keys, how many records its worker has seen.
struct Seen {
    opened: Opened,
    list: Option<OperatorList<i64>>,
    count: std::cell::Cell<i64>,
}

impl KeyedProcess for Seen {
    type Key = i64;
    type In = (i64, i64);
    type Out = (i64, i64);

    fn initialize(&mut self, states: &OperatorStateStore) -> Result<(), JobError> {
        let list = states.list_state(&ListStateDescriptor::<i64>::new("seen"))?;
        self.count.set(list.get().iter().sum());
        self.opened.lock().push((self.count.get(), Vec::new()));
        self.list = Some(list);
        Ok(())
    }

    fn snapshot(&self, _checkpoint_id: u64) -> Result<(), JobError> {
        self.list
            .as_ref()
            .expect("initialized")
            .update([self.count.get()]);
        Ok(())
    }

    fn open(&mut self, _: &KeyedStateStore<i64>) -> Result<(), JobError> {
        assert!(self.list.is_some(), "initialize comes first");
        Ok(())
    }

    fn key(&self, record: &(i64, i64)) -> i64 {
        record.0
    }

    async fn process(
        self: Rc<Self>,
        record: (i64, i64),
        context: ProcessContext<(i64, i64)>,
    ) -> Result<(), JobError> {
        crate::script::elsewhere().await?;
        self.count.set(self.count.get() + 1);
        context.emit(record);
        Ok(())
    }
}

struct Pairs;

impl StatelessOperator<ChangeBatch, Vec<(i64, i64)>> for Pairs {
    fn on_batch(
        &mut self,
        batch: ChangeBatch,
        out: &mut Collector<Vec<(i64, i64)>>,
    ) -> Result<(), JobError> {
        out.emit(rows(&batch));
        Ok(())
    }
}

struct Batches;

impl StatelessOperator<Vec<(i64, i64)>, ChangeBatch> for Batches {
    fn on_batch(
        &mut self,
        rows: Vec<(i64, i64)>,
        out: &mut Collector<ChangeBatch>,
    ) -> Result<(), JobError> {
        out.emit(batch(&rows));
        Ok(())
    }
}

#[test]
fn a_function_over_keys_keeps_what_has_no_key() {
    let database = Database::new();
    let opened = Opened::default();
    let build: Build = {
        let (database, opened) = (Arc::clone(&database), Arc::clone(&opened));
        Arc::new(move |env| {
            let seen = Seen {
                opened: Arc::clone(&opened),
                list: None,
                count: std::cell::Cell::new(0),
            };
            let source = Numbers {
                pause_ms: 1,
                rows_per_epoch: 200,
                ..Numbers::default()
            };
            env.source("source", Arc::new(source))?
                .stateless("pairs", Pairs)
                .key_by("by key", |pair: &(i64, i64)| pair.0)
                .process("seen", seen)?
                .stateless("batches", Batches)
                .sink("sink", Arc::new(DatabaseSink(Arc::clone(&database))))
        })
    };
    let mut options = options("function-operator-state", 2, BackendKind::Forst);
    options.retain_when_finished = true;
    database.fail_after.store(1500, Ordering::Relaxed);
    run(options.clone(), Arc::clone(&build)).unwrap_err();
    database.fail_after.store(i64::MAX, Ordering::Relaxed);
    options.resume = true;
    options.parallelism = 3;
    run(options.clone(), Arc::clone(&build)).unwrap();
    assert_eq!(database.committed().len(), 4000);
    opened.lock().clear();
    run(options, build).unwrap();
    let total: i64 = opened.lock().iter().map(|(count, _)| count).sum();
    assert_eq!(total, 4000);
}

//! A job of one worker whose input is written down: batches and watermarks in, rows and watermarks out, in order.

use std::rc::Rc;
use std::sync::Arc;

use aquifer_dataflow::job::{Build, JobOptions, JobReport};
use aquifer_dataflow::operator::{Collector, StatelessOperator};
use aquifer_dataflow::process::{ExecutionMode, KeyedProcess, ProcessContext};
use aquifer_dataflow::{ChangeBatch, JobError};
use aquifer_state::{
    KeyedStateStore, MapState, MapStateDescriptor, TtlConfig, ValueState, ValueStateDescriptor,
};
use futures_util::future::LocalBoxFuture;
use parking_lot::Mutex;

use crate::fixtures::{Database, DatabaseSink, MayEnd, Numbers, batch, run};

/// A key and a number.
pub type Pair = (i64, i64);

/// A piece of input.
#[derive(Clone, Debug)]
pub enum Step {
    Records(Vec<Pair>),
    Watermark(i64),
}

/// A piece of output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    Row(Pair),
    Watermark(i64),
}

/// What is done for a record or a timer.
pub type Code = Rc<
    dyn Fn(Rc<States>, Pair, ProcessContext<Pair>) -> LocalBoxFuture<'static, Result<(), JobError>>,
>;

/// States for all purposes.
pub struct States {
    pub value: ValueState<i64>,
    pub map: MapState<i64, i64>,
    /// With a TTL, if the function has one.
    pub lived: ValueState<i64>,
}

/// A function made of closures. A timer is handed to its closure as `(0, timestamp)`.
pub struct Function {
    pub mode: ExecutionMode,
    pub ttl: Option<TtlConfig>,
    pub record: Code,
    pub event_timer: Code,
    pub processing_timer: Code,
    states: Option<Rc<States>>,
}

/// A closure as code.
pub fn code<F>(act: impl Fn(Rc<States>, Pair, ProcessContext<Pair>) -> F + 'static) -> Code
where
    F: Future<Output = Result<(), JobError>> + 'static,
{
    Rc::new(move |states, pair, context| Box::pin(act(states, pair, context)))
}

impl Function {
    /// One that does this with records and nothing with timers.
    pub fn new(record: Code) -> Self {
        let nothing = code(|_, _, _| async { Ok(()) });
        Self {
            mode: ExecutionMode::default(),
            ttl: None,
            record,
            event_timer: Rc::clone(&nothing),
            processing_timer: nothing,
            states: None,
        }
    }

    fn states(&self) -> Rc<States> {
        Rc::clone(self.states.as_ref().expect("opened"))
    }
}

impl KeyedProcess for Function {
    type Key = i64;
    type In = Pair;
    type Out = Pair;

    fn open(&mut self, states: &KeyedStateStore<i64>) -> Result<(), JobError> {
        let mut lived = ValueStateDescriptor::new("lived");
        if let Some(ttl) = self.ttl.clone() {
            lived = lived.ttl(ttl);
        }
        self.states = Some(Rc::new(States {
            value: states.value_state(&ValueStateDescriptor::new("value"))?,
            map: states.map_state(&MapStateDescriptor::new("map"))?,
            lived: states.value_state(&lived)?,
        }));
        Ok(())
    }

    fn execution_mode(&self) -> ExecutionMode {
        self.mode
    }

    fn key(&self, record: &Pair) -> i64 {
        record.0
    }

    fn event_time_ms(&self, record: &Pair) -> Option<i64> {
        Some(record.1)
    }

    async fn process(
        self: Rc<Self>,
        record: Pair,
        context: ProcessContext<Pair>,
    ) -> Result<(), JobError> {
        (self.record)(self.states(), record, context).await
    }

    async fn on_timer(
        self: Rc<Self>,
        at: i64,
        context: ProcessContext<Pair>,
    ) -> Result<(), JobError> {
        (self.event_timer)(self.states(), (0, at), context).await
    }

    async fn on_processing_time_timer(
        self: Rc<Self>,
        at: i64,
        context: ProcessContext<Pair>,
    ) -> Result<(), JobError> {
        (self.processing_timer)(self.states(), (0, at), context).await
    }
}

/// The n-th batch of the source becomes the n-th step.
struct Play(std::vec::IntoIter<Step>);

impl StatelessOperator<ChangeBatch, Vec<Pair>> for Play {
    fn on_batch(&mut self, _: ChangeBatch, out: &mut Collector<Vec<Pair>>) -> Result<(), JobError> {
        match self.0.next() {
            Some(Step::Records(records)) => out.emit(records),
            Some(Step::Watermark(watermark)) => out.watermark(watermark),
            None => {}
        }
        Ok(())
    }
}

struct Record(Arc<Mutex<Vec<Seen>>>);

impl StatelessOperator<Vec<Pair>, ChangeBatch> for Record {
    fn on_batch(
        &mut self,
        rows: Vec<Pair>,
        out: &mut Collector<ChangeBatch>,
    ) -> Result<(), JobError> {
        self.0.lock().extend(rows.iter().copied().map(Seen::Row));
        out.emit(batch(&rows));
        Ok(())
    }

    fn on_watermark(
        &mut self,
        watermark_ms: i64,
        out: &mut Collector<ChangeBatch>,
    ) -> Result<(), JobError> {
        self.0.lock().push(Seen::Watermark(watermark_ms));
        out.watermark(watermark_ms);
        Ok(())
    }
}

/// How a scripted job is run.
pub struct Job {
    pub options: JobOptions,
    pub steps: Vec<Step>,
    /// Batches of the source, about two milliseconds each: time that passes after the last step. If the job takes checkpoints, five come between
    /// two barriers at most.
    pub batches: u64,
    /// The source ends, after its batches, when this is so of what has come out; `None` = at once.
    pub until: Option<fn(&[Seen]) -> bool>,
    /// The sink fails after so many rows.
    pub fail_after: i64,
    /// Where the sink writes: the same for a job that goes on.
    pub database: Arc<Database>,
}

impl Job {
    pub fn new(options: JobOptions, steps: Vec<Step>) -> Self {
        let batches = steps.len() as u64;
        Self {
            options,
            steps,
            batches,
            until: None,
            fail_after: i64::MAX,
            database: Database::new(),
        }
    }

    /// What came out, and how it ended.
    pub fn play(
        self,
        function: impl Fn() -> Function + Send + Sync + 'static,
    ) -> (Vec<Seen>, Result<JobReport, JobError>) {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let database = self.database;
        database
            .fail_after
            .store(self.fail_after, std::sync::atomic::Ordering::Relaxed);
        let may_end = self.until.map(|until| {
            let seen = Arc::clone(&seen);
            Arc::new(move || until(&seen.lock())) as MayEnd
        });
        let source = Numbers {
            splits: 1,
            rows_per_split: 100 * self.batches,
            keys: 1,
            pause_ms: 2,
            rows_per_epoch: match self.options.checkpoint_interval_ms {
                Some(_) => 500,
                None => u64::MAX,
            },
            may_end,
            ..Numbers::default()
        };
        let build: Build = {
            let (seen, steps) = (Arc::clone(&seen), self.steps);
            Arc::new(move |env| {
                env.source("source", Arc::new(source.clone()))?
                    .stateless("play", Play(steps.clone().into_iter()))
                    .key_by("by key", |pair: &Pair| pair.0)
                    .process("function", function())?
                    .stateless("record", Record(Arc::clone(&seen)))
                    .sink("sink", Arc::new(DatabaseSink(Arc::clone(&database))))
            })
        };
        let mut options = self.options;
        options.parallelism = 1;
        let ended = run(options, build);
        let seen = seen.lock().clone();
        (seen, ended)
    }
}

/// Rows only.
pub fn rows_of(seen: &[Seen]) -> Vec<Pair> {
    let row = |seen: &Seen| match seen {
        Seen::Row(pair) => Some(*pair),
        Seen::Watermark(_) => None,
    };
    seen.iter().filter_map(row).collect()
}

/// Watermarks only.
pub fn watermarks_of(seen: &[Seen]) -> Vec<i64> {
    let watermark = |seen: &Seen| match seen {
        Seen::Watermark(watermark) => Some(*watermark),
        Seen::Row(_) => None,
    };
    seen.iter().filter_map(watermark).collect()
}

/// Waits for a task on another thread, as a cold read does, so that other work comes in between.
pub async fn elsewhere() -> Result<(), JobError> {
    let (tell, told) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || tell.send(()));
    told.await
        .map_err(|error| JobError::failed(error.to_string()))?;
    Ok(())
}

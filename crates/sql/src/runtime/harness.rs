//! Drives operators and whole jobs on one thread, without a dataflow: for tests.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use aquifer_dataflow::connector::{ConnectorContext, SourcePoll};
use aquifer_dataflow::operator::{
    Collector, KeyedOperator, OpenContext, StatelessOperator, WATERMARK_MAX,
};
use aquifer_dataflow::{ChangeBatch, JobError, RowKind};
use aquifer_state::access::StateAccess;
use aquifer_state::{BackendStats, KeyedSnapshot, KeyedStateBackend, StateDescription, StateError};
use aquifer_store::{
    ColdRead, ColdScan, KeyGroupRange, Lookup, ScanLookup, ScanRows, TableId, Value,
};
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use bytes::Bytes;
use futures_util::future::BoxFuture;

use super::aggregate::GroupAggregate;
use super::calc::Calc;
use super::stream::{StreamJob, StreamNode, StreamOperator};
use super::watermark::WatermarkAssign;
use super::window::{WindowAggregate, WindowAssign};

pub(super) const MAX_PARALLELISM: u16 = 16;

/// All state in one ordered map.
#[derive(Default)]
pub(super) struct MemoryBackend {
    tables: Vec<StateDescription>,
    pub rows: BTreeMap<(u16, u16, Vec<u8>), Vec<u8>>,
    pub writes: usize,
}

impl KeyedStateBackend for MemoryBackend {
    fn register(&mut self, description: &StateDescription) -> Result<TableId, StateError> {
        let known = self
            .tables
            .iter()
            .position(|t| (&t.operator, &t.state) == (&description.operator, &description.state));
        let index = known.unwrap_or_else(|| {
            self.tables.push(description.clone());
            self.tables.len() - 1
        });
        assert_eq!(&self.tables[index], description, "a layout changed");
        Ok(TableId(index as u16))
    }
    fn get(&self, table: TableId, group: u16, key: &[u8]) -> Result<Lookup<'_>, StateError> {
        Ok(match self.rows.get(&(table.0, group, key.to_vec())) {
            Some(value) => Lookup::Found(Value::from(value.as_slice())),
            None => Lookup::Absent,
        })
    }
    fn multi_get(
        &self,
        table: TableId,
        keys: &[(u16, &[u8])],
        answer: &mut dyn FnMut(usize, Lookup<'_>),
    ) -> Result<(), StateError> {
        for (index, (group, key)) in keys.iter().enumerate() {
            answer(index, self.get(table, *group, key)?);
        }
        Ok(())
    }
    fn put(
        &mut self,
        table: TableId,
        group: u16,
        key: &[u8],
        value: &[u8],
    ) -> Result<(), StateError> {
        self.writes += 1;
        self.rows
            .insert((table.0, group, key.to_vec()), value.to_vec());
        Ok(())
    }
    fn delete(&mut self, table: TableId, group: u16, key: &[u8]) -> Result<(), StateError> {
        self.writes += 1;
        self.rows.remove(&(table.0, group, key.to_vec()));
        Ok(())
    }
    fn scan(
        &self,
        table: TableId,
        group: u16,
        prefix: &[u8],
        from: &[u8],
        until: Option<&[u8]>,
        rows_max: usize,
    ) -> Result<ScanLookup, StateError> {
        let start = from.max(prefix).to_vec();
        let mut found = self
            .rows
            .range((table.0, group, start)..)
            .take_while(|((t, g, key), _)| *t == table.0 && *g == group && key.starts_with(prefix))
            .take_while(|((_, _, key), _)| until.is_none_or(|until| key.as_slice() < until));
        let rows: Vec<_> = found
            .by_ref()
            .take(rows_max)
            .map(|((_, _, key), value)| {
                (Bytes::copy_from_slice(key), Bytes::copy_from_slice(value))
            })
            .collect();
        let done = found.next().is_none();
        Ok(ScanLookup::Rows(ScanRows {
            rows,
            done,
            ..ScanRows::default()
        }))
    }
    fn fetch(
        &self,
        _reads: Vec<ColdRead>,
    ) -> BoxFuture<'static, Result<Vec<Option<Bytes>>, StateError>> {
        unreachable!("memory is never cold")
    }
    fn fetch_scan(&self, _scan: ColdScan) -> BoxFuture<'static, Result<ScanRows, StateError>> {
        unreachable!("memory is never cold")
    }
    fn installs(&self) -> u64 {
        0
    }
    fn freeze(&mut self, _table: TableId) -> Result<(), StateError> {
        Ok(())
    }
    fn snapshot(&mut self, _checkpoint_id: u64) -> Result<(), StateError> {
        Ok(())
    }
    fn poll(&mut self) -> Result<Option<(u64, KeyedSnapshot)>, StateError> {
        Ok(None)
    }
    fn tables(&self) -> Vec<(StateDescription, TableId)> {
        Vec::new()
    }
    fn stats(&self) -> BackendStats {
        BackendStats::default()
    }
}

/// One worker's state, and a way to run futures.
pub(super) struct Worker {
    pub backend: Rc<RefCell<MemoryBackend>>,
    pub state: StateAccess,
    runtime: tokio::runtime::Runtime,
}

impl Worker {
    pub fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let backend = Rc::new(RefCell::new(MemoryBackend::default()));
        let range = KeyGroupRange {
            start: 0,
            end: MAX_PARALLELISM - 1,
        };
        let shared: aquifer_state::SharedBackend = Rc::clone(&backend) as _;
        let state = StateAccess::new(
            shared,
            runtime.handle().clone(),
            range,
            MAX_PARALLELISM,
            true,
        );
        Self {
            backend,
            state,
            runtime,
        }
    }

    /// State rows in all tables.
    pub fn rows(&self) -> usize {
        self.backend.borrow().rows.len()
    }

    pub fn open<O: KeyedOperator<ChangeBatch, ChangeBatch>>(&self, uid: &str, operator: &mut O) {
        let mut tables = Vec::new();
        operator
            .open(&mut OpenContext::new(uid, &self.state, &mut tables))
            .unwrap();
    }

    /// Feeds an opened operator; batches are `Ok`, watermarks `Err`.
    pub fn feed<O: KeyedOperator<ChangeBatch, ChangeBatch>>(
        &self,
        operator: &mut O,
        events: impl IntoIterator<Item = Result<ChangeBatch, i64>>,
    ) -> Result<Vec<Result<ChangeBatch, i64>>, JobError> {
        let mut out = Collector::default();
        self.state.run(async {
            for event in events {
                match event {
                    Ok(batch) => {
                        let prepared = operator.prepare(batch, &self.state)?;
                        operator.on_batch(prepared, &self.state, &mut out).await?;
                    }
                    Err(watermark_ms) => {
                        let handed_on = operator
                            .on_watermark(watermark_ms, &self.state, &mut out)
                            .await?;
                        out.watermark(handed_on);
                    }
                }
            }
            Ok::<_, JobError>(())
        })?;
        Ok(out.drain())
    }

    pub fn barrier<O: KeyedOperator<ChangeBatch, ChangeBatch>>(&self, operator: &mut O) {
        let mut out = Collector::default();
        self.state
            .run(operator.on_barrier(&self.state, &mut out))
            .unwrap();
        assert!(out.drain().is_empty());
    }

    /// Runs what flows into a job's only sink.
    pub fn run(&self, job: &StreamJob) -> Result<Vec<Result<ChangeBatch, i64>>, JobError> {
        assert_eq!(job.sinks.len(), 1);
        self.node(&job.sinks[0].input)
    }

    fn node(&self, node: &StreamNode) -> Result<Vec<Result<ChangeBatch, i64>>, JobError> {
        let events = match &node.operator {
            StreamOperator::Source(source) => {
                let splits = source.splits(1)?;
                let mut reader = source.reader(splits, self.connector_context())?;
                let mut events = Vec::new();
                loop {
                    match reader.poll(7)? {
                        SourcePoll::Batch(batch) => events.push(Ok(batch)),
                        SourcePoll::Pending { .. } => panic!("a test source is never pending"),
                        SourcePoll::Finished => break,
                    }
                }
                events.push(Err(WATERMARK_MAX));
                events
            }
            StreamOperator::Calc(input, steps) => {
                stateless(&mut Calc::new(Arc::clone(steps)), self.node(input)?)?
            }
            StreamOperator::Watermark(input, spec) => {
                stateless(&mut WatermarkAssign::new(spec.clone()), self.node(input)?)?
            }
            StreamOperator::WindowAssign(input, spec) => {
                stateless(&mut WindowAssign::new(spec.clone()), self.node(input)?)?
            }
            StreamOperator::GroupAggregate(input, spec) => {
                let mut operator = GroupAggregate::new(spec.clone())?;
                self.open(&node.uid, &mut operator);
                self.feed(&mut operator, self.node(input)?)?
            }
            StreamOperator::WindowAggregate(input, spec) => {
                let late_rows = Arc::new(AtomicU64::new(0));
                let mut operator = WindowAggregate::new(spec.clone(), late_rows)?;
                self.open(&node.uid, &mut operator);
                self.feed(&mut operator, self.node(input)?)?
            }
            StreamOperator::Union(inputs) => {
                let mut events = Vec::new();
                for input in inputs {
                    events.extend(self.node(input)?.into_iter().filter(Result::is_ok));
                }
                events.push(Err(WATERMARK_MAX));
                events
            }
        };
        for event in events.iter().flatten() {
            assert_eq!(
                event.rows.schema().fields(),
                node.schema.fields(),
                "{}",
                node.uid
            );
        }
        Ok(events)
    }

    fn connector_context(&self) -> ConnectorContext {
        ConnectorContext {
            worker: 0,
            workers: 1,
            attempt: 1,
            run_id: "test".to_owned(),
            operator: "harness".to_owned(),
            runtime: self.runtime.handle().clone(),
            waker: Arc::new(|| {}),
            now_ms: Arc::new(|| 0),
        }
    }
}

/// Feeds a stateless operator.
pub(super) fn stateless(
    operator: &mut impl StatelessOperator<ChangeBatch, ChangeBatch>,
    events: Vec<Result<ChangeBatch, i64>>,
) -> Result<Vec<Result<ChangeBatch, i64>>, JobError> {
    let mut out = Collector::default();
    for event in events {
        match event {
            Ok(batch) => operator.on_batch(batch, &mut out)?,
            Err(watermark_ms) => operator.on_watermark(watermark_ms, &mut out)?,
        }
    }
    Ok(out.drain())
}

/// Rows as `+I[1, a]`; watermarks are left out.
pub(super) fn lines(events: &[Result<ChangeBatch, i64>]) -> Vec<String> {
    let options = FormatOptions::default().with_null("null");
    let mut lines = Vec::new();
    for batch in events.iter().flatten() {
        let columns: Vec<_> = batch
            .rows
            .columns()
            .iter()
            .map(|column| ArrayFormatter::try_new(column.as_ref(), &options).unwrap())
            .collect();
        for row in 0..batch.rows.num_rows() {
            let cells: Vec<_> = columns.iter().map(|c| c.value(row).to_string()).collect();
            lines.push(format!("{}[{}]", batch.kind(row).short(), cells.join(", ")));
        }
    }
    lines
}

/// What a changelog leaves behind, as lines without kinds and how often each is there. Panics if a row is taken back that is not there.
pub(super) fn materialised(events: &[Result<ChangeBatch, i64>]) -> BTreeMap<String, i64> {
    let mut rows = BTreeMap::new();
    for line in lines(events) {
        let (kind, row) = line.split_at(2);
        let count = rows.entry(row.to_owned()).or_insert(0);
        match kind {
            "+I" | "+U" => *count += 1,
            _ => *count -= 1,
        }
        assert!(*count >= 0, "{line} takes back a row that is not there");
        if *count == 0 {
            rows.remove(row);
        }
    }
    rows
}

/// A batch of changes.
pub(super) fn changes(
    schema: &SchemaRef,
    columns: Vec<arrow::array::ArrayRef>,
    kinds: Option<Vec<RowKind>>,
) -> ChangeBatch {
    let rows = RecordBatch::try_new(Arc::clone(schema), columns).unwrap();
    match kinds {
        Some(kinds) => ChangeBatch::new(rows, kinds),
        None => ChangeBatch::inserts(rows),
    }
}

/// A repeatable sequence of numbers for tests (splitmix64).
pub(super) struct Random(pub u64);

impl Random {
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }
}

/// The changelog of a job's only plan, on one thread. Sources are those of `registry`.
pub(crate) fn changelog_of(
    plan: &crate::session::JobPlan,
    registry: &aquifer_dataflow::connector::ConnectorRegistry,
) -> Result<Vec<String>, JobError> {
    let options = super::StreamOptions {
        mini_batch: false,
        collect: Some(Arc::new(AnyRows)),
    };
    let job = StreamJob::translate(plan, registry, &options)?;
    Ok(lines(&Worker::new().run(&job)?))
}

/// A bounded source of these rows.
pub(crate) fn source_of(
    rows: arrow::array::RecordBatch,
) -> Arc<dyn aquifer_dataflow::connector::Source> {
    Arc::new(super::values::ValuesSource::new(rows))
}

/// Takes every kind of row, and is never written to.
pub(crate) struct AnyRows;

impl aquifer_dataflow::connector::Sink for AnyRows {
    fn writer(
        &self,
        _context: ConnectorContext,
    ) -> Result<Box<dyn aquifer_dataflow::connector::SinkWriter>, JobError> {
        Err(JobError::failed("the harness takes the rows itself"))
    }
    fn commit(&self, _: Vec<Vec<u8>>, _: &ConnectorContext) -> Result<(), JobError> {
        Ok(())
    }
    fn accepts_updates(&self) -> bool {
        true
    }
}

//! What an operator implements.
//!
//! An operator sees batches, watermarks and barriers; time, capabilities, flow control, checkpoints and waking up are the runner's
//! business.

use std::cell::RefCell;
use std::future::Future;
use std::rc::Rc;
use std::task::Poll;

use aquifer_state::access::StateAccess;
use aquifer_state::operator::OperatorStateStore;
use aquifer_state::serializer::StateSchema;
use aquifer_state::{StateDescription, StateError};
use aquifer_store::{TableId, TableOptions};

use crate::JobError;

/// The watermark that says that no more rows will come.
pub const WATERMARK_MAX: i64 = i64::MAX;

/// Where an operator puts what it makes. Batches are handed on in the order of the calls.
pub struct Collector<D> {
    emitted: Rc<RefCell<Vec<Emitted<D>>>>,
}

/// What an operator hands on.
pub(crate) enum Emitted<D> {
    Batch(D),
    Watermark(i64),
}

/// Batches that an operator may have made before it should let others run.
const EMITTED_MAX: usize = 32;

impl<D> Default for Collector<D> {
    fn default() -> Self {
        Self {
            emitted: Rc::default(),
        }
    }
}

impl<D> Collector<D> {
    /// Hands a batch on.
    pub fn emit(&mut self, batch: D) {
        self.emitted.borrow_mut().push(Emitted::Batch(batch));
    }

    /// Says that no row with a smaller or equal event time (milliseconds) will follow from here.
    pub fn watermark(&mut self, watermark_ms: i64) {
        self.emitted
            .borrow_mut()
            .push(Emitted::Watermark(watermark_ms));
    }

    /// Lets what was emitted flow on if it is much: to be awaited in every loop that emits more than it takes in.
    pub async fn breathe(&mut self) {
        if self.emitted.borrow().len() < EMITTED_MAX {
            return;
        }
        let mut yielded = false;
        std::future::poll_fn(|context| {
            if std::mem::replace(&mut yielded, true) {
                return Poll::Ready(());
            }
            context.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    }

    /// What was emitted so far, for tests of operators: batches and watermarks in order.
    pub fn drain(&mut self) -> Vec<Result<D, i64>> {
        let emitted = self.take();
        emitted
            .into_iter()
            .map(|e| match e {
                Emitted::Batch(batch) => Ok(batch),
                Emitted::Watermark(watermark) => Err(watermark),
            })
            .collect()
    }

    /// A second handle on the same place, for the runner.
    pub(crate) fn share(&self) -> Self {
        Self {
            emitted: Rc::clone(&self.emitted),
        }
    }

    /// Takes what was emitted.
    pub(crate) fn take(&self) -> Vec<Emitted<D>> {
        std::mem::take(&mut *self.emitted.borrow_mut())
    }
}

/// An operator without keyed state: a chain of projections and filters, a watermark assigner.
pub trait StatelessOperator<D, E>: 'static {
    /// Asks for state that is not keyed: lists, broadcast maps, raw streams; it holds what was restored of them. An operator that asks for a
    /// list or a map sees barriers; any other is handed rows as they come.
    fn initialize(&mut self, states: &OperatorStateStore) -> Result<(), JobError> {
        let _ = states;
        Ok(())
    }
    /// A barrier, if it has state: what lists and maps hold after this call is what the checkpoint holds.
    fn snapshot(&mut self, checkpoint_id: u64) -> Result<(), JobError> {
        let _ = checkpoint_id;
        Ok(())
    }
    /// Handles one batch.
    fn on_batch(&mut self, batch: D, out: &mut Collector<E>) -> Result<(), JobError>;
    /// A watermark has arrived; by default it is handed on. `WATERMARK_MAX` must always be handed on.
    fn on_watermark(&mut self, watermark_ms: i64, out: &mut Collector<E>) -> Result<(), JobError> {
        out.watermark(watermark_ms);
        Ok(())
    }
}

/// What an operator may ask for before its first record.
pub struct OpenContext<'a> {
    /// Stable id of the operator in the job graph.
    pub operator: &'a str,
    /// The worker's state.
    pub state: &'a StateAccess,
    pub(crate) tables: &'a mut Vec<TableId>,
}

impl<'a> OpenContext<'a> {
    /// For whoever drives an operator: a runner, or a test. The tables that the operator registers are appended to `tables`.
    pub fn new(operator: &'a str, state: &'a StateAccess, tables: &'a mut Vec<TableId>) -> Self {
        Self {
            operator,
            state,
            tables,
        }
    }
}

impl OpenContext<'_> {
    /// Registers a state of this operator. `layout` describes how keys and values are laid out; a checkpoint with another layout is refused.
    pub fn register(
        &mut self,
        state: &str,
        ordered: bool,
        layout: &str,
    ) -> Result<TableId, StateError> {
        let options = TableOptions {
            ordered,
            ..TableOptions::default()
        };
        self.register_with(state, options, layout)
    }

    /// The same with all options of its table: a TTL, for example, whose times are given to `StateAccess::put_at`.
    pub fn register_with(
        &mut self,
        state: &str,
        options: TableOptions,
        layout: &str,
    ) -> Result<TableId, StateError> {
        self.register_description(&StateDescription::raw(
            self.operator,
            state,
            options,
            layout,
        ))
    }

    /// The same with a schema that says what the rows are (`StateSchema::rows`), for whoever looks into a checkpoint. Only `layout` decides
    /// whether a checkpoint is refused.
    pub fn register_rows(
        &mut self,
        state: &str,
        options: TableOptions,
        layout: &str,
        schema: StateSchema,
    ) -> Result<TableId, StateError> {
        self.register_description(&StateDescription {
            schema,
            ..StateDescription::raw(self.operator, state, options, layout)
        })
    }

    fn register_description(
        &mut self,
        description: &StateDescription,
    ) -> Result<TableId, StateError> {
        let table = self.state.backend().borrow_mut().register(description)?;
        self.tables.push(table);
        Ok(table)
    }
}

/// An operator over keyed state that works batch by batch, in the order of arrival.
///
/// `prepare` is called as soon as a batch has arrived, possibly long before its turn: it computes keys and may start cold reads
/// (`StateAccess::prefetch`), so that the reads of many batches are under way together. `on_batch` is called when it is the batch's turn
/// and awaits what it needs; nothing else of this operator runs meanwhile, so read-modify-write is safe.
pub trait KeyedOperator<D, E>: 'static {
    /// A batch with whatever was computed on arrival.
    type Prepared: 'static;

    /// Registers states.
    fn open(&mut self, context: &mut OpenContext<'_>) -> Result<(), JobError>;

    /// A batch has arrived.
    fn prepare(&mut self, batch: D, state: &StateAccess) -> Result<Self::Prepared, JobError>;

    /// It is the batch's turn.
    fn on_batch(
        &mut self,
        prepared: Self::Prepared,
        state: &StateAccess,
        out: &mut Collector<E>,
    ) -> impl Future<Output = Result<(), JobError>>;

    /// The watermark (the minimum over all upstream workers) has moved. Emit in batches of at most a few thousand rows and await
    /// [`Collector::breathe`] between them. Returns the watermark to hand on: the same, or a smaller one to hold it back.
    fn on_watermark(
        &mut self,
        watermark_ms: i64,
        state: &StateAccess,
        out: &mut Collector<E>,
    ) -> impl Future<Output = Result<i64, JobError>>;

    /// The barrier: write every cache to state; what state holds after this call is what the checkpoint holds.
    fn on_barrier(
        &mut self,
        state: &StateAccess,
        out: &mut Collector<E>,
    ) -> impl Future<Output = Result<(), JobError>> {
        let _ = (state, out);
        async { Ok(()) }
    }
}

/// Splits a batch among workers by key group.
pub trait Router<D>: 'static {
    /// Calls `give(worker, rows)` for each worker that gets rows. `workers` is their number.
    fn route(
        &mut self,
        batch: D,
        workers: usize,
        give: &mut dyn FnMut(usize, D),
    ) -> Result<(), JobError>;
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;

    /// Timely queues without bound: an operator that emits more than it takes in must let others run.
    #[test]
    fn an_operator_that_has_emitted_much_yields_once() {
        let mut out = Collector::default();
        (1..EMITTED_MAX).for_each(|n| out.emit(n));
        let mut context = Context::from_waker(Waker::noop());
        assert!(pin!(out.breathe()).poll(&mut context).is_ready());
        out.emit(EMITTED_MAX);
        {
            let mut breath = pin!(out.breathe());
            assert!(breath.as_mut().poll(&mut context).is_pending());
            assert!(breath.as_mut().poll(&mut context).is_ready());
        }
        assert_eq!(out.drain().len(), EMITTED_MAX);
        assert!(pin!(out.breathe()).poll(&mut context).is_ready());
    }
}

//! Functions over one key at a time, with asynchronous state: Flink's `KeyedProcessFunction` in Rust's manners.
//!
//! A function is written as straight `async` code; records of one key run strictly in order, records of different keys overlap
//! while their state is on its way. What may change that is said in [`ExecutionMode`].
//!
//! ```
//! use std::rc::Rc;
//! use aquifer_dataflow::process::{KeyedProcess, ProcessContext};
//! use aquifer_dataflow::JobError;
//! use aquifer_state::{KeyedStateStore, ValueState, ValueStateDescriptor};
//!
//! /// Numbers the records of each key.
//! struct Count {
//!     count: Option<ValueState<u64>>,
//! }
//!
//! impl KeyedProcess for Count {
//!     type Key = String;
//!     type In = String;
//!     type Out = (String, u64);
//!
//!     fn open(&mut self, states: &KeyedStateStore<String>) -> Result<(), JobError> {
//!         self.count = Some(states.value_state(&ValueStateDescriptor::new("count"))?);
//!         Ok(())
//!     }
//!
//!     fn key(&self, word: &String) -> String {
//!         word.clone()
//!     }
//!
//!     async fn process(self: Rc<Self>, word: String, context: ProcessContext<(String, u64)>) -> Result<(), JobError> {
//!         let count = self.count.as_ref().expect("opened");
//!         let n = count.get().await?.unwrap_or(0) + 1;
//!         count.put(n)?;
//!         context.emit((word, n));
//!         Ok(())
//!     }
//! }
//! ```

mod due;

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::AtomicU64;
use std::task::Poll;

use aquifer_state::access::StateAccess;
pub use aquifer_state::controller::{ElementOrder, EpochMode};
use aquifer_state::key_group::{KeyHash, assign_to_key_group};
use aquifer_state::operator::OperatorStateStore;
use aquifer_state::ordered::OrderedKey;
use aquifer_state::timers::TimerService;
use aquifer_state::{CurrentKey, KeyedStateStore, StateError};

pub(crate) use self::due::DueTimers;
use crate::JobError;
use crate::graph::Record;

/// In what order a function wants its work done. The default is the strictest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExecutionMode {
    /// When the code of a record begins: when its key is free, or at once and then without state up to its first [`ProcessContext::sync_point`].
    pub order: ElementOrder,
    /// Whether records may run ahead of a watermark before them. They see that watermark all the same; what they write may be seen by its timers.
    pub epochs: EpochMode,
}

/// A function over the records of one key, with state and timers in event time and processing time.
///
/// Code between two awaits runs without interruption. State handles act on the key of the record that calls them.
pub trait KeyedProcess: Sized + 'static {
    /// What records are keyed by.
    type Key: OrderedKey + KeyHash + 'static;
    /// A record.
    type In: Record;
    /// What is emitted.
    type Out: Record;

    /// Asks for state that is not keyed: lists, broadcast maps, raw streams. Called before [`Self::open`], and holds what was restored of them
    /// (Flink's `CheckpointedFunction`).
    fn initialize(&mut self, states: &OperatorStateStore) -> Result<(), JobError> {
        let _ = states;
        Ok(())
    }

    /// A barrier: nothing is under way, and what lists and maps hold after this call is what the checkpoint holds.
    fn snapshot(&self, checkpoint_id: u64) -> Result<(), JobError> {
        let _ = checkpoint_id;
        Ok(())
    }

    /// Asks for states, before the first record and in the same order on every worker.
    fn open(&mut self, states: &KeyedStateStore<Self::Key>) -> Result<(), JobError>;

    /// In what order work is done.
    fn execution_mode(&self) -> ExecutionMode {
        ExecutionMode::default()
    }

    /// The key of a record.
    fn key(&self, record: &Self::In) -> Self::Key;

    /// The event time of a record in milliseconds, if it has one: what its writes to states with a TTL in event time count from, unless the
    /// watermark is later. Only asked if there are such states.
    fn event_time_ms(&self, record: &Self::In) -> Option<i64> {
        let _ = record;
        None
    }

    /// Handles a record.
    fn process(
        self: Rc<Self>,
        record: Self::In,
        context: ProcessContext<Self::Out>,
    ) -> impl Future<Output = Result<(), JobError>> + 'static;

    /// An event-time timer of a key has come.
    fn on_timer(
        self: Rc<Self>,
        timestamp_ms: i64,
        context: ProcessContext<Self::Out>,
    ) -> impl Future<Output = Result<(), JobError>> + 'static {
        let _ = (timestamp_ms, context);
        async { Ok(()) }
    }

    /// A processing-time timer of a key has come. Timers that have not come when a bounded input ends stay in the last checkpoint.
    fn on_processing_time_timer(
        self: Rc<Self>,
        timestamp_ms: i64,
        context: ProcessContext<Self::Out>,
    ) -> impl Future<Output = Result<(), JobError>> + 'static {
        let _ = (timestamp_ms, context);
        async { Ok(()) }
    }
}

/// What a piece of user code does.
pub(crate) type UserFuture = Pin<Box<dyn Future<Output = Result<(), JobError>>>>;

/// Work that user code has started for a key.
pub(crate) struct Derived {
    pub group: u16,
    pub key: Vec<u8>,
    pub future: UserFuture,
}

/// What user code and its runner share.
pub(crate) struct ContextCore<E> {
    pub emitted: RefCell<Vec<E>>,
    pub event_timers: TimerService,
    pub processing_timers: TimerService,
    /// Timers that were taken from state and have not been fired.
    pub event_due: RefCell<DueTimers>,
    pub processing_due: RefCell<DueTimers>,
    pub current: CurrentKey,
    /// The watermark that whoever is running sees.
    pub watermark_ms: Cell<i64>,
    /// No processing-time timer is due before this; `i64::MAX` if there is none.
    pub processing_due_ms: Cell<i64>,
    /// Whether one of the next two has changed.
    pub asked: Cell<bool>,
    pub wants_key: Cell<bool>,
    pub derived: RefCell<Vec<Derived>>,
    pub state: StateAccess,
    /// The type of the operator's keys.
    pub key_type: String,
}

/// What a function may do besides using its states. Cheap to clone.
pub struct ProcessContext<E> {
    pub(crate) core: Rc<ContextCore<E>>,
}

impl<E> Clone for ProcessContext<E> {
    fn clone(&self) -> Self {
        Self {
            core: Rc::clone(&self.core),
        }
    }
}

impl<E> ProcessContext<E> {
    /// Hands a row on.
    pub fn emit(&self, row: E) {
        self.core.emitted.borrow_mut().push(row);
    }

    /// Has `on_timer` called for the current key once the watermark has reached this time. The same time twice is one timer.
    pub fn register_event_time_timer(&self, timestamp_ms: i64) -> Result<(), JobError> {
        let ContextCore {
            event_timers: timers,
            event_due: due,
            current,
            ..
        } = &*self.core;
        current.with(|group, key| register(timers, due, timestamp_ms, group, key))??;
        Ok(())
    }

    /// Takes back a timer of the current key; none there is no error.
    pub fn delete_event_time_timer(&self, timestamp_ms: i64) -> Result<(), JobError> {
        let ContextCore {
            event_timers: timers,
            event_due: due,
            current,
            ..
        } = &*self.core;
        current.with(|group, key| delete(timers, due, timestamp_ms, group, key))??;
        Ok(())
    }

    /// Has `on_processing_time_timer` called for the current key once the clock has reached this time. The same time twice is one timer.
    pub fn register_processing_time_timer(&self, timestamp_ms: i64) -> Result<(), JobError> {
        let ContextCore {
            processing_timers: timers,
            processing_due: due,
            processing_due_ms: due_ms,
            current,
            ..
        } = &*self.core;
        current.with(|group, key| register(timers, due, timestamp_ms, group, key))??;
        due_ms.set(due_ms.get().min(timestamp_ms));
        Ok(())
    }

    /// Takes back a processing-time timer of the current key; none there is no error.
    pub fn delete_processing_time_timer(&self, timestamp_ms: i64) -> Result<(), JobError> {
        let ContextCore {
            processing_timers: timers,
            processing_due: due,
            current,
            ..
        } = &*self.core;
        current.with(|group, key| delete(timers, due, timestamp_ms, group, key))??;
        Ok(())
    }

    /// The event time that had been reached when the record in hand came, in milliseconds; `i64::MIN` before the first watermark.
    pub fn current_watermark(&self) -> i64 {
        self.core.watermark_ms.get()
    }

    /// The clock, in milliseconds since 1970.
    pub fn current_processing_time(&self) -> i64 {
        self.core.state.clock_ms()
    }

    /// Waits until the record in hand has its key to itself: behind everything of the key that came here earlier. With
    /// [`ElementOrder::FirstRequest`] it must be awaited before state is touched; otherwise it is ready at once.
    pub fn sync_point(&self) -> impl Future<Output = ()> + use<E> {
        let core = Rc::clone(&self.core);
        poll_fn(move |_| {
            if core.current.is_set() {
                return Poll::Ready(());
            }
            // The runner polls again once the key is free.
            core.wants_key.set(true);
            core.asked.set(true);
            Poll::Pending
        })
    }

    /// Starts work for another key of this worker, or for the same one (Flink's `asyncProcessWithKey`). It runs once its key is free: of the
    /// same key after the record in hand and before later ones. It may be started beyond the bound of records in flight. It belongs to the
    /// record in hand, so watermarks and barriers wait for it; its failure ends the job.
    pub fn run_with_key<K: OrderedKey + KeyHash>(
        &self,
        key: &K,
        work: impl Future<Output = Result<(), JobError>> + 'static,
    ) -> Result<(), JobError> {
        let core = &self.core;
        if K::type_name() != core.key_type {
            return Err(JobError::failed(format!(
                "work was to run with a key of type {}, but the operator's keys are of type {}",
                K::type_name(),
                core.key_type
            )));
        }
        let group = assign_to_key_group(key.hash_code(), core.state.max_parallelism());
        let range = core.state.key_groups();
        if group < range.start || group > range.end {
            return Err(JobError::failed(format!(
                "work was to run with a key of key group {group}, but this worker owns {}..={}: send a record to the other worker instead",
                range.start, range.end
            )));
        }
        let mut bytes = Vec::new();
        key.encode_ordered(&mut bytes);
        core.derived.borrow_mut().push(Derived {
            group,
            key: bytes,
            future: Box::pin(work),
        });
        core.asked.set(true);
        Ok(())
    }
}

fn register(
    timers: &TimerService,
    due: &RefCell<DueTimers>,
    timestamp_ms: i64,
    group: u16,
    key: &[u8],
) -> Result<(), StateError> {
    if due.borrow_mut().register(key, timestamp_ms) {
        return Ok(());
    }
    timers.register(timestamp_ms, group, key, &[])
}

fn delete(
    timers: &TimerService,
    due: &RefCell<DueTimers>,
    timestamp_ms: i64,
    group: u16,
    key: &[u8],
) -> Result<(), StateError> {
    due.borrow_mut().delete(key, timestamp_ms);
    timers.delete(timestamp_ms, group, key, &[])
}

/// How full the asynchronous operators of this process are, all together (Flink's metrics of `asyncStateProcessing`). As of the last time
/// that each operator ran.
#[derive(Debug, Default)]
pub struct AsyncStateGauges {
    /// Records, timers and derived work that have begun or wait for their key (`numInFlightRecords`).
    pub in_flight: AtomicU64,
    /// Cold reads that were gathered when the operator ran last, and sent together (`activeBufferSize`).
    pub active_buffer: AtomicU64,
    /// Of those in flight, the ones that wait for their key (`blockingBufferSize`).
    pub blocking_buffer: AtomicU64,
    /// Keys for which something waits (`numBlockingKeys`).
    pub blocked_keys: AtomicU64,
}

//! Functions over one key at a time, with asynchronous state: Flink's `KeyedProcessFunction` in Rust's manners.
//!
//! A function is written as straight `async` code; records of one key run strictly in order, records of different keys overlap
//! while their state is on its way.
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

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::rc::Rc;

use aquifer_state::key_group::KeyHash;
use aquifer_state::ordered::OrderedKey;
use aquifer_state::timers::TimerService;
use aquifer_state::{CurrentKey, KeyedStateStore};

use crate::JobError;
use crate::graph::Record;

/// A function over the records of one key, with state and event-time timers.
///
/// Code between two awaits runs without interruption. State handles act on the key of the record that calls them.
pub trait KeyedProcess: Sized + 'static {
    /// What records are keyed by.
    type Key: OrderedKey + KeyHash + 'static;
    /// A record.
    type In: Record;
    /// What is emitted.
    type Out: Record;

    /// Asks for states, before the first record and in the same order on every worker.
    fn open(&mut self, states: &KeyedStateStore<Self::Key>) -> Result<(), JobError>;

    /// The key of a record.
    fn key(&self, record: &Self::In) -> Self::Key;

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
}

/// What a function may do besides using its states. Cheap to clone.
pub struct ProcessContext<E> {
    pub(crate) emitted: Rc<RefCell<Vec<E>>>,
    pub(crate) timers: Rc<TimerService>,
    pub(crate) current: CurrentKey,
    pub(crate) watermark_ms: Rc<Cell<i64>>,
}

impl<E> Clone for ProcessContext<E> {
    fn clone(&self) -> Self {
        Self {
            emitted: Rc::clone(&self.emitted),
            timers: Rc::clone(&self.timers),
            current: self.current.clone(),
            watermark_ms: Rc::clone(&self.watermark_ms),
        }
    }
}

impl<E> ProcessContext<E> {
    /// Hands a row on.
    pub fn emit(&self, row: E) {
        self.emitted.borrow_mut().push(row);
    }

    /// Has `on_timer` called for the current key once the watermark has reached this time. The same time twice is one timer.
    pub fn register_event_time_timer(&self, timestamp_ms: i64) -> Result<(), JobError> {
        self.current
            .with(|group, key| self.timers.register(timestamp_ms, group, key, &[]))??;
        Ok(())
    }

    /// Takes back a timer of the current key; none there is no error.
    pub fn delete_event_time_timer(&self, timestamp_ms: i64) -> Result<(), JobError> {
        self.current
            .with(|group, key| self.timers.delete(timestamp_ms, group, key, &[]))??;
        Ok(())
    }

    /// The event time that has been reached, in milliseconds; `i64::MIN` before the first watermark.
    pub fn current_watermark(&self) -> i64 {
        self.watermark_ms.get()
    }
}

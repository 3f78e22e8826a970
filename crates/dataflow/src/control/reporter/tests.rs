//! The reporter with a backend that only remembers.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::{Arc, OnceLock};

use aquifer_state::access::StateAccess;
use aquifer_state::controller::ControllerOptions;
use aquifer_state::{BackendStats, KeyedSnapshot, KeyedStateBackend, StateDescription, StateError};
use aquifer_store::{ColdRead, ColdScan, KeyGroupRange, Lookup, ScanLookup, ScanRows, TableId};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;

use crate::connector::ConnectorContext;
use crate::worker::{Attempt, Barriers, Control, Shared, WorkerContext};

/// Checkpoints of whose end a backend was told.
type Ended = Arc<Mutex<Vec<(u64, bool)>>>;

/// Holds nothing.
struct Remembers(Ended);

fn unasked<R>() -> Result<R, StateError> {
    Err(StateError::Usage("nobody asks for this".into()))
}

impl KeyedStateBackend for Remembers {
    fn register(&mut self, _: &StateDescription) -> Result<TableId, StateError> {
        unasked()
    }
    fn get(&self, _: TableId, _: u16, _: &[u8]) -> Result<Lookup<'_>, StateError> {
        unasked()
    }
    fn multi_get(
        &self,
        _: TableId,
        _: &[(u16, &[u8])],
        _: &mut dyn FnMut(usize, Lookup<'_>),
    ) -> Result<(), StateError> {
        unasked()
    }
    fn put(&mut self, _: TableId, _: u16, _: &[u8], _: &[u8]) -> Result<(), StateError> {
        unasked()
    }
    fn delete(&mut self, _: TableId, _: u16, _: &[u8]) -> Result<(), StateError> {
        unasked()
    }
    fn scan(
        &self,
        _: TableId,
        _: u16,
        _: &[u8],
        _: &[u8],
        _: Option<&[u8]>,
        _: usize,
    ) -> Result<ScanLookup, StateError> {
        unasked()
    }
    fn fetch(
        &self,
        _: Vec<ColdRead>,
    ) -> BoxFuture<'static, Result<Vec<Option<Bytes>>, StateError>> {
        Box::pin(async { unasked() })
    }
    fn fetch_scan(&self, _: ColdScan) -> BoxFuture<'static, Result<ScanRows, StateError>> {
        Box::pin(async { unasked() })
    }
    fn installs(&self) -> u64 {
        0
    }
    fn freeze(&mut self, _: TableId) -> Result<(), StateError> {
        unasked()
    }
    fn snapshot(&mut self, _: u64) -> Result<(), StateError> {
        unasked()
    }
    fn poll(&mut self) -> Result<Option<(u64, KeyedSnapshot)>, StateError> {
        Ok(None)
    }
    fn checkpoint_ended(&mut self, checkpoint_id: u64, complete: bool) -> Result<(), StateError> {
        self.0.lock().push((checkpoint_id, complete));
        Ok(())
    }
    fn tables(&self) -> Vec<(StateDescription, TableId)> {
        Vec::new()
    }
    fn stats(&self) -> BackendStats {
        BackendStats::default()
    }
}

/// The only worker of a job that begins with checkpoint 4.
fn worker(ended: &Ended, runtime: &tokio::runtime::Handle) -> Shared {
    let range = KeyGroupRange { start: 0, end: 7 };
    let backend = Rc::new(RefCell::new(Remembers(Arc::clone(ended))));
    let state = StateAccess::new(backend, runtime.clone(), range, 8, true);
    Rc::new(WorkerContext {
        index: 0,
        peers: 1,
        max_parallelism: 8,
        first_epoch: 4,
        attempt: Arc::new(Attempt::new(None, Arc::default())),
        state,
        control: Control::default(),
        barriers: RefCell::new(Barriers::default()),
        open_sources: Cell::new(1),
        reporter: RefCell::new(None),
        probe: timely::dataflow::operators::probe::Handle::new(),
        connector: ConnectorContext {
            worker: 0,
            workers: 1,
            attempt: 1,
            run_id: String::new(),
            operator: String::new(),
            runtime: runtime.clone(),
            waker: Arc::new(|| {}),
            now_ms: Arc::new(|| 0),
        },
        window_ticks: 1,
        batch_rows: 1,
        async_state: ControllerOptions::default(),
        operators: RefCell::default(),
    })
}

/// The end of the last checkpoint and the end of the job often come in one message. The reporter saw that the job had ended and went, and the
/// backend never heard of its last checkpoint.
#[test]
fn the_backend_is_told_of_the_last_checkpoint() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let ended = Ended::default();
    let (told, handle) = (Arc::clone(&ended), runtime.handle().clone());
    timely::execute_directly(move |timely| {
        let shared = worker(&told, &handle);
        timely.dataflow::<u64, _, _>(|scope| {
            super::build(scope, &shared, &OnceLock::new());
        });
        timely.step();
        assert!(told.lock().is_empty(), "nothing is complete");
        shared.control.committed.set(5);
        shared.wake_reporter();
        timely.step();
        assert_eq!(*told.lock(), [(4, true), (5, true)]);
        shared.control.committed.set(6);
        shared.control.finish.set(true);
        shared.wake_reporter();
        // It lets go, and the dataflow sees that nothing can come any more.
        for _ in 0..10 {
            timely.step();
        }
        assert!(!timely.has_dataflows(), "the reporter has gone");
        assert!(!shared.attempt.failed());
    });
    assert_eq!(*ended.lock(), [(4, true), (5, true), (6, true)]);
}

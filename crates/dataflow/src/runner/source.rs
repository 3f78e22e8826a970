//! Runs a source's reader: flow control, barriers, the end of a bounded source.
//!
//! Timely has no back-pressure, so a source stops when the slowest sink is more than a window of ticks behind. Ticks follow the
//! fastest source: one that is idle or slow moves its tick along, or it would hold the others back.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use aquifer_state::checkpoint::OperatorSnapshot;
use timely::dataflow::Scope;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::scheduling::SyncActivator;

use super::{Link, Output, local};
use crate::connector::{ConnectorContext, Source, SourcePoll, SourceReader};
use crate::operator::{Emitted, WATERMARK_MAX};
use crate::time::{Time, at, start_of};
use crate::worker::{Attempt, Shared};
use crate::{ChangeBatch, JobError};

/// How long a source that is ahead of the sinks waits before it looks again.
const THROTTLED: Duration = Duration::from_micros(500);
/// How long an idle source waits at most before it moves its tick along.
const IDLE_MS_MAX: u64 = 10;

/// Adds the source to the graph.
pub(crate) fn source<'scope>(
    scope: Scope<'scope, Time>,
    shared: &Shared,
    uid: &str,
    source: &Arc<dyn Source>,
) -> Result<Link<'scope, ChangeBatch>, JobError> {
    // Everything that can fail comes before the builder: timely panics if one is dropped without having been built.
    let wake = Arc::new(OnceLock::<SyncActivator>::new());
    let context = ConnectorContext {
        operator: uid.to_owned(),
        waker: Arc::new({
            let wake = Arc::clone(&wake);
            move || {
                // Before the operator is built it need not be woken; after the worker is gone it cannot.
                let _ = wake.get().map(SyncActivator::activate);
            }
        }),
        ..shared.connector.clone()
    };
    let splits = own_splits(
        &shared.attempt,
        uid,
        source,
        context.worker,
        context.workers,
    )?;
    let reader = source.reader(splits, context)?;

    let mut builder = OperatorBuilder::new(uid.to_owned(), scope);
    let address = builder.operator_info().address;
    let (output, result) = builder.new_output();
    let mut output = Output::<ChangeBatch>::from(output);
    let activator = scope.activator_for(address.clone());
    // Set once.
    let _ = wake.set(scope.worker().sync_activator_for(address.to_vec()));

    shared.barriers.borrow_mut().join();
    shared.open_sources.set(shared.open_sources.get() + 1);
    shared.control.listen(activator.clone());
    let shared = shared.clone();
    let uid = uid.to_owned();
    builder.build(move |mut capabilities| {
        let mut capability = capabilities.pop();
        if let Some(capability) = capability.as_mut() {
            capability.downgrade(&start_of(shared.first_epoch));
        }
        let mut run = Run {
            uid,
            epoch: shared.first_epoch,
            tick: 0,
            sent: VecDeque::new(),
            finished: false,
            reader,
        };
        activator.activate();
        move |_| {
            let Some(held) = capability.as_mut() else {
                return;
            };
            if shared.attempt.failed() {
                return;
            }
            let over = run.finished || shared.control.stopping(run.epoch);
            if over && shared.control.finish.get() {
                capability = None;
                return;
            }
            let barrier = run.barrier(&shared, held);
            if shared.guard(&run.uid, barrier).is_none() {
                return;
            }
            let mut emit = |capability: &Capability<Time>, emitted: Emitted<ChangeBatch>| {
                output
                    .activate()
                    .session(capability)
                    .give(local(shared.index, emitted));
            };
            let again = run.read(&shared, held, &mut emit);
            match shared.guard(&run.uid, again) {
                Some(Again::Now) => activator.activate(),
                Some(Again::After(delay)) => activator.activate_after(delay),
                None => {}
            }
        }
    });
    Ok(result)
}

/// The splits of this worker: every `workers`-th of all there are.
fn own_splits(
    attempt: &Attempt,
    uid: &str,
    source: &Arc<dyn Source>,
    worker: usize,
    workers: usize,
) -> Result<Vec<Vec<u8>>, JobError> {
    let mut known = attempt.splits.lock();
    let all = match known.get(uid) {
        Some(all) => Arc::clone(all),
        None => {
            let all = Arc::new(match attempt.restored.get(uid) {
                Some(snapshot) => snapshot.elements.clone(),
                None => source.splits(workers)?,
            });
            known.insert(uid.to_owned(), Arc::clone(&all));
            all
        }
    };
    Ok(all.iter().skip(worker).step_by(workers).cloned().collect())
}

/// When to look at the reader again.
enum Again {
    Now,
    After(Duration),
}

struct Run {
    uid: String,
    epoch: u64,
    tick: u64,
    /// Times of the batches sent that may not have reached every sink.
    sent: VecDeque<Time>,
    finished: bool,
    reader: Box<dyn SourceReader>,
}

impl Run {
    /// Begins the epoch that the coordinator wants: reports where the splits are, and lets the old epoch go.
    fn barrier(
        &mut self,
        shared: &Shared,
        capability: &mut Capability<Time>,
    ) -> Result<(), JobError> {
        while self.epoch < shared.control.epoch.get() {
            let elements = self.reader.snapshot()?;
            let snapshot = OperatorSnapshot {
                operator: self.uid.clone(),
                elements,
                ..OperatorSnapshot::default()
            };
            shared.report(self.epoch, Some(snapshot));
            self.epoch += 1;
            capability.downgrade(&at(self.epoch, self.tick));
        }
        Ok(())
    }

    /// Reads a batch if the sinks keep up.
    fn read(
        &mut self,
        shared: &Shared,
        capability: &mut Capability<Time>,
        emit: &mut dyn FnMut(&Capability<Time>, Emitted<ChangeBatch>),
    ) -> Result<Again, JobError> {
        while self
            .sent
            .front()
            .is_some_and(|time| !shared.probe.less_equal(time))
        {
            self.sent.pop_front();
        }
        if self.sent.len() >= shared.window_ticks {
            self.move_along(shared, capability);
            return Ok(Again::After(THROTTLED));
        }
        if self.finished || shared.control.stopping(self.epoch) {
            self.move_along(shared, capability);
            return Ok(Again::After(Duration::from_millis(IDLE_MS_MAX)));
        }
        match self.reader.poll(shared.batch_rows)? {
            SourcePoll::Batch(batch) => {
                let rows = batch.rows.num_rows() as u64;
                shared
                    .attempt
                    .counters
                    .rows_in
                    .fetch_add(rows, Ordering::Relaxed);
                emit(capability, Emitted::Batch(batch));
                self.sent.push_back(*capability.time());
                self.next_tick(shared, capability);
                Ok(Again::Now)
            }
            SourcePoll::Pending { retry_ms } => {
                self.move_along(shared, capability);
                Ok(Again::After(Duration::from_millis(
                    retry_ms.clamp(1, IDLE_MS_MAX),
                )))
            }
            SourcePoll::Finished => {
                self.finished = true;
                emit(capability, Emitted::Watermark(WATERMARK_MAX));
                self.next_tick(shared, capability);
                shared
                    .open_sources
                    .set(shared.open_sources.get().saturating_sub(1));
                shared.wake_reporter();
                Ok(Again::Now)
            }
        }
    }

    /// After a batch: the next tick, which no source is ahead of by more than one.
    fn next_tick(&mut self, shared: &Shared, capability: &mut Capability<Time>) {
        let own = self.tick + 1;
        self.tick = own.max(shared.attempt.tick.fetch_max(own, Ordering::Relaxed));
        capability.downgrade(&at(self.epoch, self.tick));
    }

    /// Without a batch: catches up with the fastest source.
    fn move_along(&mut self, shared: &Shared, capability: &mut Capability<Time>) {
        let fastest = shared.attempt.tick.load(Ordering::Relaxed);
        if fastest > self.tick {
            self.tick = fastest;
            capability.downgrade(&at(self.epoch, self.tick));
        }
    }
}

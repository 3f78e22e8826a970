//! The control dataflow: how workers and coordinator speak with each other.
//!
//! It is a timely dataflow beside the job's, so that there is no second RPC system: a *reporter* on every worker sends finished
//! parts of checkpoints to the *coordinator* on worker 0, and the coordinator's word goes to a *receiver* on every worker. The
//! two dataflows meet only in the worker's memory, so there is no cycle. Messages of one channel stay in order: a complete
//! checkpoint is announced before the next one is triggered.

mod coordinator;
mod message;
mod reporter;
mod savepoint;
mod storage;

pub(crate) use coordinator::Schedule;
pub(crate) use savepoint::Savepoints;
pub(crate) use storage::{Custody, StorageTask};

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use aquifer_state::checkpoint::CheckpointMetadata;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::Exchange;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::dataflow::{Scope, Stream};
use timely::scheduling::SyncActivator;

use crate::worker::Shared;
use coordinator::{Coordinator, Effect, Event};
use message::{Down, Up};

/// A message for one worker.
type Addressed = (u64, Down);

/// What the coordinator needs besides the messages.
pub(crate) struct CoordinatorSetup {
    /// When checkpoints are taken.
    pub schedule: Schedule,
    /// What every checkpoint's metadata has in common.
    pub template: CheckpointMetadata,
    /// Id of the first checkpoint.
    pub first_id: u64,
    /// Writes metadata and deletes files, away from the worker's thread.
    pub storage: Arc<StorageTask>,
    /// The clock.
    pub now_ms: Arc<dyn Fn() -> i64 + Send + Sync>,
}

/// Builds the control dataflow of one worker; `setup` is used on worker 0. `wake` is filled with what wakes the reporter, for the
/// store's background work.
pub(crate) fn build(
    scope: Scope<'_, u64>,
    shared: &Shared,
    setup: CoordinatorSetup,
    wake: &OnceLock<SyncActivator>,
) {
    let reports = reporter::build(scope, shared, wake);
    let words = coordinate(scope, shared, reports, setup);
    receive(scope, shared, words);
}

fn coordinate<'scope>(
    scope: Scope<'scope, u64>,
    shared: &Shared,
    reports: Stream<'scope, u64, Vec<Up>>,
    setup: CoordinatorSetup,
) -> Stream<'scope, u64, Vec<Addressed>> {
    let mut builder = OperatorBuilder::new("coordinator".to_owned(), scope);
    let address = builder.operator_info().address;
    let mut input = builder.new_input(reports, Exchange::new(|_: &Up| 0));
    let (output, result) = builder.new_output();
    let mut output = OutputBuilder::<_, CapacityContainerBuilder<Vec<Addressed>>>::from(output);
    let activator = scope.activator_for(address.clone());
    let wake = scope.worker().sync_activator_for(address.to_vec());
    let shared = shared.clone();
    builder.build(move |mut capabilities| {
        let mut capability = capabilities.pop().filter(|_| shared.index == 0);
        let CoordinatorSetup {
            schedule,
            template,
            first_id,
            storage,
            now_ms,
        } = setup;
        let mut coordinator = Coordinator::new(schedule, template, first_id, now_ms());
        // Every worker builds this operator; only the one that coordinates is to be woken.
        if capability.is_some() {
            storage.wake_with(Arc::new(move || {
                // Fails only when the worker is gone, and then there is nothing to wake.
                let _ = wake.activate();
            }));
        }
        activator.activate();
        move |_| {
            let mut events = vec![Event::Tick];
            input.for_each(|_, data| {
                for up in data.drain(..) {
                    match up.into_event() {
                        Ok(event) => events.push(event),
                        Err(error) => shared.attempt.fail(error.into()),
                    }
                }
            });
            let Some(held) = capability.as_ref() else {
                return;
            };
            if shared.attempt.failed() {
                capability = None;
                return;
            }
            events.extend(storage.events());
            let now = now_ms();
            let mut finish = false;
            {
                let mut output = output.activate();
                let mut session = output.session(held);
                let mut tell = |down: &Down| {
                    for worker in 0..shared.peers as u64 {
                        session.give((worker, down.clone()));
                    }
                };
                for event in events {
                    for effect in coordinator.step(event, now) {
                        match effect {
                            Effect::Trigger(id) => tell(&Down::Trigger(id)),
                            Effect::TriggerAndStop(id) => tell(&Down::TriggerAndStop(id)),
                            Effect::WriteSavepoints(id, tickets) => {
                                storage.write_savepoints(id, tickets);
                            }
                            Effect::Write(metadata) => storage.write(metadata),
                            Effect::Announce(completed) => {
                                tell(&Down::Complete(completed.checkpoint_id));
                                storage.completed(completed);
                            }
                            Effect::GoOn(why) => {
                                tell(&Down::GoOn);
                                storage.note(&format!(
                                    "the job goes on: the savepoint with which it was to stop could not be written: {why}"
                                ));
                            }
                            Effect::Finish => {
                                tell(&Down::Finish);
                                finish = true;
                            }
                            Effect::Fail(error) => shared.attempt.fail(error),
                        }
                    }
                }
            }
            if finish {
                capability = None;
                return;
            }
            // Without one there is nothing to wait for but messages.
            if let Some(wait_ms) = coordinator.next_tick_ms(now) {
                activator.activate_after(Duration::from_millis(wait_ms));
            }
        }
    });
    result
}

fn receive<'scope>(
    scope: Scope<'scope, u64>,
    shared: &Shared,
    words: Stream<'scope, u64, Vec<Addressed>>,
) {
    let mut builder = OperatorBuilder::new("receiver".to_owned(), scope);
    let mut input = builder.new_input(words, Exchange::new(|(worker, _): &Addressed| *worker));
    let shared = shared.clone();
    let received = Rc::new(RefCell::new(Vec::new()));
    builder.build(move |_| {
        move |_| {
            input.for_each(|_, data| received.borrow_mut().append(data));
            let received = std::mem::take(&mut *received.borrow_mut());
            if received.is_empty() {
                return;
            }
            for (_, down) in received {
                match down {
                    Down::Trigger(id) => shared.control.epoch.set(id + 1),
                    Down::TriggerAndStop(id) => {
                        shared.control.stop_after.set(Some(id));
                        shared.control.epoch.set(id + 1);
                    }
                    Down::GoOn => shared.control.stop_after.set(None),
                    Down::Complete(id) => shared.control.committed.set(id),
                    Down::Finish => shared.control.finish.set(true),
                }
            }
            shared.control.notify();
            shared.wake_reporter();
        }
    });
}

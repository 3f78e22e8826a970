//! Sends a worker's part of a checkpoint to the coordinator once it is durable, and drives the store's background work.

use std::collections::VecDeque;
use std::sync::OnceLock;

use timely::container::CapacityContainerBuilder;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::dataflow::{Scope, Stream};
use timely::scheduling::SyncActivator;

use super::coordinator::Acknowledgement;
use super::message::{Part, Up};
use crate::JobError;
use crate::worker::{Shared, WorkerReport};

/// Adds the reporter to the control dataflow.
pub(super) fn build<'scope>(
    scope: Scope<'scope, u64>,
    shared: &Shared,
    wake: &OnceLock<SyncActivator>,
) -> Stream<'scope, u64, Vec<Up>> {
    let mut builder = OperatorBuilder::new("reporter".to_owned(), scope);
    let address = builder.operator_info().address;
    let (output, result) = builder.new_output();
    let mut output = OutputBuilder::<_, CapacityContainerBuilder<Vec<Up>>>::from(output);
    // Set once per worker and attempt.
    let _ = wake.set(scope.worker().sync_activator_for(address.to_vec()));
    let activator = scope.activator_for(address);
    *shared.reporter.borrow_mut() = Some(activator.clone());
    let shared = shared.clone();
    builder.build(move |mut capabilities| {
        let mut capability = capabilities.pop();
        let mut run = Run {
            waiting: VecDeque::new(),
            sources_finished: false,
            ended: shared.first_epoch.saturating_sub(1),
        };
        activator.activate();
        move |_| {
            let Some(held) = capability.as_ref() else {
                return;
            };
            if shared.attempt.failed() {
                capability = None;
                return;
            }
            if shared.control.finish.get() {
                // The end of the last checkpoint may have been told together with the end of the job.
                let told = run.tell_ended(&shared);
                shared.guard("reporter", told);
                capability = None;
                return;
            }
            let reports = run.step(&shared);
            if let Some(reports) = shared.guard("reporter", reports) {
                output
                    .activate()
                    .session(held)
                    .give_iterator(reports.into_iter());
            }
        }
    });
    result
}

struct Run {
    /// Reports whose keyed state is on its way to the object store.
    waiting: VecDeque<WorkerReport>,
    sources_finished: bool,
    /// The newest checkpoint of whose end the backend knows. Those of an attempt have no gaps: one that fails ends the attempt.
    ended: u64,
}

impl Run {
    /// Tells the backend of checkpoints that have become complete.
    fn tell_ended(&mut self, shared: &Shared) -> Result<(), JobError> {
        while self.ended < shared.control.committed.get() {
            self.ended += 1;
            let mut backend = shared.state.backend().borrow_mut();
            backend.checkpoint_ended(self.ended, true)?;
        }
        Ok(())
    }

    fn step(&mut self, shared: &Shared) -> Result<Vec<Up>, JobError> {
        let mut reports = Vec::new();
        loop {
            let Some(report) = shared.barriers.borrow_mut().complete.pop_front() else {
                break;
            };
            shared.state.backend().borrow_mut().snapshot(report.epoch)?;
            self.waiting.push_back(report);
        }
        self.tell_ended(shared)?;
        loop {
            let polled = shared.state.backend().borrow_mut().poll()?;
            let Some((checkpoint_id, keyed)) = polled else {
                break;
            };
            let Some(report) = self
                .waiting
                .pop_front()
                .filter(|report| report.epoch == checkpoint_id)
            else {
                return Err(JobError::failed(format!(
                    "the state backend finished checkpoint {checkpoint_id}, which was not asked for"
                )));
            };
            let part = Acknowledgement {
                worker: shared.index,
                checkpoint_id,
                range: shared.state.key_groups(),
                keyed,
                tables: shared.state.backend().borrow().tables(),
                operators: report.operators,
            };
            reports.push(Up::Acknowledged(Box::new(Part::new(part))));
        }
        if !self.sources_finished && shared.open_sources.get() == 0 {
            self.sources_finished = true;
            reports.push(Up::SourcesFinished(shared.index as u64));
        }
        shared
            .attempt
            .backend_stats
            .lock()
            .insert(shared.index, shared.state.backend().borrow().stats());
        Ok(reports)
    }
}

#[cfg(test)]
mod tests;

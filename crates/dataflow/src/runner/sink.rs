//! Runs a sink's writer: rows go in, a barrier prepares what it has written, and the coordinator's word makes it visible.
//!
//! What a checkpoint has prepared is committed before the next barrier reaches the sink: the coordinator announces a complete
//! checkpoint before it triggers the next one, and on the same channel.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use aquifer_state::checkpoint::OperatorSnapshot;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::Probe;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;

use super::Link;
use super::epochs::{Epochs, Item};
use crate::connector::{ConnectorContext, Sink, SinkWriter};
use crate::worker::Shared;
use crate::{ChangeBatch, JobError};

/// Adds the sink to the graph.
pub(crate) fn sink(
    stream: Link<'_, ChangeBatch>,
    shared: &Shared,
    uid: &str,
    sink: Arc<dyn Sink>,
) -> Result<(), JobError> {
    let context = ConnectorContext {
        operator: uid.to_owned(),
        ..shared.connector.clone()
    };
    recover(shared, &context, &sink)?;
    // Everything that can fail comes before the builder: timely panics if one is dropped without having been built.
    let mut run = Run {
        uid: uid.to_owned(),
        writer: sink.writer(context.clone())?,
        sink,
        context,
        prepared: VecDeque::new(),
    };

    let scope = stream.scope();
    let mut builder = OperatorBuilder::new(uid.to_owned(), scope);
    let address = builder.operator_info().address;
    let mut input = builder.new_input(stream, Pipeline);
    let (_output, done) = builder.new_output::<Vec<()>>();
    shared.control.listen(scope.activator_for(address));
    shared.barriers.borrow_mut().join();
    let shared_by_operator = shared.clone();
    builder.build_reschedule(move |mut capabilities| {
        let shared = shared_by_operator;
        let mut epochs = capabilities
            .pop()
            .map(|initial| Epochs::new(shared.first_epoch, initial));
        move |frontiers| {
            if shared.attempt.failed() {
                epochs = None;
                input.for_each(|_, data| data.clear());
                return false;
            }
            let committed = run.commit(shared.control.committed.get());
            shared.guard(&run.uid, committed);
            if let Some(epochs) = epochs.as_mut() {
                input.for_each(|capability, data| {
                    if let Some(capability) = capability.retain_least(0) {
                        epochs.arrive(capability, data);
                    }
                });
                epochs.advance(&frontiers[0], |_, item| {
                    if !shared.attempt.failed() {
                        let handled = run.handle(&shared, item);
                        shared.guard(&run.uid, handled);
                    }
                });
            }
            !run.prepared.is_empty()
        }
    });
    done.probe_with(&shared.probe);
    Ok(())
}

/// Once per attempt: commits what the restored checkpoint had prepared, and removes what it does not know of.
fn recover(
    shared: &Shared,
    context: &ConnectorContext,
    sink: &Arc<dyn Sink>,
) -> Result<(), JobError> {
    let uid = context.operator.as_str();
    let mut recovered = shared.attempt.recovered_sinks.lock();
    if recovered.contains(uid) {
        return Ok(());
    }
    if let Some(snapshot) = shared.attempt.restored.get(uid) {
        sink.commit(snapshot.committables.clone(), context)?;
    }
    sink.recover(context)?;
    recovered.insert(uid.to_owned());
    Ok(())
}

struct Run {
    uid: String,
    sink: Arc<dyn Sink>,
    writer: Box<dyn SinkWriter>,
    context: ConnectorContext,
    /// Prepared by a checkpoint that is not known to be complete.
    prepared: VecDeque<(u64, Vec<Vec<u8>>)>,
}

impl Run {
    fn handle(&mut self, shared: &Shared, item: Item<ChangeBatch>) -> Result<(), JobError> {
        match item {
            Item::Batch(batch) => {
                let rows = batch.rows.num_rows() as u64;
                shared
                    .attempt
                    .counters
                    .rows_out
                    .fetch_add(rows, Ordering::Relaxed);
                self.writer.write(&batch)
            }
            Item::Watermark(_) => Ok(()),
            Item::Barrier(epoch) => {
                let committables = self.writer.prepare_commit(epoch)?;
                let snapshot = OperatorSnapshot {
                    operator: self.uid.clone(),
                    elements: Vec::new(),
                    committables: committables.clone(),
                    ..OperatorSnapshot::default()
                };
                self.prepared.push_back((epoch, committables));
                shared.report(epoch, Some(snapshot));
                Ok(())
            }
        }
    }

    /// Makes visible what complete checkpoints have prepared.
    fn commit(&mut self, complete: u64) -> Result<(), JobError> {
        while let Some((epoch, _)) = self.prepared.front()
            && *epoch <= complete
            && let Some((_, committables)) = self.prepared.pop_front()
        {
            if !committables.is_empty() {
                self.sink.commit(committables, &self.context)?;
            }
        }
        Ok(())
    }
}

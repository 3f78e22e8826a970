//! Runs an operator without keyed state. One without any state is handed elements as they pass, at the time they came with. One that has asked
//! for operator state sees barriers: rows of a later epoch wait until it has been asked for its snapshot.

use aquifer_state::checkpoint::OperatorSnapshot;
use aquifer_state::operator::OperatorStateStore;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::progress::operate::FrontierInterest;

use super::epochs::{Epochs, Item};
use super::{Link, Output, local};
use crate::JobError;
use crate::envelope::Element;
use crate::graph::Payload;
use crate::operator::{Collector, StatelessOperator};
use crate::worker::Shared;

/// Adds the operator to the graph.
pub(crate) fn stateless<'scope, D: Payload, E: Payload>(
    stream: Link<'scope, D>,
    shared: &Shared,
    uid: &str,
    mut operator: impl StatelessOperator<D, E>,
) -> Link<'scope, E> {
    let opened = open(shared, uid, &mut operator);
    if let Some(Some(states)) = shared.guard(uid, opened) {
        return stateful(stream, shared, uid, operator, states);
    }
    let mut builder = OperatorBuilder::new(uid.to_owned(), stream.scope());
    let mut input = builder.new_input(stream, Pipeline);
    builder.set_notify_for(0, FrontierInterest::Never);
    let (output, result) = builder.new_output();
    let mut output = Output::<E>::from(output);
    let (shared, uid) = (shared.clone(), uid.to_owned());
    builder.build(move |_| {
        let mut out = Collector::default();
        move |_| {
            let mut output = output.activate();
            input.for_each(|capability, data| {
                let mut session = output.session(&capability);
                for envelope in data.drain(..) {
                    if shared.attempt.failed() {
                        return;
                    }
                    let done = match envelope.element {
                        Element::Batch(batch) => operator.on_batch(batch, &mut out),
                        Element::Watermark(watermark) => operator.on_watermark(watermark, &mut out),
                    };
                    if shared.guard(&uid, done).is_some() {
                        for emitted in out.take() {
                            session.give(local(shared.index, emitted));
                        }
                    }
                }
            });
        }
    });
    result
}

/// The operator's state, if it has any: asked for now, or restored and not asked for, which stays in later checkpoints.
fn open<D: Payload, E: Payload>(
    shared: &Shared,
    uid: &str,
    operator: &mut impl StatelessOperator<D, E>,
) -> Result<Option<OperatorStateStore>, JobError> {
    let states = shared.operator_state(uid)?;
    operator.initialize(&states)?;
    let asks = !states.registered().is_empty() || !states.registered_broadcast().is_empty();
    let has_state = asks || !states.freeze()?.is_empty();
    Ok(has_state.then_some(states))
}

fn stateful<'scope, D: Payload, E: Payload>(
    stream: Link<'scope, D>,
    shared: &Shared,
    uid: &str,
    mut operator: impl StatelessOperator<D, E>,
    states: OperatorStateStore,
) -> Link<'scope, E> {
    let mut builder = OperatorBuilder::new(uid.to_owned(), stream.scope());
    let mut input = builder.new_input(stream, Pipeline);
    let (output, result) = builder.new_output();
    let mut output = Output::<E>::from(output);
    shared.barriers.borrow_mut().join();
    let (shared, uid) = (shared.clone(), uid.to_owned());
    builder.build(move |mut capabilities| {
        let mut epochs = capabilities
            .pop()
            .map(|initial| Epochs::new(shared.first_epoch, initial));
        let mut out = Collector::default();
        move |frontiers| {
            if shared.attempt.failed() {
                epochs = None;
                input.for_each(|_, data| data.clear());
                return;
            }
            let Some(epochs) = epochs.as_mut() else {
                return;
            };
            input.for_each(|capability, data| {
                if let Some(capability) = capability.retain_least(0) {
                    epochs.arrive(capability, data);
                }
            });
            let mut output = output.activate();
            epochs.advance(&frontiers[0], |capability, item| {
                if shared.attempt.failed() {
                    return;
                }
                let done = match item {
                    Item::Batch(batch) => operator.on_batch(batch, &mut out),
                    Item::Watermark(watermark) => operator.on_watermark(watermark, &mut out),
                    Item::Barrier(epoch) => operator.snapshot(epoch).and_then(|()| {
                        let snapshot = OperatorSnapshot::of_state(&uid, states.freeze()?);
                        shared.report(epoch, snapshot);
                        Ok(())
                    }),
                };
                if shared.guard(&uid, done).is_some() {
                    let mut session = output.session(&*capability);
                    for emitted in out.take() {
                        session.give(local(shared.index, emitted));
                    }
                }
            });
        }
    });
    result
}

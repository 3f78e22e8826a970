//! Runs a stateless operator: elements pass straight through, at the time they came with.

use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::progress::operate::FrontierInterest;

use super::{Link, Output, local};
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

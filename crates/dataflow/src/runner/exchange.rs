//! Sends each row to the worker that a router says, and watermarks to all.

use timely::dataflow::channels::pact::{Exchange, Pipeline};
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::progress::operate::FrontierInterest;

use super::align::align;
use super::{Link, Output};
use crate::envelope::{Element, Envelope};
use crate::graph::Payload;
use crate::operator::Router;
use crate::worker::Shared;

/// Adds the exchange to the graph: a splitter, the channel, and the alignment of what arrives.
pub(crate) fn exchange<'scope, D: Payload>(
    stream: Link<'scope, D>,
    shared: &Shared,
    uid: &str,
    router: impl Router<D>,
) -> Link<'scope, D> {
    if shared.peers == 1 {
        return stream;
    }
    let split = split(stream, shared, uid, router);
    let by_target = || Exchange::new(|envelope: &Envelope<D>| u64::from(envelope.to));
    align(
        vec![split],
        by_target,
        shared,
        uid,
        shared.peers,
        |_, envelope| envelope.from as usize,
    )
}

fn split<'scope, D: Payload>(
    stream: Link<'scope, D>,
    shared: &Shared,
    uid: &str,
    mut router: impl Router<D>,
) -> Link<'scope, D> {
    let mut builder = OperatorBuilder::new(format!("{uid} (split)"), stream.scope());
    let mut input = builder.new_input(stream, Pipeline);
    builder.set_notify_for(0, FrontierInterest::Never);
    let (output, result) = builder.new_output();
    let mut output = Output::<D>::from(output);
    let (shared, uid) = (shared.clone(), uid.to_owned());
    let worker = |index: usize| u32::try_from(index).unwrap_or(u32::MAX);
    builder.build(move |_| {
        move |_| {
            let mut output = output.activate();
            input.for_each(|capability, data| {
                let mut session = output.session(&capability);
                let from = worker(shared.index);
                for envelope in data.drain(..) {
                    if shared.attempt.failed() {
                        return;
                    }
                    match envelope.element {
                        Element::Batch(batch) => {
                            let mut give = |to: usize, rows: D| {
                                session.give(Envelope {
                                    from,
                                    to: worker(to),
                                    element: Element::Batch(rows),
                                });
                            };
                            shared.guard(&uid, router.route(batch, shared.peers, &mut give));
                        }
                        Element::Watermark(watermark) => {
                            for to in 0..shared.peers {
                                session.give(Envelope {
                                    from,
                                    to: worker(to),
                                    element: Element::Watermark(watermark),
                                });
                            }
                        }
                    }
                }
            });
        }
    });
    result
}

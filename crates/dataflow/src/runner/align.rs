//! Brings several channels together: rows of a later epoch wait until every channel has finished the earlier one (Flink's
//! aligned barrier), and watermarks are merged to their minimum.
//!
//! What waits is bounded by flow control: a source is never more than its window ahead of the slowest sink.

use std::collections::VecDeque;

use timely::dataflow::channels::pact::{ParallelizationContract, Pipeline};
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::progress::frontier::MutableAntichain;

use super::{Link, Output, local};
use crate::envelope::{Element, Envelope, WatermarkMerge};
use crate::graph::Payload;
use crate::operator::Emitted;
use crate::time::{Time, epoch_of};
use crate::worker::Shared;

/// All rows of these streams.
pub(crate) fn union<'scope, D: Payload>(
    streams: Vec<Link<'scope, D>>,
    shared: &Shared,
    uid: &str,
) -> Link<'scope, D> {
    let channels = streams.len();
    align(
        streams,
        || Pipeline,
        shared,
        uid,
        channels,
        |input, _| input,
    )
}

/// The epoch that all inputs have reached: rows of it may pass. Everything may when all inputs have ended.
fn reached(frontiers: &[MutableAntichain<Time>]) -> u64 {
    let reached = frontiers
        .iter()
        .filter_map(|f| f.frontier().first().copied())
        .min();
    reached.map_or(u64::MAX, epoch_of)
}

/// Aligns `streams`; `channel_of(input, envelope)` says which of the `channels` an element came by.
pub(super) fn align<'scope, D: Payload, P: ParallelizationContract<Time, Vec<Envelope<D>>>>(
    streams: Vec<Link<'scope, D>>,
    mut pact: impl FnMut() -> P,
    shared: &Shared,
    uid: &str,
    channels: usize,
    channel_of: impl Fn(usize, &Envelope<D>) -> usize + 'static,
) -> Link<'scope, D> {
    let scope = streams[0].scope();
    let mut builder = OperatorBuilder::new(format!("{uid} (align)"), scope);
    let mut inputs: Vec<_> = streams
        .into_iter()
        .map(|stream| builder.new_input(stream, pact()))
        .collect();
    let (output, result) = builder.new_output();
    let mut output = Output::<D>::from(output);
    let shared = shared.clone();
    builder.build(move |_| {
        let mut current = shared.first_epoch;
        let mut waiting = VecDeque::new();
        let mut watermarks = WatermarkMerge::new(channels);
        move |frontiers| {
            let mut output = output.activate();
            let mut pass = |capability: &_, input: usize, data: &mut Vec<Envelope<D>>| {
                let mut session = output.session(capability);
                for envelope in data.drain(..) {
                    let channel = channel_of(input, &envelope);
                    match envelope.element {
                        Element::Batch(batch) => {
                            session.give(local(shared.index, Emitted::Batch(batch)))
                        }
                        Element::Watermark(watermark) => {
                            if let Some(merged) = watermarks.update(channel, watermark) {
                                session.give(local(shared.index, Emitted::Watermark(merged)));
                            }
                        }
                    }
                }
            };
            for (index, input) in inputs.iter_mut().enumerate() {
                input.for_each(|capability, data| {
                    if let Some(capability) = capability.retain_least(0) {
                        if epoch_of(*capability.time()) <= current {
                            pass(&capability, index, data);
                        } else {
                            waiting.push_back((capability, index, std::mem::take(data)));
                        }
                    }
                });
            }
            let reached = reached(frontiers);
            while current < reached {
                // Later epochs are released one by one, each in the order of arrival.
                let next = waiting
                    .iter()
                    .map(|(capability, ..)| epoch_of(*capability.time()))
                    .min();
                let Some(next) = next.filter(|next| *next <= reached) else {
                    current = reached;
                    break;
                };
                current = next;
                for _ in 0..waiting.len() {
                    let Some((capability, index, mut data)) = waiting.pop_front() else {
                        break;
                    };
                    if epoch_of(*capability.time()) <= current {
                        pass(&capability, index, &mut data);
                    } else {
                        waiting.push_back((capability, index, data));
                    }
                }
            }
        }
    });
    result
}

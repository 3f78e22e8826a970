//! Runners: what stands between timely and an operator.
//!
//! A runner owns capabilities, epochs, flow control and waking up, so that an operator sees only batches, watermarks and
//! barriers. Every runner reads its input with `for_each`: `for_each_stamp` sorts containers unstably and so reorders those of
//! one time.

mod align;
mod epochs;
mod exchange;
mod keyed;
mod process;
mod sink;
mod slots;
mod source;
mod stateless;

pub(crate) use align::union;
pub(crate) use exchange::exchange;
pub(crate) use keyed::keyed;
pub(crate) use process::process;
pub(crate) use sink::sink;
pub(crate) use source::source;
pub(crate) use stateless::stateless;

use timely::container::CapacityContainerBuilder;
use timely::dataflow::Stream;
use timely::dataflow::operators::generic::OutputBuilder;

use crate::envelope::{Element, Envelope};
use crate::operator::Emitted;
use crate::time::Time;

/// A stream between two operators.
pub(crate) type Link<'scope, D> = Stream<'scope, Time, Vec<Envelope<D>>>;

/// The output of a runner.
type Output<D> = OutputBuilder<Time, CapacityContainerBuilder<Vec<Envelope<D>>>>;

/// An element for the next operator of the same worker.
fn local<D>(worker: usize, emitted: Emitted<D>) -> Envelope<D> {
    let worker = u32::try_from(worker).unwrap_or(u32::MAX);
    let element = match emitted {
        Emitted::Batch(batch) => Element::Batch(batch),
        Emitted::Watermark(watermark) => Element::Watermark(watermark),
    };
    Envelope {
        from: worker,
        to: worker,
        element,
    }
}

//! Turns timely's messages and frontier into a sequence of batches, watermarks and barriers, each with the capability to emit.
//!
//! A barrier of epoch `e` comes when the frontier has passed the epoch: all its rows have arrived. Rows of later epochs wait
//! behind it. One capability is held and moved along with the frontier, so that an operator can still emit at the barrier, and
//! so that nothing it holds keeps the tick (and with it flow control) back.

use std::collections::VecDeque;
use std::rc::Rc;

use timely::dataflow::operators::Capability;
use timely::progress::frontier::MutableAntichain;

use crate::envelope::{Element, Envelope};
use crate::time::{Time, epoch_of, start_of};

/// One step of an operator's life.
pub(super) enum Item<D> {
    /// Rows.
    Batch(D),
    /// The watermark has moved.
    Watermark(i64),
    /// All rows of this epoch have been delivered.
    Barrier(u64),
}

/// Orders what arrives by epoch.
pub(super) struct Epochs<D> {
    current: u64,
    held: Option<Capability<Time>>,
    waiting: VecDeque<(Rc<Capability<Time>>, Element<D>)>,
}

impl<D> Epochs<D> {
    /// Starts in `first_epoch` with the operator's initial capability.
    pub fn new(first_epoch: u64, mut initial: Capability<Time>) -> Self {
        initial.downgrade(&start_of(first_epoch));
        Self {
            current: first_epoch,
            held: Some(initial),
            waiting: VecDeque::new(),
        }
    }

    /// Takes a container that arrived.
    pub fn arrive(&mut self, capability: Capability<Time>, data: &mut Vec<Envelope<D>>) {
        let capability = Rc::new(capability);
        self.waiting.extend(
            data.drain(..)
                .map(|envelope| (Rc::clone(&capability), envelope.element)),
        );
    }

    /// Hands out what may be handled now, given the input's frontier, in order.
    pub fn advance(
        &mut self,
        frontier: &MutableAntichain<Time>,
        mut handle: impl FnMut(Rc<Capability<Time>>, Item<D>),
    ) {
        let frontier = frontier.frontier().first().copied();
        let reached = frontier.map_or(u64::MAX, epoch_of);
        loop {
            while let Some((capability, _)) = self.waiting.front()
                && epoch_of(*capability.time()) <= self.current
                && let Some((capability, element)) = self.waiting.pop_front()
            {
                let item = match element {
                    Element::Batch(batch) => Item::Batch(batch),
                    Element::Watermark(watermark) => Item::Watermark(watermark),
                };
                handle(capability, item);
            }
            let Some(held) = self.held.as_mut() else {
                return;
            };
            if self.current >= reached {
                // Move along within the epoch.
                if let Some(frontier) = frontier
                    && frontier > *held.time()
                {
                    held.downgrade(&frontier);
                }
                return;
            }
            let end = start_of(self.current + 1) - 1;
            if end > *held.time() {
                held.downgrade(&end);
            }
            if frontier.is_none() && self.waiting.is_empty() {
                // The input has ended: what the last barrier covered was all.
                self.held = None;
                return;
            }
            handle(Rc::new(held.clone()), Item::Barrier(self.current));
            self.current += 1;
            held.downgrade(&start_of(self.current));
        }
    }

    /// The epoch that was reached.
    pub fn current(&self) -> u64 {
        self.current
    }

    /// The right to emit in the epoch that was reached, without being asked by a row. `None` once the input has ended.
    pub fn capability(&self) -> Option<Rc<Capability<Time>>> {
        self.held.clone().map(Rc::new)
    }

    /// True once the input has ended and everything was handed out.
    pub fn ended(&self) -> bool {
        self.held.is_none() && self.waiting.is_empty()
    }
}

//! Futures of records under way, in slots that are used again: no allocation per record.
//!
//! A waker names its slot, so that only what can go on is polled.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use parking_lot::Mutex;
use timely::scheduling::SyncActivator;

/// Slots that can go on, told from any thread.
struct Ready {
    slots: Mutex<Vec<usize>>,
    activator: SyncActivator,
}

struct SlotWaker {
    slot: usize,
    ready: Arc<Ready>,
}

impl Wake for SlotWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let mut slots = self.ready.slots.lock();
        slots.push(self.slot);
        if slots.len() == 1 {
            drop(slots);
            // Fails only when the worker is gone, and then there is nothing to wake.
            let _ = self.ready.activator.activate();
        }
    }
}

struct Slot<F, T> {
    future: Pin<Box<Option<F>>>,
    tag: Option<T>,
    waker: Waker,
}

/// Futures of one type, each with a tag that comes back when it is done.
pub(super) struct Slots<F, T> {
    slots: Vec<Slot<F, T>>,
    free: Vec<usize>,
    ready: Arc<Ready>,
}

impl<F: Future, T> Slots<F, T> {
    /// No futures yet; `activator` wakes their operator.
    pub fn new(activator: SyncActivator) -> Self {
        let ready = Arc::new(Ready {
            slots: Mutex::default(),
            activator,
        });
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            ready,
        }
    }

    /// How many are under way.
    pub fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Puts a future into a slot. It is polled by [`Slots::poll`].
    pub fn insert(&mut self, future: F, tag: T) -> usize {
        let slot = self.free_slot();
        self.slots[slot].future.set(Some(future));
        self.slots[slot].tag = Some(tag);
        slot
    }

    /// Polls a future that has no tag yet. If it waits it is in the slot that comes back, and must be given a tag.
    pub fn begin(&mut self, future: F) -> Result<F::Output, usize> {
        let slot = self.free_slot();
        let entry = &mut self.slots[slot];
        entry.future.set(Some(future));
        let mut context = Context::from_waker(&entry.waker);
        let polled = entry.future.as_mut().as_pin_mut();
        match polled.map(|future| future.poll(&mut context)) {
            Some(Poll::Ready(output)) => {
                entry.future.set(None);
                self.free.push(slot);
                Ok(output)
            }
            _ => Err(slot),
        }
    }

    fn free_slot(&mut self) -> usize {
        self.free.pop().unwrap_or_else(|| {
            let waker = Waker::from(Arc::new(SlotWaker {
                slot: self.slots.len(),
                ready: Arc::clone(&self.ready),
            }));
            self.slots.push(Slot {
                future: Box::pin(None),
                tag: None,
                waker,
            });
            self.slots.len() - 1
        })
    }

    /// Drops all futures.
    pub fn clear(&mut self) {
        self.slots.clear();
        self.free.clear();
    }

    /// The slots that were woken since the last call.
    pub fn woken(&mut self, slots: &mut Vec<usize>) {
        slots.append(&mut self.ready.slots.lock());
    }

    /// The tag of a future under way.
    pub fn tag(&self, slot: usize) -> Option<&T> {
        self.slots.get(slot)?.tag.as_ref()
    }

    /// The same, to be changed.
    pub fn tag_mut(&mut self, slot: usize) -> Option<&mut T> {
        self.slots.get_mut(slot)?.tag.as_mut()
    }

    /// Takes the tag of a future under way, which must be put back.
    pub fn take_tag(&mut self, slot: usize) -> Option<T> {
        self.slots.get_mut(slot)?.tag.take()
    }

    /// Puts a tag back.
    pub fn put_tag(&mut self, slot: usize, tag: T) {
        if let Some(entry) = self.slots.get_mut(slot) {
            entry.tag = Some(tag);
        }
    }

    /// Polls a future; once it is done its slot is free and its tag comes back. Nothing is polled twice after it is done.
    pub fn poll(&mut self, slot: usize) -> Option<(F::Output, T)> {
        let entry = self.slots.get_mut(slot)?;
        let future = entry.future.as_mut().as_pin_mut()?;
        let Poll::Ready(output) = future.poll(&mut Context::from_waker(&entry.waker)) else {
            return None;
        };
        entry.future.set(None);
        self.free.push(slot);
        Some((output, entry.tag.take()?))
    }
}

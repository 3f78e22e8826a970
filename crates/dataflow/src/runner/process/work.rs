//! Running pieces of work: futures in slots, each with its key, its right to emit, and a name for errors.

use std::cell::RefMut;
use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;

use aquifer_state::controller::{Admit, KeyRef, Lineage, Ticket, WorkKind};
use aquifer_state::key_group::{KeyHash, assign_to_key_group};
use aquifer_state::ordered::OrderedKey;
use aquifer_state::timers::TimeDomain;
use bytes::Bytes;
use futures_util::future::Either;

use super::timers::Turn;
use super::{Held, Run};
use crate::JobError;
use crate::operator::Emitted;
use crate::process::{DueTimers, KeyedProcess, UserFuture};
use crate::worker::Attempt;

/// What is to run for a key.
pub(super) enum Work<R> {
    /// It has not begun.
    Begin(Begin<R>),
    /// It waits in a slot, under this number, and has got its key.
    Resume(usize, u64),
}

/// Work that has not begun.
pub(super) struct Begin<R> {
    pub what: What<R>,
    pub capability: Held,
    /// The watermark that it sees.
    pub watermark_ms: i64,
    /// Its event time, if it has one.
    pub time_ms: Option<i64>,
}

/// What it is.
pub(super) enum What<R> {
    Record(R),
    /// The earliest of the due timers of its key.
    EventTimer,
    ProcessingTimer,
    Derived(UserFuture),
}

/// For people.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    Record,
    EventTimer,
    ProcessingTimer,
    Derived,
}

impl Kind {
    fn words(self) -> &'static str {
        match self {
            Self::Record => "a record",
            Self::EventTimer => "an event-time timer",
            Self::ProcessingTimer => "a processing-time timer",
            Self::Derived => "work that a record has started",
        }
    }
}

/// What a slot is about.
pub(super) struct Tag {
    /// Tells it from what was in the slot before.
    number: u64,
    /// `None` while it waits for its key.
    ticket: Option<Ticket>,
    lineage: Lineage,
    capability: Held,
    kind: Kind,
    group: u16,
    watermark_ms: i64,
    time_ms: Option<i64>,
    /// The key of work that has begun without holding it.
    key: Option<Box<[u8]>>,
}

/// Work and its right to run.
type Started<R> = (Ticket, Work<R>);

impl<P, M, F> Run<P, M, F>
where
    P: KeyedProcess,
    M: Fn(P::In) -> F,
    F: Future<Output = Result<(), JobError>>,
{
    /// A record of the batch in hand. The controller must accept records.
    pub(super) fn admit_record(
        &mut self,
        record: P::In,
        capability: &Held,
    ) -> Result<(), JobError> {
        let key = self.function.key(&record);
        self.key_bytes.clear();
        key.encode_ordered(&mut self.key_bytes);
        let group = assign_to_key_group(key.hash_code(), self.shared.max_parallelism);
        let time_ms = match self.by_event_time {
            true => self.function.event_time_ms(&record),
            false => None,
        };
        let work = Begin {
            what: What::Record(record),
            capability: Rc::clone(capability),
            watermark_ms: self.arrived_watermark_ms,
            time_ms,
        };
        let key = KeyRef {
            group,
            bytes: &self.key_bytes,
        };
        match self
            .controller
            .admit(key, Work::Begin(work), WorkKind::Record)?
        {
            Admit::Run(ticket, work) => self.execute(ticket, work, group),
            Admit::Queued => Ok(()),
            Admit::Full(_) => Err(JobError::failed(format!(
                "operator `{}` took a record for which it had no room",
                self.uid
            ))),
        }
    }

    /// Work that is not a record: it begins now or when its key is free.
    pub(super) fn admit(
        &mut self,
        key: KeyRef<'_>,
        work: Begin<P::In>,
        kind: WorkKind,
    ) -> Result<(), JobError> {
        match self.controller.admit(key, Work::Begin(work), kind)? {
            Admit::Run(ticket, work) => self.runnable.push_back((ticket, work)),
            Admit::Queued | Admit::Full(_) => {}
        }
        Ok(())
    }

    /// Polls a slot that was woken, and runs what can run then.
    pub(super) fn resume(&mut self, slot: usize) -> Result<(), JobError> {
        let next = self.poll(slot)?;
        self.run_on(next)
    }

    /// Runs what may begin.
    pub(super) fn run_on(&mut self, next: Option<Started<P::In>>) -> Result<(), JobError> {
        // A loop and not a recursion: thousands of records of one key may follow each other without waiting.
        let mut next = next;
        while let Some((ticket, work)) = next.take().or_else(|| self.runnable.pop_front()) {
            let group = self.controller.key(&ticket).map_or(0, |key| key.group);
            next = self.run_one(ticket, work, group)?;
        }
        Ok(())
    }

    fn execute(&mut self, ticket: Ticket, work: Work<P::In>, group: u16) -> Result<(), JobError> {
        let next = self.run_one(ticket, work, group)?;
        if next.is_none() && self.runnable.is_empty() {
            return Ok(());
        }
        self.run_on(next)
    }

    /// Begins or resumes one piece of work; returns the next of its key if it is done.
    fn run_one(
        &mut self,
        ticket: Ticket,
        work: Work<P::In>,
        group: u16,
    ) -> Result<Option<Started<P::In>>, JobError> {
        let begin = match work {
            Work::Resume(slot, number) => {
                let waits = self.slots.tag_mut(slot).filter(|tag| tag.number == number);
                let Some(tag) = waits else {
                    // It has ended without its key.
                    return Ok(self.controller.finished(ticket));
                };
                tag.ticket = Some(ticket);
                return self.poll(slot);
            }
            Work::Begin(begin) => begin,
        };
        let mut time_ms = begin.time_ms;
        let (future, kind) = match begin.what {
            What::Record(record) => (Either::Left((self.on_record)(record)), Kind::Record),
            What::EventTimer => {
                let Some(timestamp_ms) = self.first_due(&ticket, TimeDomain::Event) else {
                    return Ok(self.controller.finished(ticket));
                };
                time_ms = Some(timestamp_ms);
                let function = Rc::clone(&self.function);
                let future = function.on_timer(timestamp_ms, self.context.clone());
                (
                    Either::Right(Box::pin(future) as UserFuture),
                    Kind::EventTimer,
                )
            }
            What::ProcessingTimer => {
                let Some(timestamp_ms) = self.first_due(&ticket, TimeDomain::Processing) else {
                    return Ok(self.controller.finished(ticket));
                };
                let function = Rc::clone(&self.function);
                let future = function.on_processing_time_timer(timestamp_ms, self.context.clone());
                (
                    Either::Right(Box::pin(future) as UserFuture),
                    Kind::ProcessingTimer,
                )
            }
            What::Derived(future) => (Either::Right(future), Kind::Derived),
        };
        self.begun += 1;
        let tag = Tag {
            number: self.begun,
            lineage: ticket.lineage(),
            key: match ticket.holds_key() {
                true => None,
                // Only a record just admitted begins without its key.
                false => Some(self.key_bytes.as_slice().into()),
            },
            ticket: Some(ticket),
            capability: begin.capability,
            kind,
            group,
            watermark_ms: begin.watermark_ms,
            time_ms,
        };
        self.states.record_begins();
        let slot = self.slots.insert(future, tag);
        self.poll(slot)
    }

    fn due(&self, domain: TimeDomain) -> RefMut<'_, DueTimers> {
        match domain {
            TimeDomain::Event => self.context.core.event_due.borrow_mut(),
            TimeDomain::Processing => self.context.core.processing_due.borrow_mut(),
        }
    }

    /// The turn of a key begins: its earliest timer, unless all were taken back. Then the turn has ended.
    fn first_due(&self, ticket: &Ticket, domain: TimeDomain) -> Option<i64> {
        let key = self.controller.key(ticket)?;
        let mut due = self.due(domain);
        let first = due.first(key.bytes);
        if first.is_none() {
            due.ended(key.bytes);
        }
        first
    }

    /// A timer of a key has fired: the next of its due timers comes.
    fn turn_ended(&mut self, tag: &Tag, domain: TimeDomain) -> Result<(), JobError> {
        let Some(key) = tag.ticket.as_ref().and_then(|t| self.controller.key(t)) else {
            return Ok(());
        };
        if !self.due(domain).ended(key.bytes) {
            return Ok(());
        }
        let turn = Turn {
            group: key.group,
            key: Bytes::copy_from_slice(key.bytes),
            domain,
            capability: Rc::clone(&tag.capability),
            watermark_ms: tag.watermark_ms,
        };
        self.admit_turn(turn)
    }

    /// Polls a slot; when it is done, returns the next work of its key.
    fn poll(&mut self, slot: usize) -> Result<Option<Started<P::In>>, JobError> {
        let Some(tag) = self.slots.tag(slot) else {
            return Ok(None);
        };
        let core = &self.context.core;
        match tag.ticket.as_ref().and_then(|t| self.controller.key(t)) {
            Some(key) => core.current.set(key.group, key.bytes),
            None => core.current.clear(),
        }
        core.watermark_ms.set(tag.watermark_ms);
        if self.by_event_time {
            self.states.set_record_time(tag.time_ms);
        }
        let naming = NamePanics {
            attempt: &self.shared.attempt,
            uid: &self.uid,
            kind: tag.kind,
            group: tag.group,
        };
        let done = self.slots.poll(slot);
        drop(naming);
        core.current.clear();
        if !core.emitted.borrow().is_empty() {
            let tag = done.as_ref().map(|(_, tag)| tag);
            if let Some(tag) = tag.or_else(|| self.slots.tag(slot)) {
                let capability = Rc::clone(&tag.capability);
                self.hand_on(capability);
            }
        }
        let Some((result, mut tag)) = done else {
            return self.pending(slot);
        };
        if let Err(error) = result {
            return Err(self.named(&tag, error));
        }
        if self.context.core.asked.replace(false) {
            self.context.core.wants_key.set(false);
            self.derive(&tag)?;
        }
        match tag.kind {
            Kind::EventTimer => self.turn_ended(&tag, TimeDomain::Event)?,
            Kind::ProcessingTimer => self.turn_ended(&tag, TimeDomain::Processing)?,
            Kind::Record | Kind::Derived => {}
        }
        match tag.ticket.take() {
            Some(ticket) => Ok(self.controller.finished(ticket)),
            // It ended while it waited for its key, which it then gets in vain.
            None => Ok(None),
        }
    }

    /// A slot waits: for a read, for something of the user's, or for its key.
    fn pending(&mut self, slot: usize) -> Result<Option<Started<P::In>>, JobError> {
        self.issue(false);
        if !self.context.core.asked.replace(false) {
            return Ok(None);
        }
        if let Some(mut tag) = self.slots.take_tag(slot) {
            let derived = self.derive(&tag);
            let ticket = match self.context.core.wants_key.replace(false) {
                true => tag.ticket.take_if(|ticket| !ticket.holds_key()),
                false => None,
            };
            let wanted = ticket.zip(tag.key.take()).map(|(ticket, key)| {
                let key = KeyRef {
                    group: tag.group,
                    bytes: &key,
                };
                let work = Work::Resume(slot, tag.number);
                self.controller.sync_point(ticket, key, work)
            });
            self.slots.put_tag(slot, tag);
            derived?;
            if let Some(Admit::Run(ticket, work)) = wanted {
                return Ok(Some((ticket, work)));
            }
        }
        Ok(None)
    }

    /// Admits what a piece of work has started.
    fn derive(&mut self, parent: &Tag) -> Result<(), JobError> {
        let started = std::mem::take(&mut *self.context.core.derived.borrow_mut());
        for derived in started {
            let work = Begin {
                what: What::Derived(derived.future),
                capability: Rc::clone(&parent.capability),
                watermark_ms: parent.watermark_ms,
                time_ms: parent.time_ms,
            };
            let key = KeyRef {
                group: derived.group,
                bytes: &derived.key,
            };
            self.admit(key, work, WorkKind::Derived(parent.lineage))?;
        }
        Ok(())
    }

    /// Rows of one time go out together.
    fn hand_on(&mut self, capability: Held) {
        let mut rows = self.context.core.emitted.borrow_mut();
        if let Some((last, Emitted::Batch(batch))) = self.outgoing.last_mut()
            && last.time() == capability.time()
        {
            batch.append(&mut rows);
        } else {
            let batch = std::mem::take(&mut *rows);
            self.outgoing.push((capability, Emitted::Batch(batch)));
        }
    }

    /// Says whose error it is.
    fn named(&self, tag: &Tag, error: JobError) -> JobError {
        JobError {
            kind: error.kind,
            message: format!(
                "operator `{}` failed on {} of key group {}: {}",
                self.uid,
                tag.kind.words(),
                tag.group,
                error.message
            ),
        }
    }
}

/// Says whose panic it is, before the worker's thread tells of it.
struct NamePanics<'a> {
    attempt: &'a Arc<Attempt>,
    uid: &'a str,
    kind: Kind,
    group: u16,
}

impl Drop for NamePanics<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.attempt.fail(JobError::failed(format!(
                "operator `{}` panicked on {} of key group {}; the message is above",
                self.uid,
                self.kind.words(),
                self.group
            )));
        }
    }
}

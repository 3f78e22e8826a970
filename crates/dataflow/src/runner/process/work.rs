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
    Timer(TimeDomain),
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

/// Work whose key is free.
struct Free<'a> {
    key: KeyRef<'a>,
    kind: Kind,
    work: WorkKind,
    capability: &'a Held,
    watermark_ms: i64,
    time_ms: Option<i64>,
}

/// What work inherits from the work that starts it.
struct Parent<'a> {
    lineage: Lineage,
    capability: &'a Held,
    watermark_ms: i64,
    time_ms: Option<i64>,
}

impl Tag {
    fn parent(&self) -> Parent<'_> {
        Parent {
            lineage: self.lineage,
            capability: &self.capability,
            watermark_ms: self.watermark_ms,
            time_ms: self.time_ms,
        }
    }
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
        let key = KeyRef {
            group,
            bytes: &self.key_bytes,
        };
        if self.controller.may_begin(key, WorkKind::Record) {
            return self.begin_record(record, capability, group, time_ms);
        }
        let work = Begin {
            what: What::Record(record),
            capability: Rc::clone(capability),
            watermark_ms: self.arrived_watermark_ms,
            time_ms,
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

    /// A record whose key is free begins.
    fn begin_record(
        &mut self,
        record: P::In,
        capability: &Held,
        group: u16,
        time_ms: Option<i64>,
    ) -> Result<(), JobError> {
        let future = Either::Left((self.on_record)(record));
        let key_bytes = std::mem::take(&mut self.key_bytes);
        let free = Free {
            key: KeyRef {
                group,
                bytes: &key_bytes,
            },
            kind: Kind::Record,
            work: WorkKind::Record,
            capability,
            watermark_ms: self.arrived_watermark_ms,
            time_ms,
        };
        let begun = self.begin(future, free);
        self.key_bytes = key_bytes;
        begun.map(|_| ())
    }

    /// A key has due timers: they fire one by one, until one waits or the key is not free.
    pub(super) fn begin_turn(&mut self, turn: Turn) -> Result<(), JobError> {
        let key = KeyRef {
            group: turn.group,
            bytes: &turn.key,
        };
        let (kind, work) = match turn.domain {
            TimeDomain::Event => (Kind::EventTimer, WorkKind::EventTimer),
            TimeDomain::Processing => (Kind::ProcessingTimer, WorkKind::ProcessingTimer),
        };
        while self.controller.may_begin(key, work) {
            let Some(timestamp_ms) = self.first_due(key, turn.domain) else {
                return Ok(());
            };
            let free = Free {
                key,
                kind,
                work,
                capability: &turn.capability,
                watermark_ms: turn.watermark_ms,
                time_ms: (turn.domain == TimeDomain::Event).then_some(timestamp_ms),
            };
            let future = Either::Right(self.on_timer(timestamp_ms, turn.domain));
            let ended = self.begin(future, free)?;
            if !ended || !self.due(turn.domain).ended(key.bytes) {
                return Ok(());
            }
        }
        self.admit_turn(turn)?;
        self.run_on(None)
    }

    fn on_timer(&self, timestamp_ms: i64, domain: TimeDomain) -> UserFuture {
        let (function, context) = (Rc::clone(&self.function), self.context.clone());
        match domain {
            TimeDomain::Event => Box::pin(function.on_timer(timestamp_ms, context)),
            TimeDomain::Processing => {
                Box::pin(function.on_processing_time_timer(timestamp_ms, context))
            }
        }
    }

    /// Begins work whose key is free; true if it has ended. Most work ends at once, because memory has the state it asks for: that never
    /// enters the books.
    fn begin(&mut self, future: Either<F, UserFuture>, free: Free<'_>) -> Result<bool, JobError> {
        let (group, watermark_ms, time_ms) = (free.key.group, free.watermark_ms, free.time_ms);
        self.states.record_begins();
        let core = &self.context.core;
        core.current.set(group, free.key.bytes);
        core.watermark_ms.set(watermark_ms);
        if self.by_event_time {
            self.states.set_record_time(time_ms);
        }
        let naming = NamePanics {
            attempt: &self.shared.attempt,
            uid: &self.uid,
            kind: free.kind,
            group,
        };
        let begun = self.slots.begin(future);
        drop(naming);
        core.current.clear();
        if !core.emitted.borrow().is_empty() {
            self.hand_on(Rc::clone(free.capability));
        }
        let slot = match begun {
            Ok(result) => {
                result.map_err(|error| self.named(free.kind, group, error))?;
                if self.context.core.asked.replace(false) {
                    self.context.core.wants_key.set(false);
                    self.derive(Parent {
                        lineage: self.controller.lineage(free.work),
                        capability: free.capability,
                        watermark_ms,
                        time_ms,
                    })?;
                    self.run_on(None)?;
                }
                return Ok(true);
            }
            Err(slot) => slot,
        };
        self.begun += 1;
        let work = Work::Resume(slot, self.begun);
        let Admit::Run(ticket, _) = self.controller.admit(free.key, work, free.work)? else {
            return Err(JobError::failed(format!(
                "operator `{}` began work whose key was not free",
                self.uid
            )));
        };
        let tag = Tag {
            number: self.begun,
            lineage: ticket.lineage(),
            key: None,
            ticket: Some(ticket),
            capability: Rc::clone(free.capability),
            kind: free.kind,
            group,
            watermark_ms,
            time_ms,
        };
        self.slots.put_tag(slot, tag);
        let next = self.pending(slot)?;
        self.run_on(next)?;
        Ok(false)
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
            What::Timer(domain) => {
                let key = self.controller.key(&ticket);
                let Some(timestamp_ms) = key.and_then(|key| self.first_due(key, domain)) else {
                    return Ok(self.controller.finished(ticket));
                };
                let kind = match domain {
                    TimeDomain::Event => {
                        time_ms = Some(timestamp_ms);
                        Kind::EventTimer
                    }
                    TimeDomain::Processing => Kind::ProcessingTimer,
                };
                (Either::Right(self.on_timer(timestamp_ms, domain)), kind)
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
    fn first_due(&self, key: KeyRef<'_>, domain: TimeDomain) -> Option<i64> {
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
            return Err(self.named(tag.kind, tag.group, error));
        }
        if self.context.core.asked.replace(false) {
            self.context.core.wants_key.set(false);
            self.derive(tag.parent())?;
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
            let derived = self.derive(tag.parent());
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
    fn derive(&mut self, parent: Parent<'_>) -> Result<(), JobError> {
        let started = std::mem::take(&mut *self.context.core.derived.borrow_mut());
        for derived in started {
            let work = Begin {
                what: What::Derived(derived.future),
                capability: Rc::clone(parent.capability),
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
    fn named(&self, kind: Kind, group: u16, error: JobError) -> JobError {
        JobError {
            kind: error.kind,
            message: format!(
                "operator `{}` failed on {} of key group {group}: {}",
                self.uid,
                kind.words(),
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

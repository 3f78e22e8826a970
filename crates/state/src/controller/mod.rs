//! In what order the work of an operator over keyed state runs, and how much of it at once: a pure state machine.
//!
//! Work is a record, a timer, or something that either of them has started for another key. The controller says what may run, what waits and
//! what comes next; whoever drives it runs futures, reads clocks and sends requests. What always holds:
//!
//! * One piece of work at a time holds a key. What waits for a key runs in the order of arrival; derived work comes before records that wait.
//! * At most `in_flight_max` pieces of work are under way before the next record is admitted. Timers and derived work may go beyond
//!   that, because what is under way may wait for them, up to [`OVERDRAFT_MAX`]. So full buffers cannot lock up.
//! * A watermark (an epoch's action) waits for all work before it. In [`EpochMode::Serial`] the work behind it waits for the watermark, too.
//! * After a failure nothing is admitted any more, and the error names the first one.
//! * A record that need not wait for anything costs nothing here: see [`Controller::may_begin`].

mod buffer;
mod epochs;
mod keys;

pub use self::buffer::ReadBuffer;
pub use self::epochs::EpochQueue;
pub use self::keys::{HeldKey, KeyAccounting, KeyRef, Occupied};
use crate::StateError;

/// Pieces of work that may be under way beyond the bound.
pub const OVERDRAFT_MAX: usize = 1 << 20;

/// When the code of a record begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ElementOrder {
    /// When its key is free: records of a key run one after the other from their first line on.
    #[default]
    Record,
    /// At once. It may not touch state before it has passed a sync point, which waits for the key.
    FirstRequest,
}

/// Whether records may run ahead of a watermark.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EpochMode {
    /// No: the watermark and its timers come first.
    #[default]
    Serial,
    /// Yes; the watermark still waits for everything before it.
    Parallel,
}

/// Bounds and order of one operator.
#[derive(Clone, Copy, Debug)]
pub struct ControllerOptions {
    /// Work under way at most before records have to wait (`execution.async-state.total-buffer-size`).
    pub in_flight_max: usize,
    /// Reads that are gathered at most (`execution.async-state.active-buffer-size`).
    pub batch_max: usize,
    /// How long they are gathered at most (`execution.async-state.active-buffer-timeout`).
    pub batch_timeout_ms: u64,
    /// When the code of a record begins.
    pub order: ElementOrder,
    /// Whether records may run ahead of a watermark.
    pub epochs: EpochMode,
}

impl Default for ControllerOptions {
    fn default() -> Self {
        Self {
            in_flight_max: 6000,
            batch_max: 1000,
            batch_timeout_ms: 1000,
            order: ElementOrder::default(),
            epochs: EpochMode::default(),
        }
    }
}

/// Where a piece of work comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkKind {
    /// The input. The only kind that is ever told to wait.
    Record,
    /// The clock.
    ProcessingTimer,
    /// The watermark whose turn it is.
    EventTimer,
    /// Other work, which said so by its lineage.
    Derived(Lineage),
}

/// What derived work inherits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lineage {
    epoch: u64,
    priority: u8,
}

/// The right of one piece of work to run. It must come back through [`Controller::finished`].
#[derive(Debug)]
pub struct Ticket {
    key: Option<HeldKey>,
    epoch: u64,
    priority: u8,
}

impl Ticket {
    /// For work that this work starts.
    pub fn lineage(&self) -> Lineage {
        Lineage {
            epoch: self.epoch,
            priority: self.priority,
        }
    }

    /// Whether it holds its key: state may be touched.
    #[inline]
    pub fn holds_key(&self) -> bool {
        self.key.is_some()
    }
}

/// What became of a piece of work.
#[derive(Debug)]
pub enum Admit<W> {
    /// It is to run now.
    Run(Ticket, W),
    /// It waits for its key, and comes from [`Controller::finished`].
    Queued,
    /// There is too much under way, or a watermark comes first: try again when something has finished.
    Full(W),
}

/// How full an operator is: Flink's metrics of `asyncStateProcessing`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gauges {
    /// Work that was admitted and has not finished.
    pub in_flight: usize,
    /// Reads that are gathered and not sent.
    pub active_buffer: usize,
    /// Work that waits for a key.
    pub blocking_buffer: usize,
    /// Keys for which something waits.
    pub blocked_keys: usize,
}

/// The order of one operator's work. `W` is a piece of work, `A` what closes an epoch.
#[derive(Debug)]
pub struct Controller<W, A> {
    options: ControllerOptions,
    keys: KeyAccounting<(Ticket, W)>,
    epochs: EpochQueue<A>,
    buffer: ReadBuffer,
    in_flight: usize,
    failure: Option<String>,
}

impl<W, A> Controller<W, A> {
    /// Nothing under way.
    pub fn new(options: ControllerOptions) -> Self {
        Self {
            keys: KeyAccounting::default(),
            epochs: EpochQueue::default(),
            buffer: ReadBuffer::new(options.batch_max, options.batch_timeout_ms),
            in_flight: 0,
            failure: None,
            options,
        }
    }

    /// Whether a record would be admitted.
    #[inline]
    pub fn accepts_records(&self) -> bool {
        self.in_flight < self.options.in_flight_max.max(1)
            && (self.options.epochs == EpochMode::Parallel || self.epochs.closed() == 0)
    }

    /// Whether work for this key may begin now, before it is admitted: it has its key to itself as long as nothing else runs. If it ends at
    /// once it need not be admitted at all, and what it has started has its [`Self::lineage`]; otherwise it must be, next.
    #[inline]
    pub fn may_begin(&self, key: KeyRef<'_>, kind: WorkKind) -> bool {
        let is_record = kind == WorkKind::Record;
        let may_come =
            !is_record || self.options.order == ElementOrder::Record && self.accepts_records();
        may_come && self.failure.is_none() && !self.keys.is_held(key)
    }

    /// The lineage of work that would be admitted now.
    pub fn lineage(&self, kind: WorkKind) -> Lineage {
        let epoch = match kind {
            WorkKind::Record | WorkKind::ProcessingTimer => self.epochs.open(),
            WorkKind::EventTimer => self.epochs.transition(),
            WorkKind::Derived(lineage) => return lineage,
        };
        Lineage { epoch, priority: 0 }
    }

    /// Work for a key has come.
    pub fn admit(
        &mut self,
        key: KeyRef<'_>,
        work: W,
        kind: WorkKind,
    ) -> Result<Admit<W>, StateError> {
        if let Some(failure) = &self.failure {
            return Err(StateError::User(format!(
                "no more work is done, because an earlier record failed: {failure}"
            )));
        }
        let overdrawn = self
            .in_flight
            .saturating_sub(self.options.in_flight_max.max(1));
        if kind == WorkKind::Record {
            if !self.accepts_records() {
                return Ok(Admit::Full(work));
            }
        } else if overdrawn >= OVERDRAFT_MAX {
            return Err(StateError::Limit(format!(
                "timers and derived work exceed execution.async-state.total-buffer-size ({}) by {OVERDRAFT_MAX}: start less at once",
                self.options.in_flight_max
            )));
        }
        let (epoch, priority) = match kind {
            WorkKind::Record | WorkKind::ProcessingTimer => (self.epochs.enter(), 0),
            WorkKind::EventTimer => (self.epochs.enter_transition(), 0),
            WorkKind::Derived(lineage) => {
                self.epochs.enter_at(lineage.epoch);
                (lineage.epoch, lineage.priority.saturating_add(1))
            }
        };
        self.in_flight += 1;
        let ticket = Ticket {
            key: None,
            epoch,
            priority,
        };
        if kind == WorkKind::Record && self.options.order == ElementOrder::FirstRequest {
            return Ok(Admit::Run(ticket, work));
        }
        Ok(self.take_key(ticket, key, work))
    }

    /// Work that runs without its key asks for it: after all earlier work of the key that has, before later. `work` is what goes on then.
    pub fn sync_point(&mut self, ticket: Ticket, key: KeyRef<'_>, work: W) -> Admit<W> {
        if ticket.holds_key() {
            return Admit::Run(ticket, work);
        }
        self.take_key(ticket, key, work)
    }

    fn take_key(&mut self, ticket: Ticket, key: KeyRef<'_>, work: W) -> Admit<W> {
        let priority = ticket.priority;
        match self.keys.occupy(key, priority, (ticket, work)) {
            Occupied::Run(held, (mut ticket, work)) => {
                ticket.key = Some(held);
                Admit::Run(ticket, work)
            }
            Occupied::Queued => Admit::Queued,
        }
    }

    /// A piece of work is done. Returns the next of its key, which is to run now.
    pub fn finished(&mut self, ticket: Ticket) -> Option<(Ticket, W)> {
        if self.failure.is_some() {
            return None;
        }
        self.in_flight -= 1;
        self.epochs.leave(ticket.epoch);
        let (held, (mut next, work)) = self.keys.release(ticket.key?)?;
        next.key = Some(held);
        Some((next, work))
    }

    /// The key that a piece of work holds.
    #[inline]
    pub fn key(&self, ticket: &Ticket) -> Option<KeyRef<'_>> {
        ticket.key.as_ref().map(|held| self.keys.key(held))
    }

    /// A watermark has come: everything before it belongs to its epoch.
    pub fn close_epoch(&mut self, action: A) {
        self.epochs.close(action);
    }

    /// The action whose turn it is, if all work before it is done. The next one comes after [`Self::epoch_done`].
    pub fn epoch_action(&mut self) -> Option<A> {
        self.epochs.next_action()
    }

    /// Whether what the running action has started is done.
    pub fn epoch_is_quiet(&self) -> bool {
        self.epochs.transition_is_quiet()
    }

    /// The action is done.
    pub fn epoch_done(&mut self) {
        self.epochs.transition_done();
    }

    /// Epochs whose actions are not done.
    pub fn closed_epochs(&self) -> usize {
        self.epochs.closed()
    }

    /// Whether nothing is under way and no action waits: a barrier may pass.
    pub fn is_drained(&self) -> bool {
        self.in_flight == 0 && self.epochs.closed() == 0
    }

    /// Work that was admitted and has not finished.
    #[inline]
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Whether the gathered reads are to be sent now: see [`ReadBuffer::should_issue`].
    pub fn should_issue(&mut self, gathered: usize, idle: bool, now_ms: i64) -> bool {
        self.buffer.should_issue(gathered, idle, now_ms)
    }

    /// How full it is, with so many reads gathered.
    pub fn gauges(&self, gathered: usize) -> Gauges {
        Gauges {
            in_flight: self.in_flight,
            active_buffer: gathered,
            blocking_buffer: self.keys.waiting(),
            blocked_keys: self.keys.blocked_keys(),
        }
    }

    /// Something has failed: nothing is admitted any more. What was under way is dropped by its driver and holds nothing here.
    pub fn fail(&mut self, why: &str) {
        self.failure.get_or_insert_with(|| why.to_owned());
        self.keys.clear();
        self.epochs = EpochQueue::default();
        self.buffer.issued();
        self.in_flight = 0;
    }
}

#[cfg(test)]
mod tests;

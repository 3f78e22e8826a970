//! Timers of an operator: which are due, when to look, and what a checkpoint keeps so that a restored operator need not look.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use aquifer_state::ListStateDescriptor;
use aquifer_state::controller::{KeyRef, WorkKind};
use aquifer_state::operator::{OperatorList, OperatorStateStore};
use aquifer_state::timers::{TimeDomain, Timer, TimerService};
use bytes::Bytes;
use tokio::task::AbortHandle;

use super::work::{Begin, What};
use super::{Held, Run};
use crate::JobError;
use crate::operator::{Emitted, WATERMARK_MAX};
use crate::process::KeyedProcess;
use crate::runner::epochs::{Epochs, Item};

/// Looks for timers in processing time in one schedule: a timer may register another that is due at once, for ever.
const LOOKS_MAX: u32 = 16;
/// Keys whose timers in processing time may be under way before more are looked for: after a long pause millions may be due at once. Far more
/// than wait for each other.
const KEYS_FIRING_MAX: usize = 4 << 10;
/// The longest sleep until a timer; then the clock is asked again.
const SLEEP_MS_MAX: i64 = 60_000;

/// A look for due timers; `None` when there are no more.
type TimerSearch = Pin<Box<dyn Future<Output = Result<Option<Vec<Timer>>, JobError>>>>;

fn search(timers: &TimerService, up_to_ms: i64) -> TimerSearch {
    let timers = timers.clone();
    Box::pin(async move { Ok(timers.next_due(up_to_ms).await?) })
}

/// The name of the timer services of functions.
pub(super) const SERVICE: &str = "user-timers";

/// The place of a timer service's bounds in checkpoints: each worker keeps its own, and is shown all of them when they are restored.
pub(super) struct KeptBounds {
    timers: TimerService,
    list: OperatorList<Vec<u8>>,
}

impl KeptBounds {
    /// Takes over what was restored.
    pub fn open(
        timers: &TimerService,
        domain: TimeDomain,
        states: &OperatorStateStore,
    ) -> Result<Self, JobError> {
        let list = ListStateDescriptor::<Vec<u8>>::new(domain.bounds_name(SERVICE));
        let list = states.union_list_state(&list)?;
        match states.is_restored() {
            true => list.with(|kept| timers.restore_bounds(kept.iter().map(Vec::as_slice)))?,
            false => timers.begins_empty(),
        }
        Ok(Self {
            timers: timers.clone(),
            list,
        })
    }

    /// At a barrier.
    pub fn keep(&self) {
        self.list.update([self.timers.encode_bounds()]);
    }
}

/// A watermark whose timers are being fired.
pub(super) struct Firing {
    capability: Held,
    watermark_ms: i64,
    search: TimerSearch,
}

/// A look for timers in processing time.
pub(super) struct Look {
    capability: Held,
    search: TimerSearch,
}

/// A key with timers that are due, whose turn has not begun.
pub(super) struct Turn {
    pub group: u16,
    pub key: Bytes,
    pub domain: TimeDomain,
    pub capability: Held,
    pub watermark_ms: i64,
}

impl<P, M, F> Run<P, M, F>
where
    P: KeyedProcess,
    M: Fn(P::In) -> F,
    F: Future<Output = Result<(), JobError>>,
{
    /// Begins the turns of keys with due timers. They may go beyond the bound: what is under way may wait for them.
    pub(super) fn begin_due(&mut self) -> Result<bool, JobError> {
        if self.due.is_empty() {
            return Ok(false);
        }
        while let Some(turn) = self.due.pop_front() {
            self.begin_turn(turn)?;
        }
        Ok(true)
    }

    /// A key has due timers: the earliest fires when the key is free.
    pub(super) fn admit_turn(&mut self, turn: Turn) -> Result<(), JobError> {
        let kind = match turn.domain {
            TimeDomain::Event => WorkKind::EventTimer,
            TimeDomain::Processing => WorkKind::ProcessingTimer,
        };
        let work = Begin {
            what: What::Timer(turn.domain),
            capability: turn.capability,
            watermark_ms: turn.watermark_ms,
            time_ms: None,
        };
        let key = KeyRef {
            group: turn.group,
            bytes: &turn.key,
        };
        self.admit(key, work, kind)
    }

    /// Timers were taken from state.
    fn found(
        &mut self,
        timers: Vec<Timer>,
        domain: TimeDomain,
        capability: &Held,
        watermark_ms: i64,
    ) {
        let core = &self.context.core;
        let mut due = match domain {
            TimeDomain::Event => core.event_due.borrow_mut(),
            TimeDomain::Processing => core.processing_due.borrow_mut(),
        };
        for timer in timers {
            if due.add(&timer.key, timer.timestamp) {
                self.due.push_back(Turn {
                    group: timer.group,
                    key: timer.key,
                    domain,
                    capability: Rc::clone(capability),
                    watermark_ms,
                });
            }
        }
    }

    /// Fires the timers of the watermark whose turn it is, and looks again when they are done: a timer may have registered another that is
    /// due. Then the watermark goes on.
    pub(super) fn fire(&mut self) -> Result<bool, JobError> {
        let mut firing = match self.firing.take() {
            Some(firing) => firing,
            None => {
                let Some((capability, watermark_ms)) = self.controller.epoch_action() else {
                    return Ok(false);
                };
                Firing {
                    search: search(&self.context.core.event_timers, watermark_ms),
                    capability,
                    watermark_ms,
                }
            }
        };
        if !self.controller.epoch_is_quiet() {
            self.firing = Some(firing);
            return Ok(false);
        }
        let polled = firing
            .search
            .as_mut()
            .poll(&mut Context::from_waker(&self.waker));
        match polled {
            Poll::Pending => {
                self.firing = Some(firing);
                Ok(false)
            }
            Poll::Ready(found) => {
                match found? {
                    Some(timers) => {
                        let watermark_ms = firing.watermark_ms;
                        self.found(timers, TimeDomain::Event, &firing.capability, watermark_ms);
                        firing.search =
                            search(&self.context.core.event_timers, firing.watermark_ms);
                        self.firing = Some(firing);
                    }
                    None => self.watermark_passes(firing.capability, firing.watermark_ms)?,
                }
                Ok(true)
            }
        }
    }

    fn watermark_passes(&mut self, capability: Held, watermark_ms: i64) -> Result<(), JobError> {
        // Only now, so that timers find the state that was live when they were due. The end of the input is not the end of time: it must not
        // take from state what another job may go on with.
        if watermark_ms != WATERMARK_MAX {
            self.states.advance_event_time(watermark_ms)?;
        }
        self.outgoing
            .push((capability, Emitted::Watermark(watermark_ms)));
        self.controller.epoch_done();
        Ok(())
    }

    /// Looks for timers in processing time if one may be due. Not while a barrier or a watermark waits: they would wait for ever if timers
    /// kept coming, and a timer that runs now belongs to the checkpoint of the rows that it emits. Not behind the barrier with which the job
    /// stops, either: what it emitted would not be in the savepoint and come again. Nor while very many are under way.
    pub(super) fn look_at_clock(
        &mut self,
        epochs: Option<&Epochs<Vec<P::In>>>,
    ) -> Result<bool, JobError> {
        let mut look = match self.looking.take() {
            Some(look) => look,
            None => {
                let due_ms = self.context.core.processing_due_ms.get();
                if due_ms == i64::MAX || self.looks >= LOOKS_MAX || due_ms > self.clock_ms() {
                    return Ok(false);
                }
                let Some(epochs) = epochs else {
                    return Ok(false);
                };
                let capability = epochs.capability();
                let waits = self.must_pass_first()
                    || self.shared.control.stopping(epochs.current())
                    || self.context.core.processing_due.borrow().len() >= KEYS_FIRING_MAX;
                let (Some(capability), false) = (capability, waits) else {
                    return Ok(false);
                };
                self.looks += 1;
                let now_ms = self.clock_ms();
                Look {
                    capability,
                    search: search(&self.context.core.processing_timers, now_ms),
                }
            }
        };
        let polled = look
            .search
            .as_mut()
            .poll(&mut Context::from_waker(&self.waker));
        let Poll::Ready(found) = polled else {
            self.looking = Some(look);
            return Ok(false);
        };
        let found = found?.unwrap_or_default();
        let watermark_ms = self.arrived_watermark_ms;
        self.found(
            found,
            TimeDomain::Processing,
            &look.capability,
            watermark_ms,
        );
        let core = &self.context.core;
        let bound_ms = core.processing_timers.first_bound();
        core.processing_due_ms.set(bound_ms.unwrap_or(i64::MAX));
        Ok(true)
    }

    fn must_pass_first(&self) -> bool {
        self.controller.closed_epochs() > 0
            || self
                .queue
                .iter()
                .any(|(_, item)| matches!(item, Item::Barrier(_)))
    }

    /// The clock, asked once in a schedule.
    fn clock_ms(&mut self) -> i64 {
        let state = &self.shared.state;
        *self.now_ms.get_or_insert_with(|| state.clock_ms())
    }

    /// Has the operator woken when the next timer in processing time is due. True if it is to be called again at once.
    pub(super) fn set_alarm(&mut self) -> bool {
        let due_ms = self.context.core.processing_due_ms.get();
        if due_ms == i64::MAX || self.looking.is_some() {
            return false;
        }
        let now_ms = self.clock_ms();
        if due_ms > now_ms {
            self.alarm.set(due_ms, now_ms);
            return false;
        }
        // Either something passes first, whose end calls the operator, or many looks were made.
        self.looks >= LOOKS_MAX
    }
}

/// Wakes an operator at a time. There is one alarm at a time, and it is known whether it has rung, whatever the clock does meanwhile.
pub(super) struct Alarm {
    runtime: tokio::runtime::Handle,
    waker: Waker,
    /// For when, the task that sleeps, and whether it has rung.
    set: Option<(i64, AbortHandle, Arc<AtomicBool>)>,
}

impl Alarm {
    pub fn new(runtime: tokio::runtime::Handle, waker: Waker) -> Self {
        Self {
            runtime,
            waker,
            set: None,
        }
    }

    /// To ring at `due_ms` or earlier.
    fn set(&mut self, due_ms: i64, now_ms: i64) {
        if let Some((set_ms, task, rung)) = &self.set {
            if *set_ms <= due_ms && !rung.load(Ordering::Acquire) {
                return;
            }
            task.abort();
        }
        let sleep_ms = due_ms.saturating_sub(now_ms).clamp(1, SLEEP_MS_MAX);
        let sleep = Duration::from_millis(u64::try_from(sleep_ms).unwrap_or(1));
        let rung = Arc::new(AtomicBool::new(false));
        let (rings, waker) = (Arc::clone(&rung), self.waker.clone());
        let task = self.runtime.spawn(async move {
            tokio::time::sleep(sleep).await;
            rings.store(true, Ordering::Release);
            waker.wake();
        });
        self.set = Some((due_ms, task.abort_handle(), rung));
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        if let Some((_, task, _)) = &self.set {
            task.abort();
        }
    }
}

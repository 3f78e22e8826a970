//! Runs a [`KeyedProcess`]. In what order work runs is decided by [`Controller`]; this is what does as it says: it polls futures, looks for
//! timers, holds capabilities, sends gathered reads and freezes state at barriers.
//!
//! What always holds:
//! * Records of different keys overlap, records of one key keep their order. At most `in_flight_max` are under way; the rest stay in the
//!   queue, which flow control bounds.
//! * A watermark is handed on once, after the records before it and the timers it has fired, those that timers register included.
//! * A barrier waits for everything: nothing is in flight in a snapshot.
//! * A timer in processing time runs between two barriers, and what it emits belongs to the checkpoint that knows it has fired.
//! * Cold reads are sent when enough are gathered, when there is nothing else to do, or when one has waited too long: the bounds are never delays.

mod timers;
mod work;

use std::collections::VecDeque;
use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Waker;

use aquifer_state::KeyedStateStore;
use aquifer_state::checkpoint::OperatorSnapshot;
use aquifer_state::controller::{Controller, ControllerOptions, Gauges, Ticket};
use aquifer_state::operator::OperatorStateStore;
use aquifer_state::ordered::OrderedKey;
use aquifer_state::timers::TimeDomain;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;

use self::timers::{Alarm, Firing, KeptBounds, Look, SERVICE, Turn};
use self::work::{Tag, Work};
use super::epochs::{Epochs, Item};
use super::keyed::OperatorWaker;
use super::slots::Slots;
use super::{Link, Output, local};
use crate::JobError;
use crate::job::JobCounters;
use crate::operator::Emitted;
use crate::process::{ContextCore, KeyedProcess, ProcessContext, UserFuture};
use crate::time::Time;
use crate::worker::Shared;

/// The right to emit at a time, shared by what arrived together.
type Held = Rc<Capability<Time>>;

/// Watermarks that may wait, before more input is taken.
const EPOCHS_MAX: usize = 64;
/// Records between two looks at the clock while reads are gathered.
const RECORDS_PER_CLOCK: u32 = 256;

/// Adds the operator to the graph.
pub(crate) fn process<'scope, P: KeyedProcess>(
    stream: Link<'scope, Vec<P::In>>,
    shared: &Shared,
    uid: &str,
    mut function: P,
) -> Result<Link<'scope, Vec<P::Out>>, JobError> {
    let operator_state = shared.operator_state(uid)?;
    function.initialize(&operator_state)?;
    let states = KeyedStateStore::new(shared.state.clone(), uid);
    function.open(&states)?;
    let event_timers = states.timer_service(SERVICE)?;
    let processing_timers = states.processing_timers(SERVICE)?;
    let kept_bounds = [
        KeptBounds::open(&event_timers, TimeDomain::Event, &operator_state)?,
        KeptBounds::open(&processing_timers, TimeDomain::Processing, &operator_state)?,
    ];
    let processing_due_ms = processing_timers.first_bound().unwrap_or(i64::MAX);

    let scope = stream.scope();
    let mut builder = OperatorBuilder::new(uid.to_owned(), scope);
    let address = builder.operator_info().address;
    let mut input = builder.new_input(stream, Pipeline);
    let (output, result) = builder.new_output();
    let mut output = Output::<Vec<P::Out>>::from(output);
    shared.barriers.borrow_mut().join();
    let sync_activator = || scope.worker().sync_activator_for(address.to_vec());
    let waker = Waker::from(Arc::new(OperatorWaker(sync_activator())));
    let slots = Slots::new(sync_activator());
    let activator = scope.activator_for(address);
    // Timers in processing time wait when the job is stopped, and go on if it is not after all.
    shared.control.listen(activator.clone());
    let context = ProcessContext {
        core: Rc::new(ContextCore {
            emitted: Default::default(),
            event_timers,
            processing_timers,
            event_due: Default::default(),
            processing_due: Default::default(),
            current: states.current_key().clone(),
            watermark_ms: i64::MIN.into(),
            processing_due_ms: processing_due_ms.into(),
            asked: Default::default(),
            wants_key: Default::default(),
            derived: Default::default(),
            state: shared.state.clone(),
            key_type: <P::Key as OrderedKey>::type_name(),
        }),
    };
    let mode = function.execution_mode();
    let function = Rc::new(function);
    let on_record = {
        let (function, context) = (Rc::clone(&function), context.clone());
        move |record| Rc::clone(&function).process(record, context.clone())
    };
    let mut run = Run {
        uid: uid.to_owned(),
        shared: shared.clone(),
        by_event_time: states.uses_event_time(),
        states,
        operator_state,
        kept_bounds,
        function,
        context,
        on_record,
        controller: Controller::new(ControllerOptions {
            order: mode.order,
            epochs: mode.epochs,
            ..shared.async_state
        }),
        slots,
        woken: Vec::new(),
        runnable: VecDeque::new(),
        queue: VecDeque::new(),
        records: None,
        arrived_watermark_ms: i64::MIN,
        firing: None,
        looking: None,
        due: VecDeque::new(),
        now_ms: None,
        looks: 0,
        alarm: Alarm::new(shared.connector.runtime.clone(), waker.clone()),
        begun: 0,
        key_bytes: Vec::new(),
        outgoing: Vec::new(),
        shown: Shown {
            counters: Arc::clone(&shared.attempt.counters),
            gauges: Gauges::default(),
        },
        waker,
    };
    builder.build(move |mut capabilities| {
        let mut epochs = capabilities
            .pop()
            .map(|initial| Epochs::new(run.shared.first_epoch, initial));
        // Timers of a restored checkpoint may be due before anything arrives.
        activator.activate();
        move |frontiers| {
            if run.shared.attempt.failed() {
                run.abandon("the attempt has ended");
                epochs = None;
                input.for_each(|_, data| data.clear());
                return;
            }
            if let Some(epochs) = epochs.as_mut() {
                input.for_each(|capability, data| {
                    if let Some(capability) = capability.retain_least(0) {
                        epochs.arrive(capability, data);
                    }
                });
                epochs.advance(&frontiers[0], |capability, item| {
                    run.queue.push_back((capability, item))
                });
            }
            let stepped = run.step(epochs.as_ref());
            if let Err(error) = &stepped {
                run.controller.fail(&error.message);
            }
            if run.shared.guard(&run.uid, stepped) == Some(true) {
                activator.activate();
            }
            run.issue(true);
            let mut output = output.activate();
            for (capability, emitted) in run.outgoing.drain(..) {
                output
                    .session(&*capability)
                    .give(local(run.shared.index, emitted));
            }
        }
    });
    Ok(result)
}

struct Run<P: KeyedProcess, M, F> {
    uid: String,
    shared: Shared,
    /// Whether some state has a TTL in event time.
    by_event_time: bool,
    states: KeyedStateStore<P::Key>,
    operator_state: OperatorStateStore,
    kept_bounds: [KeptBounds; 2],
    function: Rc<P>,
    context: ProcessContext<P::Out>,
    on_record: M,
    controller: Controller<Work<P::In>, (Held, i64)>,
    slots: Slots<futures_util::future::Either<F, UserFuture>, Tag>,
    /// Slots that were woken; kept for its buffer.
    woken: Vec<usize>,
    /// Work that may begin.
    runnable: VecDeque<(Ticket, Work<P::In>)>,
    queue: VecDeque<(Held, Item<Vec<P::In>>)>,
    /// The batch in hand.
    records: Option<(Held, std::vec::IntoIter<P::In>)>,
    /// The last watermark that records were behind.
    arrived_watermark_ms: i64,
    /// The watermark whose timers are being looked for.
    firing: Option<Firing>,
    /// The look for timers in processing time.
    looking: Option<Look>,
    /// Keys whose due timers have not begun to fire.
    due: VecDeque<Turn>,
    /// The clock in this schedule, once it was asked.
    now_ms: Option<i64>,
    /// Looks for timers in processing time in this schedule.
    looks: u32,
    /// Wakes the operator for them.
    alarm: Alarm,
    /// Pieces of work that have begun: their numbers.
    begun: u64,
    /// Where keys are encoded.
    key_bytes: Vec<u8>,
    outgoing: Vec<(Held, Emitted<Vec<P::Out>>)>,
    shown: Shown,
    waker: Waker,
}

impl<P, M, F> Run<P, M, F>
where
    P: KeyedProcess,
    M: Fn(P::In) -> F,
    F: Future<Output = Result<(), JobError>>,
{
    /// Goes on until nothing can; true if it is to be called again at once. `epochs` is what gives timers in processing time the right to emit.
    fn step(&mut self, epochs: Option<&Epochs<Vec<P::In>>>) -> Result<bool, JobError> {
        self.now_ms = None;
        self.looks = 0;
        let mut woken = std::mem::take(&mut self.woken);
        self.slots.woken(&mut woken);
        for slot in woken.drain(..) {
            self.resume(slot)?;
        }
        self.woken = woken;
        while self.advance(epochs)? {}
        let again = self.set_alarm();
        let gauges = self.controller.gauges(self.shared.state.gathered());
        self.shown.show(gauges);
        Ok(again)
    }

    /// Takes one step; false if everything waits.
    fn advance(&mut self, epochs: Option<&Epochs<Vec<P::In>>>) -> Result<bool, JobError> {
        Ok(self.begin_due()?
            || self.look_at_clock(epochs)?
            || self.fire()?
            || self.take_records()?
            || self.take_item()?)
    }

    /// Starts records of the batch in hand, as many as may be under way.
    fn take_records(&mut self) -> Result<bool, JobError> {
        let Some((capability, mut records)) = self.records.take() else {
            return Ok(false);
        };
        let mut started = 0u32;
        while self.controller.accepts_records() {
            let Some(record) = records.next() else {
                return Ok(true);
            };
            self.admit_record(record, &capability)?;
            started += 1;
            if started.is_multiple_of(RECORDS_PER_CLOCK) && self.shared.state.gathered() > 0 {
                self.issue(false);
            }
        }
        self.records = Some((capability, records));
        Ok(started > 0)
    }

    /// Takes the next batch, watermark or barrier.
    fn take_item(&mut self) -> Result<bool, JobError> {
        if self.records.is_some() {
            return Ok(false);
        }
        match self.queue.front() {
            None => return Ok(false),
            Some((_, Item::Batch(_))) if !self.controller.accepts_records() => return Ok(false),
            Some((_, Item::Watermark(_))) if self.controller.closed_epochs() >= EPOCHS_MAX => {
                return Ok(false);
            }
            Some((_, Item::Barrier(_))) if !self.is_drained() => return Ok(false),
            Some(_) => {}
        }
        match self.queue.pop_front() {
            None => {}
            Some((capability, Item::Batch(batch))) => {
                self.records = Some((capability, batch.into_iter()))
            }
            // One that does not go on says nothing new, and its timers have fired.
            Some((_, Item::Watermark(old_ms))) if old_ms <= self.arrived_watermark_ms => {}
            Some((capability, Item::Watermark(watermark_ms))) => {
                self.arrived_watermark_ms = watermark_ms;
                self.controller.close_epoch((capability, watermark_ms));
            }
            Some((_, Item::Barrier(epoch))) => self.barrier(epoch)?,
        }
        Ok(true)
    }

    fn is_drained(&self) -> bool {
        self.controller.is_drained()
            && self.looking.is_none()
            && self.due.is_empty()
            && self.runnable.is_empty()
    }

    /// Nothing is under way: what state holds now is what the checkpoint holds.
    fn barrier(&mut self, epoch: u64) -> Result<(), JobError> {
        debug_assert_eq!(self.slots.len(), 0, "a future is under way at a barrier");
        self.function.snapshot(epoch)?;
        for table in self.states.tables() {
            self.shared.state.backend().borrow_mut().freeze(table)?;
        }
        self.kept_bounds.iter().for_each(KeptBounds::keep);
        let frozen = self.operator_state.freeze()?;
        self.shared
            .report(epoch, OperatorSnapshot::of_state(&self.uid, frozen));
        Ok(())
    }

    /// Sends the gathered reads if it is time to.
    fn issue(&mut self, idle: bool) {
        let gathered = self.shared.state.gathered();
        if gathered > 0 {
            let now_ms = self.shared.state.clock_ms();
            if self.controller.should_issue(gathered, idle, now_ms) {
                self.shared.state.issue();
            }
        }
    }

    /// The attempt has failed: nothing goes on, and no capability is kept.
    fn abandon(&mut self, why: &str) {
        self.slots.clear();
        self.controller.fail(why);
        self.runnable.clear();
        self.queue.clear();
        self.records = None;
        self.firing = None;
        self.looking = None;
        self.due.clear();
        self.outgoing.clear();
        self.context.core.event_due.borrow_mut().clear();
        self.context.core.processing_due.borrow_mut().clear();
        self.shown.show(Gauges::default());
    }
}

/// What an operator has added to the gauges of the job. Takes it back in the end.
struct Shown {
    counters: Arc<JobCounters>,
    gauges: Gauges,
}

impl Shown {
    /// Adds what has changed since the last time.
    fn show(&mut self, now: Gauges) {
        let before = std::mem::replace(&mut self.gauges, now);
        if now == before {
            return;
        }
        let all = &self.counters.async_state;
        for (gauge, now, before) in [
            (&all.in_flight, now.in_flight, before.in_flight),
            (&all.active_buffer, now.active_buffer, before.active_buffer),
            (
                &all.blocking_buffer,
                now.blocking_buffer,
                before.blocking_buffer,
            ),
            (&all.blocked_keys, now.blocked_keys, before.blocked_keys),
        ] {
            // Several operators add to one sum, which is never below zero.
            let change = (now as u64).wrapping_sub(before as u64);
            gauge.fetch_add(change, Ordering::Relaxed);
        }
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        self.show(Gauges::default());
    }
}

//! Runs a [`KeyedProcess`]: records of different keys overlap, records of one key keep their order, a watermark waits for the
//! records before it and fires its timers, and a barrier waits for everything.
//!
//! At most `async_in_flight_max` records are under way or wait for their key; the rest stay in the queue, which flow control
//! bounds.

use std::cell::Cell;
use std::collections::VecDeque;
use std::future::Future;
use std::hash::BuildHasherDefault;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use aquifer_state::KeyedStateStore;
use aquifer_state::key_group::{KeyHash, assign_to_key_group};
use aquifer_state::ordered::OrderedKey;
use aquifer_state::timers::{Timer, TimerService};
use futures_util::future::Either;
use hashbrown::HashMap;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use xxhash_rust::xxh3::Xxh3Default;

use super::epochs::{Epochs, Item};
use super::keyed::OperatorWaker;
use super::slots::Slots;
use super::{Link, Output, local};
use crate::JobError;
use crate::operator::Emitted;
use crate::process::{KeyedProcess, ProcessContext};
use crate::time::Time;
use crate::worker::Shared;

type Held = Rc<Capability<Time>>;
type LocalFuture<T> = Pin<Box<dyn Future<Output = T>>>;

/// Adds the operator to the graph.
pub(crate) fn process<'scope, P: KeyedProcess>(
    stream: Link<'scope, Vec<P::In>>,
    shared: &Shared,
    uid: &str,
    mut function: P,
) -> Result<Link<'scope, Vec<P::Out>>, JobError> {
    let states = KeyedStateStore::new(shared.state.clone(), uid);
    function.open(&states)?;
    let timers = Rc::new(states.timer_service("user-timers")?);

    let scope = stream.scope();
    let mut builder = OperatorBuilder::new(uid.to_owned(), scope);
    let address = builder.operator_info().address;
    let mut input = builder.new_input(stream, Pipeline);
    let (output, result) = builder.new_output();
    let mut output = Output::<Vec<P::Out>>::from(output);
    shared.barriers.borrow_mut().join();
    let sync_activator = || scope.worker().sync_activator_for(address.to_vec());
    let waker = Waker::from(Arc::new(OperatorWaker(sync_activator())));
    let context = ProcessContext {
        emitted: Rc::default(),
        timers: Rc::clone(&timers),
        current: states.current_key().clone(),
        watermark_ms: Rc::new(Cell::new(i64::MIN)),
    };
    let function = Rc::new(function);
    let on_record = {
        let (function, context) = (Rc::clone(&function), context.clone());
        move |record| Rc::clone(&function).process(record, context.clone())
    };
    let mut run = Run {
        uid: uid.to_owned(),
        shared: shared.clone(),
        states,
        function,
        context,
        timers,
        on_record,
        slots: Slots::new(sync_activator()),
        busy: HashMap::default(),
        blocked: 0,
        queue: VecDeque::new(),
        records: None,
        firing: None,
        due: VecDeque::new(),
        outgoing: Vec::new(),
        waker,
    };
    builder.build(move |mut capabilities| {
        let mut epochs = capabilities
            .pop()
            .map(|initial| Epochs::new(run.shared.first_epoch, initial));
        move |frontiers| {
            if run.shared.attempt.failed() {
                run.abandon();
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
            let stepped = run.step();
            run.shared.guard(&run.uid, stepped);
            run.shared.state.issue();
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

/// What runs for a key.
enum Work<R> {
    Record(R),
    Timer(i64),
}

/// What a slot is about.
struct Tag {
    group: u16,
    key: Box<[u8]>,
    capability: Held,
}

/// Keys under way, each with the work that waits for it.
type BusyKeys<R> = HashMap<Box<[u8]>, VecDeque<(Work<R>, Held)>, BuildHasherDefault<Xxh3Default>>;
/// A look for due timers; `None` when there are no more.
type TimerSearch = LocalFuture<Result<Option<Vec<Timer>>, JobError>>;

struct Run<P: KeyedProcess, M, F> {
    uid: String,
    shared: Shared,
    states: KeyedStateStore<P::Key>,
    function: Rc<P>,
    context: ProcessContext<P::Out>,
    timers: Rc<TimerService>,
    on_record: M,
    slots: Slots<Either<F, LocalFuture<Result<(), JobError>>>, Tag>,
    /// Keys under way, each with the work that waits for it.
    busy: BusyKeys<P::In>,
    /// Work in `busy`.
    blocked: usize,
    queue: VecDeque<(Held, Item<Vec<P::In>>)>,
    /// The batch in hand.
    records: Option<(Held, std::vec::IntoIter<P::In>)>,
    /// The watermark whose timers are being looked for.
    firing: Option<(Held, i64, TimerSearch)>,
    /// Timers found and not started.
    due: VecDeque<(Held, Timer)>,
    outgoing: Vec<(Held, Emitted<Vec<P::Out>>)>,
    waker: Waker,
}

impl<P, M, F> Run<P, M, F>
where
    P: KeyedProcess,
    M: Fn(P::In) -> F,
    F: Future<Output = Result<(), JobError>>,
{
    /// Goes on until nothing can.
    fn step(&mut self) -> Result<(), JobError> {
        let mut woken = Vec::new();
        self.slots.woken(&mut woken);
        for slot in woken.drain(..) {
            self.poll(slot)?;
        }
        while self.advance()? {}
        Ok(())
    }

    /// Takes one step; false if everything waits.
    fn advance(&mut self) -> Result<bool, JobError> {
        if self.slots.len() + self.blocked >= self.shared.in_flight_max {
            return Ok(false);
        }
        if let Some((capability, timer)) = self.due.pop_front() {
            self.admit(
                timer.group,
                timer.key.to_vec().into(),
                Work::Timer(timer.timestamp),
                capability,
            )?;
            return Ok(true);
        }
        if let Some((capability, records)) = self.records.as_mut() {
            let Some(record) = records.next() else {
                self.records = None;
                return Ok(true);
            };
            let capability = Rc::clone(capability);
            let key = self.function.key(&record);
            let mut bytes = Vec::new();
            key.encode_ordered(&mut bytes);
            let group = assign_to_key_group(key.hash_code(), self.shared.max_parallelism);
            self.admit(group, bytes.into(), Work::Record(record), capability)?;
            return Ok(true);
        }
        let idle = self.slots.len() == 0 && self.blocked == 0;
        if self.firing.is_some() {
            return if idle { self.fire() } else { Ok(false) };
        }
        match self.queue.front() {
            None => return Ok(false),
            Some((_, Item::Batch(_))) => {}
            // A watermark may not overtake the records before it, and a barrier waits for all of them.
            Some(_) if !idle => return Ok(false),
            Some(_) => {}
        }
        match self.queue.pop_front() {
            None => {}
            Some((capability, Item::Batch(batch))) => {
                self.records = Some((capability, batch.into_iter()))
            }
            Some((capability, Item::Watermark(watermark))) => {
                self.context.watermark_ms.set(watermark);
                let look = self.look_for_timers(watermark);
                self.firing = Some((capability, watermark, look));
            }
            Some((_, Item::Barrier(epoch))) => {
                for table in self.states.tables() {
                    self.shared.state.backend().borrow_mut().freeze(table)?;
                }
                self.shared.report(epoch, None);
            }
        }
        Ok(true)
    }

    fn look_for_timers(&self, watermark: i64) -> TimerSearch {
        let timers = Rc::clone(&self.timers);
        Box::pin(async move { Ok(timers.next_due(watermark).await?) })
    }

    /// Starts due timers, and looks again when they are done: a timer may have registered another that is due.
    fn fire(&mut self) -> Result<bool, JobError> {
        let Some((capability, watermark, mut look)) = self.firing.take() else {
            return Ok(false);
        };
        match look.as_mut().poll(&mut Context::from_waker(&self.waker)) {
            Poll::Pending => {
                self.firing = Some((capability, watermark, look));
                return Ok(false);
            }
            Poll::Ready(found) => match found? {
                Some(timers) => {
                    self.due.extend(
                        timers
                            .into_iter()
                            .map(|timer| (Rc::clone(&capability), timer)),
                    );
                    let again = self.look_for_timers(watermark);
                    self.firing = Some((capability, watermark, again));
                }
                None => self
                    .outgoing
                    .push((capability, Emitted::Watermark(watermark))),
            },
        }
        Ok(true)
    }

    /// Starts work for a key, or has it wait until the key is free.
    fn admit(
        &mut self,
        group: u16,
        key: Box<[u8]>,
        work: Work<P::In>,
        capability: Held,
    ) -> Result<(), JobError> {
        if let Some(waiting) = self.busy.get_mut(&key) {
            waiting.push_back((work, capability));
            self.blocked += 1;
            return Ok(());
        }
        self.busy.insert(key.clone(), VecDeque::new());
        self.start(
            Tag {
                group,
                key,
                capability,
            },
            work,
        )
    }

    fn start(&mut self, tag: Tag, work: Work<P::In>) -> Result<(), JobError> {
        self.context.current.set(tag.group, &tag.key);
        let future = match work {
            Work::Record(record) => Either::Left((self.on_record)(record)),
            Work::Timer(timestamp_ms) => {
                let function = Rc::clone(&self.function);
                Either::Right(
                    Box::pin(function.on_timer(timestamp_ms, self.context.clone()))
                        as LocalFuture<_>,
                )
            }
        };
        let slot = self.slots.insert(future, tag);
        self.poll(slot)
    }

    /// Polls a slot; when it is done, the next work of its key takes over.
    fn poll(&mut self, slot: usize) -> Result<(), JobError> {
        let Some(tag) = self.slots.tag(slot) else {
            return Ok(());
        };
        self.context.current.set(tag.group, &tag.key);
        let capability = Rc::clone(&tag.capability);
        let done = self.slots.poll(slot);
        self.context.current.clear();
        let emitted = std::mem::take(&mut *self.context.emitted.borrow_mut());
        if !emitted.is_empty() {
            self.hand_on(capability, emitted);
        }
        let Some((result, tag)) = done else {
            return Ok(());
        };
        result?;
        let next = self.busy.get_mut(&tag.key).and_then(VecDeque::pop_front);
        match next {
            Some((work, capability)) => {
                self.blocked -= 1;
                self.start(Tag { capability, ..tag }, work)
            }
            None => {
                self.busy.remove(&tag.key);
                Ok(())
            }
        }
    }

    /// Rows of one time go out together.
    fn hand_on(&mut self, capability: Held, mut rows: Vec<P::Out>) {
        if let Some((last, Emitted::Batch(batch))) = self.outgoing.last_mut()
            && last.time() == capability.time()
        {
            batch.append(&mut rows);
        } else {
            self.outgoing.push((capability, Emitted::Batch(rows)));
        }
    }

    /// The attempt has failed: nothing goes on, and no capability is kept.
    fn abandon(&mut self) {
        self.slots.clear();
        self.busy.clear();
        self.blocked = 0;
        self.queue.clear();
        self.records = None;
        self.firing = None;
        self.due.clear();
        self.outgoing.clear();
    }
}

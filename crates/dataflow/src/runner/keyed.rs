//! Runs a keyed operator: one sequential task per operator and worker, fed with batches, watermarks and barriers.
//!
//! The task is an ordinary future that this runner polls on the worker's thread; a cold read leaves it pending and wakes the
//! worker when the blocks are in memory. Batches are prepared (keys computed, cold reads started) as soon as they arrive, so the
//! reads of all batches in the flow-control window are under way together, while the batches are applied one by one, in order.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use aquifer_store::TableId;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::scheduling::SyncActivator;

use super::epochs::{Epochs, Item};
use super::{Link, Output, local};
use crate::JobError;
use crate::graph::Payload;
use crate::operator::{Collector, Emitted, KeyedOperator, OpenContext, WATERMARK_MAX};
use crate::time::Time;
use crate::worker::Shared;

/// Wakes an operator's worker from any thread.
pub(super) struct OperatorWaker(pub SyncActivator);

impl Wake for OperatorWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // Fails only when the worker is gone, and then there is nothing to wake.
        let _ = self.0.activate();
    }
}

/// The right to emit at a time, shared by what arrived together.
type Held = Rc<Capability<Time>>;
/// The operator's task.
type LocalFuture = Pin<Box<dyn Future<Output = Result<(), JobError>>>>;

/// What lies between timely's side of the operator and its task.
struct Mailbox<D, E> {
    items: VecDeque<(Held, Item<D>)>,
    ended: bool,
    /// What the item in hand has emitted is sent with this.
    current: Option<Held>,
    outgoing: Vec<(Held, Vec<Emitted<E>>)>,
}

type SharedMailbox<D, E> = Rc<RefCell<Mailbox<D, E>>>;

/// Adds the operator to the graph.
pub(crate) fn keyed<'scope, D: Payload, E: Payload, O: KeyedOperator<D, E>>(
    stream: Link<'scope, D>,
    shared: &Shared,
    uid: &str,
    mut operator: O,
) -> Result<Link<'scope, E>, JobError> {
    let mut tables = Vec::new();
    operator.open(&mut OpenContext {
        operator: uid,
        state: &shared.state,
        tables: &mut tables,
    })?;

    let scope = stream.scope();
    let mut builder = OperatorBuilder::new(uid.to_owned(), scope);
    let address = builder.operator_info().address;
    let mut input = builder.new_input(stream, Pipeline);
    let (output, result) = builder.new_output();
    let mut output = Output::<E>::from(output);
    let waker = Waker::from(Arc::new(OperatorWaker(
        scope.worker().sync_activator_for(address.to_vec()),
    )));
    let activator = scope.activator_for(address);
    shared.barriers.borrow_mut().join();

    let shared = shared.clone();
    let uid = uid.to_owned();
    builder.build(move |mut capabilities| {
        let mut epochs = capabilities
            .pop()
            .map(|initial| Epochs::new(shared.first_epoch, initial));
        let mailbox = Rc::new(RefCell::new(Mailbox {
            items: VecDeque::new(),
            ended: false,
            current: None,
            outgoing: Vec::new(),
        }));
        let collector = Collector::default();
        let task = Task {
            operator,
            mailbox: Rc::clone(&mailbox),
            shared: shared.clone(),
            tables,
            out: collector.share(),
        };
        let mut task: Option<LocalFuture> = Some(Box::pin(task.run()));
        move |frontiers| {
            if shared.attempt.failed() {
                task = None;
                epochs = None;
                mailbox.borrow_mut().items.clear();
                mailbox.borrow_mut().current = None;
                mailbox.borrow_mut().outgoing.clear();
                input.for_each(|_, data| data.clear());
                return;
            }
            if let Some(epochs) = epochs.as_mut() {
                input.for_each(|capability, data| {
                    if let Some(capability) = capability.retain_least(0) {
                        epochs.arrive(capability, data);
                    }
                });
                let mut mailbox = mailbox.borrow_mut();
                epochs.advance(&frontiers[0], |capability, item| {
                    mailbox.items.push_back((capability, item))
                });
                mailbox.ended = epochs.ended();
            }
            if let Some(future) = task.as_mut() {
                let done = future.as_mut().poll(&mut Context::from_waker(&waker));
                if let Poll::Ready(result) = done {
                    task = None;
                    shared.guard(&uid, result);
                }
                shared.state.issue();
            }
            let mut mailbox = mailbox.borrow_mut();
            let mut output = output.activate();
            for (capability, emitted) in mailbox.outgoing.drain(..) {
                let mut session = output.session(&*capability);
                emitted
                    .into_iter()
                    .for_each(|e| session.give(local(shared.index, e)));
            }
            if let Some(capability) = mailbox.current.as_ref() {
                let mut session = output.session(&**capability);
                collector
                    .take()
                    .into_iter()
                    .for_each(|e| session.give(local(shared.index, e)));
            }
            if task.is_some() && mailbox.current.is_none() && !mailbox.items.is_empty() {
                activator.activate();
            }
        }
    });
    Ok(result)
}

/// A prepared step.
enum Step<P> {
    Batch(P),
    Watermark(i64),
    Barrier(u64),
}

/// The operator's task.
struct Task<D: Payload, E: Payload, O: KeyedOperator<D, E>> {
    operator: O,
    mailbox: SharedMailbox<D, E>,
    shared: Shared,
    tables: Vec<TableId>,
    out: Collector<E>,
}

impl<D: Payload, E: Payload, O: KeyedOperator<D, E>> Task<D, E, O> {
    async fn run(mut self) -> Result<(), JobError> {
        let state = self.shared.state.clone();
        let mut steps = VecDeque::new();
        loop {
            // Prepare everything that has arrived, so that its cold reads are under way.
            loop {
                let arrived = self.mailbox.borrow_mut().items.pop_front();
                let Some((capability, item)) = arrived else {
                    break;
                };
                let step = match item {
                    Item::Batch(batch) => Step::Batch(self.operator.prepare(batch, &state)?),
                    Item::Watermark(watermark) => Step::Watermark(watermark),
                    Item::Barrier(epoch) => Step::Barrier(epoch),
                };
                steps.push_back((capability, step));
            }
            let Some((capability, step)) = steps.pop_front() else {
                if self.mailbox.borrow().ended {
                    return Ok(());
                }
                self.arrival().await;
                continue;
            };
            self.mailbox.borrow_mut().current = Some(Rc::clone(&capability));
            match step {
                Step::Batch(prepared) => {
                    self.operator
                        .on_batch(prepared, &state, &mut self.out)
                        .await?
                }
                Step::Watermark(watermark) => {
                    let handed_on = self
                        .operator
                        .on_watermark(watermark, &state, &mut self.out)
                        .await?;
                    // The end of the input must reach everyone.
                    self.out.watermark(if watermark == WATERMARK_MAX {
                        WATERMARK_MAX
                    } else {
                        handed_on
                    });
                }
                Step::Barrier(epoch) => {
                    self.operator.on_barrier(&state, &mut self.out).await?;
                    for table in &self.tables {
                        state.backend().borrow_mut().freeze(*table)?;
                    }
                    self.shared.report(epoch, None);
                }
            }
            let emitted = self.out.take();
            let mut mailbox = self.mailbox.borrow_mut();
            mailbox.current = None;
            mailbox.outgoing.push((capability, emitted));
        }
    }

    /// Waits until the runner polls again: it does so whenever something arrives.
    fn arrival(&self) -> impl Future<Output = ()> + use<D, E, O> {
        let mut polled = false;
        std::future::poll_fn(move |_| {
            if std::mem::replace(&mut polled, true) {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
    }
}

//! Finishes reads that memory could not answer.
//!
//! All reads go in rounds: search, note what is missing, load all of it at once, search again. A point read of a cold
//! file takes two rounds: index and filter, then the block.
//!
//! What lies on the local disk is most often in the system's memory, where reading takes less time than asking another thread to
//! do it. So a fetch first goes as far as it comes without waiting, and only then to another thread.
use std::pin::Pin;
use std::sync::Arc;
use std::task::{self, Poll, Waker};

use futures_util::future::BoxFuture;
use tokio::runtime::Handle;

use super::answer::answer;
use super::get::{Search, search_noting};
use super::load::{Fetched, stopped};
use super::{ColdRead, Needs, Value};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::merge::{HeldOperands, open_all};

/// Reads finished together; more are done one after the other, which bounds the blocks held.
const READS_MAX: usize = 4096;
/// Rounds after which a read is going in circles: each file takes four at most.
const ROUNDS_MAX: usize = 10_000;

/// Runs `work` on the store's runtime, so that whoever polls the answer need not be part of it. Work that waits for the
/// local disk runs on one of its blocking threads, as many at a time as may read.
pub(crate) fn on_runtime<T: Send + 'static>(
    context: &Arc<Context>,
    work: impl Future<Output = Result<T>> + Send + 'static,
) -> BoxFuture<'static, Result<T>> {
    let context = context.clone();
    Box::pin(async move {
        let runtime = &context.env.runtime;
        if !context.files.are_local() {
            let mut work = Box::pin(work);
            if context.options.plan_inline
                && let Some(answer) = begin_here(runtime, work.as_mut())
            {
                return answer;
            }
            return runtime.spawn(work).await.map_err(stopped)?;
        }
        let thread = context.files.read_thread().await;
        let handle = runtime.clone();
        let done = runtime.spawn_blocking(move || {
            let answer = handle.block_on(work);
            drop(thread);
            answer
        });
        done.await.map_err(stopped)?
    })
}

/// Does the first step of some work on this thread: planning, and sending the first requests. The task that takes it over asks again
/// what it waits for, so nothing that happens in between is missed.
fn begin_here<T>(runtime: &Handle, work: Pin<&mut impl Future<Output = T>>) -> Option<T> {
    let _within = runtime.enter();
    match work.poll(&mut task::Context::from_waker(Waker::noop())) {
        Poll::Ready(answer) => Some(answer),
        Poll::Pending => None,
    }
}

/// Answers of point reads, in the order of the reads.
pub(crate) type Answers = Vec<Option<Value<'static>>>;

/// Finishes point reads.
pub(crate) fn fetch(
    context: &Arc<Context>,
    reads: Vec<ColdRead>,
) -> BoxFuture<'static, Result<Answers>> {
    let context = context.clone();
    Box::pin(async move {
        let mut fetch = Fetch::new(&context, reads);
        let mut needs = None;
        if context.files.are_local() {
            loop {
                match fetch.search()? {
                    None => return Ok(fetch.answers),
                    Some(missing) if fetch.fetched.load_at_once(&missing) => {}
                    Some(missing) => {
                        needs = Some(missing);
                        break;
                    }
                }
            }
        }
        on_runtime(&context, fetch.finish(needs)).await
    })
}

/// Point reads that are being finished.
struct Fetch {
    reads: Vec<ColdRead>,
    answers: Answers,
    /// Reads in the order of their keys, and how many of them have been begun.
    order: Vec<usize>,
    begun: usize,
    /// Those that have been begun and have no answer.
    open: Vec<usize>,
    rounds: usize,
    fetched: Fetched,
}

impl Fetch {
    fn new(context: &Arc<Context>, reads: Vec<ColdRead>) -> Self {
        let mut order: Vec<usize> = (0..reads.len()).collect();
        order.sort_unstable_by(|&a, &b| reads[a].key.cmp(&reads[b].key));
        Self {
            answers: reads.iter().map(|_| None).collect(),
            reads,
            order,
            begun: 0,
            open: Vec::new(),
            rounds: 0,
            fetched: Fetched::new(context.clone()),
        }
    }

    /// Goes on with what is in memory; returns what is missing, or nothing when all reads are answered.
    fn search(&mut self) -> Result<Option<Needs>> {
        let mut operands = Vec::new();
        loop {
            if self.open.is_empty() {
                let rest = self.order.get(self.begun..).unwrap_or_default();
                if rest.is_empty() {
                    return Ok(None);
                }
                self.open.extend(rest.iter().take(READS_MAX));
                self.begun += self.open.len();
                self.rounds = 0;
                self.fetched.clear();
            }
            self.rounds += 1;
            if self.rounds > ROUNDS_MAX {
                return Err(Error::corrupt(format!(
                    "a read did not end after {ROUNDS_MAX} rounds of requests: a file refers to itself"
                )));
            }
            let mut needs = Needs::default();
            let mut open = std::mem::take(&mut self.open);
            let mut failed = None;
            open.retain(|&i| match self.answer(i, &mut needs, &mut operands) {
                Ok(answered) => !answered,
                Err(error) => {
                    failed = Some(error);
                    true
                }
            });
            if let Some(error) = failed {
                return Err(error);
            }
            self.open = open;
            if !self.open.is_empty() {
                return Ok(Some(needs));
            }
        }
    }

    /// Answers a read, or notes what it needs.
    fn answer(
        &mut self,
        i: usize,
        needs: &mut Needs,
        operands: &mut Vec<HeldOperands>,
    ) -> Result<bool> {
        let read = &self.reads[i];
        operands.clear();
        let below = match search_noting(
            &read.version,
            read.before,
            read.hash,
            &read.key,
            &self.fetched,
            read.rules.merges,
            needs,
            operands,
        ) {
            Search::Found(value) => Some(value),
            Search::Gone => None,
            Search::Cold => return Ok(false),
        };
        let memory = open_all(&read.operands)?;
        self.answers[i] = answer(below, operands, &memory, &read.rules, read.now_ms)?;
        Ok(true)
    }

    /// Loads what is missing until all reads are answered.
    async fn finish(mut self, mut needs: Option<Needs>) -> Result<Answers> {
        loop {
            if let Some(missing) = needs.take() {
                self.fetched.load(missing).await?;
            }
            needs = self.search()?;
            if needs.is_none() {
                return Ok(self.answers);
            }
        }
    }
}

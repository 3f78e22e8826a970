//! Finishes reads that memory could not answer.
//!
//! All reads go in rounds: search, note what is missing, load all of it at once, search again. A point read of a cold
//! file takes two rounds: index and filter, then the block. What was loaded stays with the fetch until it ends, so a
//! small cache cannot make it run in circles, and goes into the cache for others.
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures_util::TryStreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::{self, StreamExt};
use hashbrown::HashMap;

use super::answer::answer;
use super::get::{Search, search_noting};
use super::{Blocks, ColdRead, NeededBlocks, Needs, Value};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::io::{Arrived, ReadClass, Waiting, arrival};
use crate::merge::open_all;
use crate::sst::block::DataBlock;
use crate::sst::file::{FileId, FileMeta, MetaRef, SstFile};
use crate::sst::reader::{load_blocks, load_meta};

/// Range requests in flight for one fetch.
const REQUESTS_MAX: usize = 1024;
/// Reads from local disk that are worth another thread.
const REQUESTS_PER_THREAD_MIN: usize = 8;
/// Neighbouring blocks are read together across gaps up to this.
const GAP_BYTES_MAX: u64 = 16 << 10;
/// Longest request that is put together from neighbours.
const REQUEST_BYTES_MAX: u64 = 1 << 20;
/// Reads finished together; more are done one after the other, which bounds the blocks held.
const READS_MAX: usize = 4096;

/// What is in memory, and what this fetch has loaded.
pub(crate) struct Fetched {
    context: Arc<Context>,
    metas: HashMap<FileId, Arc<FileMeta>>,
    blocks: HashMap<(FileId, u32), Arc<DataBlock>>,
}

impl Blocks for Fetched {
    fn meta<'a>(&self, file: &'a SstFile) -> Option<MetaRef<'a>> {
        match self.metas.get(&file.id()) {
            Some(meta) => Some(MetaRef::Cached(meta.clone())),
            None => file.meta(),
        }
    }

    fn block(&self, file: &SstFile, number: u32) -> Option<Arc<DataBlock>> {
        match self.blocks.get(&(file.id(), number)) {
            Some(block) => Some(block.clone()),
            None => self.context.env.block_cache.block(file.id(), number),
        }
    }
}

/// One request of a fetch.
enum Request {
    Meta(Arc<SstFile>),
    Blocks(Arc<SstFile>, Vec<(u32, Range<u64>)>),
    /// Someone else has asked already.
    Wait(Arc<SstFile>, Waiting),
}

enum Loaded {
    Meta(FileId, Arc<FileMeta>),
    Blocks(FileId, Arrived),
    Nothing,
}

impl Request {
    async fn run(self, context: Arc<Context>) -> Result<Loaded> {
        match self {
            Self::Meta(file) => Ok(Loaded::Meta(
                file.id(),
                load_meta(&context, &file, ReadClass::Fetch).await?,
            )),
            Self::Blocks(file, run) => {
                // On local disk two reads cost less than waiting for one another.
                let flight = (!context.files.are_local()).then(|| {
                    let numbers = run.iter().map(|(number, _)| *number);
                    context.files.flights.lead(file.id(), numbers)
                });
                let blocks = load_run(&context, &file, &run).await;
                if let Some(flight) = flight {
                    flight.land(blocks.clone());
                }
                Ok(Loaded::Blocks(file.id(), blocks?))
            }
            Self::Wait(file, waiting) => Ok(match arrival(waiting).await {
                Some(blocks) => Loaded::Blocks(file.id(), blocks?),
                // The next round asks again.
                None => Loaded::Nothing,
            }),
        }
    }
}

/// Loads neighbouring blocks and puts them into the cache.
async fn load_run(context: &Context, file: &SstFile, run: &[(u32, Range<u64>)]) -> Result<Arrived> {
    let blocks = load_blocks(context, file, run, ReadClass::Fetch).await?;
    let loaded = blocks.len() as u64;
    context.blocks_loaded.fetch_add(loaded, Ordering::Relaxed);
    for (number, block) in &blocks {
        let cache = &context.env.block_cache;
        cache.insert_block(file.id(), *number, block.clone());
    }
    Ok(blocks.into())
}

impl Fetched {
    pub(crate) fn new(context: Arc<Context>) -> Self {
        Self {
            context,
            metas: HashMap::new(),
            blocks: HashMap::new(),
        }
    }

    /// Loads everything in `needs`: over the network all requests at once, from local disk on as many threads as are free.
    pub(crate) async fn load(&mut self, needs: Needs) -> Result<()> {
        let mut requests: Vec<Request> = needs.metas.into_values().map(Request::Meta).collect();
        let flights = &self.context.files.flights;
        for NeededBlocks { file, places } in needs.blocks.into_values() {
            let mut ours = Vec::with_capacity(places.len());
            for (number, place) in places {
                match flights.find(file.id(), number) {
                    Some(waiting) => requests.push(Request::Wait(file.clone(), waiting)),
                    None => ours.push((number, place)),
                }
            }
            let runs = coalesce(ours.into_iter()).into_iter();
            requests.extend(runs.map(|run| Request::Blocks(file.clone(), run)));
        }
        let loaded = if self.context.files.are_local() {
            load_on_threads(&self.context, requests).await?
        } else {
            let requests = requests
                .into_iter()
                .map(|request| request.run(self.context.clone()));
            stream::iter(requests)
                .buffer_unordered(REQUESTS_MAX)
                .try_collect()
                .await?
        };
        for part in loaded {
            match part {
                Loaded::Meta(id, meta) => drop(self.metas.insert(id, meta)),
                Loaded::Blocks(id, blocks) => {
                    let blocks = blocks.iter().cloned();
                    self.blocks
                        .extend(blocks.map(|(n, block)| ((id, n), block)));
                }
                Loaded::Nothing => {}
            }
        }
        Ok(())
    }
}

/// Runs requests that the local disk answers: a share of them here, the others on read threads that are free.
async fn load_on_threads(context: &Arc<Context>, requests: Vec<Request>) -> Result<Vec<Loaded>> {
    let helpers = (requests.len() / REQUESTS_PER_THREAD_MIN).saturating_sub(1);
    let helpers = context.files.free_read_threads(helpers);
    let share = requests.len().div_ceil(helpers.len() + 1).max(1);
    let mut shares = requests.into_iter();
    let mut under_way = Vec::with_capacity(helpers.len());
    for helper in helpers {
        let theirs: Vec<Request> = shares.by_ref().take(share).collect();
        let (context, handle) = (context.clone(), context.env.runtime.clone());
        under_way.push(context.env.runtime.clone().spawn_blocking(move || {
            let loaded = handle.block_on(load_here(&context, theirs.into_iter()));
            drop(helper);
            loaded
        }));
    }
    let mut loaded = load_here(context, shares).await?;
    for other in under_way {
        loaded.extend(other.await.map_err(stopped)??);
    }
    Ok(loaded)
}

async fn load_here(
    context: &Arc<Context>,
    requests: impl Iterator<Item = Request>,
) -> Result<Vec<Loaded>> {
    let mut loaded = Vec::with_capacity(requests.size_hint().0);
    for request in requests {
        loaded.push(request.run(context.clone()).await?);
    }
    Ok(loaded)
}

fn stopped(error: tokio::task::JoinError) -> Error {
    Error::retry(format!("a read was stopped: {error}"))
}

/// Groups blocks in ascending order into requests.
fn coalesce(places: impl Iterator<Item = (u32, Range<u64>)>) -> Vec<Vec<(u32, Range<u64>)>> {
    let mut runs: Vec<Vec<(u32, Range<u64>)>> = Vec::new();
    for (number, place) in places {
        if let Some(run) = runs.last_mut()
            && let (Some((_, first)), Some((_, last))) = (run.first(), run.last())
            && place.start.saturating_sub(last.end) <= GAP_BYTES_MAX
            && place.end.saturating_sub(first.start) <= REQUEST_BYTES_MAX
        {
            run.push((number, place));
            continue;
        }
        runs.push(vec![(number, place)]);
    }
    runs
}

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

/// Finishes point reads; answers come in the order of `reads`.
pub(crate) async fn fetch(
    context: Arc<Context>,
    reads: Vec<ColdRead>,
) -> Result<Vec<Option<Value<'static>>>> {
    let mut answers: Vec<Option<Value<'static>>> = reads.iter().map(|_| None).collect();
    let mut order: Vec<usize> = (0..reads.len()).collect();
    order.sort_unstable_by(|&a, &b| reads[a].key.cmp(&reads[b].key));
    let mut operands = Vec::new();
    for together in order.chunks(READS_MAX) {
        let mut fetched = Fetched::new(context.clone());
        let mut open = together.to_vec();
        loop {
            let mut needs = Needs::default();
            let mut still_open = Vec::new();
            for i in open {
                let read = &reads[i];
                operands.clear();
                let below = match search_noting(
                    &read.version,
                    read.hash,
                    &read.key,
                    &fetched,
                    read.rules.merges,
                    &mut needs,
                    &mut operands,
                ) {
                    Search::Found(value) => Some(value),
                    Search::Gone => None,
                    Search::Cold => {
                        still_open.push(i);
                        continue;
                    }
                };
                let memory = open_all(&read.operands)?;
                answers[i] = answer(below, &operands, &memory, &read.rules, read.now_ms)?;
            }
            open = still_open;
            if open.is_empty() {
                break;
            }
            fetched.load(needs).await?;
        }
    }
    Ok(answers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_are_read_together() {
        let place = |n: u32, at: u64, len: u64| (n, at..at + len);
        let runs = coalesce(
            [
                place(0, 0, 8_000),
                place(1, 8_000, 8_000),
                place(3, 24_000, 8_000),
                place(9, 500_000, 8_000),
            ]
            .into_iter(),
        );
        let numbers: Vec<Vec<u32>> = runs
            .iter()
            .map(|r| r.iter().map(|(n, _)| *n).collect())
            .collect();
        assert_eq!(numbers, [vec![0, 1, 3], vec![9]]);
        let long = coalesce((0..1_000).map(|n| place(n, u64::from(n) * 8_000, 8_000)));
        assert!(
            long.iter()
                .all(|r| r[r.len() - 1].1.end - r[0].1.start <= REQUEST_BYTES_MAX)
        );
        assert_eq!(long.iter().map(Vec::len).sum::<usize>(), 1_000);
    }
}

//! Finishes reads that memory could not answer.
//!
//! All reads go in rounds: search, note what is missing, load all of it at once, search again. A point read of a cold
//! file takes two rounds: index and filter, then the block. What was loaded stays with the fetch until it ends, so a
//! small cache cannot make it run in circles, and goes into the cache for others.
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use futures_util::TryStreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::{self, StreamExt};
use hashbrown::HashMap;

use super::get::{Search, search_noting};
use super::{Blocks, ColdRead, NeededBlocks, Needs};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::sst::block::DataBlock;
use crate::sst::file::{FileId, FileMeta, MetaRef, SstFile};
use crate::sst::reader::{load_blocks, load_meta};

/// Range requests in flight for one fetch.
const REQUESTS_MAX: usize = 64;
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

enum Loaded {
    Meta(FileId, Arc<FileMeta>),
    Blocks(FileId, Vec<(u32, Arc<DataBlock>)>),
}

impl Fetched {
    pub(crate) fn new(context: Arc<Context>) -> Self {
        Self {
            context,
            metas: HashMap::new(),
            blocks: HashMap::new(),
        }
    }

    /// Loads everything in `needs`, all requests at once.
    pub(crate) async fn load(&mut self, needs: Needs) -> Result<()> {
        let mut requests: Vec<BoxFuture<'static, Result<Loaded>>> = Vec::new();
        for file in needs.metas.into_values() {
            let context = self.context.clone();
            requests.push(Box::pin(async move {
                Ok(Loaded::Meta(file.id(), load_meta(&context, &file).await?))
            }));
        }
        for NeededBlocks { file, places } in needs.blocks.into_values() {
            for run in coalesce(places.into_iter()) {
                let (context, file) = (self.context.clone(), file.clone());
                requests.push(Box::pin(async move {
                    Ok(Loaded::Blocks(
                        file.id(),
                        load_blocks(&context, &file, &run).await?,
                    ))
                }));
            }
        }
        let loaded: Vec<Loaded> = stream::iter(requests)
            .buffer_unordered(REQUESTS_MAX)
            .try_collect()
            .await?;
        for part in loaded {
            match part {
                Loaded::Meta(id, meta) => drop(self.metas.insert(id, meta)),
                Loaded::Blocks(id, blocks) => {
                    self.context
                        .blocks_loaded
                        .fetch_add(blocks.len() as u64, Ordering::Relaxed);
                    for (number, block) in blocks {
                        self.context
                            .env
                            .block_cache
                            .insert_block(id, number, block.clone());
                        self.blocks.insert((id, number), block);
                    }
                }
            }
        }
        Ok(())
    }
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

/// Runs `work` on the store's runtime, so that whoever polls the answer need not be part of it.
pub(crate) fn on_runtime<T: Send + 'static>(
    context: &Arc<Context>,
    work: impl Future<Output = Result<T>> + Send + 'static,
) -> BoxFuture<'static, Result<T>> {
    let runtime = context.env.runtime.clone();
    Box::pin(async move {
        match runtime.spawn(work).await {
            Ok(result) => result,
            Err(error) => Err(Error::retry(format!("a read was stopped: {error}"))),
        }
    })
}

/// Finishes point reads; answers come in the order of `reads`.
pub(crate) async fn fetch(
    context: Arc<Context>,
    reads: Vec<ColdRead>,
) -> Result<Vec<Option<Bytes>>> {
    let mut answers = vec![None; reads.len()];
    let mut order: Vec<usize> = (0..reads.len()).collect();
    order.sort_unstable_by(|&a, &b| reads[a].key.cmp(&reads[b].key));
    for together in order.chunks(READS_MAX) {
        let mut fetched = Fetched::new(context.clone());
        let mut open = together.to_vec();
        loop {
            let mut needs = Needs::default();
            open.retain(|&i| {
                let read = &reads[i];
                match search_noting(&read.version, read.hash, &read.key, &fetched, &mut needs) {
                    Search::Found(block, range) => {
                        answers[i] = Some(block.data().slice(range));
                        false
                    }
                    Search::Absent => false,
                    Search::Cold => true,
                }
            });
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

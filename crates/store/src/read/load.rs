//! Loads the parts of files that a search has missed.
//!
//! Over the network all requests are sent at once, neighbours together; from local disk as many threads read as are free. What was
//! loaded stays with the [`Fetched`] that asked for it, so a small cache cannot make a read run in circles, and goes into the cache
//! for others.
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures_util::TryStreamExt;
use futures_util::future::try_join;
use futures_util::stream::{self, StreamExt};
use hashbrown::HashMap;

use super::{Blocks, NeededParts, Needs};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::io::{Arrived, ReadClass, Waiting, arrival};
use crate::sst::file::{FileId, SstFile};
use crate::sst::part::{Part, PartPlace};
use crate::sst::reader::{LoadedParts, load_parts, load_parts_at_once};

/// Range requests in flight for one fetch.
const REQUESTS_MAX: usize = 1024;
/// Reads from local disk that are worth another thread.
const REQUESTS_PER_THREAD_MIN: usize = 8;
/// Parts that are read on the thread of the caller if the system has them in memory.
const PARTS_AT_ONCE_MAX: usize = 128;
/// Neighbouring parts are read together across gaps up to this: over the network, and from local disk.
const GAP_BYTES_MAX: u64 = 16 << 10;
const LOCAL_GAP_BYTES_MAX: u64 = 2 << 10;
/// Longest request that is put together from neighbours.
const REQUEST_BYTES_MAX: u64 = 1 << 20;

/// What is in memory, and what this fetch has loaded.
pub(crate) struct Fetched {
    context: Arc<Context>,
    parts: HashMap<(FileId, u64), Part>,
    /// What is read at once, before it is opened.
    scratch: Vec<u8>,
}

impl Blocks for Fetched {
    fn part(&self, file: &SstFile, offset: u64) -> Option<Part> {
        if let Some(part) = self.parts.get(&(file.id(), offset)) {
            return Some(part.clone());
        }
        let cache = &self.context.env.block_cache;
        if offset < file.data_bytes() {
            cache.data(file.id(), offset)
        } else {
            cache.page(file.id(), offset)
        }
    }
}

/// One request of a fetch.
enum Request {
    Parts(Arc<SstFile>, Vec<PartPlace>),
    /// Someone else has asked already.
    Wait(FileId, Waiting),
}

impl Request {
    async fn run(self, context: Arc<Context>) -> Result<Option<(FileId, Arrived)>> {
        match self {
            Self::Parts(file, run) => {
                // On local disk two reads cost less than waiting for one another.
                let flight = (!context.files.are_local()).then(|| {
                    let offsets = run.iter().map(|part| part.place.offset);
                    context.files.flights.lead(file.id(), offsets)
                });
                let parts = load_run(&context, &file, &run).await;
                if let Some(flight) = flight {
                    flight.land(parts.clone());
                }
                Ok(Some((file.id(), parts?)))
            }
            Self::Wait(file, waiting) => match arrival(waiting).await {
                Some(parts) => Ok(Some((file, parts?))),
                // The next round asks again.
                None => Ok(None),
            },
        }
    }
}

/// Loads neighbouring parts and puts them into the cache.
async fn load_run(
    context: &Arc<Context>,
    file: &Arc<SstFile>,
    run: &[PartPlace],
) -> Result<Arrived> {
    let parts = load_parts(context, file, run, ReadClass::Fetch).await?;
    count_blocks(context, &parts);
    Ok(parts.into())
}

fn count_blocks(context: &Context, parts: &LoadedParts) {
    let blocks = parts
        .iter()
        .filter(|(_, part)| matches!(part, Part::Block(_) | Part::Value(_)));
    context
        .blocks_loaded
        .fetch_add(blocks.count() as u64, Ordering::Relaxed);
}

impl Fetched {
    pub(crate) fn new(context: Arc<Context>) -> Self {
        Self {
            context,
            parts: HashMap::new(),
            scratch: Vec::new(),
        }
    }

    pub(crate) fn clear(&mut self) {
        self.parts.clear();
    }

    /// Loads everything in `needs` if that takes no waiting: it is few parts, and the system has them in memory. If not, some may
    /// have been loaded.
    pub(crate) fn load_at_once(&mut self, needs: &Needs) -> bool {
        if needs.0.values().map(|file| file.parts.len()).sum::<usize>() > PARTS_AT_ONCE_MAX {
            return false;
        }
        for NeededParts { file, parts } in needs.0.values() {
            for run in coalesce(parts.values().copied(), LOCAL_GAP_BYTES_MAX) {
                let scratch = &mut self.scratch;
                let Some(loaded) = load_parts_at_once(&self.context, file, &run, scratch) else {
                    return false;
                };
                count_blocks(&self.context, &loaded);
                let loaded = loaded.into_iter();
                self.parts
                    .extend(loaded.map(|(offset, part)| ((file.id(), offset), part)));
            }
        }
        true
    }

    /// Loads everything in `needs`: over the network all requests at once, from local disk on as many threads as are free.
    pub(crate) async fn load(&mut self, needs: Needs) -> Result<()> {
        let loaded = if self.context.files.are_local() {
            let mut requests = Vec::new();
            for NeededParts { file, parts } in needs.0.into_values() {
                let runs = coalesce(parts.into_values(), LOCAL_GAP_BYTES_MAX).into_iter();
                requests.extend(runs.map(|run| Request::Parts(file.clone(), run)));
            }
            load_on_threads(&self.context, requests).await?
        } else {
            let (here, away) = self.requests(needs);
            let away = stream::iter(away).map(|request| request.run(self.context.clone()));
            let away = away.buffer_unordered(REQUESTS_MAX).try_collect::<Vec<_>>();
            let (mut loaded, others) = try_join(away, self.load_from_disk(here)).await?;
            loaded.extend(others);
            loaded
        };
        for (file, parts) in loaded.into_iter().flatten() {
            let parts = parts.iter().cloned();
            self.parts
                .extend(parts.map(|(offset, part)| ((file, offset), part)));
        }
        Ok(())
    }

    /// What to ask of the local disk, and what of the object store.
    fn requests(&self, needs: Needs) -> (Vec<Request>, Vec<Request>) {
        let (mut here, mut away) = (Vec::new(), Vec::new());
        let files = &self.context.files;
        let flights = &files.flights;
        for NeededParts { file, parts } in needs.0.into_values() {
            let mut ours = Vec::with_capacity(parts.len());
            for (offset, part) in parts {
                match flights.find(file.id(), offset) {
                    Some(waiting) => away.push(Request::Wait(file.id(), waiting)),
                    None => ours.push(part),
                }
            }
            for run in coalesce(ours.into_iter(), GAP_BYTES_MAX) {
                let (Some(first), Some(last)) = (run.first(), run.last()) else {
                    continue;
                };
                let range = first.place.offset..last.place.end();
                let is_here = files.is_here(&file, &range);
                let requests = if is_here { &mut here } else { &mut away };
                requests.push(Request::Parts(file.clone(), run));
            }
        }
        (here, away)
    }

    /// Runs requests that the local disk answers on read threads.
    async fn load_from_disk(&self, requests: Vec<Request>) -> Result<Vec<Loaded>> {
        if requests.is_empty() {
            return Ok(Vec::new());
        }
        let thread = self.context.files.read_thread().await;
        let (context, handle) = (self.context.clone(), self.context.env.runtime.clone());
        let loaded = self.context.env.runtime.spawn_blocking(move || {
            let loaded = handle.block_on(load_on_threads(&context, requests));
            drop(thread);
            loaded
        });
        loaded.await.map_err(stopped)?
    }
}

/// What a request brought: parts of a file, or nothing if it has to be made again.
type Loaded = Option<(FileId, Arrived)>;

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

pub(super) fn stopped(error: tokio::task::JoinError) -> Error {
    Error::retry(format!("a read was stopped: {error}"))
}

/// Groups parts in ascending order into requests, across small gaps.
fn coalesce(parts: impl Iterator<Item = PartPlace>, gap_bytes_max: u64) -> Vec<Vec<PartPlace>> {
    let mut runs: Vec<Vec<PartPlace>> = Vec::new();
    for part in parts {
        if let Some(run) = runs.last_mut()
            && let (Some(first), Some(last)) = (run.first(), run.last())
            && part.place.offset.saturating_sub(last.place.end()) <= gap_bytes_max
            && part.place.end().saturating_sub(first.place.offset) <= REQUEST_BYTES_MAX
        {
            run.push(part);
            continue;
        }
        runs.push(vec![part]);
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sst::index::Place;

    #[test]
    fn neighbours_are_read_together() {
        let block = |offset: u64, bytes: u32| PartPlace::block(Place { offset, bytes });
        let offsets = |runs: &[Vec<PartPlace>]| -> Vec<Vec<u64>> {
            let of = |run: &Vec<PartPlace>| run.iter().map(|part| part.place.offset).collect();
            runs.iter().map(of).collect()
        };
        let runs = coalesce(
            [
                block(0, 8_000),
                block(8_000, 8_000),
                block(24_000, 8_000),
                block(500_000, 8_000),
            ]
            .into_iter(),
            GAP_BYTES_MAX,
        );
        assert_eq!(offsets(&runs), [vec![0, 8_000, 24_000], vec![500_000]]);
        let long = coalesce((0..1_000).map(|n| block(n * 8_000, 8_000)), GAP_BYTES_MAX);
        assert!(long.iter().all(|run| {
            run[run.len() - 1].place.end() - run[0].place.offset <= REQUEST_BYTES_MAX
        }));
        assert_eq!(long.iter().map(Vec::len).sum::<usize>(), 1_000);
    }
}

//! A process that does compactions for others: finds jobs, claims them one by one, does them on its own threads, commits the results.
//!
//! It holds no state that matters: killed at any point, its claims expire and others follow. It never reads or writes anything but the
//! directories named `compactions`, the input files that jobs name, and outputs under names of its own.
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use tokio::runtime::Handle;
use tokio::sync::{Notify, oneshot};

use super::RemoteCompaction;
use super::board::{Board, Name, look_at_all};
use super::claim::{Claim, Effect, Event};
use super::message::{JobMessage, Outcome, ResultMessage, Sign};
use super::offer::{Creation, View};
use super::outputs::prefix_of_claim;
use crate::compaction::task::{self, CompactionTask, moved_path};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::executor::{COMPACTION, Executor};
use crate::fold::Folds;
use crate::objects::request_error;
use crate::{
    BackgroundPool, BackgroundThreads, BlockCache, Clock, Environment, FileRef, RateLimiter,
};

/// Directories above a queue that are looked through: `<job>/<run>/compactions`.
const DEPTH_MAX: usize = 3;
/// Looks into known queues between two searches for new ones, which must be found before a worker has waited for a claim in vain.
const LOOKS_PER_SEARCH: u32 = 5;
/// Directories looked into by one search.
const DIRECTORIES_MAX: usize = 10_000;
/// A lease that a job asks for is kept within these.
const LEASE_MS: std::ops::RangeInclusive<u64> = 100..=3_600_000;

/// What a compactor is told when it is made.
#[derive(Clone)]
pub struct CompactorOptions {
    /// Where checkpoints are; queues are found below.
    pub base: Path,
    /// Names this compactor among all there are or ever were.
    pub id: String,
    /// Jobs done at the same time.
    pub threads: usize,
    /// How often it looks for jobs.
    pub poll: Duration,
    /// Ends when there is nothing to do.
    pub once: bool,
    /// Milliseconds since the Unix epoch.
    pub clock: Clock,
    /// How many bytes a second may be written.
    pub rate: Arc<RateLimiter>,
    /// Folds that jobs may name, beside those that are known anyway.
    pub folds: Folds,
}

/// What a compactor has done so far; shared with whoever shows it.
#[derive(Debug, Default)]
pub struct CompactorProgress {
    /// Jobs under way.
    pub running: AtomicU64,
    /// Jobs whose results were the first.
    pub done: AtomicU64,
    /// Jobs that were given up, because somebody else was faster or something was wrong.
    pub lost: AtomicU64,
    /// Bytes that were read and written by the jobs that are done.
    pub bytes_in: AtomicU64,
    /// See `bytes_in`.
    pub bytes_out: AtomicU64,
}

/// Does compactions that workers leave on an object store.
pub struct Compactor {
    objects: Arc<dyn ObjectStore>,
    runtime: Handle,
    options: CompactorOptions,
    pool: Arc<BackgroundPool>,
    cache: Arc<BlockCache>,
    progress: Arc<CompactorProgress>,
    stopping: AtomicBool,
    stop: Notify,
}

/// A job that was seen.
struct Known {
    /// `None` if it cannot be done here.
    job: Option<Arc<ReadJob>>,
    claim: Option<Claim>,
}

/// A job in the words of this process.
struct ReadJob {
    board: Board,
    task: CompactionTask,
    lease_ms: u64,
    /// How the worker's paths begin where ours begin otherwise.
    theirs: String,
    ours: String,
}

impl Compactor {
    /// A compactor on an object store; it begins with [`Self::run`].
    pub fn new(
        objects: Arc<dyn ObjectStore>,
        runtime: Handle,
        options: CompactorOptions,
    ) -> Arc<Self> {
        let threads = BackgroundThreads {
            flush: 1,
            compaction: options.threads.max(1),
        };
        Arc::new(Self {
            objects,
            pool: BackgroundPool::new(threads, runtime.clone()),
            runtime,
            options,
            cache: BlockCache::new(0),
            progress: Arc::default(),
            stopping: AtomicBool::new(false),
            stop: Notify::new(),
        })
    }

    /// What it has done so far.
    pub fn progress(&self) -> Arc<CompactorProgress> {
        self.progress.clone()
    }

    /// Claims nothing more; [`Self::run`] ends when the jobs under way are done.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        self.stop.notify_waiters();
    }

    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    /// Looks for jobs and does them until it is stopped, or, with `once`, until there are none. Fails only if the object store cannot be
    /// listed at the start.
    pub async fn run(self: &Arc<Self>) -> Result<()> {
        let mut queues = self.find_queues().await?;
        let mut known: BTreeMap<Path, Known> = BTreeMap::new();
        let mut working = FuturesUnordered::new();
        let mut looks = 0;
        loop {
            if looks >= LOOKS_PER_SEARCH || queues.is_empty() {
                looks = 0;
                match self.find_queues().await {
                    Ok(found) => queues = found,
                    Err(error) => tracing::warn!(%error, "could not look for compactions"),
                }
            }
            looks += 1;
            let mut waiting = false;
            if !self.is_stopping() {
                let views = self.look(&queues).await;
                known.retain(|directory, _| views.contains_key(directory));
                for (directory, view) in views {
                    if working.len() >= self.options.threads.max(1) {
                        break;
                    }
                    let Some(work) = self
                        .consider(&mut known, directory, &view, &mut waiting)
                        .await
                    else {
                        continue;
                    };
                    working.push(work);
                }
            }
            if working.is_empty() && (self.is_stopping() || (self.options.once && !waiting)) {
                return Ok(());
            }
            tokio::select! {
                Some(_) = working.next(), if !working.is_empty() => {}
                () = tokio::time::sleep(self.options.poll) => {}
                () = self.stop.notified(), if !self.is_stopping() => {}
            }
        }
    }

    /// Looks at one job, and claims it if it is free. `waiting`: somebody else has it, and may die.
    async fn consider(
        self: &Arc<Self>,
        known: &mut BTreeMap<Path, Known>,
        directory: Path,
        view: &View,
        waiting: &mut bool,
    ) -> Option<tokio::task::JoinHandle<()>> {
        let now_ms = (self.options.clock)();
        if !known.contains_key(&directory) {
            if !view.job || view.result {
                return None;
            }
            let job = match self.read_job(&directory).await {
                Ok(job) => job.map(Arc::new),
                Err(error) => {
                    tracing::warn!(%error, %directory, "a compaction job is passed over");
                    None
                }
            };
            let claim = job.as_ref().map(|job| Claim::new(job.lease_ms, now_ms));
            known.insert(directory.clone(), Known { job, claim });
        }
        let Known { job, claim } = known.get_mut(&directory)?;
        let job = job.clone()?;
        // While it is worked on, the work's own task has the state.
        let state = claim.as_mut()?;
        let view = *view;
        match state.step(Event::Looked { now_ms, view }) {
            Effect::Claim(number) => {
                let sign = self.sign().encode();
                let creation = job.board.create(Name::Claim(number), sign).await;
                if state.step(Event::Claimed(creation)) == Effect::Start(number) {
                    let state = claim.take()?;
                    let this = self.clone();
                    return Some(self.runtime.spawn(async move {
                        this.work(&job, state, number).await;
                    }));
                }
                *waiting = true;
            }
            Effect::Wait => *waiting |= view.job && !view.result,
            _ => {}
        }
        None
    }

    /// Does a claimed job to its end.
    async fn work(self: &Arc<Self>, job: &Arc<ReadJob>, mut state: Claim, claim: u32) {
        self.progress.running.fetch_add(1, Ordering::Relaxed);
        let context = self.context(job, claim);
        let mut finished = self.start(&context, job);
        let mut outcome = None;
        let beat = Duration::from_millis(job.lease_ms / 3);
        let mut effect = Effect::Beat(claim, 0);
        let adopted = loop {
            let event = match effect {
                Effect::Beat(claim, beat) => {
                    // A beat that fails is followed by others.
                    let _ = job
                        .board
                        .create(Name::Beat(claim, beat), self.sign().encode())
                        .await;
                    None
                }
                Effect::Commit(claim) => {
                    let outcome = outcome.clone().unwrap_or(Outcome::Failed(String::new()));
                    Some(Event::Committed(self.commit(job, claim, outcome).await))
                }
                Effect::ReadResult => Some(Event::Read {
                    ours: self.is_ours(job, claim).await,
                }),
                Effect::Discard => {
                    context.stop();
                    let outputs = match outcome.take() {
                        Some(outcome) => Some(outcome),
                        None => (&mut finished).await.ok(),
                    };
                    self.delete(job, outputs).await;
                    break false;
                }
                Effect::Leave { adopted } => break adopted,
                Effect::Wait | Effect::Claim(_) | Effect::Start(_) => None,
            };
            let event = match event {
                Some(event) => event,
                None => tokio::select! {
                    done = &mut finished, if outcome.is_none() => {
                        outcome = Some(done.unwrap_or_else(|_| Outcome::Failed("it was stopped".into())));
                        Event::Finished
                    }
                    () = tokio::time::sleep(beat) => match job.board.look().await {
                        Ok(view) => Event::Looked { now_ms: (self.options.clock)(), view },
                        Err(_) => Event::LookFailed,
                    },
                },
            };
            effect = state.step(event);
        };
        self.progress.running.fetch_sub(1, Ordering::Relaxed);
        match (&outcome, adopted) {
            (Some(Outcome::Done(files)), true) => {
                let bytes = files.iter().map(|file| file.size_bytes).sum();
                self.progress
                    .bytes_in
                    .fetch_add(job.task.input_bytes(), Ordering::Relaxed);
                self.progress.bytes_out.fetch_add(bytes, Ordering::Relaxed);
                self.progress.done.fetch_add(1, Ordering::Relaxed);
            }
            _ => drop(self.progress.lost.fetch_add(1, Ordering::Relaxed)),
        }
    }

    /// Where the outputs of a claim go: under names that nobody else uses.
    fn context(&self, job: &ReadJob, claim: u32) -> Arc<Context> {
        let mut env = Environment::new(
            self.objects.clone(),
            Path::from(job.task.directory.as_str()),
            self.runtime.clone(),
            self.cache.clone(),
            prefix_of_claim(&job.task.file_prefix, claim),
        );
        env.executor = self.pool.clone();
        env.compaction_rate = self.options.rate.clone();
        env.folds = self.options.folds.clone();
        let now_ms = job.task.clock.wall_ms();
        env.clock = Arc::new(move || now_ms);
        Context::new(env, job.task.store_options())
    }

    fn start(&self, context: &Arc<Context>, job: &Arc<ReadJob>) -> oneshot::Receiver<Outcome> {
        let (tell, finished) = oneshot::channel();
        let (context, job) = (context.clone(), job.clone());
        let work = move || {
            let outcome = match task::run(&context, &job.task) {
                Ok(files) => Outcome::Done(files),
                Err(error) => Outcome::Failed(error.message),
            };
            let _ = tell.send(outcome);
        };
        self.pool.start(COMPACTION, Box::new(work));
        finished
    }

    async fn commit(&self, job: &ReadJob, claim: u32, outcome: Outcome) -> Creation {
        // Somebody who has given up waiting has removed the job; then nobody would ever look at the result.
        let outcome = match outcome {
            Outcome::Done(files) => {
                let theirs = files.into_iter().map(|file| job.in_their_words(file));
                match theirs.collect::<Option<Vec<_>>>() {
                    Some(files) => Outcome::Done(files),
                    None => Outcome::Failed("outputs lie outside of what the worker sees".into()),
                }
            }
            other => other,
        };
        let result = self.result(claim, outcome);
        job.board.create(Name::Result, result.encode()).await
    }

    fn result(&self, claim: u32, outcome: Outcome) -> ResultMessage {
        ResultMessage {
            by: self.options.id.clone(),
            claim,
            outcome,
        }
    }

    async fn is_ours(&self, job: &ReadJob, claim: u32) -> Option<bool> {
        let bytes = job.board.read(Name::Result).await.ok()??;
        let result = ResultMessage::decode(&bytes).ok()?;
        Some(result.by == self.options.id && result.claim == claim)
    }

    async fn delete(&self, job: &ReadJob, outcome: Option<Outcome>) {
        let Some(Outcome::Done(files)) = outcome else {
            return;
        };
        tracing::info!(directory = %job.board.directory, "a compaction was for nothing: its outputs are deleted");
        for file in files {
            if let Err(error) = self.objects.delete(&Path::from(file.path.as_str())).await {
                tracing::debug!(%error, path = file.path, "could not delete an output that nobody wants");
            }
        }
    }

    fn sign(&self) -> Sign {
        Sign {
            by: self.options.id.clone(),
            at_ms: (self.options.clock)(),
        }
    }

    async fn look(&self, queues: &[Path]) -> BTreeMap<Path, View> {
        let mut views = BTreeMap::new();
        for queue in queues {
            match look_at_all(self.objects.as_ref(), queue).await {
                Ok(found) => views.extend(found),
                Err(error) => tracing::warn!(%error, "could not look for compactions"),
            }
        }
        views
    }

    /// Reads a job; `None` if it is gone.
    async fn read_job(&self, directory: &Path) -> Result<Option<ReadJob>> {
        let board = Board {
            objects: self.objects.clone(),
            directory: directory.clone(),
        };
        let Some(bytes) = board.read(Name::Job).await? else {
            return Ok(None);
        };
        let message = JobMessage::decode(&bytes)?;
        let (theirs, ours) = differing_heads(&message.place, directory.as_ref());
        let task = message.task.moved(&theirs, &ours).ok_or_else(|| {
            Error::usage(format!(
                "the job in {directory} names files that do not lie below {theirs}, which is all this process can see"
            ))
        })?;
        Ok(Some(ReadJob {
            board,
            task,
            lease_ms: message.lease_ms.clamp(*LEASE_MS.start(), *LEASE_MS.end()),
            theirs,
            ours,
        }))
    }

    /// Directories of the name `compactions` at the base and up to [`DEPTH_MAX`] below.
    async fn find_queues(&self) -> Result<Vec<Path>> {
        let base = &self.options.base;
        if base.filename() == Some(RemoteCompaction::DIRECTORY) {
            return Ok(vec![base.clone()]);
        }
        let mut queues = Vec::new();
        let mut level = vec![base.clone()];
        let mut looked = 0;
        for _ in 0..DEPTH_MAX {
            let mut next = Vec::new();
            for directory in level {
                looked += 1;
                if looked > DIRECTORIES_MAX {
                    tracing::warn!(
                        "only {DIRECTORIES_MAX} directories were looked through for compactions"
                    );
                    return Ok(queues);
                }
                let prefix = (directory != Path::default()).then_some(&directory);
                let listed = self.objects.list_with_delimiter(prefix).await;
                let listed = listed.map_err(|error| request_error("list", &directory, error))?;
                for below in listed.common_prefixes {
                    match below.filename() {
                        Some(RemoteCompaction::DIRECTORY) => queues.push(below),
                        Some(name) if is_passed_over(name) => {}
                        _ => next.push(below),
                    }
                }
            }
            level = next;
        }
        Ok(queues)
    }
}

/// Directories of a run in which no queue lies.
fn is_passed_over(name: &str) -> bool {
    name == "shared" || name.starts_with("chk-") || name.starts_with('_')
}

impl ReadJob {
    fn in_their_words(&self, file: FileRef) -> Option<FileRef> {
        let path = moved_path(&file.path, &self.ours, &self.theirs)?;
        Some(FileRef { path, ..file })
    }
}

/// What is left of two paths when the parts they end with alike are taken away.
fn differing_heads(theirs: &str, ours: &str) -> (String, String) {
    let (theirs, ours) = (Path::from(theirs), Path::from(ours));
    let mut theirs: Vec<_> = theirs.parts().collect();
    let mut ours: Vec<_> = ours.parts().collect();
    while let (Some(a), Some(b)) = (theirs.last(), ours.last()) {
        if a != b {
            break;
        }
        theirs.pop();
        ours.pop();
    }
    let joined = |parts: Vec<_>| parts.into_iter().collect::<Path>().to_string();
    (joined(theirs), joined(ours))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_told_in_the_words_of_either_side() {
        let heads = |a: &str, b: &str| differing_heads(a, b);
        assert_eq!(
            heads("j/r/compactions/1", "j/r/compactions/1"),
            ("".into(), "".into())
        );
        assert_eq!(
            heads("j/r/compactions/1", "r/compactions/1"),
            ("j".into(), "".into())
        );
        assert_eq!(heads("r/c/1", "a/b/r/c/1"), ("".into(), "a/b".into()));
        assert_eq!(
            moved_path("j/r/shared/f", "j", "").as_deref(),
            Some("r/shared/f")
        );
        assert_eq!(
            moved_path("r/shared/f", "", "j").as_deref(),
            Some("j/r/shared/f")
        );
        assert_eq!(moved_path("other/f", "j", ""), None);
        assert_eq!(moved_path("jj/f", "j", ""), None);
    }
}

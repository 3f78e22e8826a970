//! The threads that flush and compact, shared by all stores of a process.
//!
//! There are two lanes. *Flushes* make room in memory and are part of every checkpoint, so they have threads of their own that no
//! compaction can occupy. *Compactions* can wait: their threads run at low priority, so that they use what the workers leave over.
//! Threads are started when there is work for them and end when there has been none for a while. What is queued is bounded by the
//! stores: each has a few flushes and compactions under way and no more.
//!
//! Work that panics ends alone; its thread goes on. When the pool is dropped, queued work is dropped with it and whoever waits is
//! told so by the work's own drop.
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use parking_lot::{Condvar, Mutex};
use tokio::runtime::Handle;

use crate::executor::{Executor, FLUSH, Job};

/// A thread without work ends after this.
const IDLE_MAX: Duration = Duration::from_secs(5);
/// How much less a compaction's thread gets than others, on the scale of `nice`.
const COMPACTION_NICENESS: i32 = 10;

/// How many threads work in the background.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackgroundThreads {
    /// Threads that build files from memtables; at least 1.
    pub flush: usize,
    /// Threads that merge files; at least 1.
    pub compaction: usize,
}

impl Default for BackgroundThreads {
    fn default() -> Self {
        Self {
            flush: 2,
            compaction: 2,
        }
    }
}

/// The background threads of a process. Pass one to all its stores.
pub struct BackgroundPool {
    threads: BackgroundThreads,
    runtime: Handle,
    flush: Arc<LaneState>,
    compaction: Arc<LaneState>,
}

struct LaneState {
    name: &'static str,
    niceness: i32,
    threads_max: usize,
    queue: Mutex<Queue>,
    wake: Condvar,
    /// Nothing is queued or running.
    quiet: Condvar,
}

#[derive(Default)]
struct Queue {
    work: VecDeque<Job>,
    threads: usize,
    idle: usize,
    running: usize,
    closed: bool,
}

impl std::fmt::Debug for BackgroundPool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BackgroundPool")
            .field("threads", &self.threads)
            .finish_non_exhaustive()
    }
}

impl BackgroundPool {
    /// A pool of at most so many threads; none is started yet. They wait for what `runtime` does for them.
    pub fn new(threads: BackgroundThreads, runtime: Handle) -> Arc<Self> {
        let threads = BackgroundThreads {
            flush: threads.flush.max(1),
            compaction: threads.compaction.max(1),
        };
        let lane = |name, niceness, threads_max| {
            Arc::new(LaneState {
                name,
                niceness,
                threads_max,
                queue: Mutex::default(),
                wake: Condvar::new(),
                quiet: Condvar::new(),
            })
        };
        Arc::new(Self {
            threads,
            runtime,
            flush: lane("aquifer-flush", 0, threads.flush),
            compaction: lane("aquifer-compact", COMPACTION_NICENESS, threads.compaction),
        })
    }
}

impl BackgroundPool {
    /// Drops what is queued and waits until what is running has ended. To be called when all stores are gone, before their files are
    /// cleaned up.
    pub fn settle(&self) {
        for lane in [&self.flush, &self.compaction] {
            let mut queue = lane.queue.lock();
            let dropped = std::mem::take(&mut queue.work);
            while queue.running > 0 {
                lane.quiet.wait(&mut queue);
            }
            drop(queue);
            drop(dropped);
        }
    }
}

impl Executor for BackgroundPool {
    /// Jobs begin in the order they came, as soon as a thread of their lane is free.
    fn start(&self, name: &'static str, job: Job) {
        let lane = if name == FLUSH {
            &self.flush
        } else {
            &self.compaction
        };
        lane.submit(job);
    }

    fn block_on(&self, future: BoxFuture<'_, ()>) {
        self.runtime.block_on(future);
    }

    fn threads(&self) -> BackgroundThreads {
        self.threads
    }
}

impl Drop for BackgroundPool {
    fn drop(&mut self) {
        for lane in [&self.flush, &self.compaction] {
            let dropped = {
                let mut queue = lane.queue.lock();
                queue.closed = true;
                std::mem::take(&mut queue.work)
            };
            drop(dropped);
            lane.wake.notify_all();
        }
    }
}

impl LaneState {
    fn submit(self: &Arc<Self>, work: Job) {
        let mut queue = self.queue.lock();
        queue.work.push_back(work);
        if queue.idle >= queue.work.len() || queue.threads >= self.threads_max {
            drop(queue);
            self.wake.notify_one();
            return;
        }
        queue.threads += 1;
        drop(queue);
        let lane = self.clone();
        let started = std::thread::Builder::new()
            .name(self.name.into())
            .spawn(move || lane.run());
        if let Err(error) = started {
            tracing::warn!(%error, "could not start a thread for background work");
            let left = {
                let mut queue = self.queue.lock();
                queue.threads -= 1;
                (queue.threads == 0).then(|| std::mem::take(&mut queue.work))
            };
            // Dropped work reports its failure, and the store says what is to be done.
            drop(left);
        }
    }

    fn run(&self) {
        lower_priority(self.niceness);
        let mut queue = self.queue.lock();
        loop {
            if let Some(work) = queue.work.pop_front() {
                queue.running += 1;
                drop(queue);
                // The panic has been printed; the work's own drop tells whoever waits for it.
                let _ = catch_unwind(AssertUnwindSafe(work));
                queue = self.queue.lock();
                queue.running -= 1;
                if queue.running == 0 && queue.work.is_empty() {
                    self.quiet.notify_all();
                }
                continue;
            }
            if queue.closed {
                break;
            }
            queue.idle += 1;
            let timed_out = self.wake.wait_for(&mut queue, IDLE_MAX).timed_out();
            queue.idle -= 1;
            if timed_out && queue.work.is_empty() {
                break;
            }
        }
        queue.threads -= 1;
    }
}

/// Lets the calling thread stand back behind others. Where the system does not offer it, the thread runs like any other.
#[cfg(target_os = "linux")]
fn lower_priority(niceness: i32) {
    if niceness > 0
        && let Err(error) =
            rustix::process::setpriority_process(Some(rustix::thread::gettid()), niceness)
    {
        tracing::debug!(%error, "a background thread keeps its priority");
    }
}

#[cfg(not(target_os = "linux"))]
fn lower_priority(_: i32) {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::executor::COMPACTION;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc::{channel, sync_channel};

    /// A bound on hanging, not on speed.
    const PATIENCE: Duration = Duration::from_secs(60);

    fn pool(flush: usize, compaction: usize) -> (Arc<BackgroundPool>, tokio::runtime::Runtime) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let threads = BackgroundThreads { flush, compaction };
        (
            BackgroundPool::new(threads, runtime.handle().clone()),
            runtime,
        )
    }

    #[test]
    fn a_flush_does_not_wait_for_a_compaction() {
        let (pool, _runtime) = pool(1, 1);
        let (release, held) = channel::<()>();
        let (tell, told) = channel();
        pool.start(COMPACTION, Box::new(move || assert!(held.recv().is_err())));
        pool.start(FLUSH, Box::new(move || tell.send("flushed").unwrap()));
        assert_eq!(told.recv_timeout(PATIENCE), Ok("flushed"));
        drop(release);
    }

    #[test]
    fn work_is_done_once_by_no_more_threads_than_allowed() {
        let (pool, _runtime) = pool(1, 3);
        let running = Arc::new(AtomicUsize::new(0));
        let most = Arc::new(AtomicUsize::new(0));
        let (tell, told) = channel();
        for i in 0..200 {
            let (running, most, tell) = (running.clone(), most.clone(), tell.clone());
            let work = move || {
                most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                std::thread::yield_now();
                running.fetch_sub(1, Ordering::SeqCst);
                tell.send(i).unwrap();
            };
            pool.start(COMPACTION, Box::new(work));
        }
        drop(tell);
        let mut done: Vec<i32> = told.iter().collect();
        done.sort_unstable();
        assert_eq!(done, (0..200).collect::<Vec<_>>());
        assert!((1..=3).contains(&most.load(Ordering::SeqCst)));
    }

    #[test]
    fn a_panic_ends_only_the_work_that_made_it() {
        let (pool, _runtime) = pool(1, 1);
        let (tell, told) = channel();
        pool.start(FLUSH, Box::new(|| panic!("on purpose")));
        pool.start(FLUSH, Box::new(move || tell.send(()).unwrap()));
        assert_eq!(told.recv_timeout(PATIENCE), Ok(()));
    }

    #[test]
    fn a_settled_pool_is_quiet() {
        let (pool, _runtime) = pool(1, 1);
        let (started, start) = sync_channel(0);
        let (release, held) = channel::<()>();
        let ended = Arc::new(AtomicUsize::new(0));
        let work = {
            let ended = ended.clone();
            move || {
                started.send(()).unwrap();
                assert!(held.recv().is_err());
                ended.fetch_add(1, Ordering::SeqCst);
            }
        };
        pool.start(COMPACTION, Box::new(work));
        start.recv().unwrap();
        let never = ended.clone();
        let queued = move || {
            never.fetch_add(10, Ordering::SeqCst);
        };
        pool.start(COMPACTION, Box::new(queued));
        let settled = std::thread::spawn({
            let pool = pool.clone();
            move || pool.settle()
        });
        drop(release);
        settled.join().unwrap();
        // The queued work was either dropped or has ended, too.
        assert!([1, 11].contains(&ended.load(Ordering::SeqCst)));
    }

    #[test]
    fn a_dropped_pool_drops_what_is_queued() {
        struct Told(std::sync::mpsc::Sender<&'static str>);
        impl Drop for Told {
            fn drop(&mut self) {
                let _ = self.0.send("dropped");
            }
        }
        let (pool, _runtime) = pool(1, 1);
        let (started, start) = sync_channel(0);
        let (release, held) = channel::<()>();
        let work = move || {
            started.send(()).unwrap();
            assert!(held.recv().is_err());
        };
        pool.start(COMPACTION, Box::new(work));
        start.recv().unwrap();
        let (tell, told) = channel();
        let queued = Told(tell);
        pool.start(COMPACTION, Box::new(move || drop(queued)));
        drop(pool);
        assert_eq!(told.recv_timeout(PATIENCE), Ok("dropped"));
        drop(release);
    }
}

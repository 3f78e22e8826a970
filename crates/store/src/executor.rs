//! Where blocking work of the store runs: the one place at which it meets threads.
//!
//! Flushes and compactions are written as blocking code that waits for uploads and downloads. In production they run on a
//! [`BackgroundPool`](crate::BackgroundPool). A simulation puts its own executor in: it keeps started jobs in a list, runs one when its seed says so, on its only
//! thread, and drives the runtime itself while a job waits. For that, nothing in the store may start threads of its own, wait for a
//! future other than through [`Executor::block_on`], or sleep.
use futures_util::future::BoxFuture;

use crate::pool::BackgroundThreads;

/// The name under which flushes are started; everything else can wait for them.
pub(crate) const FLUSH: &str = "flush";
/// The name under which compactions are started.
pub(crate) const COMPACTION: &str = "compaction";

/// A piece of background work. It reports its result by itself, even if it panics or is dropped unused.
pub type Job = Box<dyn FnOnce() + Send>;

/// Runs the blocking work of stores.
pub trait Executor: Send + Sync {
    /// Runs a job some time, off the caller's thread. `name` says what it is: "flush", "compaction".
    fn start(&self, name: &'static str, job: Job);

    /// Waits for a future on a job's thread; tasks and timers of the runtime make progress meanwhile.
    fn block_on(&self, future: BoxFuture<'_, ()>);

    /// The store's own thread is about to wait until some job has ended. An executor that has only this thread must run one.
    fn before_wait(&self) {}

    /// How many jobs of a kind can run at once.
    fn threads(&self) -> BackgroundThreads {
        BackgroundThreads {
            flush: 1,
            compaction: 1,
        }
    }

    /// Pauses before another attempt, and delays that hold back writes, are left out: time is not real.
    fn skips_pauses(&self) -> bool {
        false
    }
}

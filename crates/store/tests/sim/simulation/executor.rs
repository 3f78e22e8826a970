//! One thread for everything, and time that is not real.
//!
//! Jobs that the store starts wait in a list until the simulation runs one, to its end, on the only thread there is. While a job
//! waits for a future, the runtime's tasks run, and when nothing can run, time jumps to the next timer. So the same case is the
//! same run, request by request.
use std::collections::VecDeque;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use aquifer_store::{BackgroundThreads, Executor, Job};
use futures_util::future::{BoxFuture, Either, select};
use parking_lot::Mutex;
use tokio::runtime::{Builder, Runtime};

/// Nothing takes this long, even with hanging requests that are tried again.
const FOREVER: Duration = Duration::from_secs(30 * 24 * 3600);
/// Jobs that wait; when there are more, the oldest is run.
const WAITING_MAX: usize = 3;

pub struct SimExecutor {
    threads: usize,
    disk: bool,
    pub runtime: Runtime,
    waiting: Mutex<VecDeque<(&'static str, Job)>>,
}

impl SimExecutor {
    /// Pretends to have so many threads for each kind of job. With a disk, the runtime has threads that wait for it, and then its
    /// clock does not jump by itself.
    pub fn new(threads: usize, disk: bool) -> Arc<Self> {
        let runtime = Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build();
        Arc::new(Self {
            threads,
            disk,
            runtime: runtime.expect("a runtime"),
            waiting: Mutex::default(),
        })
    }

    /// Runs a future to its end; panics if it would wait for ever.
    pub fn wait<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(async {
            let mut future = pin!(tokio::time::timeout(FOREVER, future));
            loop {
                let done = match self.disk {
                    false => Some(future.as_mut().await),
                    true => match select(future.as_mut(), pin!(tick())).await {
                        Either::Left((done, _)) => Some(done),
                        Either::Right(_) => None,
                    },
                };
                match done {
                    Some(Ok(output)) => return output,
                    Some(Err(_)) => panic!("something is waited for that never comes"),
                    None => {}
                }
            }
        })
    }

    pub fn waiting(&self) -> usize {
        self.waiting.lock().len()
    }

    /// Runs one of the jobs that wait.
    pub fn run(&self, which: usize) -> bool {
        let mut waiting = self.waiting.lock();
        let count = waiting.len();
        if count == 0 {
            return false;
        }
        let job = waiting.remove(which % count);
        drop(waiting);
        if let Some((_, job)) = job {
            job();
        }
        true
    }

    /// Lets tasks of the runtime, such as deletions, come to their end.
    pub fn drain(&self) {
        self.wait(async {
            while self.runtime.metrics().num_alive_tasks() > 0 {
                tokio::time::sleep(Duration::from_secs(60)).await;
            }
        });
    }

    /// The process dies: jobs that were not run never will be.
    pub fn forget(&self) {
        let dropped = std::mem::take(&mut *self.waiting.lock());
        drop(dropped);
    }
}

/// Others get their turn, then a little time passes.
async fn tick() {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
    tokio::time::advance(Duration::from_millis(200)).await;
}

impl Executor for SimExecutor {
    fn start(&self, name: &'static str, job: Job) {
        self.waiting.lock().push_back((name, job));
        while self.waiting() > WAITING_MAX {
            self.run(0);
        }
    }

    fn block_on(&self, future: BoxFuture<'_, ()>) {
        self.wait(future);
    }

    fn before_wait(&self) {
        // Which of the jobs is waited for is not known; other stores may have started some of them.
        while self.run(0) {}
    }

    fn threads(&self) -> BackgroundThreads {
        BackgroundThreads {
            flush: self.threads,
            compaction: self.threads,
        }
    }

    fn skips_pauses(&self) -> bool {
        true
    }
}

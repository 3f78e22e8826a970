//! A large piece of background work, done in parts by several threads at once.
//!
//! The thread that was given the work takes parts until there are none left; helpers are started beside it and do the same, if and
//! when threads of the pool are free. So the work never waits for a helper that has not begun, and one thread alone does it all.
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};

use crate::context::Context;
use crate::error::{Error, Result};

/// What the threads of one piece of work share.
struct Team<T, W> {
    name: &'static str,
    work: W,
    parts: usize,
    state: Mutex<State<T>>,
    finished: Condvar,
}

struct State<T> {
    next: usize,
    results: Vec<Option<Result<T>>>,
}

/// Does `work` for each number below `parts`, and waits for all of them. Results come in that order.
pub(crate) fn in_parts<T: Send + 'static>(
    context: &Arc<Context>,
    name: &'static str,
    parts: usize,
    work: impl Fn(&Arc<Context>, usize) -> Result<T> + Send + Sync + 'static,
) -> Vec<Result<T>> {
    let team = Arc::new(Team {
        name,
        work,
        parts,
        state: Mutex::new(State {
            next: 0,
            results: (0..parts).map(|_| None).collect(),
        }),
        finished: Condvar::new(),
    });
    for _ in 1..parts {
        let (team, context) = (team.clone(), context.clone());
        let executor = context.env.executor.clone();
        executor.start(name, Box::new(move || team.take_parts(&context)));
    }
    team.take_parts(context);
    team.wait()
}

impl<T, W: Fn(&Arc<Context>, usize) -> Result<T>> Team<T, W> {
    fn take_parts(&self, context: &Arc<Context>) {
        while let Some(part) = self.next() {
            let mut report = Report {
                team: self,
                part,
                result: None,
            };
            report.result = Some((self.work)(context, part));
        }
    }

    fn next(&self) -> Option<usize> {
        let mut state = self.state.lock();
        let part = state.next;
        state.next = (part + 1).min(self.parts);
        (part < self.parts).then_some(part)
    }

    /// Waits for the parts that others have begun.
    fn wait(&self) -> Vec<Result<T>> {
        let mut state = self.state.lock();
        while state.results.iter().any(Option::is_none) {
            self.finished.wait(&mut state);
        }
        state.results.drain(..).flatten().collect()
    }
}

/// Hands in the result of a part; if its thread panics, a failure.
struct Report<'t, T, W> {
    team: &'t Team<T, W>,
    part: usize,
    result: Option<Result<T>>,
}

impl<T, W> Drop for Report<'_, T, W> {
    fn drop(&mut self) {
        let stopped = || Error::retry(format!("a part of a {} was stopped", self.team.name));
        let result = self.result.take().unwrap_or_else(|| Err(stopped()));
        if let Some(place) = self.team.state.lock().results.get_mut(self.part) {
            *place = Some(result);
        }
        self.team.finished.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::executor::COMPACTION;
    use crate::{BackgroundPool, BackgroundThreads, BlockCache, Environment, StoreOptions};

    fn with_threads(compaction: usize) -> (tokio::runtime::Runtime, Arc<Context>) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let threads = BackgroundThreads {
            flush: 1,
            compaction,
        };
        let mut env = Environment::new(
            Arc::new(object_store::memory::InMemory::new()),
            "d".into(),
            runtime.handle().clone(),
            BlockCache::new(0),
            "p",
        );
        env.executor = BackgroundPool::new(threads, runtime.handle().clone());
        (runtime, Context::new(env, StoreOptions::default()))
    }

    #[test]
    fn results_come_in_order_however_many_threads_there_are() {
        for threads in [1, 2, 4] {
            let (_runtime, context) = with_threads(threads);
            let results = in_parts(&context, COMPACTION, 50, |_, part| Ok(part * 2));
            let results: Vec<usize> = results.into_iter().map(Result::unwrap).collect();
            assert_eq!(results, (0..50).map(|part| part * 2).collect::<Vec<_>>());
        }
        let (_runtime, context) = with_threads(1);
        assert!(in_parts(&context, COMPACTION, 0, |_, part| Ok(part)).is_empty());
    }

    #[test]
    fn a_part_that_fails_or_panics_does_not_stop_the_others() {
        let (_runtime, context) = with_threads(2);
        let main = std::thread::current().id();
        let results = in_parts(&context, COMPACTION, 20, move |_, part| {
            // A panic of the thread that leads would be the panic of the whole.
            let helps = std::thread::current().id() != main;
            match part {
                3 => Err(Error::usage("on purpose")),
                _ if part % 5 == 0 && helps => panic!("on purpose"),
                _ => {
                    std::thread::yield_now();
                    Ok(part)
                }
            }
        });
        assert_eq!(results.len(), 20);
        let failed = |part: usize| results.get(part).is_some_and(Result::is_err);
        assert!(failed(3));
        assert!(
            (0..20)
                .filter(|part| part % 5 != 0 && *part != 3)
                .all(|part| !failed(part))
        );
    }
}

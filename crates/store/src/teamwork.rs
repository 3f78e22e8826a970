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

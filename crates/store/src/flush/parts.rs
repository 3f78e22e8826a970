//! A large flush is built in parts, each a range of keys and a file of its own, by several threads at once.
//!
//! The thread that was given the flush takes parts until there are none left; helpers are started beside it and do the same, if and when
//! threads of the pool are free. So the flush never waits for a helper that has not begun, and one thread alone does it all. The files of
//! the parts do not overlap and count as one run of L0.
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};

use super::{Bound, Frozen, Part, write_part};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::executor::FLUSH;
use crate::sst::writer::NewFile;

/// What the threads of one flush share.
struct Shared {
    sources: Vec<Frozen>,
    /// Between the parts; ascending.
    cuts: Vec<Bound>,
    state: Mutex<State>,
    finished: Condvar,
}

struct State {
    next: usize,
    files: Vec<Option<Result<Option<NewFile>>>>,
}

/// Builds the files of a flush whose memtables are sorted.
pub(super) fn build(context: &Arc<Context>, sources: &[Frozen]) -> Result<Vec<NewFile>> {
    let cuts = cuts(sources, parts_of(context, sources));
    let shared = Arc::new(Shared {
        sources: sources.to_vec(),
        state: Mutex::new(State {
            next: 0,
            files: (0..=cuts.len()).map(|_| None).collect(),
        }),
        cuts,
        finished: Condvar::new(),
    });
    for _ in 0..shared.cuts.len() {
        let (shared, helped) = (shared.clone(), context.clone());
        let help = move || shared.work(&helped);
        context.env.executor.start(FLUSH, Box::new(help));
    }
    shared.work(context);
    shared.wait()
}

fn parts_of(context: &Context, sources: &[Frozen]) -> usize {
    let bytes: usize = sources.iter().map(|frozen| frozen.memtable.bytes()).sum();
    let threads = context.env.executor.threads().flush;
    (bytes / context.options.flush_part_bytes_min.max(1)).clamp(1, threads.max(1))
}

/// Keys that divide the largest memtable evenly.
fn cuts(sources: &[Frozen], parts: usize) -> Vec<Bound> {
    let Some(largest) = sources.iter().max_by_key(|frozen| frozen.memtable.rows()) else {
        return Vec::new();
    };
    let rows = largest.memtable.rows();
    let mut cuts: Vec<Bound> = (1..parts)
        .filter_map(|part| largest.memtable.sorted_row(rows * part / parts))
        .map(|row| Bound::at(largest.table, &row))
        .collect();
    cuts.dedup();
    cuts
}

impl Shared {
    /// Takes parts until there are none left.
    fn work(&self, context: &Arc<Context>) {
        loop {
            let number = {
                let mut state = self.state.lock();
                let number = state.next;
                if number > self.cuts.len() {
                    return;
                }
                state.next += 1;
                number
            };
            let mut report = Report {
                shared: self,
                number,
                result: None,
            };
            let part = Part {
                from: number
                    .checked_sub(1)
                    .and_then(|before| self.cuts.get(before)),
                until: self.cuts.get(number),
                of: self.cuts.len() + 1,
            };
            report.result = Some(write_part(context, &self.sources, &part));
        }
    }

    /// Waits for the parts that others have begun. Of a flush that failed, no file is left.
    fn wait(&self) -> Result<Vec<NewFile>> {
        let mut state = self.state.lock();
        while state.files.iter().any(Option::is_none) {
            self.finished.wait(&mut state);
        }
        let results: Vec<_> = state.files.drain(..).flatten().collect();
        drop(state);
        let mut files = Vec::with_capacity(results.len());
        let mut failure = None;
        for result in results {
            match result {
                Ok(file) => files.extend(file),
                Err(error) => failure = Some(error),
            }
        }
        match failure {
            None => Ok(files),
            Some(error) => {
                files.iter().for_each(|made| made.file.retire());
                Err(error)
            }
        }
    }
}

/// Hands in the result of a part; if its thread panics, a failure.
struct Report<'s> {
    shared: &'s Shared,
    number: usize,
    result: Option<Result<Option<NewFile>>>,
}

impl Drop for Report<'_> {
    fn drop(&mut self) {
        let result = self.result.take();
        let result = result.unwrap_or_else(|| Err(Error::retry("a part of a flush was stopped")));
        if let Some(slot) = self.shared.state.lock().files.get_mut(self.number) {
            *slot = Some(result);
        }
        self.shared.finished.notify_all();
    }
}

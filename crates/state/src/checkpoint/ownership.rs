//! Who may delete which file: a pure state machine, no I/O.
//!
//! A file belongs to the job from the first complete checkpoint that names it. It may go when no retained checkpoint names it any more,
//! and then one checkpoint later still, because reads that were planned before the newest barrier may be under way. Files of a foreign
//! checkpoint (restored with `NO_CLAIM`) are never returned. What is lost here when the process dies, the sweep of orphans finds.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// The retained checkpoints of one run and the files that they name.
#[derive(Debug)]
pub struct FileOwnership {
    retained_max: usize,
    /// Oldest first.
    retained: VecDeque<Retained>,
    /// How many retained checkpoints name a file; never 0.
    references: BTreeMap<String, usize>,
    /// Named by none since the newest checkpoint: returned with the next one.
    leaving: Vec<String>,
    foreign: BTreeSet<String>,
    /// Checkpoints that somebody reads, and how many do: neither they nor newer ones are discarded, which happens in order.
    pinned: BTreeMap<u64, usize>,
}

#[derive(Debug)]
struct Retained {
    checkpoint_id: u64,
    files: BTreeSet<String>,
}

impl Default for FileOwnership {
    /// Retains one checkpoint.
    fn default() -> Self {
        Self::new(1)
    }
}

impl FileOwnership {
    /// Retains the newest `retained_max` checkpoints, at least one.
    pub fn new(retained_max: usize) -> Self {
        Self {
            retained_max: retained_max.max(1),
            retained: VecDeque::new(),
            references: BTreeMap::new(),
            leaving: Vec::new(),
            foreign: BTreeSet::new(),
            pinned: BTreeMap::new(),
        }
    }

    /// Somebody reads this checkpoint: it stays until [`unpin`](Self::unpin) was called as often.
    pub fn pin(&mut self, checkpoint_id: u64) {
        *self.pinned.entry(checkpoint_id).or_default() += 1;
    }

    /// Ends a [`pin`](Self::pin). What may go by then goes with the next checkpoint that is complete.
    pub fn unpin(&mut self, checkpoint_id: u64) {
        if let Some(count) = self.pinned.get_mut(&checkpoint_id) {
            *count -= 1;
            if *count == 0 {
                self.pinned.remove(&checkpoint_id);
            }
        }
    }

    /// These files belong to somebody else and are never returned, whichever checkpoint names them.
    pub fn exclude_foreign(&mut self, files: impl IntoIterator<Item = String>) {
        self.foreign.extend(files);
    }

    /// A checkpoint that exists already (after a restart). To be told oldest first, before the first `complete`; there may be more
    /// than are retained, and the next `complete` discards them.
    pub fn restore(&mut self, checkpoint_id: u64, files: Vec<String>) {
        self.add(checkpoint_id, files);
    }

    /// A checkpoint is complete. Returns what may go now: checkpoints to discard, oldest first, and then files to delete. Files are only
    /// returned one checkpoint after the last checkpoint that names them was subsumed, because reads planned before the newest barrier
    /// may still be under way.
    ///
    /// Ids ascend; an id that is not newer than the newest known changes nothing.
    pub fn complete(&mut self, checkpoint_id: u64, files: Vec<String>) -> (Vec<u64>, Vec<String>) {
        if !self.add(checkpoint_id, files) {
            return (Vec::new(), Vec::new());
        }
        let mut gone = std::mem::take(&mut self.leaving);
        // Names are never used again; should one return all the same, it stays.
        gone.retain(|file| !self.references.contains_key(file));
        let mut discarded = Vec::new();
        while self.retained.len() > self.retained_max
            && self
                .retained
                .front()
                .is_some_and(|oldest| !self.pinned.contains_key(&oldest.checkpoint_id))
            && let Some(subsumed) = self.retained.pop_front()
        {
            discarded.push(subsumed.checkpoint_id);
            for file in subsumed.files {
                self.release(file);
            }
        }
        (discarded, gone)
    }

    fn add(&mut self, checkpoint_id: u64, files: Vec<String>) -> bool {
        if self
            .retained
            .back()
            .is_some_and(|newest| newest.checkpoint_id >= checkpoint_id)
        {
            return false;
        }
        let files: BTreeSet<String> = files
            .into_iter()
            .filter(|file| !self.foreign.contains(file))
            .collect();
        for file in &files {
            *self.references.entry(file.clone()).or_default() += 1;
        }
        self.retained.push_back(Retained {
            checkpoint_id,
            files,
        });
        true
    }

    fn release(&mut self, file: String) {
        if let Some(count) = self.references.get_mut(&file) {
            *count -= 1;
            if *count == 0 {
                self.references.remove(&file);
                self.leaving.push(file);
            }
        }
    }
}

#[cfg(test)]
mod tests;

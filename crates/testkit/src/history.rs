//! What happened at an object store, request by request: numbered lines for people, a hash for comparing two runs, counts for
//! the figures.
use std::collections::{BTreeMap, VecDeque};
use std::fmt;

use crate::FaultKind;

/// Lines kept; older ones only live on in the hash.
const LINES_MAX: usize = 4096;

/// A record of events, in order.
#[derive(Clone, Debug)]
pub struct History {
    events: u64,
    hash: u64,
    lines: VecDeque<String>,
    faults: BTreeMap<FaultKind, u64>,
}

impl Default for History {
    fn default() -> Self {
        Self {
            events: 0,
            hash: 0xcbf2_9ce4_8422_2325,
            lines: VecDeque::new(),
            faults: BTreeMap::new(),
        }
    }
}

impl History {
    /// Adds a line.
    pub fn add(&mut self, line: fmt::Arguments<'_>) {
        let line = format!("{:6} {line}", self.events);
        for byte in line.bytes() {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        self.events += 1;
        if self.lines.len() == LINES_MAX {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }

    /// Counts a fault that struck.
    pub fn count(&mut self, kind: FaultKind) {
        *self.faults.entry(kind).or_default() += 1;
    }

    /// How often each kind struck.
    pub fn faults(&self) -> &BTreeMap<FaultKind, u64> {
        &self.faults
    }

    /// Events so far.
    pub fn events(&self) -> u64 {
        self.events
    }

    /// Equal for runs in which the same happened in the same order.
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// The newest lines, oldest first.
    pub fn lines(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.lines.iter().map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_histories_have_equal_hashes() {
        let record = |words: &[&str]| {
            let mut history = History::default();
            for word in words {
                history.add(format_args!("did {word}"));
            }
            history
        };
        let (a, b) = (record(&["this", "that"]), record(&["this", "that"]));
        assert_eq!(a.hash(), b.hash());
        assert_ne!(a.hash(), record(&["that", "this"]).hash());
        assert_eq!(a.lines().last(), Some("     1 did that"));
        let mut long = History::default();
        for i in 0..10_000 {
            long.add(format_args!("{i}"));
        }
        assert_eq!((long.events(), long.lines().count()), (10_000, LINES_MAX));
    }
}

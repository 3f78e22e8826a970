//! Timers that are due and have not been fired, by key.
//!
//! Timers are taken from state many at a time, and fired key by key while callbacks of other keys wait. A callback may take back a timer of
//! its key that was taken already, register one that was, or one that comes before it: each must have the same effect as if timers were taken
//! one by one. So of each key the times that are left lie here, and one *turn* at a time is under way for it, which fires the earliest.
//!
//! What always holds: a key is here exactly as long as a turn of it is under way or waits. Nothing is here at a barrier.

use std::collections::BTreeSet;
use std::hash::BuildHasherDefault;

use hashbrown::HashMap;
use xxhash_rust::xxh3::Xxh3Default;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct DueTimers {
    keys: HashMap<Box<[u8]>, BTreeSet<i64>, BuildHasherDefault<Xxh3Default>>,
}

impl DueTimers {
    /// A timer of a key is due; true if a turn must begin.
    pub fn add(&mut self, key: &[u8], timestamp_ms: i64) -> bool {
        match self.keys.get_mut(key) {
            Some(times) => {
                times.insert(timestamp_ms);
                false
            }
            None => {
                self.keys.insert(key.into(), BTreeSet::from([timestamp_ms]));
                true
            }
        }
    }

    /// A timer is registered; true if it has its place here, before or among timers that are left of its key.
    pub fn register(&mut self, key: &[u8], timestamp_ms: i64) -> bool {
        if self.keys.is_empty() {
            return false;
        }
        match self.keys.get_mut(key) {
            Some(times) if times.last().is_some_and(|last| timestamp_ms <= *last) => {
                times.insert(timestamp_ms);
                true
            }
            _ => false,
        }
    }

    /// A timer is taken back.
    pub fn delete(&mut self, key: &[u8], timestamp_ms: i64) {
        if !self.keys.is_empty()
            && let Some(times) = self.keys.get_mut(key)
        {
            times.remove(&timestamp_ms);
        }
    }

    /// A turn of a key begins: the earliest of its timers, if it has not been taken back.
    pub fn first(&mut self, key: &[u8]) -> Option<i64> {
        self.keys.get_mut(key)?.pop_first()
    }

    /// A turn of a key has ended; true if another must begin.
    pub fn ended(&mut self, key: &[u8]) -> bool {
        match self.keys.get(key) {
            Some(times) if !times.is_empty() => true,
            Some(_) => {
                self.keys.remove(key);
                false
            }
            None => false,
        }
    }

    /// Keys of which a turn is under way or waits.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.keys.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const K: &[u8] = b"k";

    #[test]
    fn a_key_has_one_turn_and_fires_in_order() {
        let mut due = DueTimers::default();
        assert!(due.add(K, 20));
        assert!(!due.add(K, 10));
        assert!(due.add(b"other", 5));
        assert_eq!(due.first(K), Some(10));
        assert!(due.ended(K), "20 is left");
        assert_eq!(due.first(K), Some(20));
        assert!(!due.ended(K));
        assert!(due.add(K, 30), "and the key begins anew");
    }

    #[test]
    fn callbacks_change_what_is_left() {
        let mut due = DueTimers::default();
        for at in [10, 20, 30] {
            due.add(K, at);
        }
        assert_eq!(due.first(K), Some(10));
        assert!(due.register(K, 20), "it is there");
        assert!(due.register(K, 15), "before the others");
        assert!(!due.register(K, 31), "behind them: it stays in state");
        assert!(!due.register(b"other", 15));
        due.delete(K, 30);
        due.delete(K, 99);
        assert!(due.ended(K));
        assert_eq!((due.first(K), due.first(K)), (Some(15), Some(20)));
        assert_eq!(due.first(K), None);
        assert!(
            !due.register(K, 1),
            "nothing is left that it could come before"
        );
        assert!(!due.ended(K));
        assert_eq!(due.len(), 0);
    }
}

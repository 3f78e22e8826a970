//! Which keys are under way, and what waits for them.
//!
//! What always holds: a key is held by at most one piece of work; what waits for a key gets it in the order of its priority, and in the order
//! of arrival within one priority. A key is hashed once, when work asks for it: whoever holds it names it by its number. Entries and their
//! buffers are used again, so in a steady state nothing is allocated.

use std::collections::VecDeque;

use hashbrown::HashTable;
use xxhash_rust::xxh3::xxh3_64;

/// Buffers of entries that are larger than this are given back when their key is released.
const KEY_BYTES_KEPT: usize = 1024;
/// The same for queues, in pieces of work.
const WAITING_KEPT: usize = 16;

/// A key group and an encoded key of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyRef<'a> {
    /// The key group.
    pub group: u16,
    /// The key, encoded (`crate::ordered`).
    pub bytes: &'a [u8],
}

/// Names a key that is held. Whoever has it must release it.
#[derive(Debug, PartialEq, Eq)]
pub struct HeldKey(u32);

/// What became of work that asked for a key.
#[derive(Debug, PartialEq, Eq)]
pub enum Occupied<W> {
    /// The key was free and is held now.
    Run(HeldKey, W),
    /// The key is held; the work waits for it.
    Queued,
}

/// Keys under way.
#[derive(Debug)]
pub struct KeyAccounting<W> {
    index: HashTable<u32>,
    entries: Vec<Entry<W>>,
    free: Vec<u32>,
    /// Work that waits, over all keys.
    waiting: usize,
    /// Keys for which something waits.
    blocked_keys: usize,
}

#[derive(Debug)]
struct Entry<W> {
    hash: u64,
    group: u16,
    bytes: Vec<u8>,
    waiting: VecDeque<(u8, W)>,
}

impl<W> Entry<W> {
    fn is(&self, hash: u64, key: KeyRef<'_>) -> bool {
        self.hash == hash && self.group == key.group && self.bytes == key.bytes
    }
}

impl<W> Default for KeyAccounting<W> {
    fn default() -> Self {
        Self {
            index: HashTable::new(),
            entries: Vec::new(),
            free: Vec::new(),
            waiting: 0,
            blocked_keys: 0,
        }
    }
}

impl<W> KeyAccounting<W> {
    /// Whether somebody holds the key. If nobody holds any, the key is not even hashed.
    #[inline]
    pub fn is_held(&self, key: KeyRef<'_>) -> bool {
        !self.index.is_empty() && {
            let hash = xxh3_64(key.bytes);
            let is = |at: &u32| self.entries[*at as usize].is(hash, key);
            self.index.find(hash, is).is_some()
        }
    }

    /// Takes the key for `work`, or lets it wait: behind all that has at least its priority, before all that has less.
    pub fn occupy(&mut self, key: KeyRef<'_>, priority: u8, work: W) -> Occupied<W> {
        let hash = xxh3_64(key.bytes);
        let entries = &mut self.entries;
        let is = |at: &u32| entries[*at as usize].is(hash, key);
        let found = self.index.find(hash, is);
        if let Some(at) = found {
            let waiting = &mut entries[*at as usize].waiting;
            self.blocked_keys += usize::from(waiting.is_empty());
            self.waiting += 1;
            // Most work has the least priority, and goes to the end at once.
            let behind = waiting.iter().rposition(|(other, _)| *other >= priority);
            waiting.insert(behind.map_or(0, |last| last + 1), (priority, work));
            return Occupied::Queued;
        }
        let at = match self.free.pop() {
            Some(at) => {
                let entry = &mut entries[at as usize];
                entry.hash = hash;
                entry.group = key.group;
                entry.bytes.extend_from_slice(key.bytes);
                at
            }
            None => {
                entries.push(Entry {
                    hash,
                    group: key.group,
                    bytes: key.bytes.to_vec(),
                    waiting: VecDeque::new(),
                });
                (entries.len() - 1) as u32
            }
        };
        self.index
            .insert_unique(hash, at, |at| entries[*at as usize].hash);
        Occupied::Run(HeldKey(at), work)
    }

    /// The holder is done with its key: the next work that waits gets it, or it is free.
    pub fn release(&mut self, held: HeldKey) -> Option<(HeldKey, W)> {
        let entry = &mut self.entries[held.0 as usize];
        if let Some((_, work)) = entry.waiting.pop_front() {
            self.waiting -= 1;
            self.blocked_keys -= usize::from(entry.waiting.is_empty());
            return Some((held, work));
        }
        if entry.bytes.capacity() > KEY_BYTES_KEPT {
            entry.bytes = Vec::new();
        }
        if entry.waiting.capacity() > WAITING_KEPT {
            entry.waiting = VecDeque::new();
        }
        entry.bytes.clear();
        if let Ok(found) = self.index.find_entry(entry.hash, |at| *at == held.0) {
            found.remove();
        }
        self.free.push(held.0);
        None
    }

    /// The key that is held.
    #[inline]
    pub fn key(&self, held: &HeldKey) -> KeyRef<'_> {
        let entry = &self.entries[held.0 as usize];
        KeyRef {
            group: entry.group,
            bytes: &entry.bytes,
        }
    }

    /// Work that waits for a key.
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    /// Keys for which something waits.
    pub fn blocked_keys(&self) -> usize {
        self.blocked_keys
    }

    /// Keys that are held.
    pub fn held(&self) -> usize {
        self.index.len()
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(bytes: &[u8]) -> KeyRef<'_> {
        KeyRef { group: 1, bytes }
    }

    fn run(occupied: Occupied<u32>) -> (HeldKey, u32) {
        match occupied {
            Occupied::Run(held, work) => (held, work),
            Occupied::Queued => panic!("the key is held"),
        }
    }

    /// Flink's `KeyAccountingUnitTest`.
    #[test]
    fn a_key_is_held_once_until_it_is_released() {
        let mut keys = KeyAccounting::default();
        let (first, work) = run(keys.occupy(key(b"a"), 0, 1));
        assert_eq!(work, 1);
        assert_eq!(keys.occupy(key(b"a"), 0, 2), Occupied::Queued);
        let (other, _) = run(keys.occupy(key(b"b"), 0, 3));
        assert_eq!(
            (keys.held(), keys.waiting(), keys.blocked_keys()),
            (2, 1, 1)
        );
        assert_eq!(keys.key(&first), key(b"a"));
        assert!(keys.is_held(key(b"a")) && !keys.is_held(key(b"c")));
        let (first, work) = keys.release(first).expect("2 waits");
        assert_eq!(work, 2);
        assert!(keys.release(first).is_none());
        assert!(keys.release(other).is_none());
        assert_eq!(
            (keys.held(), keys.waiting(), keys.blocked_keys()),
            (0, 0, 0)
        );
        assert!(!keys.is_held(key(b"a")));
        run(keys.occupy(key(b"a"), 0, 4));
    }

    #[test]
    fn higher_priorities_overtake_and_equal_ones_keep_their_order() {
        let mut keys = KeyAccounting::default();
        let (mut held, _) = run(keys.occupy(key(b"a"), 0, 0));
        for (priority, work) in [(0, 1), (0, 2), (1, 3), (2, 4), (1, 5), (0, 6), (2, 7)] {
            assert_eq!(keys.occupy(key(b"a"), priority, work), Occupied::Queued);
        }
        let mut order = Vec::new();
        while let Some((again, work)) = keys.release(held) {
            order.push(work);
            held = again;
        }
        assert_eq!(order, [4, 7, 3, 5, 1, 2, 6]);
        assert_eq!(keys.held(), 0);
    }

    #[test]
    fn equal_bytes_of_two_groups_are_two_keys() {
        let mut keys = KeyAccounting::default();
        let (one, _) = run(keys.occupy(
            KeyRef {
                group: 1,
                bytes: b"k",
            },
            0,
            1,
        ));
        let (two, _) = run(keys.occupy(
            KeyRef {
                group: 2,
                bytes: b"k",
            },
            0,
            2,
        ));
        assert_eq!(keys.key(&two).group, 2);
        assert_eq!(keys.release(one), None);
        assert_eq!(
            keys.occupy(
                KeyRef {
                    group: 2,
                    bytes: b"k"
                },
                0,
                3
            ),
            Occupied::Queued
        );
    }

    /// Every operation against a plain map of queues.
    #[test]
    fn random_keys_agree_with_a_model() {
        use std::collections::BTreeMap;
        let mut keys = KeyAccounting::default();
        let mut model: BTreeMap<u8, VecDeque<u32>> = BTreeMap::new();
        let mut held: BTreeMap<u8, HeldKey> = BTreeMap::new();
        let mut random: u64 = 7;
        for work in 0..20_000u32 {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            let name = ((random >> 33) % 23) as u8;
            if random >> 62 == 0 {
                let Some(key) = held.remove(&name) else {
                    continue;
                };
                let next = keys.release(key);
                let queue = model.get_mut(&name).expect("held keys are in the model");
                match next {
                    Some((key, work)) => {
                        assert_eq!(queue.pop_front(), Some(work));
                        held.insert(name, key);
                    }
                    None => {
                        assert!(queue.is_empty());
                        model.remove(&name);
                    }
                }
            } else {
                match keys.occupy(key(&[name; 5]), 0, work) {
                    Occupied::Run(key, _) => {
                        assert!(model.insert(name, VecDeque::new()).is_none());
                        held.insert(name, key);
                    }
                    Occupied::Queued => model.get_mut(&name).expect("held").push_back(work),
                }
            }
            assert_eq!(keys.held(), model.len());
            let waiting: usize = model.values().map(VecDeque::len).sum();
            assert_eq!(keys.waiting(), waiting);
        }
    }
}

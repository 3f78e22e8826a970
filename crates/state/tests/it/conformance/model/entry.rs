//! What the model knows of one key and namespace.
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;

use super::expiry::{Part, Present};
use super::states::{Clock, Read, fold, reduce};

/// States of all kinds.
#[derive(Clone, Debug, Default)]
pub struct Entry {
    pub value: Option<Part<u32>>,
    pub list: Vec<Part<u32>>,
    pub map: BTreeMap<u8, Part<Option<u32>>>,
    pub sum: Option<Part<u64>>,
    pub inputs: Option<Part<Vec<u32>>>,
    pub text: Option<Part<String>>,
    pub events: BTreeSet<i64>,
    pub processing: BTreeSet<i64>,
}

/// By key and namespace.
pub type Model = BTreeMap<(u64, u64), Entry>;

/// The value of a part that counts.
fn live<T: Clone>(part: &Option<Part<T>>, present: &Present) -> Option<T> {
    let part = part.as_ref().filter(|part| present.is_live(part));
    part.map(|part| part.value.clone())
}

/// A part is read as `seen`.
fn read_one<T: PartialEq + Debug>(
    part: &mut Option<Part<T>>,
    seen: &Option<T>,
    present: &Present,
    says: &str,
) {
    let Some(known) = part else {
        assert_eq!(seen, &None, "{says}");
        return;
    };
    if let Some(seen) = seen {
        assert_eq!(seen, &known.value, "{says}");
    }
    if !present.read(known, seen.is_some(), says) {
        *part = None;
    }
}

impl Entry {
    pub fn timers(&mut self, clock: Clock) -> &mut BTreeSet<i64> {
        match clock {
            Clock::Event => &mut self.events,
            Clock::Processing => &mut self.processing,
        }
    }

    pub fn add_to_sum(&mut self, n: u64, present: &Present) {
        let old = live(&self.sum, present).map(|old| reduce(old, n));
        self.sum = Some(present.part(old.unwrap_or(n)));
    }

    pub fn add_input(&mut self, n: u32, present: &Present) {
        let mut all = live(&self.inputs, present).unwrap_or_default();
        all.push(n);
        self.inputs = Some(present.part(all));
    }

    pub fn add_to_text(&mut self, n: u32, present: &Present) {
        let mut all = live(&self.text, present).unwrap_or_else(|| "start:".into());
        fold(&mut all, n);
        self.text = Some(present.part(all));
    }

    /// What another namespace of the same key has comes here.
    pub fn merge(&mut self, other: &mut Self, present: &Present) {
        let (live_ones, expired) = other.list.drain(..).partition(|part| present.is_live(part));
        self.list.extend::<Vec<_>>(live_ones);
        other.list = expired;
        if let Some(sum) = other.sum.take_if(|part| present.is_live(part)) {
            self.add_to_sum(sum.value, present);
        }
        if let Some(more) = other.inputs.take_if(|part| present.is_live(part)) {
            let mut all = live(&self.inputs, present).unwrap_or_default();
            all.extend(more.value);
            self.inputs = Some(present.part(all));
        }
        // What has expired may stay where it was.
        other.pass(present);
    }

    /// One entry of the map is read.
    pub fn read_map(&mut self, user_key: u8, seen: Option<Option<u32>>, at: &Present, says: &str) {
        let mut part = self.map.remove(&user_key);
        read_one(&mut part, &seen, at, says);
        if let Some(part) = part {
            self.map.insert(user_key, part);
        }
    }

    pub fn read_value(&mut self, seen: Option<u32>, present: &Present, says: &str) {
        read_one(&mut self.value, &seen, present, says);
    }

    /// Everything is read: it must be what is known, which is more afterwards.
    pub fn read(&mut self, seen: &Read, present: &Present, says: &str) {
        read_one(&mut self.value, &seen.value, present, says);
        read_one(&mut self.sum, &seen.sum, present, says);
        read_one(&mut self.inputs, &seen.inputs, present, says);
        read_one(&mut self.text, &seen.text, present, says);
        let mut elements = seen.list.iter().peekable();
        self.list.retain_mut(|part| {
            let shown = elements.next_if_eq(&&part.value).is_some();
            present.read(part, shown, says)
        });
        let left: Vec<_> = elements.collect();
        let list = &self.list;
        assert!(
            left.is_empty(),
            "{left:?} of {:?}, known {list:?}, {says}",
            seen.list
        );
        assert!(seen.map.is_sorted(), "{says}");
        let mut entries: BTreeMap<u8, Option<u32>> = seen.map.iter().copied().collect();
        assert_eq!(entries.len(), seen.map.len(), "{says}");
        self.map.retain(|user_key, part| {
            let shown = entries.remove(user_key);
            if let Some(shown) = shown {
                assert_eq!(shown, part.value, "user key {user_key}, {says}");
            }
            present.read(part, shown.is_some(), says)
        });
        assert!(entries.is_empty(), "{entries:?} of {:?}, {says}", seen.map);
    }

    /// Time has gone on.
    pub fn pass(&mut self, present: &Present) {
        self.value.iter_mut().for_each(|part| present.pass(part));
        self.list.iter_mut().for_each(|part| present.pass(part));
        self.map.values_mut().for_each(|part| present.pass(part));
        self.sum.iter_mut().for_each(|part| present.pass(part));
        self.inputs.iter_mut().for_each(|part| present.pass(part));
        self.text.iter_mut().for_each(|part| present.pass(part));
    }

    /// A TTL was switched on: what is there counts as written now, or later if it was.
    pub fn count_from(&mut self, now: i64) {
        let times = self.value.iter_mut().map(|part| &mut part.time);
        let times = times.chain(self.list.iter_mut().map(|part| &mut part.time));
        let times = times.chain(self.map.values_mut().map(|part| &mut part.time));
        let times = times.chain(self.sum.iter_mut().map(|part| &mut part.time));
        let times = times.chain(self.inputs.iter_mut().map(|part| &mut part.time));
        let times = times.chain(self.text.iter_mut().map(|part| &mut part.time));
        times.for_each(|time| *time = now.max(*time));
    }

    /// Of which kinds something counts: value, list, map, sum, inputs, text.
    pub fn holds(&self, present: &Present) -> [bool; 6] {
        fn is<T>(part: &Option<Part<T>>, present: &Present) -> bool {
            part.as_ref().is_some_and(|part| present.is_live(part))
        }
        [
            is(&self.value, present),
            self.list.iter().any(|part| present.is_live(part)),
            self.map.values().any(|part| present.is_live(part)),
            is(&self.sum, present),
            is(&self.inputs, present),
            is(&self.text, present),
        ]
    }
}

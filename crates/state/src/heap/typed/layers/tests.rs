//! A key group of each kind of table against a model, under random writes, freezes, snapshots that end late, folding and clean-up.
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::StateError;
use crate::heap::typed::entry::{HeapEntry, Timed};
use crate::heap::typed::{HeapLists, HeapMaps, HeapTable, HeapTableOf, HeapValues, RowShape};
use crate::rows::{RowRefs, RowSink};
use crate::serializer::Postcard;
use crate::ttl::TtlRule;
use aquifer_store::{KeyGroupRange, TableId};

/// A small generator of numbers, so that a failure repeats.
struct Random(u64);
impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (self.0 >> 33) % n
    }
}

const RANGE: KeyGroupRange = KeyGroupRange { start: 2, end: 4 };
const GROUP: u16 = 3;

fn shape(ttl_ms: Option<u64>) -> RowShape {
    RowShape {
        table: TableId(7),
        range: RANGE,
        ttl: ttl_ms.map(|ttl_ms| TtlRule {
            ttl_ms,
            untimed_as_ms: None,
        }),
        prefix_len: |_| Ok(1),
    }
}

fn table<E: HeapEntry<Postcard<u64>>>(ttl_ms: Option<u64>) -> HeapTableOf<E, Postcard<u64>> {
    HeapTableOf::new(shape(ttl_ms), Postcard::default())
}

/// Row keys, values and times, in order.
#[derive(Default)]
struct Collected(Vec<(Vec<u8>, Vec<u8>, Option<i64>)>);

impl RowSink for Collected {
    fn put(&mut self, row: RowRefs<'_>) -> Result<(), StateError> {
        assert_eq!((row.group, row.table), (GROUP, TableId(7)));
        self.0
            .push((row.key.to_vec(), row.value.to_vec(), row.time_ms));
        Ok(())
    }
}

type Rows = Vec<(Vec<u8>, Vec<u8>, Option<i64>)>;

fn rows_now<H: HeapTable>(table: &H) -> Rows {
    let mut rows = Collected::default();
    table.write_rows(GROUP, &mut rows).unwrap();
    assert!(rows.0.is_sorted_by(|a, b| a.0 < b.0));
    rows.0
}

/// What a kind of table must be able to do for the model.
trait Modelled: HeapTable + Sized {
    type Model: Clone + Default;
    fn empty() -> Self;
    fn step(&mut self, model: &mut Self::Model, key: &[u8], random: &mut Random);
    fn check(&self, model: &Self::Model, key: &[u8]);
    fn rows(model: &Self::Model) -> Rows;
    /// Entries of all layers.
    fn entries(&self) -> usize;
}

fn row(value: u64) -> Vec<u8> {
    postcard::to_allocvec(&value).unwrap()
}

impl Modelled for HeapValues<u64, Postcard<u64>> {
    fn entries(&self) -> usize {
        self.len()
    }

    type Model = BTreeMap<Vec<u8>, (u64, i64)>;

    fn empty() -> Self {
        table(None)
    }

    fn step(&mut self, model: &mut Self::Model, key: &[u8], random: &mut Random) {
        let (value, time) = (random.below(1000), random.below(9) as i64);
        match random.below(6) {
            0..=2 => {
                self.put(GROUP, key, Timed::new(value, Some(time))).unwrap();
                model.insert(key.into(), (value, time));
            }
            3 => {
                self.remove(GROUP, key).unwrap();
                model.remove(key);
            }
            4 => {
                let taken = self.take(GROUP, key).unwrap();
                let expected = model.remove(key);
                assert_eq!(taken.map(|t| (t.value, t.time_ms)), expected);
            }
            _ => {
                self.set_time(GROUP, key, time).unwrap();
                if let Some(known) = model.get_mut(key) {
                    known.1 = time;
                }
            }
        }
    }

    fn check(&self, model: &Self::Model, key: &[u8]) {
        let found = self.get(GROUP, key).unwrap();
        let found = found.map(|found| (found.value, found.time_ms));
        assert_eq!(found, model.get(key).copied());
    }

    fn rows(model: &Self::Model) -> Rows {
        let rows = model.iter();
        rows.map(|(key, (value, time))| (key.clone(), row(*value), Some(*time)))
            .collect()
    }
}

impl Modelled for HeapLists<u64, Postcard<u64>> {
    fn entries(&self) -> usize {
        self.len()
    }

    type Model = BTreeMap<Vec<u8>, Vec<u64>>;

    fn empty() -> Self {
        table(None)
    }

    fn step(&mut self, model: &mut Self::Model, key: &[u8], random: &mut Random) {
        let value = random.below(1000);
        let element = Timed::new(value, None);
        match random.below(9) {
            0..=3 => {
                self.append(GROUP, key, [element]).unwrap();
                model.entry(key.into()).or_default().push(value);
            }
            4 => {
                self.append(GROUP, key, []).unwrap();
            }
            5 => {
                let many = random.below(3);
                let elements = (0..many).map(|i| Timed::new(i, None)).collect();
                self.replace(GROUP, key, elements).unwrap();
                model.insert(key.into(), (0..many).collect());
            }
            6 => {
                self.remove(GROUP, key).unwrap();
                model.remove(key);
            }
            7 => {
                let taken = self.take(GROUP, key).unwrap();
                let taken: Vec<u64> = taken.into_iter().map(|e| e.value).collect();
                assert_eq!(taken, model.remove(key).unwrap_or_default());
            }
            _ => {
                self.retain(GROUP, key, |element| element.value % 3 != 0)
                    .unwrap();
                if let Some(list) = model.get_mut(key) {
                    list.retain(|value| value % 3 != 0);
                }
            }
        }
        model.retain(|_, list| !list.is_empty());
    }

    fn check(&self, model: &Self::Model, key: &[u8]) {
        let mut found = Vec::new();
        self.for_each(GROUP, key, |element| found.push(element.value))
            .unwrap();
        assert_eq!(found, model.get(key).cloned().unwrap_or_default());
    }

    fn rows(model: &Self::Model) -> Rows {
        let rows = model.iter().map(|(key, list)| {
            let mut frames = Vec::new();
            for value in list {
                crate::state::chunks::push_frame(&mut frames, None, &row(*value));
            }
            let key = [&key[..], &0u64.to_be_bytes()].concat();
            (key, frames, None)
        });
        rows.collect()
    }
}

impl Modelled for HeapMaps<u64, Postcard<u64>> {
    fn entries(&self) -> usize {
        self.len()
    }

    type Model = BTreeMap<Vec<u8>, BTreeMap<Vec<u8>, (u64, i64)>>;

    fn empty() -> Self {
        table(None)
    }

    fn step(&mut self, model: &mut Self::Model, key: &[u8], random: &mut Random) {
        let user_key = [random.below(8) as u8];
        let (value, time) = (random.below(1000), random.below(9) as i64);
        let map = model.entry(key.into()).or_default();
        match random.below(12) {
            0..=5 => {
                let value = Timed::new(value, Some(time));
                map.insert(user_key.into(), (value.value, time));
                self.put_entry(GROUP, key, &user_key, value).unwrap();
            }
            6..=8 => {
                self.remove_entry(GROUP, key, &user_key).unwrap();
                map.remove(&user_key[..]);
            }
            9 => {
                self.set_entry_time(GROUP, key, &user_key, time).unwrap();
                if let Some(known) = map.get_mut(&user_key[..]) {
                    known.1 = time;
                }
            }
            10 => {
                let found = self.entry(GROUP, key, &user_key).unwrap();
                let found = found.map(|found| (found.value, found.time_ms));
                assert_eq!(found, map.get(&user_key[..]).copied());
            }
            _ => {
                self.remove(GROUP, key).unwrap();
                map.clear();
            }
        }
        model.retain(|_, map| !map.is_empty());
    }

    fn check(&self, model: &Self::Model, key: &[u8]) {
        for from in [&[][..], &[3]] {
            let mut found = Vec::new();
            self.walk(GROUP, key, from, |user_key, value| {
                found.push((user_key.to_vec(), (value.value, value.time_ms)));
                found.len() < 4
            })
            .unwrap();
            let expected = model.get(key).into_iter().flatten();
            let expected = expected.filter(|(user_key, _)| &user_key[..] >= from);
            let expected: Vec<_> = expected.take(4).map(|(k, v)| (k.clone(), *v)).collect();
            assert_eq!(found, expected);
        }
    }

    fn rows(model: &Self::Model) -> Rows {
        let rows = model.iter().flat_map(|(key, map)| {
            map.iter().map(|(user_key, (value, time))| {
                let key = [&key[..], &user_key[..]].concat();
                (key, row(*value), Some(*time))
            })
        });
        rows.collect()
    }
}

fn run<T: Modelled>(seed: u64) {
    let mut random = Random(seed);
    let mut table = T::empty();
    let mut model = T::Model::default();
    let mut snapshots = Vec::new();
    for step in 0..3000 {
        let key = [random.below(12) as u8];
        match random.below(24) {
            0 if snapshots.len() < 7 => snapshots.push((table.freeze(), model.clone())),
            1 if !snapshots.is_empty() => {
                let at = random.below(snapshots.len() as u64) as usize;
                let (frozen, expected) = snapshots.remove(at);
                let mut rows = Collected::default();
                frozen.write(GROUP, None, &mut rows).unwrap();
                assert_eq!(rows.0, T::rows(&expected), "seed {seed} step {step}");
            }
            2 => {
                let entries_max = [1, 4, usize::MAX][random.below(3) as usize];
                let folded = table.fold_some(0, entries_max);
                assert!(folded.moved <= entries_max);
                assert!(folded.next.is_none() || folded.moved > 0);
            }
            3 => assert_eq!(rows_now(&table), T::rows(&model), "seed {seed} step {step}"),
            4..=8 => table.check(&model, &key),
            _ => table.step(&mut model, &key, &mut random),
        }
    }
    for (frozen, expected) in snapshots {
        let mut rows = Collected::default();
        frozen.write(GROUP, None, &mut rows).unwrap();
        assert_eq!(rows.0, T::rows(&expected));
    }
    table.fold_some(0, usize::MAX);
    assert_eq!(rows_now(&table), T::rows(&model));
    for key in 0..12 {
        table.check(&model, &[key]);
    }
    let mut keys: Vec<u8> = T::rows(&model).iter().map(|(key, _, _)| key[0]).collect();
    keys.dedup();
    assert_eq!(
        table.entries(),
        keys.len(),
        "seed {seed}: an entry of nothing"
    );
}

#[test]
fn values_agree_with_a_model() {
    (0..24).for_each(run::<HeapValues<u64, Postcard<u64>>>);
}

#[test]
fn lists_agree_with_a_model() {
    (0..24).for_each(run::<HeapLists<u64, Postcard<u64>>>);
}

#[test]
fn maps_agree_with_a_model() {
    (0..24).for_each(run::<HeapMaps<u64, Postcard<u64>>>);
}

/// Of a map whose entries came and went between two barriers and the fold of both, an empty one stayed for ever.
#[test]
fn a_map_that_was_emptied_piece_by_piece_leaves_nothing() {
    let value = || Timed::new(1, None);
    for others in [0, 100u8] {
        let mut maps: HeapMaps<u64, Postcard<u64>> = table(None);
        maps.put_entry(GROUP, &[0], b"a", value()).unwrap();
        drop(maps.freeze());
        // Not in the oldest layer.
        maps.put_entry(GROUP, &[1], b"a", value()).unwrap();
        drop(maps.freeze());
        maps.remove_entry(GROUP, &[1], b"a").unwrap();
        for other in 0..others {
            maps.put_entry(GROUP, &[2, other], b"a", value()).unwrap();
        }
        maps.fold_some(0, usize::MAX);
        assert_eq!(maps.entries(), 1 + usize::from(others));
    }
}

#[test]
fn what_was_folded_is_one_layer_without_traces() {
    let mut group: Group<Timed<u64>> = Group::default();
    let key = |i: u8| [i];
    for i in 0..20 {
        group.set(Wanted::new(&key(i)), Timed::new(1, None));
    }
    let mut frozen = FrozenGroups::with_capacity(1, 1);
    group.freeze(&mut frozen);
    assert!(group.is_unwritten() && group.is_layered());
    for i in 0..5 {
        group.remove(Wanted::new(&key(i)));
    }
    for i in 3..8 {
        group.set(Wanted::new(&key(i)), Timed::new(2, None));
    }
    // Removed again, and something that was never there.
    group.remove(Wanted::new(&key(7)));
    group.remove(Wanted::new(&key(99)));
    assert_eq!(group.active.removed.len(), 4, "0, 1, 2 and 7");
    assert_eq!(group.fold(9).work, 0, "the snapshot holds the layer");
    drop(frozen);
    let folded = GroupFolded {
        work: 4 + 4,
        done: true,
    };
    assert_eq!(group.fold(9), folded);
    assert!(!group.is_layered());
    assert!(group.active.removed.is_empty());
    let mut seen = Vec::new();
    group
        .each_sorted(|key, parts| {
            seen.push((key.to_vec(), parts.newest_first().next().unwrap().value));
            Ok::<_, ()>(())
        })
        .unwrap();
    let expected = [3, 4, 5, 6].map(|i| (vec![i], 2)).into_iter();
    let expected: Vec<_> = expected.chain((8..20).map(|i| (vec![i], 1))).collect();
    assert_eq!(seen, expected);
}

/// Counts how often it is cloned.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
struct Counted(u64);
static CLONES: AtomicUsize = AtomicUsize::new(0);
impl Clone for Counted {
    fn clone(&self) -> Self {
        CLONES.fetch_add(1, Ordering::Relaxed);
        Self(self.0)
    }
}

#[test]
fn a_barrier_costs_the_same_for_ten_entries_and_for_many() {
    for entries in [10u32, 20_000] {
        let shape = shape(None);
        let mut lists: HeapLists<Counted, Postcard<Counted>> =
            HeapTableOf::new(shape.clone(), Postcard::default());
        let mut maps: HeapMaps<Counted, Postcard<Counted>> =
            HeapTableOf::new(shape, Postcard::default());
        for i in 0..entries {
            let key = i.to_be_bytes();
            let one = || Timed::new(Counted(1), None);
            lists.append(GROUP, &key, [one(), one()]).unwrap();
            maps.put_entry(GROUP, &key, b"a", one()).unwrap();
        }
        let before = CLONES.load(Ordering::Relaxed);
        let frozen = (lists.freeze(), maps.freeze());
        // One layer was moved; and what is written now copies nothing of what is below.
        for i in 0..entries {
            let key = i.to_be_bytes();
            lists
                .append(GROUP, &key, [Timed::new(Counted(2), None)])
                .unwrap();
            maps.put_entry(GROUP, &key, b"b", Timed::new(Counted(2), None))
                .unwrap();
            maps.remove_entry(GROUP, &key, b"a").unwrap();
        }
        drop(frozen);
        // Folding moves at most what was written, and passes over the empty buckets between, sixteen for one entry.
        let folded = lists.fold_some(0, usize::MAX);
        assert!(folded.moved <= (entries + entries / 8) as usize);
        maps.fold_some(0, usize::MAX);
        assert_eq!(CLONES.load(Ordering::Relaxed), before);
        assert_eq!(lists.count(GROUP, &1u32.to_be_bytes()).unwrap(), 3);
        assert!(
            maps.entry(GROUP, &1u32.to_be_bytes(), b"a")
                .unwrap()
                .is_none()
        );
    }
}

#[test]
fn folding_stops_where_it_is_told_to_and_goes_on_there() {
    let mut values: HeapValues<u64, Postcard<u64>> = table(None);
    let fill = |values: &mut HeapValues<u64, Postcard<u64>>| {
        for group in RANGE.start..=RANGE.end {
            for key in 0..100u8 {
                values.put(group, &[key], Timed::new(1, None)).unwrap();
            }
        }
    };
    fill(&mut values);
    drop(values.freeze());
    fill(&mut values);
    let (mut moved, mut next) = (0, Some(0));
    while let Some(from) = next {
        let folded = values.fold_some(from, 50);
        assert!(folded.moved <= 50, "a piece is smaller than a key group");
        moved += folded.moved;
        next = folded.next;
    }
    assert!((300..330).contains(&moved), "each entry once: {moved}");
}

/// Barriers used to fold all of a key group once four layers had piled up; and a fold moved whole key groups, of which a worker may have few.
#[test]
fn a_barrier_folds_nothing_however_many_layers_there_are_and_pieces_of_a_fold_hide_nothing() {
    let mut lists: HeapLists<u64, Postcard<u64>> = table(None);
    let mut expected: BTreeMap<u8, usize> = BTreeMap::new();
    for round in 0..10u64 {
        for key in 0..200u8 {
            if (round + u64::from(key)).is_multiple_of(7) {
                lists.remove(GROUP, &[key]).unwrap();
                expected.remove(&key);
            } else {
                let element = Timed::new(round, None);
                lists.append(GROUP, &[key], [element]).unwrap();
                *expected.entry(key).or_default() += 1;
            }
        }
        drop(lists.freeze());
        assert!(lists.is_unwritten(), "everything was moved below");
    }
    let counts = |lists: &HeapLists<u64, Postcard<u64>>| -> BTreeMap<u8, usize> {
        let counts = (0..200u8).map(|key| (key, lists.count(GROUP, &[key]).unwrap()));
        counts.filter(|(_, count)| *count > 0).collect()
    };
    let (mut next, mut pieces) = (Some(0), 0);
    while let Some(from) = next {
        let folded = lists.fold_some(from, 30);
        assert!(folded.moved <= 30, "{folded:?}");
        assert_eq!(counts(&lists), expected, "after {pieces} pieces");
        next = folded.next;
        pieces += 1;
    }
    assert!((8 * 150 / 30..1000).contains(&pieces), "{pieces}");
    assert_eq!(rows_now(&lists).len(), expected.len());
}

#[test]
fn the_clean_up_meets_every_entry_of_every_kind_while_a_snapshot_is_written_and_after() {
    for layered in [false, true] {
        let mut values: HeapValues<u64, Postcard<u64>> = table(Some(100));
        let mut lists: HeapLists<u64, Postcard<u64>> = table(Some(100));
        let mut maps: HeapMaps<u64, Postcard<u64>> = table(Some(100));
        for key in 0..200u16 {
            let time = if key < 150 { 0 } else { 50 };
            let (key, value) = (key.to_be_bytes(), Timed::new(1, Some(time)));
            values.put(GROUP, &key, value.clone()).unwrap();
            // As large as several pieces of a clean-up.
            let many = if key == [0, 9] { 5000 } else { 3 };
            lists
                .append(GROUP, &key, vec![value.clone(); many])
                .unwrap();
            for user_key in 0..many as u16 {
                let user_key = user_key.to_be_bytes();
                maps.put_entry(GROUP, &key, &user_key, value.clone())
                    .unwrap();
            }
        }
        let frozen = layered.then(|| (values.freeze(), lists.freeze(), maps.freeze()));
        let mut clean = |now_ms: i64, calls: usize| {
            for _ in 0..calls {
                values.expire_some(5, now_ms);
                lists.expire_some(5, now_ms);
                maps.expire_some(5, now_ms);
            }
            let lists_left: usize = (0..200u16)
                .map(|key| lists.count(GROUP, &key.to_be_bytes()).unwrap())
                .sum();
            (rows_now(&values).len(), lists_left, rows_now(&maps).len())
        };
        assert_eq!(clean(99, 100).0, 200, "nothing is too early");
        // A large map is looked at in pieces, which change it: that has to wait.
        let large = if layered { 5000 } else { 0 };
        assert_eq!(
            clean(100, 120),
            (50, 150, 150 + large),
            "layered: {layered}"
        );
        assert_eq!(clean(150, 120), (0, 0, large), "layered: {layered}");
        drop(frozen);
    }
}

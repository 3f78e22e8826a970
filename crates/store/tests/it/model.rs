//! The store beside a `BTreeMap`, under random operations on tables of every kind, with time passing, restarts and rescales.
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use aquifer_store::{
    Checkpoint, Fold, KeyGroupRange, KeyPart, Lookup, Merge, StoreOptions, TableId, TableOptions,
};
use aquifer_testkit::{FaultPlan, Rng};

use crate::harness::{POINTS, SORTED, Worker, World, small};

const GROUPS: u64 = 12;
/// Lists that are appended to.
const LISTS: TableId = TableId(2);
/// Numbers that are added up, for a while.
const SUMS: TableId = TableId(3);
/// A fold whose operands cannot be combined.
const LOGS: TableId = TableId(9);
/// Values that expire.
const BRIEF: TableId = TableId(10);
/// Lists that expire by event time.
const EVENTS: TableId = TableId(11);
/// Lists that have a TTL since `SWITCHED_ON_MS`: before, they are written with times and without.
const MIXED: TableId = TableId(12);
const TABLES: [TableId; 8] = [POINTS, SORTED, LISTS, SUMS, LOGS, BRIEF, EVENTS, MIXED];
const SWITCHED_ON_MS: i64 = 1_400;
/// What event time is behind the clock by at first.
const BEHIND_MS: i64 = 1_000_000;

/// A value and when it was written.
type Row = (Vec<u8>, Option<i64>);
type Rows = BTreeMap<(TableId, u16, Vec<u8>), Row>;

fn table_options(table: TableId) -> TableOptions {
    let prefix = vec![KeyPart::Fixed(5)];
    let base = TableOptions::default();
    match table {
        LISTS => TableOptions {
            ordered: true,
            merge: Merge::Append,
            prefix,
            ..base
        },
        SUMS => TableOptions {
            merge: Merge::Fold("sum-i64".into()),
            ttl_ms: Some(300),
            ..base
        },
        LOGS => TableOptions {
            ordered: true,
            merge: Merge::Fold("log".into()),
            ttl_ms: Some(150),
            prefix,
            ..base
        },
        BRIEF => TableOptions {
            ordered: true,
            ttl_ms: Some(80),
            ..base
        },
        EVENTS => TableOptions {
            merge: Merge::Append,
            ttl_ms: Some(120),
            event_time: true,
            ..base
        },
        MIXED => TableOptions {
            ordered: true,
            merge: Merge::Append,
            ttl_ms: Some(120),
            untimed_as_ms: Some(SWITCHED_ON_MS),
            ..base
        },
        SORTED => TableOptions {
            ordered: true,
            ..base
        },
        _ => base,
    }
}

/// Writes down operands, so that none is lost or put out of order unnoticed.
struct Log;
impl Fold for Log {
    fn fold(&self, value: Option<&[u8]>, operand: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(value.unwrap_or(b"^"));
        out.push(b'.');
        out.extend_from_slice(operand);
    }
}

/// What a table makes of an operand.
fn folded(table: TableId, value: Option<&[u8]>, operand: &[u8]) -> Vec<u8> {
    let number = |bytes: &[u8]| i64::from_le_bytes(bytes.try_into().unwrap());
    match table {
        SUMS => {
            let sum = value.map_or(0, number).wrapping_add(number(operand));
            sum.to_le_bytes().to_vec()
        }
        LOGS => {
            let mut out = Vec::new();
            Log.fold(value, operand, &mut out);
            out
        }
        _ => [value.unwrap_or_default(), operand].concat(),
    }
}

fn expired(table: TableId, time_ms: Option<i64>, now_ms: i64) -> bool {
    match (table_options(table).ttl_ms, counted(table, time_ms)) {
        (Some(ttl), Some(time)) => time + ttl as i64 <= now_ms,
        _ => false,
    }
}

/// When a row of a table counts as written.
fn counted(table: TableId, time_ms: Option<i64>) -> Option<i64> {
    match table_options(table).untimed_as_ms {
        Some(least) => Some(time_ms.map_or(least, |time| time.max(least))),
        None => time_ms,
    }
}

/// Several workers that share the key groups, and what they should hold.
struct Job<'w> {
    world: &'w mut World,
    random: Rng,
    now_ms: Arc<AtomicI64>,
    /// How far the input of tables with event time has come.
    event_ms: i64,
    workers: Vec<(KeyGroupRange, Worker)>,
    model: Rows,
    /// The last completed checkpoint and what it should hold.
    last: (Vec<Checkpoint>, Rows),
    /// How often nothing was found under a prefix, how often something, and how often only a scan could have said.
    existence: [u64; 3],
}

/// Files so small that all levels come into play.
fn options() -> StoreOptions {
    StoreOptions {
        memtable_bytes_max: 64 << 10,
        file_bytes_target: 1 << 10,
        ..small()
    }
}

fn ranges(parallelism: u64) -> Vec<KeyGroupRange> {
    let bound = |i: u64| (i * GROUPS / parallelism) as u16;
    (0..parallelism)
        .map(|i| KeyGroupRange {
            start: bound(i),
            end: bound(i + 1) - 1,
        })
        .collect()
}

impl Job<'_> {
    fn worker(&mut self, group: u16) -> &mut Worker {
        let found = self
            .workers
            .iter_mut()
            .find(|(range, _)| range.contains(group));
        &mut found.unwrap().1
    }

    fn now(&self) -> i64 {
        self.now_ms.load(Ordering::Relaxed)
    }

    /// What decides about the rows of a table.
    fn now_of(&self, table: TableId) -> i64 {
        match table_options(table).event_time {
            true => self.event_ms,
            false => self.now(),
        }
    }

    /// Both kinds of time pass, each at its own pace.
    fn pass_time(&mut self) {
        let passes = self.random.below(8) as i64;
        self.now_ms.fetch_add(passes, Ordering::Relaxed);
        self.event_ms += self.random.below(12) as i64;
        for (_, worker) in &mut self.workers {
            let store = &mut worker.store;
            store.advance_event_time(EVENTS, self.event_ms).unwrap();
            // What comes too late changes nothing.
            store
                .advance_event_time(EVENTS, self.event_ms - 50)
                .unwrap();
        }
    }

    fn key(&mut self) -> (TableId, u16, Vec<u8>) {
        let table = TABLES[self.random.below(TABLES.len() as u64) as usize];
        let group = self.random.below(GROUPS) as u16;
        let map = self.random.below(6);
        let entry = self.random.below(40);
        (table, group, format!("map{map}/{entry}").into_bytes())
    }

    fn write(&mut self) {
        let (table, group, key) = self.key();
        let now = self.now_of(table);
        let mut time = table_options(table).ttl_ms.map(|_| now);
        if table == MIXED && now < SWITCHED_ON_MS && self.random.chance(600) {
            time = None;
        }
        let at = (table, group, key.clone());
        let bytes = match table {
            SUMS => (self.random.next_u64() as i64).to_le_bytes().to_vec(),
            _ => vec![self.random.below(256) as u8; self.random.below(60) as usize],
        };
        // By event time, an operand may or may not join what has expired.
        let met_nothing = || {
            self.model
                .get(&at)
                .is_some_and(|(_, t)| expired(table, *t, now))
        };
        let merges = table_options(table).merge != Merge::None
            && !(table_options(table).event_time && met_nothing());
        let store = &mut self.workers.iter_mut();
        let store = store.find(|(range, _)| range.contains(group)).unwrap();
        let store = &mut store.1.store;
        match self.random.below(100) {
            0..2 => {
                let prefix = key[..4 + self.random.below(3) as usize].to_vec();
                store.delete_prefix(table, group, &prefix).unwrap();
                self.model
                    .retain(|(t, g, k), _| (*t, *g) != (table, group) || !k.starts_with(&prefix));
            }
            2..25 => {
                store.delete(table, group, &key).unwrap();
                self.model.remove(&at);
            }
            25..75 if merges => {
                let held = match time {
                    Some(time) => store.merge_at(table, group, &key, &bytes, time).unwrap(),
                    None => store.merge(table, group, &key, &bytes).unwrap(),
                };
                let met = counted(table, time).unwrap_or(now);
                let before = self.model.remove(&at);
                let before = before.filter(|(_, time)| !expired(table, *time, met));
                let value = before.as_ref().map(|(value, _)| value.as_slice());
                let made = folded(table, value, &bytes);
                if table_options(table).merge == Merge::Append {
                    // Of what is there, the memtable holds what was written last.
                    let all = bytes.len()..=made.len();
                    assert!(all.contains(&held), "{held} bytes of {all:?} are held");
                }
                let time = time.max(before.and_then(|(_, time)| time));
                self.model.insert(at, (made, time));
            }
            _ => {
                match time {
                    Some(time) => store.put_at(table, group, &key, &bytes, time).unwrap(),
                    None => store.put(table, group, &key, &bytes).unwrap(),
                }
                self.model.insert(at, (bytes, time));
            }
        }
    }

    /// What a reader should see of a key.
    fn expected(&self, at: &(TableId, u16, Vec<u8>)) -> Option<Row> {
        let row = self.model.get(at)?;
        (!expired(at.0, row.1, self.now_of(at.0))).then(|| row.clone())
    }

    /// What a reader should see of a group from a key on.
    fn expected_from(
        &self,
        table: TableId,
        group: u16,
        from: &[u8],
    ) -> impl Iterator<Item = (Vec<u8>, Row)> {
        self.model
            .range((table, group, from.to_vec())..)
            .take_while(move |((t, g, _), _)| (*t, *g) == (table, group))
            .filter(move |(_, (_, time))| !expired(table, *time, self.now_of(table)))
            .map(|((_, _, key), row)| (key.clone(), row.clone()))
    }

    fn check_get(&mut self) {
        let at = self.key();
        let expected = self.expected(&at);
        let worker = self.worker(at.1);
        let found = match worker.store.get(at.0, at.1, &at.2).unwrap() {
            Lookup::Found(value) => Some((value.to_vec(), value.time_ms())),
            Lookup::Absent => None,
            Lookup::Cold(read) => {
                let fetched = worker.store.fetch_values(vec![read]);
                let mut values = self.world.runtime.block_on(fetched).unwrap();
                let value = values.remove(0);
                value.map(|value| (value.to_vec(), value.time_ms()))
            }
        };
        assert_eq!(found, expected, "{at:?} at {}", self.now());
        let mut shown = Vec::new();
        let see = &mut |value: Option<&[u8]>, time_ms: Option<i64>| {
            shown.push(value.map(|value| (value.to_vec(), time_ms)));
        };
        let store = &self.worker(at.1).store;
        match store.look_up(at.0, at.1, &at.2, see).unwrap() {
            None => assert_eq!(shown, [expected], "{at:?}"),
            Some(_) => assert!(shown.is_empty(), "{at:?} is cold, and was shown"),
        }
    }

    /// Whether there is anything under a prefix, where that is found out without a scan.
    fn check_existence(&mut self) {
        let (table, group, mut prefix) = self.key();
        let entry = prefix.len();
        prefix.truncate([0, 3, 5, entry - 1, entry][self.random.below(5) as usize]);
        let expected = self
            .expected_from(table, group, &prefix)
            .any(|(key, _)| key.starts_with(&prefix));
        let store = &self.worker(group).store;
        let found = store.holds_any(table, group, &prefix).unwrap();
        assert!(
            found.is_none_or(|found| found == expected),
            "table {table:?} group {group} prefix {}: {found:?}, expected {expected}",
            prefix.escape_ascii()
        );
        let at = found.map_or(2, usize::from);
        self.existence[at] += 1;
    }

    fn check_multi_get(&mut self) {
        let i = self.random.below(self.workers.len() as u64) as usize;
        let range = self.workers[i].0;
        let table = self.key().0;
        let keys: Vec<(TableId, u16, Vec<u8>)> = (0..300)
            .map(|_| self.key())
            .filter(|(t, group, _)| *t == table && range.contains(*group))
            .collect();
        let asked: Vec<(u16, &[u8])> = keys
            .iter()
            .map(|(_, group, key)| (*group, key.as_slice()))
            .collect();
        let answers = self.workers[i].1.multi_get(table, &asked);
        for (key, answer) in keys.iter().zip(answers) {
            let expected = self.expected(key).map(|(value, _)| value);
            assert_eq!(answer, expected, "{key:?}");
        }
    }

    fn check_scan(&mut self) {
        let (table, group, from) = self.key();
        let prefix = match self.random.below(3) {
            0 => Vec::new(),
            _ => format!("map{}/", self.random.below(6)).into_bytes(),
        };
        let from = if self.random.chance(300) {
            from
        } else {
            Vec::new()
        };
        let until = self.random.chance(300).then(|| self.key().2);
        let rows_max = 1 + self.random.below(40) as usize;
        let found =
            self.worker(group)
                .scan(table, group, &prefix, &from, until.as_deref(), rows_max);
        let expected: Vec<(Vec<u8>, Row)> = (self.expected_from(table, group, &from))
            .filter(|(key, _)| {
                key.starts_with(&prefix) && until.as_ref().is_none_or(|until| key < until)
            })
            .collect();
        let rows: Vec<(Vec<u8>, Row)> = (found.rows.iter().enumerate())
            .map(|(i, (k, v))| (k.to_vec(), (v.to_vec(), found.time_ms(i))))
            .collect();
        assert!(found.times.is_empty() || found.times.iter().any(Option::is_some));
        assert_eq!(rows, expected[..expected.len().min(rows_max)]);
        assert!(!found.done || rows.len() == expected.len());
        assert!(
            found.done || rows.len() == rows_max,
            "a scan that is not done has all it was asked for"
        );
    }

    fn checkpoint(&mut self) {
        for (_, worker) in &mut self.workers {
            for table in TABLES {
                worker.store.freeze(table).unwrap();
            }
            worker.store.checkpoint().unwrap();
        }
        let then = self.model.clone();
        // Nothing is installed before somebody polls: here reads merge active and frozen memtables and files.
        for _ in 0..self.random.below(200) {
            match self.random.below(20) {
                0 => self.check_multi_get(),
                6..8 => self.check_existence(),
                1..4 => self.check_scan(),
                4..6 => self.check_get(),
                _ => self.write(),
            }
        }
        let files = self
            .workers
            .iter_mut()
            .map(|(_, worker)| worker.wait())
            .collect();
        self.last = (files, then);
    }

    fn restart(&mut self) {
        self.workers.clear();
        if self.random.chance(500) {
            self.world.forget_cache();
        }
        let (checkpoints, model) = self.last.clone();
        self.model = model;
        // The lists go through their codec, as they would through the metadata.
        let checkpoints: Vec<Checkpoint> = checkpoints
            .iter()
            .map(|checkpoint| {
                let mut bytes = Vec::new();
                checkpoint.encode(&mut bytes);
                Checkpoint::decode(&bytes).unwrap()
            })
            .collect();
        let parallelism = 1 + self.random.below(4);
        for range in ranges(parallelism) {
            let restored = checkpoints
                .iter()
                .map(|checkpoint| (checkpoint.clone(), range))
                .collect();
            let clock = self.now_ms.clone();
            let mut worker = self.world.open_with(options(), restored, move |env| {
                env.clock = Arc::new(move || clock.load(Ordering::Relaxed));
                env.folds.register("log", Arc::new(Log));
            });
            for table in TABLES {
                worker
                    .store
                    .create_table(table, table_options(table))
                    .unwrap();
            }
            let told = worker.store.advance_event_time(EVENTS, self.event_ms);
            told.unwrap();
            self.workers.push((range, worker));
        }
    }

    fn check_all(&mut self) {
        for group in 0..GROUPS as u16 {
            for table in TABLES {
                let expected: BTreeMap<Vec<u8>, Vec<u8>> = (self.expected_from(table, group, b""))
                    .map(|(key, (value, _))| (key, value))
                    .collect();
                assert_eq!(self.worker(group).rows(table, group), expected);
            }
        }
    }
}

/// What a run came across.
struct Seen {
    /// Of the workers that were there at the end.
    cold_reads: u64,
    compactions: u64,
    existence: [u64; 3],
}

fn run(seed: u64, cache_bytes: u64, steps: u64, faults: bool) -> Seen {
    let mut world = World::new(cache_bytes);
    let mut job = Job {
        world: &mut world,
        random: Rng::new(seed),
        now_ms: Arc::new(AtomicI64::new(1_000)),
        event_ms: 1_000 - BEHIND_MS,
        workers: Vec::new(),
        model: Rows::new(),
        last: (Vec::new(), Rows::new()),
        existence: [0; 3],
    };
    job.restart();
    for _ in 0..steps {
        match job.random.below(1000) {
            0..3 => {
                job.restart();
                job.check_all();
            }
            3..13 => job.checkpoint(),
            13..15 => {
                // Errors that pass, on the way there and on the way back.
                let plan = FaultPlan {
                    seed: job.random.next_u64(),
                    error_not_applied_per_mille: 20,
                    error_applied_per_mille: 10,
                    ..FaultPlan::default()
                };
                job.world
                    .objects
                    .set_plan(if faults { plan } else { FaultPlan::default() });
            }
            15..30 => job.check_multi_get(),
            30..80 => job.check_scan(),
            80..130 => job.check_get(),
            200..260 => job.check_existence(),
            130..140 => {
                for (_, worker) in &mut job.workers {
                    worker.store.poll().unwrap();
                }
            }
            140..200 => job.pass_time(),
            _ => job.write(),
        }
    }
    job.check_all();
    job.workers
        .iter_mut()
        .for_each(|(_, worker)| worker.settle());
    job.check_all();
    let stats = || job.workers.iter().map(|(_, worker)| worker.store.stats());
    Seen {
        cold_reads: stats().map(|s| s.cold_reads).sum(),
        compactions: stats().map(|s| s.compactions).sum(),
        existence: job.existence,
    }
}

#[test]
fn like_a_sorted_map_with_a_roomy_cache() {
    let mut compactions = 0;
    for seed in 0..4 {
        let seen = run(seed, 8 << 20, 12_000, false);
        compactions += seen.compactions;
        assert!(
            seen.existence.iter().all(|&n| n > 20),
            "{:?}",
            seen.existence
        );
    }
    assert!(compactions > 0);
}

#[test]
fn like_a_sorted_map_when_almost_nothing_is_in_memory() {
    for seed in 100..103 {
        assert!(run(seed, 2 << 10, 6_000, false).cold_reads > 100);
    }
}

#[test]
fn like_a_sorted_map_on_an_object_store_that_fails_now_and_then() {
    for seed in 200..203 {
        run(seed, 16 << 10, 4_000, true);
    }
}

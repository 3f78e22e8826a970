//! Structures that a memtable could be made of, beside ours: what inserting, overwriting, reading and scanning costs in each.
//!
//! Ours is measured through the whole store (with a memtable larger than the data, so that nothing is flushed), which is some 20 ns
//! more per operation than the structure itself. The others hold a key of two bytes of key group and the user's key, and a value, each in an
//! allocation of its own, as a store made of them would.
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use aquifer_store::{
    BlockCache, Environment, Lookup, ScanLookup, Store, StoreOptions, TableId, TableOptions,
};
use blart::TreeMap;
use bytes::Bytes;
use crossbeam_skiplist::SkipMap;
use tokio::runtime::Runtime;

use crate::data::{self, Draw, Key, VALUE_BYTES};
use crate::engine::Result;
use crate::engine::aquifer::runtime;
use crate::measure::{Stretch, resident};

const SCAN_ROWS: usize = 100;
const SCANS: usize = 20_000;

/// A sorted map in memory, or one that pretends.
trait Structure: Sized {
    fn new() -> Result<Self>;
    fn put(&mut self, key: &Key, value: &[u8]) -> Result<()>;
    /// Length of the value.
    fn get(&self, key: &Key) -> Result<usize>;
    /// Rows from `key` on; `None` if the structure is not ordered.
    fn scan(&self, key: &Key) -> Result<Option<usize>>;
}

/// Ours, with or without the ordered companion.
struct Ours<const ORDERED: bool> {
    store: Store,
    _runtime: Arc<Runtime>,
}

const TABLE: TableId = TableId(0);

impl<const ORDERED: bool> Structure for Ours<ORDERED> {
    fn new() -> Result<Self> {
        let runtime = runtime()?;
        let objects = Arc::new(object_store::memory::InMemory::new());
        let environment = Environment::new(
            objects,
            "d".into(),
            runtime.handle().clone(),
            BlockCache::new(1 << 20),
            "p",
        );
        let options = StoreOptions {
            memtable_bytes_max: usize::MAX / 4,
            ..StoreOptions::default()
        };
        let mut store = Store::open(environment, options, vec![])?;
        store.create_table(
            TABLE,
            TableOptions {
                ordered: ORDERED,
                ..TableOptions::default()
            },
        )?;
        Ok(Self {
            store,
            _runtime: runtime,
        })
    }

    fn put(&mut self, key: &Key, value: &[u8]) -> Result<()> {
        Ok(self.store.put(TABLE, key.group, key.bytes(), value)?)
    }

    fn get(&self, key: &Key) -> Result<usize> {
        match self.store.get(TABLE, key.group, key.bytes())? {
            Lookup::Found(value) => Ok(value.len()),
            _ => Ok(0),
        }
    }

    fn scan(&self, key: &Key) -> Result<Option<usize>> {
        if !ORDERED {
            return Ok(None);
        }
        match self
            .store
            .scan(TABLE, key.group, b"", key.bytes(), None, SCAN_ROWS)?
        {
            ScanLookup::Rows(rows) => Ok(Some(
                rows.rows
                    .iter()
                    .map(|(key, value)| key.len() + value.len())
                    .sum(),
            )),
            ScanLookup::Cold(_) => Err("nothing was flushed, but a scan is cold".into()),
        }
    }
}

/// Copies a row out, as a scan of a store has to.
fn copy(out: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    out.extend_from_slice(key);
    out.extend_from_slice(value);
}

fn whole(key: &Key) -> Vec<u8> {
    [&key.group.to_be_bytes(), key.bytes()].concat()
}

struct BTree(BTreeMap<Box<[u8]>, Box<[u8]>>);

impl Structure for BTree {
    fn new() -> Result<Self> {
        Ok(Self(BTreeMap::new()))
    }

    fn put(&mut self, key: &Key, value: &[u8]) -> Result<()> {
        self.0.insert(whole(key).into(), value.into());
        Ok(())
    }

    fn get(&self, key: &Key) -> Result<usize> {
        Ok(self
            .0
            .get(whole(key).as_slice())
            .map_or(0, |value| value.len()))
    }

    fn scan(&self, key: &Key) -> Result<Option<usize>> {
        let from = whole(key);
        let rows = self
            .0
            .range::<[u8], _>((Bound::Included(from.as_slice()), Bound::Unbounded));
        let mut out = Vec::new();
        rows.take(SCAN_ROWS)
            .for_each(|(key, value)| copy(&mut out, key, value));
        Ok(Some(out.len()))
    }
}

struct SkipList(SkipMap<Bytes, Bytes>);

impl Structure for SkipList {
    fn new() -> Result<Self> {
        Ok(Self(SkipMap::new()))
    }

    fn put(&mut self, key: &Key, value: &[u8]) -> Result<()> {
        self.0
            .insert(whole(key).into(), Bytes::copy_from_slice(value));
        Ok(())
    }

    fn get(&self, key: &Key) -> Result<usize> {
        Ok(self
            .0
            .get(whole(key).as_slice())
            .map_or(0, |entry| entry.value().len()))
    }

    fn scan(&self, key: &Key) -> Result<Option<usize>> {
        let from = whole(key);
        let rows = self
            .0
            .range::<[u8], _>((Bound::Included(from.as_slice()), Bound::Unbounded));
        let mut out = Vec::new();
        rows.take(SCAN_ROWS)
            .for_each(|entry| copy(&mut out, entry.key(), entry.value()));
        Ok(Some(out.len()))
    }
}

struct Radix(TreeMap<Vec<u8>, Box<[u8]>>);

impl Structure for Radix {
    fn new() -> Result<Self> {
        Ok(Self(TreeMap::new()))
    }

    fn put(&mut self, key: &Key, value: &[u8]) -> Result<()> {
        self.0
            .try_insert(whole(key), value.into())
            .map_err(|_| "a key is the prefix of another")?;
        Ok(())
    }

    fn get(&self, key: &Key) -> Result<usize> {
        Ok(self
            .0
            .get(whole(key).as_slice())
            .map_or(0, |value| value.len()))
    }

    fn scan(&self, key: &Key) -> Result<Option<usize>> {
        let from = whole(key);
        let rows = self
            .0
            .range::<[u8], _>((Bound::Included(from.as_slice()), Bound::Unbounded));
        let mut out = Vec::new();
        rows.take(SCAN_ROWS)
            .for_each(|(key, value)| copy(&mut out, key, value));
        Ok(Some(out.len()))
    }
}

/// Nanoseconds per operation.
fn timed(ids: &[u64], mut operation: impl FnMut(u64) -> Result<()>) -> Result<f64> {
    let stretch = Stretch::start();
    ids.iter().try_for_each(|&id| operation(id))?;
    Ok(stretch.wall().as_nanos() as f64 / ids.len().max(1) as f64)
}

fn measure<S: Structure>(name: &str, rows: u64) -> Result<String> {
    let before = resident();
    let mut structure = S::new()?;
    let all: Vec<u64> = (0..rows).collect();
    let insert = timed(&all, |id| {
        structure.put(&data::key(id), &data::value(id, 0))
    })?;
    let bytes = resident().saturating_sub(before) / rows.max(1);
    let some = data::draw(Draw::Uniform, rows, 1_000_000, 1);
    let get = timed(&some, |id| match structure.get(&data::key(id))? {
        VALUE_BYTES => Ok(()),
        len => Err(format!("{name} has a value of {len} bytes").into()),
    })?;
    let overwrite = timed(&some, |id| {
        structure.put(&data::key(id), &data::value(id, 1))
    })?;
    let mut ordered = true;
    let scan = timed(&some[..SCANS.min(some.len())], |id| {
        ordered = structure
            .scan(&data::key(id))?
            .map(std::hint::black_box)
            .is_some();
        Ok(())
    })?;
    drop(structure);
    let mut structure = S::new()?;
    let ascending = timed(&all, |id| {
        structure.put(&data::ordered_key(id, rows), &data::value(id, 0))
    })?;
    let scan = if ordered {
        format!("{:.0}", scan / SCAN_ROWS as f64)
    } else {
        "–".into()
    };
    Ok(format!(
        "| {name} | {insert:.0} | {ascending:.0} | {get:.0} | {overwrite:.0} | {scan} | {bytes} |"
    ))
}

/// One line of the table, for the structure with this number.
pub fn measure_one(structure: usize, rows: u64) -> Result<String> {
    match structure {
        0 => measure::<Ours<false>>("arena with hash index (ours)", rows),
        1 => measure::<Ours<true>>("the same with ordered companion (ours)", rows),
        2 => measure::<BTree>("`BTreeMap`", rows),
        3 => measure::<SkipList>("skip list (`crossbeam-skiplist`)", rows),
        4 => measure::<Radix>("adaptive radix tree (`blart`)", rows),
        _ => Err(format!("there is no structure {structure}").into()),
    }
}

/// Measures all structures at these numbers of rows and returns Markdown tables. Each has a process of its own, or memory that one has
/// given back would count for the next.
pub fn run(sizes: &[u64]) -> Result<String> {
    let program = std::env::current_exe()?;
    let mut out = String::new();
    for &rows in sizes {
        let mut lines = String::new();
        for structure in 0..5 {
            let mut command = std::process::Command::new(&program);
            let child = command.args([
                "--structure",
                &structure.to_string(),
                "--keys",
                &rows.to_string(),
            ]);
            let output = child.output()?;
            if !output.status.success() {
                return Err(String::from_utf8_lossy(&output.stderr).into_owned().into());
            }
            let line = String::from_utf8(output.stdout)?;
            crate::progress(line.trim_end());
            lines += &line;
        }
        out += &format!(
            "{rows} rows, ns per operation:\n\n\
             | structure | insert | insert ascending | get | overwrite | scan of {SCAN_ROWS}, per row | bytes per row |\n\
             |---|---|---|---|---|---|---|\n{lines}\n"
        );
    }
    Ok(out)
}

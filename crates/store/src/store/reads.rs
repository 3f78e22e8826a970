//! The reads of a [`Store`]: synchronous over what is in memory, asynchronous for the rest.
use bytes::Bytes;
use futures_util::future::BoxFuture;

use super::Store;
use super::table::{Seen, Table};
use crate::error::Result;
use crate::key::{self, KEY_HEADER_BYTES, KeyBuffer};
use crate::merge::HeldOperands;
use crate::options::TableId;
use crate::read::answer::answer;
use crate::read::fetch::{fetch, on_runtime};
use crate::read::get::{Search, search};
use crate::read::multi_get::{PendingKeys, Terms};
use crate::read::scan::{
    Asked, ColdScan, MemoryRows, ScanLookup, ScanRows, Window, fetch_scan, scan, scan_alone,
};
use crate::read::{self, Cached, ColdRead, Lookup, SeeValue, Value};
use crate::row::SourceRow;
use crate::rules::Rules;

/// Keys of a multi-get that memtables are prepared for together.
const KEYS_AHEAD: usize = 16;

/// The hash by which filters know the part of a scan's prefix that the table's prefix takes up; `None` if the scan's is shorter.
pub(super) fn prefix_hash(rules: &Rules, group: u16, table: TableId, prefix: &[u8]) -> Option<u64> {
    let len = key::prefix_len(&rules.prefix, prefix).filter(|&len| len > 0)?;
    Some(key::hash_prefix(
        key::header(group, table),
        prefix.get(..len)?,
    ))
}

/// Shows an answer; hands out what is none.
fn shown(lookup: Lookup<'_>, see: SeeValue<'_>) -> Option<Box<ColdRead>> {
    match lookup {
        Lookup::Found(value) => see(Some(&value), value.time_ms()),
        Lookup::Absent => see(None, None),
        Lookup::Cold(read) => return Some(Box::new(read)),
    }
    None
}

impl Store {
    #[inline]
    pub(super) fn cached(&self) -> Cached<'_> {
        Cached {
            cache: &self.context.env.block_cache,
            hits: &self.hits,
        }
    }

    fn count_cold(&self) {
        self.cold_reads.set(self.cold_reads.get() + 1);
    }

    /// The time that decides what has expired; not asked for where nothing does.
    pub(super) fn now_ms(&self, table: &Table) -> i64 {
        match table.rules.ttl_ms {
            None => 0,
            Some(_) if table.rules.event_time => table.event_ms,
            Some(_) => (self.context.env.clock)(),
        }
    }

    /// Looks a key up in memory.
    #[inline]
    pub fn get(&self, table: TableId, group: u16, key: &[u8]) -> Result<Lookup<'_>> {
        let header = key::header(group, table);
        let hash = key::hash_parts(header, key);
        let found = self.table(table)?;
        let mut memory = Vec::new();
        let below = match found.look(hash, header, key, &mut memory) {
            Seen::Value(value, time_ms) => Some(Value::with_time(value, time_ms)),
            Seen::Files(before) if !self.version.is_empty() => {
                return self.get_from_files(found, before, hash, header, key, &memory);
            }
            Seen::Gone | Seen::Files(_) => None,
        };
        if memory.is_empty() && found.rules.ttl_ms.is_none() {
            return Ok(below.map_or(Lookup::Absent, Lookup::Found));
        }
        let now_ms = self.now_ms(found);
        let value = answer(below, &[], &memory, &found.rules, now_ms)?;
        Ok(value.map_or(Lookup::Absent, Lookup::Found))
    }

    /// Like [`Self::get`], but shows what memory knows where it lies, and hands out only what memory cannot answer: a hot read moves
    /// nothing from one function to the next. `see` is called if nothing is handed out, once.
    #[inline]
    pub fn look_up(
        &self,
        table: TableId,
        group: u16,
        key: &[u8],
        see: SeeValue<'_>,
    ) -> Result<Option<Box<ColdRead>>> {
        let header = key::header(group, table);
        let hash = key::hash_parts(header, key);
        let found = self.table(table)?;
        let mut memory = Vec::new();
        let below = match found.look(hash, header, key, &mut memory) {
            Seen::Value(value, time_ms) => Some((value, time_ms)),
            Seen::Files(before) if !self.version.is_empty() => {
                let lookup = self.get_from_files(found, before, hash, header, key, &memory)?;
                return Ok(shown(lookup, see));
            }
            Seen::Gone | Seen::Files(_) => None,
        };
        if memory.is_empty() && found.rules.ttl_ms.is_none() {
            match below {
                Some((value, time_ms)) => see(Some(value), time_ms),
                None => see(None, None),
            }
            return Ok(None);
        }
        let now_ms = self.now_ms(found);
        let below = below.map(|(value, time_ms)| Value::with_time(value, time_ms));
        let value = answer(below, &[], &memory, &found.rules, now_ms)?;
        Ok(shown(value.map_or(Lookup::Absent, Lookup::Found), see))
    }

    fn get_from_files(
        &self,
        table: &Table,
        before: u64,
        hash: u64,
        header: [u8; KEY_HEADER_BYTES],
        key: &[u8],
        memory: &[SourceRow<'_>],
    ) -> Result<Lookup<'_>> {
        let whole = KeyBuffer::new(header, key);
        let mut operands = Vec::new();
        let below = match search(
            &self.version,
            before,
            hash,
            whole.as_slice(),
            &self.cached(),
            &mut operands,
        ) {
            Search::Found(value) => Some(value),
            Search::Gone => None,
            Search::Cold => {
                self.count_cold();
                return Ok(Lookup::Cold(ColdRead {
                    version: self.version.clone(),
                    before,
                    key: whole.as_slice().into(),
                    hash,
                    rules: table.rules.clone(),
                    now_ms: self.now_ms(table),
                    operands: memory.iter().filter_map(HeldOperands::copy_row).collect(),
                    installs: self.installs,
                }));
            }
        };
        let now_ms = self.now_ms(table);
        let value = answer(below, &operands, memory, &table.rules, now_ms)?;
        Ok(value.map_or(Lookup::Absent, Lookup::Found))
    }

    /// Looks up many keys; each file and block is visited once. `answer(i, lookup)` is called once per key, in any order.
    pub fn multi_get(
        &self,
        table: TableId,
        keys: &[(u16, &[u8])],
        answer: &mut dyn FnMut(usize, Lookup<'_>),
    ) -> Result<()> {
        let found = self.table(table)?;
        let rules = &found.rules;
        let now_ms = self.now_ms(found);
        let mut pending = PendingKeys::default();
        let mut hashes = [0; KEYS_AHEAD];
        for (i, &(group, key)) in keys.iter().enumerate() {
            let header = key::header(group, table);
            let at = i % KEYS_AHEAD;
            if at == 0 {
                let ahead = keys.get(i..).unwrap_or_default().iter();
                for (hash, &(group, key)) in hashes.iter_mut().zip(ahead.clone()) {
                    *hash = key::hash_parts(key::header(group, table), key);
                }
                found.look_ahead(&hashes[..ahead.len().min(KEYS_AHEAD)]);
            }
            let hash = hashes[at];
            let mut memory = Vec::new();
            let below = match found.look(hash, header, key, &mut memory) {
                Seen::Value(value, time_ms) => Some(Value::with_time(value, time_ms)),
                Seen::Gone => None,
                Seen::Files(before) => {
                    pending.push(i, before, hash, &header, key, memory);
                    continue;
                }
            };
            let value = read::answer::answer(below, &[], &memory, rules, now_ms)?;
            answer(i, value.map_or(Lookup::Absent, Lookup::Found));
        }
        if pending.is_empty() {
            return Ok(());
        }
        let terms = Terms {
            version: &self.version,
            rules,
            now_ms,
            installs: self.installs,
        };
        pending.answer(&terms, &self.cached(), &mut |i, lookup| {
            if matches!(lookup, Lookup::Cold(_)) {
                self.count_cold();
            }
            answer(i, lookup);
        })
    }

    /// Finishes cold reads: all misses are issued together, neighbours coalesced; answers come in the order of `reads`.
    /// Any executor may poll the future: what has to wait runs on the environment's runtime.
    pub fn fetch(&self, reads: Vec<ColdRead>) -> BoxFuture<'static, Result<Vec<Option<Bytes>>>> {
        let fetched = fetch(&self.context, reads);
        let bytes = |value: Option<Value<'_>>| value.map(|value| value.to_bytes());
        Box::pin(async move { Ok(fetched.await?.into_iter().map(bytes).collect()) })
    }

    /// Like [`Self::fetch`], with the times of rows.
    pub fn fetch_values(
        &self,
        reads: Vec<ColdRead>,
    ) -> BoxFuture<'static, Result<Vec<Option<Value<'static>>>>> {
        fetch(&self.context, reads)
    }

    /// Up to `rows_max` rows of `table` and `group` whose key starts with `prefix` and is >= `from` (and < `until`), in
    /// key order; fewer if they come to [`SCAN_BYTES_MAX`] before. Keys come back without group and table.
    ///
    /// [`SCAN_BYTES_MAX`]: crate::SCAN_BYTES_MAX
    pub fn scan(
        &self,
        table: TableId,
        group: u16,
        prefix: &[u8],
        from: &[u8],
        until: Option<&[u8]>,
        rows_max: usize,
    ) -> Result<ScanLookup> {
        let found = self.table(table)?;
        let (before, memtables) = found.for_scan();
        if found.retained.stands_alone() {
            let asked = Asked {
                table,
                group,
                prefix,
                from,
                until,
                rows_max,
                rules: &found.rules,
                now_ms: self.now_ms(found),
            };
            return Ok(ScanLookup::Rows(scan_alone(memtables, &asked)?));
        }
        let mut lower = key::encode(group, table, prefix);
        let mut upper = key::successor(&lower);
        if from > prefix {
            lower.truncate(KEY_HEADER_BYTES);
            lower.extend_from_slice(from);
        }
        if let Some(until) = until {
            let until = key::encode(group, table, until);
            upper = Some(upper.map_or(until.clone(), |upper| upper.min(until)));
        }
        let window = Window {
            lower,
            upper,
            rows_max,
            rules: found.rules.clone(),
            now_ms: self.now_ms(found),
            prefix_hash: prefix_hash(&found.rules, group, table, prefix),
            before,
        };
        if window
            .upper
            .as_ref()
            .is_some_and(|upper| *upper <= window.lower)
        {
            return Ok(ScanLookup::Rows(ScanRows {
                done: true,
                ..ScanRows::default()
            }));
        }
        let memory = MemoryRows::capture(memtables, group, &window)?;
        match scan(&self.version, &window, &memory, &self.cached())? {
            Some(rows) => Ok(ScanLookup::Rows(rows)),
            None => {
                self.count_cold();
                Ok(ScanLookup::Cold(ColdScan {
                    version: self.version.clone(),
                    window,
                    memory,
                }))
            }
        }
    }

    /// Finishes a cold scan; the rows are those of the moment `scan` was called.
    pub fn fetch_scan(&self, scan: ColdScan) -> BoxFuture<'static, Result<ScanRows>> {
        on_runtime(&self.context, fetch_scan(self.context.clone(), scan))
    }
}

//! The reads of a [`Store`]: synchronous over what is in memory, asynchronous for the rest.
use bytes::Bytes;
use futures_util::future::BoxFuture;

use super::Store;
use crate::error::Result;
use crate::key::{self, KeyBuffer};
use crate::options::TableId;
use crate::read::fetch::{fetch, on_runtime};
use crate::read::get::{Search, search};
use crate::read::multi_get::PendingKeys;
use crate::read::scan::{ColdScan, MemoryRows, ScanLookup, ScanRows, Window, fetch_scan, scan};
use crate::read::{Cached, ColdRead, Lookup, Value};

impl Store {
    #[inline]
    fn cached(&self) -> Cached<'_> {
        Cached {
            cache: &self.context.env.block_cache,
            hits: &self.hits,
        }
    }

    fn count_cold(&self) {
        self.cold_reads.set(self.cold_reads.get() + 1);
    }

    /// Looks a key up in memory.
    #[inline]
    pub fn get(&self, table: TableId, group: u16, key: &[u8]) -> Result<Lookup<'_>> {
        let header = key::header(group, table);
        let hash = key::hash_parts(header, key);
        match self.table(table)?.get(hash, group, key) {
            Some(Some(value)) => return Ok(Lookup::Found(value.into())),
            Some(None) => return Ok(Lookup::Absent),
            None if self.version.is_empty() => return Ok(Lookup::Absent),
            None => {}
        }
        let whole = KeyBuffer::new(header, key);
        Ok(
            match search(&self.version, hash, whole.as_slice(), &self.cached()) {
                Search::Found(block, range) => Lookup::Found(Value::in_block(block, range)),
                Search::Absent => Lookup::Absent,
                Search::Cold => {
                    self.count_cold();
                    Lookup::Cold(ColdRead {
                        version: self.version.clone(),
                        key: whole.as_slice().into(),
                        hash,
                    })
                }
            },
        )
    }

    /// Looks up many keys; each file and block is visited once. `answer(i, lookup)` is called once per key, in any order.
    pub fn multi_get(
        &self,
        table: TableId,
        keys: &[(u16, &[u8])],
        answer: &mut dyn FnMut(usize, Lookup<'_>),
    ) -> Result<()> {
        let memtables = self.table(table)?;
        let mut pending = PendingKeys::default();
        for (i, &(group, key)) in keys.iter().enumerate() {
            let header = key::header(group, table);
            let hash = key::hash_parts(header, key);
            match memtables.get(hash, group, key) {
                Some(Some(value)) => answer(i, Lookup::Found(value.into())),
                Some(None) => answer(i, Lookup::Absent),
                None => pending.push(i, hash, &header, key),
            }
        }
        if !pending.is_empty() {
            pending.answer(&self.version, &self.cached(), &mut |i, lookup| {
                if matches!(lookup, Lookup::Cold(_)) {
                    self.count_cold();
                }
                answer(i, lookup);
            });
        }
        Ok(())
    }

    /// Finishes cold reads: all misses are issued together, neighbours coalesced; answers come in the order of `reads`.
    /// The work runs on the environment's runtime; any executor may poll the future.
    pub fn fetch(&self, reads: Vec<ColdRead>) -> BoxFuture<'static, Result<Vec<Option<Bytes>>>> {
        on_runtime(&self.context, fetch(self.context.clone(), reads))
    }

    /// Up to `rows_max` rows of `table` and `group` whose key starts with `prefix` and is >= `from` (and < `until`), in
    /// key order. Keys come back without group and table.
    pub fn scan(
        &self,
        table: TableId,
        group: u16,
        prefix: &[u8],
        from: &[u8],
        until: Option<&[u8]>,
        rows_max: usize,
    ) -> Result<ScanLookup> {
        let memtables = self.table(table)?;
        let whole_prefix = key::encode(group, table, prefix);
        let lower = whole_prefix.clone().max(key::encode(group, table, from));
        let mut upper = key::successor(&whole_prefix);
        if let Some(until) = until {
            let until = key::encode(group, table, until);
            upper = Some(upper.map_or(until.clone(), |upper| upper.min(until)));
        }
        let window = Window {
            lower,
            upper,
            rows_max,
        };
        if window
            .upper
            .as_ref()
            .is_some_and(|upper| *upper <= window.lower)
        {
            return Ok(ScanLookup::Rows(ScanRows {
                rows: Vec::new(),
                done: true,
            }));
        }
        let memory = MemoryRows::capture(memtables.newest_first(), group, &window);
        match scan(&self.version, &window, &memory, &self.cached()) {
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

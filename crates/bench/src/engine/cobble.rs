//! Cobble with its own defaults, except that filters are on (they are off by default, which would be unfair to it); buckets are key
//! groups.
use std::sync::mpsc::channel;

use cobble::{Config, Db, DbBuilder, DbIterator, VolumeDescriptor};
use size::Size;

use super::{Engine, Result, Setup, Table};
use crate::data::{KEY_BYTES, KEY_GROUPS, Key};
use crate::measure::wait_until_quiet;

/// Which database, and which of its snapshots, a closed engine left behind.
const SNAPSHOT_FILE: &str = "SNAPSHOT";

pub struct Cobble {
    db: Db,
    directory: std::path::PathBuf,
}

/// One byte names the table.
fn whole(table: Table, key: &Key) -> ([u8; KEY_BYTES + 1], usize) {
    let mut out = [0; KEY_BYTES + 1];
    let len = key.bytes().len();
    out[0] = table.byte();
    out[1..=len].copy_from_slice(key.bytes());
    (out, len + 1)
}

fn config(setup: &Setup) -> Result<Config> {
    let directory = std::path::absolute(setup.directory.join("db"))?;
    Ok(Config {
        volumes: VolumeDescriptor::single_volume(format!("file://{}", directory.display())),
        memtable_capacity: Size::from_bytes(setup.memtable_bytes),
        total_buckets: u32::from(KEY_GROUPS),
        block_cache_size: Size::from_bytes(setup.cache_bytes),
        sst_bloom_filter_enabled: true,
        compaction_threads: 2,
        ..Config::default()
    })
}

fn successor(prefix: &[u8]) -> Vec<u8> {
    let mut out = prefix.to_vec();
    if let Some(last) = out.last_mut() {
        *last += 1;
    }
    out
}

fn drain(rows: DbIterator, rows_max: usize, with: &mut impl FnMut(&[u8], &[u8])) -> Result<()> {
    for row in rows.take(rows_max) {
        let (key, columns) = row?;
        if let Some(Some(value)) = columns.first() {
            with(&key[1..], value);
        }
    }
    Ok(())
}

impl Engine for Cobble {
    fn open(setup: &Setup) -> Result<Self> {
        let config = config(setup)?;
        let db = match std::fs::read_to_string(setup.directory.join(SNAPSHOT_FILE)) {
            Ok(text) => {
                let (id, snapshot) = text
                    .split_once(' ')
                    .ok_or("the note of the last snapshot is damaged")?;
                Db::resume_from_snapshot(config, snapshot.parse()?, id)?
            }
            Err(_) => DbBuilder::new(config)
                .bucket_ranges(vec![0..=KEY_GROUPS - 1])
                .open()?,
        };
        Ok(Self {
            db,
            directory: setup.directory.clone(),
        })
    }

    #[inline]
    fn put(&mut self, table: Table, key: &Key, value: &[u8]) -> Result<()> {
        let (bytes, len) = whole(table, key);
        Ok(self.db.put(key.group, &bytes[..len], 0, value)?)
    }

    #[inline]
    fn get<R>(
        &mut self,
        table: Table,
        key: &Key,
        with: impl FnOnce(Option<&[u8]>) -> R,
    ) -> Result<R> {
        let (bytes, len) = whole(table, key);
        let columns = self.db.get(key.group, &bytes[..len])?;
        Ok(with(
            columns
                .as_ref()
                .and_then(|columns| columns.first()?.as_deref()),
        ))
    }

    fn delete(&mut self, table: Table, key: &Key) -> Result<()> {
        let (bytes, len) = whole(table, key);
        Ok(self.db.delete(key.group, &bytes[..len], 0)?)
    }

    fn multi_get(
        &mut self,
        table: Table,
        keys: &[Key],
        with: &mut impl FnMut(usize, Option<&[u8]>),
    ) -> Result<()> {
        let whole: Vec<(u16, [u8; KEY_BYTES + 1])> = keys
            .iter()
            .map(|key| (key.group, whole(table, key).0))
            .collect();
        for (i, columns) in self.db.multi_get(&whole)?.iter().enumerate() {
            with(
                i,
                columns
                    .as_ref()
                    .and_then(|columns| columns.first()?.as_deref()),
            );
        }
        Ok(())
    }

    fn scan(
        &mut self,
        table: Table,
        prefix: &Key,
        rows_max: usize,
        with: &mut impl FnMut(&[u8], &[u8]),
    ) -> Result<()> {
        let (bytes, len) = whole(table, prefix);
        let end = successor(&bytes[..len]);
        drain(
            self.db.scan(prefix.group, &bytes[..len]..&end[..])?,
            rows_max,
            with,
        )
    }

    fn append(&mut self, table: Table, key: &Key, operand: &[u8]) -> Result<()> {
        // A column's operands are concatenated unless another operator is named.
        let (bytes, len) = whole(table, key);
        Ok(self.db.merge(key.group, &bytes[..len], 0, operand)?)
    }

    fn flush(&mut self) -> Result<()> {
        self.snapshot().map(drop)
    }

    fn settle(&mut self) -> Result<()> {
        wait_until_quiet();
        Ok(())
    }

    fn warm(&mut self) -> Result<()> {
        for group in 0..KEY_GROUPS {
            for table in Table::ALL {
                let (from, to) = ([table.byte()], [table.byte() + 1]);
                drain(
                    self.db.scan(group, &from[..]..&to[..])?,
                    usize::MAX,
                    &mut |_, _| {},
                )?;
            }
        }
        Ok(())
    }

    fn close(mut self) -> Result<()> {
        let snapshot = self.snapshot()?;
        self.settle()?;
        std::fs::write(
            self.directory.join(SNAPSHOT_FILE),
            format!("{} {snapshot}", self.db.id()),
        )?;
        Ok(self.db.close()?)
    }
}

impl Cobble {
    /// Flushes and waits until the snapshot is written.
    fn snapshot(&mut self) -> Result<u64> {
        let (done, wait) = channel();
        self.db.snapshot_with_callback(move |result| {
            let _ = done.send(result.map(|metadata| metadata.snapshot_id));
        })?;
        Ok(wait.recv()??)
    }
}

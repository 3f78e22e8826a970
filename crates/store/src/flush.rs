//! A flush: the frozen memtables of all tables become one file.
//!
//! Rows are merged in key order; of a key that several memtables of a table hold, the newest row counts. Tombstones are
//! kept, because older files may hold values they hide.
use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::sync::Arc;

use crate::TableId;
use crate::context::Context;
use crate::error::Result;
use crate::key;
use crate::memtable::{Memtable, Row};
use crate::row::RowRef;
use crate::sst::writer::{NewFile, SstWriter};

/// A frozen memtable of a table. In a list, newer ones of the same table come later.
#[derive(Clone)]
pub(crate) struct Frozen {
    pub(crate) table: TableId,
    pub(crate) memtable: Arc<Memtable>,
}

/// The next row of a source, ordered by key and then newest first.
struct Head<'a> {
    table: TableId,
    row: Row<'a>,
    source: usize,
}

impl Head<'_> {
    fn rank(&self) -> (u16, TableId, &[u8], Reverse<usize>) {
        (
            self.row.group,
            self.table,
            self.row.key,
            Reverse(self.source),
        )
    }
}

impl PartialEq for Head<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.rank() == other.rank()
    }
}
impl Eq for Head<'_> {}
impl PartialOrd for Head<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Head<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.rank().cmp(&other.rank())
    }
}

/// Writes the file. Runs on a background thread. No file if there is nothing to write.
pub(crate) fn flush(context: &Arc<Context>, sources: &[Frozen]) -> Result<Vec<NewFile>> {
    // What was just written is likely to be read again; but it may take a quarter of the cache at most.
    let keep_bytes =
        usize::try_from(context.env.block_cache.capacity_bytes() / 4).unwrap_or(usize::MAX);
    let mut writer = SstWriter::new(context, keep_bytes);
    let mut positions = vec![0usize; sources.len()];
    let mut heads = BinaryHeap::with_capacity(sources.len());
    let next = |source: usize, positions: &mut [usize]| {
        let frozen = &sources[source];
        let row = frozen.memtable.sorted_row(positions[source])?;
        positions[source] += 1;
        Some(Reverse(Head {
            table: frozen.table,
            row,
            source,
        }))
    };
    for (source, frozen) in sources.iter().enumerate() {
        frozen.memtable.sort();
        heads.extend(next(source, &mut positions));
    }
    let mut whole = Vec::new();
    while let Some(Reverse(head)) = heads.pop() {
        heads.extend(next(head.source, &mut positions));
        let header = key::header(head.row.group, head.table);
        let known = whole
            .strip_prefix(&header)
            .is_some_and(|user| user == head.row.key);
        if known {
            continue;
        }
        whole.clear();
        whole.extend_from_slice(&header);
        whole.extend_from_slice(head.row.key);
        let hash = key::hash_parts(header, head.row.key);
        writer.add(&whole, hash, RowRef::plain(head.row.value), true)?;
    }
    Ok(writer.finish()?.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::row::RowKind;
    use crate::{BlockCache, Environment, StoreOptions};

    #[test]
    fn of_one_key_the_newest_row_counts_and_tombstones_stay() {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_time()
            .build()
            .unwrap();
        let env = Environment::new(
            Arc::new(object_store::memory::InMemory::new()),
            "d".into(),
            runtime.handle().clone(),
            BlockCache::new(1 << 20),
            "p",
        );
        let context = Context::new(env, StoreOptions::default());
        let memtable = |rows: &[(&[u8], Option<&[u8]>)]| {
            let mut memtable = Memtable::new(false);
            for &(user, value) in rows {
                memtable.put(
                    key::hash_parts(key::header(5, TableId(1)), user),
                    5,
                    user,
                    value,
                );
            }
            Frozen {
                table: TableId(1),
                memtable: Arc::new(memtable),
            }
        };
        let old = memtable(&[(b"a", Some(b"1")), (b"b", Some(b"1")), (b"c", None)]);
        let new = memtable(&[(b"a", None), (b"b", Some(b"2"))]);
        let file = flush(&context, &[old, new])
            .unwrap()
            .pop()
            .unwrap()
            .warm(&context);
        assert_eq!(file.entries, 3);
        let block = context.env.block_cache.block(file.id(), 0).unwrap();
        let mut cursor = crate::sst::block::BlockCursor::default();
        let mut rows = Vec::new();
        while cursor.advance(&block) {
            let row = cursor.row(&block).unwrap();
            let value = (row.kind == RowKind::Value).then(|| row.value.to_vec());
            rows.push((cursor.key()[4..].to_vec(), value));
        }
        let expected = [
            (b"a".to_vec(), None),
            (b"b".to_vec(), Some(b"2".to_vec())),
            (b"c".to_vec(), None),
        ];
        assert_eq!(rows, expected);
    }
}

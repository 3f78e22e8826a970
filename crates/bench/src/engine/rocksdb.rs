//! RocksDB as Flink runs it: no log, leveled compaction, index and filter in the cache, merge operator for lists, a column family per
//! state. With plain or partitioned index and filters.

use rocksdb::{
    BlockBasedIndexType, BlockBasedOptions, Cache, ColumnFamily, ColumnFamilyDescriptor, DB,
    DBCompressionType, MergeOperands, Options, ReadOptions, WaitForCompactOptions, WriteOptions,
};

use super::{Engine, Result, Setup, Table};
use crate::data::Key;

pub struct RocksDb<const PARTITIONED: bool> {
    pub db: DB,
    write: WriteOptions,
    read: ReadOptions,
}

/// Index and filter in one piece.
pub type Plain = RocksDb<false>;
/// Index and filter in pieces of 4 KiB under a small directory.
pub type Partitioned = RocksDb<true>;

fn concatenate(_: &[u8], list: Option<&[u8]>, operands: &MergeOperands) -> Option<Vec<u8>> {
    let list = list.unwrap_or_default();
    let mut out = Vec::with_capacity(list.len() + operands.iter().map(<[u8]>::len).sum::<usize>());
    out.extend_from_slice(list);
    operands
        .iter()
        .for_each(|operand| out.extend_from_slice(operand));
    Some(out)
}

fn options<const PARTITIONED: bool>(setup: &Setup, cache: &Cache) -> Options {
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(cache);
    table.set_block_size(4 << 10);
    table.set_bloom_filter(10.0, false);
    table.set_format_version(6);
    table.set_cache_index_and_filter_blocks(true);
    table.set_cache_index_and_filter_blocks_with_high_priority(true);
    table.set_pin_l0_filter_and_index_blocks_in_cache(true);
    if PARTITIONED {
        table.set_index_type(BlockBasedIndexType::TwoLevelIndexSearch);
        table.set_partition_filters(true);
        table.set_metadata_block_size(4 << 10);
        table.set_pin_top_level_index_and_filter(true);
    }
    let mut options = Options::default();
    options.set_block_based_table_factory(&table);
    options.set_write_buffer_size(setup.memtable_bytes);
    options.set_max_write_buffer_number(3);
    options.set_target_file_size_base(64 << 20);
    options.set_level_compaction_dynamic_level_bytes(true);
    options.set_compression_type(DBCompressionType::Lz4);
    options
}

impl<const PARTITIONED: bool> RocksDb<PARTITIONED> {
    #[inline]
    fn family(&self, table: Table) -> Result<&ColumnFamily> {
        self.db
            .cf_handle(table.name())
            .ok_or_else(|| format!("there is no column family {}", table.name()).into())
    }
}

impl<const PARTITIONED: bool> Engine for RocksDb<PARTITIONED> {
    fn open(setup: &Setup) -> Result<Self> {
        let cache = Cache::new_lru_cache(setup.cache_bytes as usize);
        let mut options = options::<PARTITIONED>(setup, &cache);
        let families = Table::ALL.map(|table| {
            let mut options = options.clone();
            if table == Table::Lists {
                options.set_merge_operator_associative("append", concatenate);
            }
            ColumnFamilyDescriptor::new(table.name(), options)
        });
        options.create_if_missing(true);
        options.create_missing_column_families(true);
        options.set_max_background_jobs(2);
        options.set_max_open_files(-1);
        let db = DB::open_cf_descriptors(&options, &setup.directory, families)?;
        let mut write = WriteOptions::default();
        write.disable_wal(true);
        Ok(Self {
            db,
            write,
            read: ReadOptions::default(),
        })
    }

    #[inline]
    fn put(&mut self, table: Table, key: &Key, value: &[u8]) -> Result<()> {
        Ok(self
            .db
            .put_cf_opt(self.family(table)?, key.bytes(), value, &self.write)?)
    }

    #[inline]
    fn get<R>(
        &mut self,
        table: Table,
        key: &Key,
        with: impl FnOnce(Option<&[u8]>) -> R,
    ) -> Result<R> {
        let value = self
            .db
            .get_pinned_cf_opt(self.family(table)?, key.bytes(), &self.read)?;
        Ok(with(value.as_deref()))
    }

    fn delete(&mut self, table: Table, key: &Key) -> Result<()> {
        Ok(self
            .db
            .delete_cf_opt(self.family(table)?, key.bytes(), &self.write)?)
    }

    fn multi_get(
        &mut self,
        table: Table,
        keys: &[Key],
        with: &mut impl FnMut(usize, Option<&[u8]>),
    ) -> Result<()> {
        let asked: Vec<&[u8]> = keys.iter().map(Key::bytes).collect();
        let values =
            self.db
                .batched_multi_get_cf_opt(self.family(table)?, &asked, false, &self.read);
        for (i, value) in values.into_iter().enumerate() {
            with(i, value?.as_deref());
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
        // As Flink does: seek, and look at each key whether it still belongs to the map.
        let mut rows = self
            .db
            .raw_iterator_cf_opt(self.family(table)?, ReadOptions::default());
        rows.seek(prefix.bytes());
        for _ in 0..rows_max {
            let Some((key, value)) = rows.item() else {
                break;
            };
            if !key.starts_with(prefix.bytes()) {
                break;
            }
            with(key, value);
            rows.next();
        }
        Ok(rows.status()?)
    }

    fn append(&mut self, table: Table, key: &Key, operand: &[u8]) -> Result<()> {
        Ok(self
            .db
            .merge_cf_opt(self.family(table)?, key.bytes(), operand, &self.write)?)
    }

    fn flush(&mut self) -> Result<()> {
        for table in Table::ALL {
            self.db.flush_cf(self.family(table)?)?;
        }
        Ok(())
    }

    fn settle(&mut self) -> Result<()> {
        Ok(self
            .db
            .wait_for_compact(&WaitForCompactOptions::default())?)
    }

    fn warm(&mut self) -> Result<()> {
        for table in Table::ALL {
            let mut rows = self
                .db
                .raw_iterator_cf_opt(self.family(table)?, ReadOptions::default());
            rows.seek_to_first();
            while rows.valid() {
                std::hint::black_box(rows.value());
                rows.next();
            }
            rows.status()?;
        }
        Ok(())
    }

    fn close(mut self) -> Result<()> {
        self.flush()?;
        self.settle()
    }
}

//! SlateDB in its fastest embedding: no log, the writer's task on the caller's own runtime, flushes and compactions on two other threads,
//! index and filter in a part of the cache of their own, and polls cut from seconds to a quarter of one.
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use object_store::ObjectStore;
use object_store::local::LocalFileSystem;
use slatedb::admin::AdminBuilder;
use slatedb::config::{
    CompactionWorkerOptions, CompactorOptions, CompressionCodec, FlushOptions, FlushType,
    ScanOptions, Settings,
};
use slatedb::db_cache::SplitCache;
use slatedb::db_cache::foyer::{FoyerCache, FoyerCacheOptions};
use slatedb::{CloneSourceSpec, Db, MergeOperator, MergeOperatorError};
use tokio::runtime::{Builder, Runtime};

use super::{Engine, Result, Setup, Table};
use crate::data::{KEY_BYTES, Key};
use crate::measure::wait_until_quiet;

pub struct SlateDb {
    pub db: Db,
    /// Drives the calls of this thread, and with them the writer.
    pub user: Runtime,
    // Last: everything else of the database runs there.
    _background: Runtime,
}

struct Concatenate;

impl MergeOperator for Concatenate {
    fn merge(
        &self,
        key: &Bytes,
        existing: Option<Bytes>,
        value: Bytes,
    ) -> std::result::Result<Bytes, MergeOperatorError> {
        self.merge_batch(key, existing, &[value])
    }

    fn merge_batch(
        &self,
        _: &Bytes,
        existing: Option<Bytes>,
        operands: &[Bytes],
    ) -> std::result::Result<Bytes, MergeOperatorError> {
        let parts = existing.iter().chain(operands);
        let mut out = Vec::with_capacity(parts.clone().map(Bytes::len).sum());
        parts.for_each(|part| out.extend_from_slice(part));
        Ok(out.into())
    }
}

/// SlateDB has one key space: a byte names the table.
fn whole(table: Table, key: &Key) -> ([u8; KEY_BYTES + 1], usize) {
    let mut out = [0; KEY_BYTES + 1];
    let len = key.bytes().len();
    out[0] = table.byte();
    out[1..=len].copy_from_slice(key.bytes());
    (out, len + 1)
}

fn settings(memtable_bytes: usize) -> Settings {
    let poll = Duration::from_millis(250);
    let worker = CompactionWorkerOptions {
        compactions_poll_interval: poll,
        max_sst_size: 64 << 20,
        compression_codec: Some(CompressionCodec::Lz4),
        ..CompactionWorkerOptions::default()
    };
    let compactor = CompactorOptions {
        poll_interval: poll,
        commit_compacted_interval: poll,
        worker: Some(worker),
        ..CompactorOptions::default()
    };
    Settings {
        wal_enabled: false,
        flush_interval: None,
        manifest_poll_interval: poll,
        l0_sst_size_bytes: memtable_bytes,
        l0_max_ssts_per_key: 16,
        max_unflushed_bytes: memtable_bytes * 3,
        compression_codec: Some(CompressionCodec::Lz4),
        compactor_options: Some(compactor),
        garbage_collector_options: None,
        ..Settings::default()
    }
}

fn cache(bytes: u64) -> Arc<SplitCache> {
    let part = |bytes| {
        Some(Arc::new(FoyerCache::new_with_opts(FoyerCacheOptions {
            max_capacity: bytes,
            shards: 2,
        })) as _)
    };
    let meta = bytes / 3;
    Arc::new(
        SplitCache::new()
            .with_block_cache(part(bytes - meta))
            .with_meta_cache(part(meta))
            .build(),
    )
}

impl SlateDb {
    /// Opens what is at `path` of any object store.
    pub fn open_at(
        path: &str,
        objects: Arc<dyn ObjectStore>,
        cache_bytes: u64,
        memtable_bytes: usize,
    ) -> Result<Self> {
        let user = Builder::new_current_thread().enable_time().build()?;
        let background = Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()?;
        let builder = Db::builder(path, objects)
            .with_settings(settings(memtable_bytes))
            .with_db_cache(cache(cache_bytes), 1)
            .with_merge_operator(Arc::new(Concatenate))
            .with_write_runtime(user.handle().clone());
        let db = background.block_on(builder.build())?;
        Ok(Self {
            db,
            user,
            _background: background,
        })
    }
}

/// Makes a new database from the newest state of another, which is how SlateDB goes back to a checkpoint.
pub fn clone(from: &str, to: &str, objects: Arc<dyn ObjectStore>) -> Result<()> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let admin = AdminBuilder::new(to, objects).build();
    Ok(runtime.block_on(
        admin
            .create_clone_builder_from_source(CloneSourceSpec::new(from))
            .build(),
    )?)
}

impl Engine for SlateDb {
    fn open(setup: &Setup) -> Result<Self> {
        let objects = Arc::new(LocalFileSystem::new_with_prefix(&setup.directory)?);
        Self::open_at("db", objects, setup.cache_bytes, setup.memtable_bytes)
    }

    #[inline]
    fn put(&mut self, table: Table, key: &Key, value: &[u8]) -> Result<()> {
        let (key, len) = whole(table, key);
        self.user.block_on(self.db.put(&key[..len], value))?;
        Ok(())
    }

    #[inline]
    fn get<R>(
        &mut self,
        table: Table,
        key: &Key,
        with: impl FnOnce(Option<&[u8]>) -> R,
    ) -> Result<R> {
        let (key, len) = whole(table, key);
        let value = self.user.block_on(self.db.get(&key[..len]))?;
        Ok(with(value.as_deref()))
    }

    fn delete(&mut self, table: Table, key: &Key) -> Result<()> {
        let (key, len) = whole(table, key);
        self.user.block_on(self.db.delete(&key[..len]))?;
        Ok(())
    }

    fn multi_get(
        &mut self,
        table: Table,
        keys: &[Key],
        with: &mut impl FnMut(usize, Option<&[u8]>),
    ) -> Result<()> {
        // There is no multi-get; joined gets are what its users do.
        let reads = keys.iter().map(|key| {
            let (db, (key, len)) = (&self.db, whole(table, key));
            async move { db.get(&key[..len]).await }
        });
        let values = self
            .user
            .block_on(futures_util::future::try_join_all(reads))?;
        values
            .iter()
            .enumerate()
            .for_each(|(i, value)| with(i, value.as_deref()));
        Ok(())
    }

    fn scan(
        &mut self,
        table: Table,
        prefix: &Key,
        rows_max: usize,
        with: &mut impl FnMut(&[u8], &[u8]),
    ) -> Result<()> {
        let (prefix, len) = whole(table, prefix);
        let options = ScanOptions {
            cache_blocks: true,
            ..ScanOptions::default()
        };
        self.user.block_on(async {
            let mut rows = self
                .db
                .scan_prefix_with_options(&prefix[..len], .., &options)
                .await?;
            for _ in 0..rows_max {
                let Some(row) = rows.next().await? else { break };
                with(&row.key[1..], &row.value);
            }
            Ok(())
        })
    }

    fn append(&mut self, table: Table, key: &Key, operand: &[u8]) -> Result<()> {
        let (key, len) = whole(table, key);
        self.user.block_on(self.db.merge(&key[..len], operand))?;
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        let options = FlushOptions {
            flush_type: FlushType::MemTable,
        };
        Ok(self.user.block_on(self.db.flush_with_options(options))?)
    }

    fn settle(&mut self) -> Result<()> {
        wait_until_quiet();
        Ok(())
    }

    fn warm(&mut self) -> Result<()> {
        let options = ScanOptions {
            cache_blocks: true,
            read_ahead_bytes: 1 << 20,
            max_fetch_tasks: 4,
            ..ScanOptions::default()
        };
        self.user.block_on(async {
            let mut rows = self
                .db
                .scan_with_options::<std::ops::RangeFull>(.., &options)
                .await?;
            while rows.next().await?.is_some() {}
            Ok(())
        })
    }

    fn close(mut self) -> Result<()> {
        self.flush()?;
        Ok(self.user.block_on(self.db.close())?)
    }
}

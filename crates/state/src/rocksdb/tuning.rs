//! From our options to RocksDB's.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use ::rocksdb::{
    BlockBasedIndexType, BlockBasedOptions, Cache, DBCompactionStyle, DBCompressionType, LogLevel,
    Options,
};
use aquifer_store::{Clock, Compression};

use super::expiry::{Expiry, ExpiryFilters};
use super::options::{RocksdbCompactionStyle, RocksdbLogLevel, RocksdbOptions};
use super::row;

/// Levels of a database.
const LEVELS: usize = 7;
/// Bits per key where partitioned filters are asked for without saying how large.
const FILTER_BITS_DEFAULT: f64 = 10.0;
/// Files of a database that one thread opens, if there are so many.
const FILES_PER_OPENING_THREAD: usize = 32;
/// RocksDB's own number.
const OPENING_THREADS_MAX: usize = 16;
/// The name of the operator that appends; a database remembers it.
const APPEND: &str = "aquifer-append";

/// The cache of a new database: the shared one, if there is a budget.
pub(super) fn cache(options: &RocksdbOptions) -> Cache {
    match options.shared.pools() {
        Some(pools) => pools.cache.clone(),
        None => Cache::new_lru_cache(options.block_cache_bytes),
    }
}

/// Options of the database of a directory.
pub(super) fn database_options(options: &RocksdbOptions, path: &Path) -> Options {
    let mut to = Options::default();
    to.set_max_file_opening_threads(opening_threads(path));
    to.create_if_missing(true);
    to.create_missing_column_families(true);
    to.set_max_background_jobs(options.background_jobs.clamp(1, 1024) as i32);
    let open_files = options.open_files_max.map(i32::try_from);
    to.set_max_open_files(open_files.map_or(-1, |max| max.unwrap_or(i32::MAX)));
    to.set_skip_stats_update_on_db_open(true);
    // Its figures are asked for, not written down.
    to.set_stats_dump_period_sec(0);
    to.set_stats_persist_period_sec(0);
    if let Some(pools) = options.shared.pools() {
        to.set_write_buffer_manager(&pools.write_buffers);
    }
    if let Some(directory) = &options.log.directory {
        to.set_db_log_dir(directory);
    }
    to.set_log_level(match options.log.level {
        RocksdbLogLevel::Debug => LogLevel::Debug,
        RocksdbLogLevel::Info => LogLevel::Info,
        RocksdbLogLevel::Warn => LogLevel::Warn,
        RocksdbLogLevel::Error => LogLevel::Error,
        RocksdbLogLevel::Fatal => LogLevel::Fatal,
        RocksdbLogLevel::Header => LogLevel::Header,
    });
    to.set_keep_log_file_num(options.log.files.max(1));
    to.set_max_log_file_size(options.log.file_bytes_max);
    to
}

/// Threads that open the files of a database: RocksDB starts them all for each column family, however few files there are.
fn opening_threads(path: &Path) -> i32 {
    let files = fs::read_dir(path).map_or(0, Iterator::count);
    (files / FILES_PER_OPENING_THREAD).clamp(1, OPENING_THREADS_MAX) as i32
}

/// Options of one table's column family. Files that are older than `periodic_seconds` are rewritten; 0: none.
pub(super) fn family_options(
    options: &RocksdbOptions,
    cache: &Cache,
    expiry: &Arc<Expiry>,
    clock: &Clock,
    periodic_seconds: u64,
) -> Options {
    let mut to = Options::default();
    to.set_merge_operator_associative(APPEND, row::append);
    to.set_compaction_filter_factory(ExpiryFilters {
        expiry: Arc::clone(expiry),
        clock: Arc::clone(clock),
        ask_after: options.query_time_after_entries,
    });
    to.set_periodic_compaction_seconds(periodic_seconds);
    to.set_write_buffer_size(options.write_buffer_bytes);
    let count = |n: u32| i32::try_from(n).unwrap_or(i32::MAX);
    to.set_max_write_buffer_number(count(options.write_buffers.max(2)));
    to.set_min_write_buffer_number_to_merge(count(options.write_buffers_to_merge.max(1)));
    if let Some(pools) = options.shared.pools() {
        to.set_arena_block_size(pools.arena_block_bytes);
    }
    match options.compaction_style {
        RocksdbCompactionStyle::Level => to.set_compaction_style(DBCompactionStyle::Level),
        RocksdbCompactionStyle::Universal => to.set_compaction_style(DBCompactionStyle::Universal),
        RocksdbCompactionStyle::None => to.set_disable_auto_compactions(true),
    }
    to.set_level_compaction_dynamic_level_bytes(options.dynamic_levels);
    to.set_max_bytes_for_level_base(options.level_bytes_base);
    to.set_target_file_size_base(options.file_bytes_target);
    to.set_num_levels(LEVELS as i32);
    to.set_compression_per_level(&compressions(&options.compression));
    to.set_block_based_table_factory(&table_options(options, cache));
    to
}

fn table_options(options: &RocksdbOptions, cache: &Cache) -> BlockBasedOptions {
    let mut to = BlockBasedOptions::default();
    to.set_block_cache(cache);
    to.set_block_size(options.block_bytes);
    to.set_metadata_block_size(options.metadata_block_bytes);
    let mut filter_bits = options.bloom_bits_per_key;
    if options.shared.budget().is_some() {
        // What is in the cache is in the budget.
        to.set_cache_index_and_filter_blocks(true);
        to.set_cache_index_and_filter_blocks_with_high_priority(true);
        to.set_pin_l0_filter_and_index_blocks_in_cache(true);
        if options.partitioned_index_filters {
            to.set_index_type(BlockBasedIndexType::TwoLevelIndexSearch);
            to.set_partition_filters(true);
            to.set_pin_top_level_index_and_filter(true);
            filter_bits = filter_bits.or(Some(FILTER_BITS_DEFAULT));
        }
    }
    if let Some(bits) = filter_bits {
        to.set_bloom_filter(bits, false);
    }
    to
}

fn compressions(levels: &[Compression]) -> Vec<DBCompressionType> {
    let of = |level: usize| levels.get(level).or(levels.last());
    let of = |level| match of(level) {
        Some(Compression::None) => DBCompressionType::None,
        // Only LZ4 is built in.
        _ => DBCompressionType::Lz4,
    };
    (0..LEVELS).map(of).collect()
}

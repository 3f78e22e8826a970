//! What the keys of `rocksdb` come to.

use super::super::Layer;
use super::*;

fn configured(values: &[(&str, &str)]) -> Configuration {
    let mut configuration = Configuration::default();
    for (key, value) in values {
        let key = match key.strip_prefix("r.") {
            Some(rest) => format!("state.backend.rocksdb.{rest}"),
            None => (*key).to_owned(),
        };
        configuration.put(Layer::File, &key, value).unwrap();
    }
    configuration
}

fn options_of(values: &[(&str, &str)]) -> RocksdbOptions {
    configured(values).rocksdb_options(4).unwrap()
}

fn refusal(key: &str, value: &str) -> String {
    let key = format!("state.backend.rocksdb.{key}");
    Configuration::check(&key, value).unwrap_err().to_string()
}

#[test]
fn what_nobody_says_is_the_default() {
    let defaults = RocksdbOptions {
        shared: RocksdbShared::new(Some(MemoryBudget::new(512 << 20, 0.5))),
        ..RocksdbOptions::default()
    };
    assert_eq!(options_of(&[]), defaults);
}

#[test]
fn keys_reach_their_options() {
    let options = options_of(&[
        ("state.backend.incremental", "true"),
        ("r.localdir", "/a,file:///b:/c"),
        ("r.writebuffer.size", "1 mb"),
        ("r.writebuffer.count", "5"),
        ("r.writebuffer.number-to-merge", "2"),
        ("r.block.blocksize", "16kb"),
        ("r.block.cache-size", "1mb"),
        ("r.thread.num", "7"),
        ("r.files.open", "500"),
        ("r.compaction.style", "universal"),
        ("r.compaction.level.use-dynamic-size", "false"),
        ("r.compression.per.level", "NO_COMPRESSION;LZ4_COMPRESSION"),
        ("r.use-bloom-filter", "true"),
        ("r.bloom-filter.bits-per-key", "12.5"),
        ("r.checkpoint.transfer.thread.num", "-1"),
        ("r.restore-overlap-fraction-threshold", "0.3"),
        ("r.rescaling.use-delete-files-in-range", "true"),
        ("r.compaction.filter.query-time-after-num-entries", "0"),
        ("r.compaction.filter.periodic-compaction-time", "1 h"),
        ("r.log.level", "WARN_LEVEL"),
    ]);
    assert!(options.incremental && options.delete_files_in_range && !options.dynamic_levels);
    let directories = ["/a", "/b", "/c"].map(PathBuf::from);
    assert_eq!(options.local_directories, directories);
    assert_eq!(
        (
            options.write_buffer_bytes,
            options.block_bytes,
            options.block_cache_bytes
        ),
        (1 << 20, 16 << 10, 1 << 20)
    );
    assert_eq!(
        (options.write_buffers, options.write_buffers_to_merge),
        (5, 2)
    );
    assert_eq!(
        (options.background_jobs, options.open_files_max),
        (7, Some(500))
    );
    assert_eq!(options.compaction_style, RocksdbCompactionStyle::Universal);
    assert_eq!(options.compression, [Compression::None, Compression::Lz4]);
    assert_eq!(options.bloom_bits_per_key, Some(12.5));
    assert_eq!((options.transfers, options.overlap_fraction_min), (4, 0.3));
    assert_eq!(
        (
            options.query_time_after_entries,
            options.periodic_compaction_seconds
        ),
        (0, 3600)
    );
    assert_eq!(options.log.level, RocksdbLogLevel::Warn);
}

#[test]
fn a_given_key_outweighs_a_predefined_set() {
    let high = ("r.predefined-options", "SPINNING_DISK_OPTIMIZED_HIGH_MEM");
    let options = options_of(&[high]);
    assert_eq!((options.block_bytes, options.write_buffers), (128 << 10, 4));
    assert_eq!(options.bloom_bits_per_key, Some(10.0));
    let options = options_of(&[
        high,
        ("r.block.blocksize", "4 kb"),
        ("r.bloom-filter.bits-per-key", "6"),
    ]);
    assert_eq!((options.block_bytes, options.write_buffers), (4 << 10, 4));
    assert_eq!(options.bloom_bits_per_key, Some(6.0));
    let options = options_of(&[high, ("r.use-bloom-filter", "false")]);
    assert_eq!(options.bloom_bits_per_key, None);
    assert_eq!(
        options_of(&[("r.predefined-options", "flash_ssd_optimized")]).background_jobs,
        4
    );
}

#[test]
fn memory_is_divided_by_flinks_rules() {
    let budget = |values: &[(&str, &str)]| options_of(values).shared.budget();
    let mb = |total: u64, ratio| Some(MemoryBudget::new(total << 20, ratio));
    assert_eq!(
        budget(&[("taskmanager.memory.managed.size", "100 mb")]),
        mb(100, 0.5)
    );
    // Per worker, of whom there are four; it outweighs the others.
    let values = [
        ("r.memory.fixed-per-slot", "30 mb"),
        ("r.memory.fixed-per-tm", "7 mb"),
        ("r.memory.write-buffer-ratio", "0.4"),
    ];
    assert_eq!(budget(&values), mb(120, 0.4));
    let unmanaged = ("r.memory.managed", "false");
    assert_eq!(
        budget(&[unmanaged, ("r.memory.fixed-per-tm", "7 mb")]),
        mb(7, 0.5)
    );
    assert_eq!(budget(&[unmanaged]), None);
}

#[test]
fn ratios_that_do_not_fit_are_refused() {
    for ratio in ["-0.1", "1.1", "0", "x"] {
        let text = refusal("memory.write-buffer-ratio", ratio);
        assert!(text.contains("between 0 and 1"), "{text}");
    }
    let together = configured(&[
        ("r.memory.write-buffer-ratio", "0.6"),
        ("r.memory.high-prio-pool-ratio", "0.6"),
    ]);
    let text = together.rocksdb_options(1).unwrap_err().to_string();
    assert!(
        text.contains("write-buffer-ratio") && text.contains("high-prio-pool-ratio"),
        "{text}"
    );
    // A ratio is of the budget, of which the cache is a part: by Flink's formula these fit.
    let fits = configured(&[
        ("r.memory.write-buffer-ratio", "0.92"),
        ("r.memory.high-prio-pool-ratio", "0.09"),
    ]);
    assert!(fits.rocksdb_options(1).is_ok());
}

/// A list in a file was one absurd directory with semicolons in its name.
#[test]
fn a_list_of_local_directories_may_come_from_a_file() {
    let options = options_of(&[("r.localdir", "/x/l1;/x/l2;file:/y")]);
    let directories = ["/x/l1", "/x/l2", "/y"].map(PathBuf::from);
    assert_eq!(options.local_directories, directories);
}

#[test]
fn every_key_is_in_the_documentation() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/configuration.md");
    let page = std::fs::read_to_string(page).unwrap();
    for option in ALL {
        let row = format!("| `{}` |", option.key());
        assert!(page.contains(&row), "{} is not in it", option.key());
    }
}

#[test]
fn local_directories_are_local_and_absolute() {
    for wrong in [
        "",
        "relative/path",
        "hdfs:///x",
        "/a,,/b",
        "/a,b",
        "/a;b",
        "file://host/x,",
    ] {
        let text = refusal("localdir", wrong);
        assert!(text.contains("absolute local directories"), "{text}");
    }
    for right in ["/x", "file:///x", " /x , /y "] {
        Configuration::check("state.backend.rocksdb.localdir", right).unwrap();
    }
}

#[test]
fn other_values_are_checked() {
    for (key, value) in [
        ("predefined-options", "FASTEST"),
        ("files.open", "0"),
        ("checkpoint.transfer.thread.num", "0"),
        ("compaction.style", "FIFO"),
        ("log.level", "LOUD"),
        ("timer-service.factory", "DISK"),
        ("writebuffer.size", "1 kb"),
        ("restore-overlap-fraction-threshold", "2"),
        ("compaction.filter.query-time-after-num-entries", "-1"),
        ("log.dir", "relative/dir"),
    ] {
        let text = refusal(key, value);
        assert!(text.contains(key) && text.contains(value), "{text}");
    }
}

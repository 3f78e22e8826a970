//! Layers, forms of values, unknown and foreign keys.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use aquifer_state::{BackendKind, SnapshotStorage, StorageKind};
use aquifer_store::{Compression, Hedge};

use super::value::{MemorySize, boolean, duration, list, memory_size};
use super::{ConfigError, Configuration, JobSurroundings, Layer, options};
use crate::job::{JobCounters, JobObserver, JobOptions};

struct Silent;
impl JobObserver for Silent {}

fn surroundings() -> JobSurroundings {
    JobSurroundings {
        name: "script".to_owned(),
        default_checkpoint_dir: Some("/data/checkpoints".to_owned()),
        default_local_dir: Some("/data/local/".to_owned()),
        resume: false,
        plan: String::new(),
        now_ms: Arc::new(|| 0),
        counters: Arc::new(JobCounters::default()),
        observer: Arc::new(Silent),
    }
}

fn configured(entries: &[(Layer, &str, &str)]) -> Configuration {
    let mut configuration = Configuration::default();
    for (layer, key, value) in entries {
        configuration.put(*layer, key, value).unwrap();
    }
    configuration
}

fn job(entries: &[(Layer, &str, &str)]) -> Result<JobOptions, ConfigError> {
    configured(entries).job_options(surroundings())
}

fn refusal(key: &str, value: &str) -> String {
    Configuration::check(key, value).unwrap_err().to_string()
}

#[test]
fn durations_have_flinks_units() {
    for (text, ms) in [
        ("10 min", 600_000),
        ("500ms", 500),
        ("1 s", 1_000),
        (" 30 S ", 30_000),
        ("2h", 7_200_000),
        ("1 day", 86_400_000),
        ("3 milliseconds", 3),
        ("250", 250),
        ("0", 0),
    ] {
        assert_eq!(duration(text), Ok(Duration::from_millis(ms)), "{text}");
    }
    assert_eq!(duration("7 µs"), Ok(Duration::from_micros(7)));
    for text in [
        "",
        "s",
        "-1 s",
        "1.5 s",
        "10 fortnights",
        "99999999999999999999 s",
        "99999999999999999 days",
    ] {
        assert!(duration(text).is_err(), "{text}");
    }
}

#[test]
fn sizes_are_binary() {
    for (text, bytes) in [
        ("64 mb", 64 << 20),
        ("1GB", 1 << 30),
        ("10gb", 10 << 30),
        ("4096", 4096),
        ("8 kb", 8192),
        ("3b", 3),
    ] {
        assert_eq!(memory_size(text), Ok(MemorySize(bytes)), "{text}");
    }
    for text in ["", "mb", "1 pb", "-1", "99999999999 tb"] {
        assert!(memory_size(text).is_err(), "{text}");
    }
}

#[test]
fn lists_are_split_at_semicolons_outside_quotes() {
    assert_eq!(list("a; b;;c").unwrap(), ["a", "b", "c"]);
    assert_eq!(list("'a;b';\"it\"\"s\"").unwrap(), ["a;b", "it\"s"]);
    assert!(list("'a;b").is_err());
    assert!(boolean("TRUE").unwrap());
    assert!(boolean("yes").is_err());
}

#[test]
fn a_later_layer_wins_and_says_so() {
    let mut configuration = configured(&[
        (Layer::CommandLine, "parallelism.default", "3"),
        (Layer::File, "parallelism.default", "1"),
    ]);
    assert_eq!(configuration.get(&options::PARALLELISM), 3);
    assert!(configuration.notes().is_empty());
    let set = BTreeMap::from([("parallelism.default".to_owned(), "2".to_owned())]);
    configuration.replace_session(&set).unwrap();
    assert_eq!(configuration.get(&options::PARALLELISM), 3);
    assert_eq!(
        configuration.notes(),
        ["the command line gives parallelism.default, so the script's SET of it does not count"]
    );
    let mut configuration = configured(&[(Layer::File, "parallelism.default", "4")]);
    configuration.replace_session(&set).unwrap();
    assert_eq!(configuration.get(&options::PARALLELISM), 2);
    configuration.replace_session(&BTreeMap::new()).unwrap();
    assert_eq!(
        configuration.get(&options::PARALLELISM),
        4,
        "RESET gives the file's value back"
    );
}

#[test]
fn an_unknown_key_names_its_nearest() {
    assert_eq!(
        refusal("execution.checkpointing.intervall", "1 s"),
        "there is no configuration key 'execution.checkpointing.intervall'; did you mean 'execution.checkpointing.interval'?"
    );
    assert_eq!(
        refusal("paralelism.default", "1"),
        "there is no configuration key 'paralelism.default'; did you mean 'parallelism.default'?"
    );
    assert_eq!(refusal("zzz", "1"), "there is no configuration key 'zzz'");
    assert!(refusal(&"x".repeat(100_000), "1").len() < 300);
}

#[test]
fn flinks_other_keys_pass_with_a_note() {
    let configuration = configured(&[
        (Layer::File, "jobmanager.rpc.address", "localhost"),
        (Layer::File, "table.exec.sink.upsert-materialize", "NONE"),
        (
            Layer::File,
            "state.backend.rocksdb.metrics.stall-micros",
            "true",
        ),
        (Layer::Session, "state.checkpoints.dir", "/tmp/c"),
    ]);
    assert_eq!(
        configuration.notes(),
        [
            "jobmanager.rpc.address means something in Flink and nothing here; it is ignored",
            "state.backend.rocksdb.metrics.stall-micros means something in Flink and nothing here; it is ignored",
            "table.exec.sink.upsert-materialize means something in Flink and nothing here; it is ignored",
            "state.checkpoints.dir is an older name of execution.checkpointing.dir",
        ]
    );
    assert_eq!(
        configuration.get(&options::CHECKPOINT_DIR).as_deref(),
        Some("/tmp/c")
    );
}

#[test]
fn values_are_checked_when_they_come_in() {
    for (key, value, message) in [
        (
            "execution.checkpointing.interval",
            "soon",
            "execution.checkpointing.interval: expected a duration such as '10 s', '500ms' or '3 min', found 'soon'",
        ),
        (
            "execution.checkpointing.interval",
            "9 ms",
            "execution.checkpointing.interval: expected at least 10 ms, found '9 ms'",
        ),
        (
            "state.backend",
            "heap",
            "state.backend.type: expected hashmap, rocksdb or forst (or an old name, jobmanager or filesystem), found 'heap'",
        ),
        (
            "parallelism.default",
            "0",
            "parallelism.default: expected a whole number from 1 to 32768, found '0'",
        ),
        (
            "pipeline.max-parallelism",
            "40000",
            "pipeline.max-parallelism: expected a whole number from 1 to 32768, or -1, found '40000'",
        ),
        (
            "table.exec.state.ttl",
            "1 d",
            "table.exec.state.ttl: expected 0 (this build keeps state for ever), found '1 d'",
        ),
        (
            "execution.runtime-mode",
            "batch",
            "execution.runtime-mode: expected STREAMING (this build has no batch mode), found 'batch'",
        ),
        (
            "state.backend.forst.bloom-filter.bits-per-key",
            "NaN",
            "state.backend.forst.bloom-filter.bits-per-key: expected a number from 0 to 64, found 'NaN'",
        ),
    ] {
        assert_eq!(refusal(key, value), message);
    }
    Configuration::check("table.exec.state.ttl", "0 ms").unwrap();
    Configuration::check("execution.checkpointing.mode", "exactly-once").unwrap();
}

#[test]
fn credentials_are_not_shown() {
    assert_eq!(
        refusal("s3.secret-key", " "),
        "s3.secret-key: expected a text that is not empty, found a value that is kept secret"
    );
    let configuration = configured(&[(Layer::File, "s3.secret.key", "hunter2")]);
    assert!(!format!("{configuration:?}").contains("hunter2"));
    assert_eq!(
        configuration.object_store_keys(),
        BTreeMap::from([("s3.secret-key".to_owned(), "hunter2".to_owned())])
    );
}

#[test]
fn a_job_has_defaults_and_takes_what_was_said() {
    let options = job(&[]).unwrap();
    assert_eq!(
        (
            options.name.as_str(),
            options.parallelism,
            options.max_parallelism
        ),
        ("script", 1, None)
    );
    assert_eq!(options.checkpoint_dir, "/data/checkpoints");
    assert_eq!(
        (options.checkpoint_interval_ms, options.num_retained),
        (None, 1)
    );
    assert!(matches!(options.backend, BackendKind::Forst));
    assert_eq!(options.store.filter_bits_per_key, 10);

    let options = job(&[
        (Layer::Session, "table.exec.async-state.enabled", "false"),
        (Layer::Session, "execution.checkpointing.interval", "1 s"),
        (Layer::File, "state.backend", "HASHMAP"),
        (
            Layer::File,
            "execution.checkpointing.externalized-checkpoint-retention",
            "retain_on_cancellation",
        ),
        (Layer::File, "state.backend.forst.use-bloom-filter", "false"),
        (Layer::CommandLine, "parallelism.default", "2"),
    ])
    .unwrap();
    assert_eq!(
        (
            options.async_state,
            options.parallelism,
            options.checkpoint_interval_ms
        ),
        (false, 2, Some(1_000))
    );
    assert!(matches!(options.backend, BackendKind::Hashmap));
    assert!(options.retain_when_finished);
    assert_eq!(options.store.filter_bits_per_key, 0);
}

#[test]
fn memory_comes_from_one_budget_where_one_is_given() {
    const MB: u64 = 1 << 20;
    let memory = |entries: &[(&str, &str)]| {
        let entries: Vec<_> = entries.iter().map(|(k, v)| (Layer::File, *k, *v)).collect();
        let options = job(&entries).unwrap();
        (
            options.store.memtable_bytes_max as u64 / MB,
            options.block_cache_bytes / MB,
        )
    };
    let separate = [
        ("state.backend.forst.writebuffer.size", "16 mb"),
        ("state.backend.forst.block.cache-size", "100 mb"),
    ];
    assert_eq!(memory(&[]), (64, 256));
    assert_eq!(memory(&separate), (16, 100));
    let managed = ("taskmanager.memory.managed.size", "975 mb");
    assert_eq!(memory(&[separate[0], managed]), (100, 650));
    let two = ("parallelism.default", "2");
    assert_eq!(memory(&[managed, two]), (50, 650));
    let per_slot = ("state.backend.forst.memory.fixed-per-slot", "975 mb");
    assert_eq!(memory(&[per_slot, two]), (100, 1300));
    let small = ("state.backend.forst.memory.write-buffer-ratio", "0.05");
    assert_eq!(memory(&[managed, small]), (10, 942));
    let off = ("state.backend.forst.memory.managed", "false");
    let per_tm = ("state.backend.forst.memory.fixed-per-tm", "1950 mb");
    assert_eq!(memory(&[managed, off]), (64, 256));
    assert_eq!(memory(&[managed, off, per_tm]), (200, 1300));
}

#[test]
fn settings_of_every_object_store_are_handed_on() {
    let account = "fs.azure.account.key.me.dfs.core.windows.net";
    let configuration = configured(&[
        (Layer::File, account, "c2VjcmV0"),
        (
            Layer::File,
            "fs.gs.auth.service.account.json.keyfile",
            "/key.json",
        ),
        (Layer::File, "s3.connection.request.timeout", "5 s"),
        (Layer::File, "fs.hdfs.hadoopconf", "/etc/hadoop"),
    ]);
    let keys = configuration.object_store_keys();
    assert_eq!(keys.len(), 3, "{:?}", keys.keys());
    assert_eq!(keys[account], "c2VjcmV0");
    assert_eq!(
        configuration.notes(),
        ["fs.hdfs.hadoopconf means something in Flink and nothing here; it is ignored"]
    );
    assert!(refusal(account, " ").contains("not empty"));
}

#[test]
fn the_file_cache_has_flinks_keys() {
    let cache = |entries: &[(&str, &str)]| {
        let entries: Vec<_> = entries.iter().map(|(k, v)| (Layer::File, *k, *v)).collect();
        let found = job(&entries).unwrap().file_cache;
        found.map(|c| {
            (
                c.directory,
                c.size_limit_bytes,
                c.reserve_bytes,
                c.access_before_promote,
            )
        })
    };
    const MB: u64 = 1 << 20;
    let here = ("state.backend.forst.cache.dir", "/fast");
    let limit = ("state.backend.forst.cache.size-based-limit", "1 gb");
    let no_reserve = ("state.backend.forst.cache.reserve-size", "0");
    let local = ("state.backend.forst.local-dir", "/disk/");
    let often = ("state.backend.forst.cache.lru.access-before-promote", "2");
    assert_eq!(
        cache(&[]),
        Some(("/data/local/cache".into(), 0, 256 * MB, 6))
    );
    assert_eq!(
        cache(&[local]),
        Some(("/disk/cache".into(), 0, 256 * MB, 6))
    );
    assert_eq!(
        cache(&[here, limit, often]),
        Some(("/fast".into(), 1024 * MB, 256 * MB, 2))
    );
    assert_eq!(cache(&[no_reserve]), None);
    assert_eq!(cache(&[("state.backend.type", "hashmap")]), None);
}

#[test]
fn hedging_is_off_or_on_or_after_a_time() {
    let hedge = |text: &str| {
        let key = "state.backend.forst.io.hedged-reads";
        job(&[(Layer::File, key, text)]).map(|options| options.store.io.hedge)
    };
    assert_eq!(job(&[]).unwrap().store.io.hedge, Hedge::Off);
    assert_eq!(hedge("off").unwrap(), Hedge::Off);
    assert_eq!(
        hedge("50 ms").unwrap(),
        Hedge::After(Duration::from_millis(50))
    );
    assert!(matches!(hedge("auto").unwrap(), Hedge::AfterSlowest(_)));
    assert!(Configuration::check("state.backend.forst.io.hedged-reads", "0").is_err());
}

#[test]
fn threads_and_levels_are_taken() {
    let options = job(&[
        (Layer::File, "state.backend.forst.thread.num", "5"),
        (
            Layer::File,
            "state.backend.forst.executor.read-io-parallelism",
            "7",
        ),
        (
            Layer::File,
            "state.backend.forst.executor.write-io-parallelism",
            "4",
        ),
        (
            Layer::File,
            "state.backend.forst.compaction.level.max-size-level-base",
            "1 mb",
        ),
        (
            Layer::File,
            "state.backend.forst.compaction.level.use-dynamic-size",
            "false",
        ),
        (
            Layer::File,
            "state.backend.forst.compaction.filter.periodic-compaction-time",
            "0",
        ),
    ])
    .unwrap();
    assert_eq!(
        (options.background.flush, options.background.compaction),
        (5, 5)
    );
    assert_eq!(options.store.read_io_parallelism, 7);
    assert_eq!(options.store.level_bytes_base, 1 << 20);
    assert!(!options.store.dynamic_levels);
    assert_eq!(options.store.periodic_compaction_ms, None);
    assert_eq!(job(&[]).unwrap().store.compression, [Compression::Lz4]);
    let levels = "NO_COMPRESSION; LZ4_COMPRESSION;ZSTD_COMPRESSION";
    let key = "state.backend.forst.compression.per.level";
    let compression = job(&[(Layer::File, key, levels)])
        .unwrap()
        .store
        .compression;
    let expected = [Compression::None, Compression::Lz4, Compression::Zstd];
    assert_eq!(compression, expected);
    assert!(refusal(key, "GZIP").contains("separated by semicolons"));
    let options = job(&[
        (
            Layer::File,
            "state.backend.forst.executor.inline-write",
            "false",
        ),
        (
            Layer::File,
            "state.backend.forst.executor.write-io-parallelism",
            "4",
        ),
    ])
    .unwrap();
    assert_eq!(
        (options.background.flush, options.background.compaction),
        (4, 2)
    );
    assert!(refusal("state.backend.forst.compaction.style", "FIFO").contains("LEVEL"));
    assert!(refusal("state.backend.forst.thread.num", "0").contains("from 1 to 1024"));
}

#[test]
fn the_primary_directory_is_where_it_was_said() {
    let primary = |entries: &[(&str, &str)]| {
        let entries: Vec<_> = entries.iter().map(|(k, v)| (Layer::File, *k, *v)).collect();
        job(&entries).unwrap().primary_dir
    };
    const DIR: &str = "state.backend.forst.primary-dir";
    assert_eq!(primary(&[]), None);
    assert_eq!(primary(&[(DIR, "checkpoint-dir")]), None);
    let at = |uri: &str| Some(uri.to_owned());
    assert_eq!(primary(&[(DIR, "s3://fast/p")]), at("s3://fast/p"));
    assert_eq!(primary(&[(DIR, "local-dir")]), at("/data/local/primary"));
    let local = ("state.backend.forst.local-dir", "/disk");
    assert_eq!(primary(&[(DIR, "local-dir"), local]), at("/disk/primary"));
    let hashmap = ("state.backend.type", "hashmap");
    assert_eq!(primary(&[(DIR, "local-dir"), hashmap]), None);
    // Operators that wait for every read are kept local when checkpoints are not.
    let waits = ("table.exec.async-state.enabled", "false");
    let remote = ("execution.checkpointing.dir", "s3://bucket/c");
    let free = ("state.backend.forst.sync.enforce-local", "false");
    assert_eq!(primary(&[waits]), None);
    assert_eq!(primary(&[remote]), None);
    assert_eq!(primary(&[remote, waits, local]), at("/disk/primary"));
    assert_eq!(primary(&[remote, waits, local, free]), None);
}

#[test]
fn what_does_not_fit_together_is_refused() {
    let error = job(&[
        (Layer::File, "parallelism.default", "5"),
        (Layer::File, "pipeline.max-parallelism", "4"),
    ])
    .err()
    .unwrap();
    assert_eq!(
        error.to_string(),
        "parallelism.default: expected at most pipeline.max-parallelism = 4, found '5'"
    );
    let error = job(&[(Layer::File, "table.exec.mini-batch.enabled", "true")])
        .err()
        .unwrap();
    assert_eq!(
        error.to_string(),
        "table.exec.mini-batch.allow-latency: expected a duration above zero, because table.exec.mini-batch.enabled is true"
    );
    let enabled = [
        (Layer::File, "table.exec.mini-batch.enabled", "true"),
        (Layer::File, "table.exec.mini-batch.allow-latency", "2 s"),
        (Layer::File, "table.exec.mini-batch.size", "5000"),
    ];
    assert_eq!(
        configured(&enabled)
            .mini_batch()
            .unwrap()
            .map(|batch| batch.size),
        Some(5_000)
    );
}

/// What is chosen, as one word each, or what the error says.
fn chosen(
    entries: &[(Layer, &str, &str)],
    default_directory: bool,
) -> Result<(&'static str, &'static str, String), String> {
    let surroundings = JobSurroundings {
        default_checkpoint_dir: default_directory.then(|| "/default".to_owned()),
        ..surroundings()
    };
    let options = configured(entries).job_options(surroundings);
    let options = options.map_err(|error| error.to_string())?;
    Ok((
        options.backend.name(),
        options.storage.kind().name(),
        options.checkpoint_dir,
    ))
}

/// Keys with their values, and what is chosen or what the error says.
type Case<'a> = (
    &'a [(&'a str, &'a str)],
    Result<(&'a str, &'a str), &'a str>,
);

/// Flink's CheckpointStorageLoaderTest.
#[test]
fn which_backend_and_storage_are_taken() {
    const TYPE: &str = "state.backend.type";
    const STORAGE: &str = "execution.checkpointing.storage";
    const DIR: &str = "execution.checkpointing.dir";
    let said =
        |entries: &[(&'static str, &'static str)]| -> Vec<(Layer, &'static str, &'static str)> {
            entries
                .iter()
                .map(|(key, value)| (Layer::File, *key, *value))
                .collect()
        };
    let cases: &[Case<'_>] = &[
        (&[], Ok(("forst", "filesystem"))),
        (&[(TYPE, "hashmap")], Ok(("hashmap", "filesystem"))),
        (
            &[(TYPE, "hashmap"), (DIR, "/c")],
            Ok(("hashmap", "filesystem")),
        ),
        (
            &[(TYPE, "hashmap"), (STORAGE, "jobmanager"), (DIR, "/c")],
            Ok(("hashmap", "jobmanager")),
        ),
        (
            &[(TYPE, "hashmap"), (STORAGE, "filesystem")],
            Ok(("hashmap", "filesystem")),
        ),
        (&[(TYPE, "rocksdb")], Ok(("rocksdb", "filesystem"))),
        (
            &[(TYPE, "rocksdb"), (STORAGE, "jobmanager")],
            Err("writes files"),
        ),
        (
            &[(TYPE, "forst"), (STORAGE, "jobmanager")],
            Err("writes files"),
        ),
        (&[(STORAGE, "jobmanager")], Err("writes files")),
        (
            &[
                (TYPE, "hashmap"),
                ("state.checkpoint-storage", "jobmanager"),
            ],
            Ok(("hashmap", "jobmanager")),
        ),
    ];
    for (entries, expected) in cases {
        let found = chosen(&said(entries), true);
        match (&found, expected) {
            (Ok((backend, storage, directory)), Ok(expected)) => {
                assert_eq!((*backend, *storage), *expected, "{entries:?}");
                let own = entries.iter().any(|(key, _)| *key == DIR);
                assert_eq!(directory, if own { "/c" } else { "/default" });
            }
            (Err(found), Err(expected)) => assert!(found.contains(expected), "{found}"),
            _ => panic!("{entries:?}: {found:?}"),
        }
    }
    // Without any directory only the heap can do, and then its checkpoints end with the process.
    assert_eq!(
        chosen(&said(&[(TYPE, "hashmap")]), false),
        Ok(("hashmap", "jobmanager", "memory://aquifer".to_owned()))
    );
    for entries in [
        said(&[]),
        said(&[(TYPE, "hashmap"), (STORAGE, "filesystem")]),
        said(&[(TYPE, "filesystem")]),
    ] {
        let refused = chosen(&entries, false).unwrap_err();
        assert!(refused.contains(DIR), "{refused}");
    }
    // A job's own settings win over the file.
    let mut entries = said(&[(TYPE, "hashmap"), (STORAGE, "jobmanager")]);
    entries.push((Layer::Session, TYPE, "forst"));
    entries.push((Layer::Session, STORAGE, "filesystem"));
    entries.push((Layer::CommandLine, TYPE, "hashmap"));
    assert_eq!(chosen(&entries, true).unwrap().0, "hashmap");
    assert_eq!(chosen(&entries, true).unwrap().1, "filesystem");
}

#[test]
fn old_names_of_backends_mean_the_same() {
    let memory = "org.apache.flink.runtime.state.memory.MemoryStateBackendFactory";
    let files = "org.apache.flink.runtime.state.filesystem.FsStateBackendFactory";
    for (key, name, expected) in [
        ("state.backend", "jobmanager", ("hashmap", "jobmanager")),
        ("state.backend", "filesystem", ("hashmap", "filesystem")),
        (
            "state.backend.type",
            "jobmanager",
            ("hashmap", "jobmanager"),
        ),
        ("state.backend", memory, ("hashmap", "jobmanager")),
        ("state.backend", files, ("hashmap", "filesystem")),
        ("state.backend", "rocksdb", ("rocksdb", "filesystem")),
    ] {
        let entries = [
            (Layer::File, key, name),
            (Layer::File, "state.backend.fs.checkpointdir", "/old"),
        ];
        let (backend, storage, directory) = chosen(&entries, true).unwrap();
        assert_eq!(
            ((backend, storage), directory.as_str()),
            (expected, "/old"),
            "{name}"
        );
    }
    // An old name says where snapshots go, and outweighs what is said of it.
    let both = configured(&[
        (Layer::File, "state.backend", "jobmanager"),
        (Layer::File, "execution.checkpointing.storage", "filesystem"),
    ]);
    assert_eq!(
        both.job_options(surroundings()).unwrap().storage.kind(),
        StorageKind::JobManager
    );
    let notes = both.notes();
    assert!(
        notes
            .iter()
            .any(|note| note.contains("`filesystem` is not used")),
        "{notes:?}"
    );
}

#[test]
fn a_backend_nobody_knows_is_named() {
    assert_eq!(
        refusal("state.backend.type", "rocksbd"),
        "state.backend.type: expected hashmap, rocksdb or forst (or an old name, jobmanager or filesystem); did you mean rocksdb?, found 'rocksbd'"
    );
    assert_eq!(
        refusal("execution.checkpointing.storage", "s3"),
        "execution.checkpointing.storage: expected jobmanager or filesystem, found 's3'"
    );
}

#[test]
fn places_of_snapshots_have_their_limits() {
    let memory = job(&[(Layer::File, "state.backend", "jobmanager")]).unwrap();
    assert_eq!(
        memory.storage,
        SnapshotStorage::JobManager {
            state_bytes_max: 5 << 20,
            total_bytes_max: 10 << 20,
            asynchronous: true
        }
    );
    let memory = job(&[
        (Layer::File, "state.backend", "jobmanager"),
        (Layer::File, "state.backend.async", "false"),
        (
            Layer::File,
            "execution.checkpointing.max-memory-state-size",
            "6mb",
        ),
        (Layer::File, "pekko.framesize", "20971520b"),
    ]);
    assert_eq!(
        memory.unwrap().storage,
        SnapshotStorage::JobManager {
            state_bytes_max: 6 << 20,
            total_bytes_max: 20 << 20,
            asynchronous: false
        }
    );
    let files = job(&[
        (Layer::File, "state.backend.type", "hashmap"),
        (Layer::File, "state.backend.fs.memory-threshold", "1 mb"),
        (
            Layer::File,
            "execution.checkpointing.write-buffer-size",
            "8192",
        ),
    ]);
    assert_eq!(
        files.unwrap().storage,
        SnapshotStorage::FileSystem {
            inline_bytes_max: 1 << 20,
            asynchronous: true
        }
    );
    let too_large = refusal("execution.checkpointing.data-inline-threshold", "1025 kb");
    assert!(too_large.contains("at most 1 mb"), "{too_large}");
    assert!(refusal("execution.checkpointing.max-memory-state-size", "0").contains("from 1 byte"));
}

#[test]
fn buffers_of_asynchronous_state_are_taken() {
    let defaults = job(&[]).unwrap();
    assert_eq!(
        (
            defaults.async_in_flight_max,
            defaults.async_buffer_size,
            defaults.async_buffer_timeout_ms
        ),
        (6000, 1000, 1000)
    );
    let said = job(&[
        (Layer::File, "execution.async-state.total-buffer-size", "70"),
        (
            Layer::Session,
            "execution.async-state.active-buffer-size",
            "8",
        ),
        (
            Layer::CommandLine,
            "execution.async-state.active-buffer-timeout",
            "20",
        ),
    ]);
    let said = said.unwrap();
    assert_eq!(
        (
            said.async_in_flight_max,
            said.async_buffer_size,
            said.async_buffer_timeout_ms
        ),
        (70, 8, 20)
    );
}

//! The cache on a disk whose free space the test decides.
use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;

use aquifer_testkit::Rng;

use super::*;

const MIB: u64 = 1 << 20;

/// A disk with so many free bytes when the directory is empty.
struct SmallDisk(AtomicU64);

impl DiskSpace for SmallDisk {
    fn free_bytes(&self, directory: &Path) -> io::Result<u64> {
        let total = self.0.load(Ordering::Relaxed);
        if total == 0 {
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        Ok(total.saturating_sub(space::taken_by_others(directory, Path::new(""))))
    }
}

struct World {
    dir: tempfile::TempDir,
    disk: Arc<SmallDisk>,
}

impl World {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            disk: Arc::new(SmallDisk(AtomicU64::new(1 << 40))),
        }
    }

    fn options(&self, limit: u64) -> FileCacheOptions {
        FileCacheOptions {
            directory: self.dir.path().into(),
            job: "job-1".into(),
            size_limit_bytes: limit,
            reserve_bytes: 0,
            access_before_promote: 3,
        }
    }

    fn open(&self, limit: u64) -> Arc<FileCache> {
        FileCache::open(self.options(limit), self.disk.clone()).unwrap()
    }

    fn taken(&self) -> u64 {
        space::taken_by_others(self.dir.path(), Path::new(""))
    }
}

fn key(id: u64, size_bytes: u64) -> CacheKey {
    CacheKey {
        id,
        size_bytes,
        checksum: id * 7,
    }
}

/// The content of a file, in any range.
fn content(key: &CacheKey, range: Range<u64>) -> Bytes {
    let byte = |at: u64| (at.wrapping_mul(0x9e37_79b9).wrapping_add(key.id) >> 7) as u8;
    range.map(byte).collect::<Vec<u8>>().into()
}

fn fill_all(cache: &FileCache, key: &CacheKey) {
    cache.fill(key, 0, &content(key, 0..key.size_bytes));
}

#[test]
fn a_chunk_is_fetched_after_some_reads_and_at_once_if_most_of_it_is_asked_for() {
    let world = World::new();
    let cache = world.open(100 * MIB);
    let file = key(1, 3 * MIB + 500);
    let small = MIB + 10..MIB + 20;
    for _ in 0..2 {
        assert_eq!(cache.read(&file, &small), None);
        assert_eq!(cache.miss(&file, &small), Miss::default());
    }
    assert_eq!(cache.miss(&file, &small).promote, [1]);
    assert!(cache.lacks(&file, 1));
    let place = FileCache::chunk_place(&file, 1);
    cache.fill(&file, place.start, &content(&file, place));
    assert!(!cache.lacks(&file, 1) && cache.holds(&file, &small));
    assert_eq!(cache.read(&file, &small).unwrap(), content(&file, small));
    assert_eq!(cache.read(&file, &(MIB - 1..MIB + 1)), None);
    // The last chunk is short: these few bytes are most of it.
    let end = 3 * MIB + 100..3 * MIB + 500;
    assert_eq!(cache.miss(&file, &end).whole, Some(3 * MIB..3 * MIB + 500));
    let most = 100..MIB + 900_000;
    assert_eq!(cache.miss(&file, &most).whole, Some(0..2 * MIB));
    assert_eq!(cache.miss(&file, &(0..0)), Miss::default());
    let stats = cache.stats();
    assert_eq!((stats.hits, stats.refilled, stats.files), (1, 1, 1));
    assert_eq!(stats.used_bytes, MIB);
    // Other content of the same name is not there.
    let other = CacheKey {
        checksum: 1,
        ..file
    };
    assert_eq!(cache.read(&other, &(MIB..MIB + 1)), None);
}

#[test]
fn the_oldest_file_goes_first_and_one_that_is_read_stays_young() {
    let world = World::new();
    let cache = world.open(10 * MIB);
    for id in 0..5 {
        fill_all(&cache, &key(id, 2 * MIB));
    }
    for _ in 0..3 {
        assert!(cache.read(&key(0, 2 * MIB), &(0..10)).is_some());
    }
    fill_all(&cache, &key(5, 3 * MIB));
    let here: Vec<u64> = (0..6)
        .filter(|&id| cache.holds(&key(id, if id == 5 { 3 * MIB } else { 2 * MIB }), &(0..1)))
        .collect();
    assert_eq!(here, [0, 3, 4, 5]);
    assert_eq!(cache.stats().evicted, 2);
    cache.demote(&key(4, 2 * MIB));
    fill_all(&cache, &key(6, MIB + MIB / 2));
    assert!(!cache.holds(&key(4, 2 * MIB), &(0..1)));
    cache.remove(&key(3, 2 * MIB));
    assert!(world.taken() <= 10 * MIB, "{}", world.taken());
}

#[test]
fn both_limits_hold_at_once_and_other_jobs_count() {
    let world = World::new();
    let other = world.dir.path().join("other-job");
    std::fs::create_dir(&other).unwrap();
    std::fs::write(other.join("a.chunks"), vec![1; 4 << 20]).unwrap();
    let cache = world.open(8 * MIB);
    for id in 0..6 {
        fill_all(&cache, &key(id, MIB));
    }
    let stats = cache.stats();
    assert!((2..=4).contains(&stats.files), "{stats:?}");
    assert!(stats.remaining_bytes < MIB);
    assert!(world.taken() <= 8 * MIB + 100_000);
    drop(cache);

    world.disk.0.store(10 * MIB, Ordering::Relaxed);
    let options = FileCacheOptions {
        reserve_bytes: 4 * MIB,
        ..world.options(100 * MIB)
    };
    let cache = FileCache::open(options, world.disk.clone()).unwrap();
    for id in 0..20 {
        fill_all(&cache, &key(id, MIB));
        let free = world.disk.free_bytes(world.dir.path()).unwrap();
        assert!(free + 100_000 >= 4 * MIB, "{free} are free");
    }
    assert!(cache.holds(&key(19, MIB), &(0..MIB)));
    assert!(other.join("a.chunks").exists());
    // A file larger than all there may be is not kept, and what is there stays until it must go.
    fill_all(&cache, &key(30, 30 * MIB));
    assert!(!cache.is_off());
}

#[test]
fn a_restart_finds_everything_again_except_what_is_torn() {
    let world = World::new();
    let (whole, torn, cut) = (key(1, 3 * MIB), key(2, 2 * MIB), key(3, 2 * MIB + 9));
    {
        let cache = world.open(50 * MIB);
        for file in [&whole, &torn, &cut] {
            fill_all(&cache, file);
        }
        let mut unfinished = WriteThrough::begin(&cache, "new").unwrap();
        unfinished.push(&[7; 1000]);
        // As if the process were killed here.
        std::mem::forget(unfinished);
        let root = world.dir.path().join("job-1");
        let damage = OpenOptions::new()
            .write(true)
            .open(root.join("0000000000000002.chunks"));
        write_all_at(&damage.unwrap(), b"torn", MIB + 5).unwrap();
        let short = OpenOptions::new()
            .write(true)
            .open(root.join("0000000000000003.chunks"));
        short.unwrap().set_len(2 * MIB + 8).unwrap();
        std::fs::write(root.join("00000000000000ff.map"), b"nonsense").unwrap();
        // The forgotten part file holds the cache alive; its lock is given up by hand.
        cache._lock.unlock().unwrap();
    }
    let cache = world.open(50 * MIB);
    assert_eq!(cache.root, world.dir.path().join("job-1"));
    assert_eq!(cache.stats().used_bytes, 7 * MIB);
    assert_eq!(
        cache.read(&whole, &(5..3 * MIB)).unwrap(),
        content(&whole, 5..3 * MIB)
    );
    assert_eq!(
        cache.read(&torn, &(0..MIB)).unwrap(),
        content(&torn, 0..MIB)
    );
    assert_eq!(cache.read(&torn, &(MIB..MIB + 1)), None);
    assert!(cache.lacks(&torn, 1));
    assert_eq!(
        cache.read(&cut, &(MIB..2 * MIB)).unwrap(),
        content(&cut, MIB..2 * MIB)
    );
    assert!(cache.lacks(&cut, 2));
    assert_eq!(cache.stats().used_bytes, 6 * MIB);
    let files = std::fs::read_dir(&cache.root).unwrap().count();
    assert_eq!(files, 7, "three pairs and the lock");
    // A chunk that turns out wrong when it is used is dropped, also for the next process.
    cache.distrust(&whole, &(MIB..MIB + 1));
    drop(cache);
    let cache = world.open(50 * MIB);
    assert!(cache.lacks(&whole, 1) && !cache.lacks(&whole, 2));
}

#[test]
fn a_file_on_its_way_is_there_as_soon_as_it_has_a_name() {
    let world = World::new();
    let cache = world.open(20 * MIB);
    let file = key(9, 9 * MIB + 77);
    let mut through = WriteThrough::begin(&cache, "x.sst").unwrap();
    through.push(&content(&file, 0..8 * MIB));
    assert_eq!(cache.stats().used_bytes, 8 * MIB);
    through.push(&content(&file, 8 * MIB..file.size_bytes));
    through.adopt(&file);
    let range = 7 * MIB + 5..file.size_bytes;
    assert_eq!(cache.read(&file, &range).unwrap(), content(&file, range));
    let mut given_up = WriteThrough::begin(&cache, "y.sst").unwrap();
    given_up.push(&[1; 5000]);
    drop(given_up);
    let mut wrong = WriteThrough::begin(&cache, "z.sst").unwrap();
    wrong.push(&[1; 5000]);
    wrong.adopt(&key(10, 4999));
    assert_eq!(cache.stats().used_bytes, file.size_bytes);
    drop(cache);
    let cache = world.open(20 * MIB);
    assert_eq!(cache.read(&file, &(0..9)).unwrap(), content(&file, 0..9));
    assert_eq!(std::fs::read_dir(&cache.root).unwrap().count(), 3);
}

#[test]
fn a_disk_that_fails_switches_the_cache_off_and_nothing_else() {
    let world = World::new();
    let options = FileCacheOptions {
        reserve_bytes: 1,
        ..world.options(0)
    };
    let cache = FileCache::open(options, world.disk.clone()).unwrap();
    fill_all(&cache, &key(1, MIB));
    assert!(cache.holds(&key(1, MIB), &(0..1)));
    world.disk.0.store(0, Ordering::Relaxed);
    fill_all(&cache, &key(2, MIB));
    assert!(cache.is_off());
    assert_eq!(cache.read(&key(1, MIB), &(0..1)), None);
    assert_eq!(cache.miss(&key(1, MIB), &(0..MIB)), Miss::default());
    assert!(WriteThrough::begin(&cache, "x").is_none());
    assert_eq!(cache.stats().remaining_bytes, 0);
    // A directory that goes away is only a cache that is empty.
    world.disk.0.store(1 << 40, Ordering::Relaxed);
    let cache = world.open(10 * MIB);
    fill_all(&cache, &key(1, MIB));
    std::fs::remove_dir_all(&cache.root).unwrap();
    assert_eq!(cache.read(&key(1, MIB), &(0..1)), None);
    assert!(!cache.is_off());
    fill_all(&cache, &key(2, MIB));
    assert!(cache.is_off());
}

#[test]
fn processes_of_a_job_do_not_share_and_wrong_options_are_told() {
    let world = World::new();
    let first = world.open(MIB);
    let second = world.open(MIB);
    assert_ne!(first.root, second.root);
    for (job, limit) in [("job", 0), ("", 1), ("../x", 1), ("a/b", 1)] {
        let options = FileCacheOptions {
            job: job.into(),
            ..world.options(limit)
        };
        let error = FileCache::open(options, world.disk.clone()).unwrap_err();
        assert_eq!(error.kind, crate::ErrorKind::Usage, "{job}");
    }
    std::fs::write(world.dir.path().join("file"), "x").unwrap();
    let options = FileCacheOptions {
        directory: world.dir.path().join("file"),
        ..world.options(1)
    };
    let error = FileCache::open(options, world.disk.clone()).unwrap_err();
    assert!(error.message.contains("cannot be used"), "{error}");
}

/// Random fills, reads, evictions and restarts: whatever is read is what was written, and the books are right.
#[test]
fn never_lies_and_never_takes_more_than_its_limit() {
    let mut random = Rng::new(3);
    let world = World::new();
    let limit = 12 * MIB;
    let mut cache = world.open(limit);
    let files: Vec<CacheKey> = (0..12)
        .map(|id| key(id, MIB / 2 + random.below(3 * MIB)))
        .collect();
    let mut contents = BTreeMap::new();
    for file in &files {
        contents.insert(file.id, content(file, 0..file.size_bytes));
    }
    let mut hits = 0;
    for step in 0..1_500 {
        let file = &files[random.below(12) as usize];
        let whole = &contents[&file.id];
        let start = random.below(file.size_bytes);
        let end = (start + 1 + random.below(200_000)).min(file.size_bytes);
        match cache.read(file, &(start..end)) {
            Some(bytes) => {
                hits += 1;
                assert_eq!(bytes, whole.slice(start as usize..end as usize));
            }
            None => {
                for chunk in cache.miss(file, &(start..end)).promote {
                    let place = FileCache::chunk_place(file, chunk);
                    let bytes = whole.slice(place.start as usize..place.end as usize);
                    cache.fill(file, place.start, &bytes);
                }
            }
        }
        if random.chance(10) {
            cache.remove(file);
        }
        let stats = cache.stats();
        assert!(stats.used_bytes <= limit, "step {step}: {stats:?}");
        if step % 300 == 299 {
            drop(cache);
            cache = world.open(limit);
            assert_eq!(cache.stats().used_bytes, stats.used_bytes);
        }
    }
    assert!(hits > 200, "{hits} hits");
    assert!(world.taken() <= limit + (64 << 10) * 12);
    assert!(!cache.is_off());
}

//! One run of the simulation, as data: everything that it does follows from this.
use std::fmt;
use std::time::Duration;

use aquifer_store::{Compression, Hedge, IoOptions, StoreOptions};
use aquifer_testkit::{Crash, Rng, Storm};

use super::op::{Op, op, ops, strike_disk};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    pub seed: u64,
    pub shape: Shape,
    pub storm: Storm,
    /// At which of its requests the process of an attempt dies.
    pub crashes: Vec<(u64, Crash)>,
    pub ops: Vec<Op>,
}

/// Sizes that make small data go through every part of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shape {
    pub workers: u8,
    pub retained: usize,
    pub cache_bytes: u64,
    pub block_bytes: usize,
    pub memtable_bytes: usize,
    /// How much of what has become files stays in memory.
    pub memtables_retained: usize,
    pub l0_files: usize,
    pub file_bytes: u64,
    pub level_bytes: u64,
    pub dynamic_levels: bool,
    pub filter_bits: u32,
    pub aside_bytes: usize,
    pub part_bytes: usize,
    pub compression: u8,
    pub hedge: bool,
    pub threads: usize,
    /// There is a file cache.
    pub disk: bool,
}

impl Shape {
    fn of(random: &mut Rng) -> Self {
        let mut pick = |values: &[u64]| values[random.below(values.len() as u64) as usize];
        Self {
            workers: pick(&[1, 1, 2, 3]) as u8,
            retained: pick(&[1, 1, 2, 3]) as usize,
            cache_bytes: pick(&[4 << 10, 64 << 10, 1 << 20]),
            block_bytes: pick(&[64, 256, 1024, 8192]) as usize,
            memtable_bytes: pick(&[32 << 10, 64 << 10, 256 << 10]) as usize,
            memtables_retained: 0,
            l0_files: pick(&[1, 2, 3, 4]) as usize,
            file_bytes: pick(&[1 << 10, 4 << 10, 16 << 10, 1 << 20]),
            level_bytes: pick(&[2 << 10, 8 << 10, 64 << 10]),
            dynamic_levels: pick(&[0, 1, 1]) == 1,
            filter_bits: pick(&[0, 4, 10, 10, 10]) as u32,
            aside_bytes: pick(&[40, 500, 4 << 10]) as usize,
            part_bytes: pick(&[1 << 10, 6 << 10, 8 << 20]) as usize,
            compression: pick(&[0, 1, 1, 2]) as u8,
            hedge: pick(&[0, 0, 1]) == 1,
            threads: pick(&[1, 2, 3]) as usize,
            disk: false,
        }
    }

    pub fn options(&self) -> StoreOptions {
        StoreOptions {
            block_bytes: self.block_bytes,
            memtable_bytes_max: self.memtable_bytes,
            retained_memtables_max: self.memtables_retained,
            flush_part_bytes_min: self.memtable_bytes / 4,
            compaction_part_bytes_min: self.file_bytes,
            l0_files_max: self.l0_files,
            file_bytes_target: self.file_bytes,
            level_bytes_base: self.level_bytes,
            dynamic_levels: self.dynamic_levels,
            filter_bits_per_key: self.filter_bits,
            value_aside_bytes: self.aside_bytes,
            compression: match self.compression {
                0 => vec![Compression::None],
                1 => vec![Compression::Lz4],
                _ => vec![Compression::None, Compression::Lz4, Compression::None],
            },
            io: IoOptions {
                part_bytes: self.part_bytes,
                hedge: match self.hedge {
                    true => Hedge::After(Duration::from_millis(100)),
                    false => Hedge::Off,
                },
                ..IoOptions::default()
            },
            ..StoreOptions::default()
        }
    }
}

impl Case {
    pub fn from_seed(seed: u64) -> Self {
        let mut random = Rng::new(seed ^ 0xA9_u64 << 32);
        let mut shape = Shape::of(&mut random);
        let mut ops = ops(&mut random);
        let mut random = Rng::new(seed ^ 0xD15C << 40);
        shape.disk = random.chance(150);
        if shape.disk {
            strike_disk(&mut ops, &mut random);
        }
        let mut random = Rng::new(seed ^ 0x3E7A << 40);
        shape.memtables_retained = [0, 1, 1, 3][random.below(4) as usize];
        Self {
            seed,
            shape,
            storm: Storm::from_seed(seed),
            crashes: Vec::new(),
            ops,
        }
    }
}

impl Case {
    /// A case made of any bytes, for fuzzers: the first eight decide about shape and faults, then every four are an operation.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        const OPS_MAX: usize = 400;
        let (head, rest) = bytes.split_at(bytes.len().min(8));
        let seed = head
            .iter()
            .fold(0, |seed, byte| seed << 8 | u64::from(*byte));
        let mut case = Self::from_seed(seed);
        let chunks = rest.chunks_exact(4).take(OPS_MAX);
        case.ops = chunks
            .map(|chunk| {
                let chosen = chunk.iter().fold(0, |n, byte| n << 8 | u64::from(*byte));
                op(&mut Rng::new(chosen))
            })
            .collect();
        case
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "seed {}: {} operations, {:?}, {}",
            self.seed,
            self.ops.len(),
            self.shape,
            self.storm
        )
    }
}

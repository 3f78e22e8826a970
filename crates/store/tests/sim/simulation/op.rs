//! What can be done to a job and its stores, and how a seed makes a list of it.
//!
//! Every operation says all that it does, so that a list stays meaningful when a part of it is left out.
use aquifer_store::{KeyPart, Merge, TableOptions};
use aquifer_testkit::Rng;

/// Key groups of the simulated job.
pub const GROUPS: u16 = 8;
/// Tables: points, scanned rows, lists that are appended to, sums, and rows that expire.
pub const TABLES: u8 = 5;
pub const POINTS: u8 = 0;
pub const LISTS: u8 = 2;
pub const SUMS: u8 = 3;
pub const EXPIRING: u8 = 4;
/// Rows of [`EXPIRING`] live so long.
pub const TTL_MS: u64 = 10_000;
/// Different keys of a group and table.
pub const KEYS: u16 = 160;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Sets one row; the value tells who wrote it.
    Put {
        table: u8,
        group: u16,
        key: u16,
        tag: u32,
        len: u16,
    },
    /// Adds to a row without reading it.
    Merge {
        table: u8,
        group: u16,
        key: u16,
        tag: u32,
        len: u16,
    },
    Delete {
        table: u8,
        group: u16,
        key: u16,
    },
    /// Removes all rows of a group whose key is in a map; without one, all rows of the group.
    DeletePrefix {
        table: u8,
        group: u16,
        map: Option<u8>,
    },
    /// Many writes at once, some of them deletions and, where the table takes them, operands.
    Burst {
        table: u8,
        seed: u32,
        count: u16,
    },
    Get {
        table: u8,
        group: u16,
        key: u16,
    },
    MultiGet {
        table: u8,
        seed: u32,
        count: u16,
    },
    Scan {
        table: u8,
        group: u16,
        map: Option<u8>,
        from: Option<u16>,
        until: Option<u16>,
        rows_max: u16,
    },
    /// Time passes, or jumps back.
    Clock {
        ms: i32,
    },
    /// Looks keys up and keeps what is cold for later.
    PlanReads {
        table: u8,
        seed: u32,
        count: u16,
    },
    /// Finishes what was planned.
    FinishReads,
    /// The barrier passes one table.
    Freeze {
        table: u8,
    },
    /// The barrier has passed all tables.
    Checkpoint,
    /// Background work is installed, complete checkpoints are committed.
    Poll,
    /// One background job runs.
    RunJob {
        which: u8,
    },
    /// Background work goes on until there is none.
    Settle,
    /// The attempt ends and the next one goes on from the last checkpoint.
    Restart {
        workers: u8,
        forget_cache: bool,
    },
    /// The process dies at a request in the future.
    CrashAt {
        requests: u16,
        applied: bool,
    },
    /// All retained checkpoints are opened and compared.
    CheckRetained,
    /// Something happens to the disk of the file cache.
    Disk {
        kind: u8,
        pick: u32,
        at: u32,
    },
    /// A stored file is damaged, read, and healed.
    Damage {
        kind: u8,
        pick: u32,
        at: u32,
    },
}

/// The key with a number: `map<m>/<n>`.
pub fn key(number: u16) -> Vec<u8> {
    format!("map{}/{}", number % 6, number / 6).into_bytes()
}

pub fn map_prefix(map: u8) -> Vec<u8> {
    format!("map{}/", map % 6).into_bytes()
}

/// The options of a table.
pub fn table_options(table: u8) -> TableOptions {
    TableOptions {
        ordered: matches!(table, 1 | SUMS | EXPIRING),
        merge: match table {
            LISTS | EXPIRING => Merge::Append,
            SUMS => Merge::Fold("sum-i64".into()),
            _ => Merge::None,
        },
        prefix: match table {
            POINTS => Vec::new(),
            // `map<m>/`
            _ => vec![KeyPart::Fixed(5)],
        },
        ttl_ms: (table == EXPIRING).then_some(TTL_MS),
        ..TableOptions::default()
    }
}

/// Whether a table takes operands.
pub fn merges(table: u8) -> bool {
    matches!(table, LISTS | SUMS | EXPIRING)
}

/// A value or operand that tells who wrote it. Compresses by half or so. Sums take numbers.
pub fn value(table: u8, tag: u32, len: u16) -> Vec<u8> {
    if table == SUMS {
        return (i64::from(tag) << 20).to_le_bytes().to_vec();
    }
    let mut random = Rng::new(u64::from(tag));
    let mut out = Vec::with_capacity(usize::from(len) + 8);
    while out.len() < usize::from(len) {
        out.extend_from_slice(&tag.to_le_bytes());
        out.extend_from_slice(&(random.next_u64() as u32).to_le_bytes());
    }
    out.truncate(usize::from(len));
    out
}

/// How likely each kind of operation is.
struct Mix(Vec<(u32, Make)>);

type Make = fn(&mut Rng, u8) -> Op;

impl Mix {
    fn of(random: &mut Rng) -> Self {
        // Half of the seeds do some things much more often than others, or not at all.
        let swarm = random.chance(500);
        Self::with(|| if swarm { random.below(4) as u32 } else { 1 })
    }

    fn usual() -> Self {
        Self::with(|| 1)
    }

    /// Each kind as often as usual, times a factor.
    fn with(mut factor: impl FnMut() -> u32) -> Self {
        let mut kind = |usual: u32, make: Make| (usual * factor(), make);
        Self(vec![
            kind(160, put),
            kind(40, |random, table| {
                let (group, key) = place(random);
                Op::Delete { table, group, key }
            }),
            kind(40, |random, table| {
                let Op::Put {
                    group, key, tag, ..
                } = put(random, table)
                else {
                    return Op::Poll;
                };
                let len = 1 + random.below(20) as u16;
                Op::Merge {
                    table: [LISTS, SUMS, EXPIRING][usize::from(table) % 3],
                    group,
                    key,
                    tag,
                    len,
                }
            }),
            kind(20, |random, table| Op::DeletePrefix {
                table,
                group: place(random).0,
                map: random.chance(800).then(|| random.below(6) as u8),
            }),
            kind(15, |random, _| Op::Clock {
                ms: match random.below(20) {
                    0 => -(random.below(30_000) as i32),
                    1 => 3_600_000,
                    2 => -3_600_000,
                    _ => random.below(6_000) as i32,
                },
            }),
            kind(60, |random, table| Op::Burst {
                table,
                seed: random.next_u64() as u32,
                count: 10 + random.below(200) as u16,
            }),
            kind(60, |random, table| {
                let (group, key) = place(random);
                Op::Get { table, group, key }
            }),
            kind(40, |random, table| Op::MultiGet {
                table,
                seed: random.next_u64() as u32,
                count: 1 + random.below(60) as u16,
            }),
            kind(50, scan),
            kind(20, |random, table| Op::PlanReads {
                table,
                seed: random.next_u64() as u32,
                count: 1 + random.below(20) as u16,
            }),
            kind(20, |_, _| Op::FinishReads),
            kind(20, |_, table| Op::Freeze { table }),
            kind(40, |_, _| Op::Checkpoint),
            kind(60, |_, _| Op::Poll),
            kind(60, |random, _| Op::RunJob {
                which: random.below(4) as u8,
            }),
            kind(10, |_, _| Op::Settle),
            kind(8, |random, _| Op::Restart {
                workers: 1 + random.below(3) as u8,
                forget_cache: random.chance(500),
            }),
            kind(8, |random, _| Op::CrashAt {
                requests: random.below(40) as u16,
                applied: random.chance(500),
            }),
            kind(4, |_, _| Op::CheckRetained),
            kind(6, |random, _| Op::Damage {
                kind: random.below(5) as u8,
                pick: random.next_u64() as u32,
                at: random.next_u64() as u32,
            }),
        ])
    }

    fn draw(&self, random: &mut Rng) -> Op {
        let all: u32 = self.0.iter().map(|(weight, _)| weight).sum();
        let mut at = random.below(u64::from(all.max(1))) as u32;
        let table = random.below(u64::from(TABLES)) as u8;
        for (weight, make) in &self.0 {
            if at < *weight {
                return make(random, table);
            }
            at -= weight;
        }
        Op::Poll
    }
}

fn place(random: &mut Rng) -> (u16, u16) {
    let group = random.below(u64::from(GROUPS)) as u16;
    (group, random.below(u64::from(KEYS)) as u16)
}

fn put(random: &mut Rng, table: u8) -> Op {
    let (group, key) = place(random);
    let len = match random.below(10) {
        0 => 0,
        1 => random.below(3000),
        _ => random.below(80),
    };
    Op::Put {
        table,
        group,
        key,
        tag: random.next_u64() as u32,
        len: len as u16,
    }
}

fn scan(random: &mut Rng, table: u8) -> Op {
    let (group, from) = place(random);
    Op::Scan {
        table,
        group,
        map: random.chance(600).then(|| random.below(6) as u8),
        from: random.chance(300).then_some(from),
        until: random.chance(300).then(|| place(random).1),
        rows_max: 1 + random.below(60) as u16,
    }
}

/// Any one operation.
pub fn op(random: &mut Rng) -> Op {
    Mix::usual().draw(random)
}

/// Puts what happens to the disk between the operations.
pub fn strike_disk(ops: &mut Vec<Op>, random: &mut Rng) {
    for _ in 0..2 + random.below(20) {
        let at = random.below(ops.len() as u64 + 1) as usize;
        let op = Op::Disk {
            kind: random.below(7) as u8,
            pick: random.next_u64() as u32,
            at: random.next_u64() as u32,
        };
        ops.insert(at, op);
    }
}

/// The operations of a seed.
pub fn ops(random: &mut Rng) -> Vec<Op> {
    let mix = Mix::of(random);
    let count = 40 + random.below(260);
    (0..count).map(|_| mix.draw(random)).collect()
}

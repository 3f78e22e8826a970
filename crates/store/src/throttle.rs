//! How much writes are slowed down when background work falls behind: a pure function of the backlog.
//!
//! Two things can pile up: memtables that wait to become files, and runs in L0 that every read has to look into. Up to a soft limit
//! nothing happens; from there to the hard limit the delay grows with the square of the way, so that writers feel a slope and not a
//! wall. Past the hard limit of L0 it stays at its most: writes never stop for L0, they only crawl. Memory is different, because it
//! ends: past its hard limit the store waits until a flush is done (see `Store::make_room`).
use std::time::Duration;

/// Longest delay for a MiB of writes while L0 is too full: about 2 MiB/s.
const L0_DELAY_MAX: Duration = Duration::from_millis(500);
/// Longest delay for a MiB of writes while flushes are behind: about 50 MiB/s; beyond, memory's hard limit holds.
const FLUSH_DELAY_MAX: Duration = Duration::from_millis(20);
const MIB: u64 = 1 << 20;

/// Runs in L0 at which delays begin and at which they stop growing, as multiples of the runs that start a compaction.
const L0_SOFT_FACTOR: usize = 4;
const L0_HARD_FACTOR: usize = 9;

/// What has piled up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Backlog {
    /// Runs in L0.
    pub(crate) l0_runs: usize,
    /// A compaction is under way that will take runs out of L0; without one, waiting helps nobody.
    pub(crate) l0_shrinks: bool,
    /// Bytes of memtables that are frozen and not yet files.
    pub(crate) flush_bytes: u64,
}

/// Where delays begin and end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    pub(crate) l0_runs_soft: usize,
    pub(crate) l0_runs_hard: usize,
    pub(crate) flush_bytes_soft: u64,
    pub(crate) flush_bytes_hard: u64,
}

impl Limits {
    pub(crate) fn new(l0_files_max: usize, memtable_bytes_max: usize) -> Self {
        let memtable = memtable_bytes_max as u64;
        Self {
            l0_runs_soft: l0_files_max.max(1).saturating_mul(L0_SOFT_FACTOR),
            l0_runs_hard: l0_files_max.max(1).saturating_mul(L0_HARD_FACTOR),
            // A memtable and the small change of a checkpoint may be on their way without anybody noticing.
            flush_bytes_soft: memtable.saturating_add(memtable / 4),
            flush_bytes_hard: memtable.saturating_mul(2).saturating_add(memtable / 4),
        }
    }
}

/// How long to wait for each `bytes` that are written.
pub(crate) fn delay(backlog: Backlog, limits: &Limits, bytes: u64) -> Duration {
    let l0 = match backlog.l0_shrinks {
        true => slope(
            backlog.l0_runs as u64,
            limits.l0_runs_soft as u64,
            limits.l0_runs_hard as u64,
        ),
        false => 0.0,
    };
    let flush = slope(
        backlog.flush_bytes,
        limits.flush_bytes_soft,
        limits.flush_bytes_hard,
    );
    let per_mib = L0_DELAY_MAX
        .mul_f64(l0 * l0)
        .max(FLUSH_DELAY_MAX.mul_f64(flush * flush));
    per_mib.mul_f64(bytes as f64 / MIB as f64)
}

/// 0 up to `soft`, 1 from `hard` on, a straight line between.
fn slope(now: u64, soft: u64, hard: u64) -> f64 {
    let over = now.saturating_sub(soft) as f64;
    (over / (hard.saturating_sub(soft).max(1)) as f64).min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: fn() -> Limits = || Limits::new(4, 64 << 20);

    fn l0(runs: usize) -> Duration {
        let backlog = Backlog {
            l0_runs: runs,
            l0_shrinks: true,
            flush_bytes: 0,
        };
        delay(backlog, &LIMITS(), MIB)
    }

    #[test]
    fn delays_begin_late_grow_smoothly_and_end() {
        assert_eq!(l0(16), Duration::ZERO);
        assert!(l0(17) > Duration::ZERO && l0(17) < Duration::from_millis(3));
        for runs in 16..60 {
            assert!(l0(runs) <= l0(runs + 1), "{runs}");
        }
        assert_eq!(l0(36), L0_DELAY_MAX);
        assert_eq!(l0(usize::MAX), L0_DELAY_MAX);
    }

    #[test]
    fn nobody_waits_for_a_compaction_that_does_not_run() {
        let backlog = Backlog {
            l0_runs: 100,
            l0_shrinks: false,
            flush_bytes: 0,
        };
        assert_eq!(delay(backlog, &LIMITS(), MIB), Duration::ZERO);
    }

    #[test]
    fn flushes_that_fall_behind_slow_writes_in_proportion_to_them() {
        let flush = |flush_bytes, bytes| {
            let backlog = Backlog {
                flush_bytes,
                ..Backlog::default()
            };
            delay(backlog, &LIMITS(), bytes)
        };
        assert_eq!(flush(64 << 20, MIB), Duration::ZERO);
        assert!(flush(128 << 20, MIB) > Duration::ZERO);
        assert_eq!(flush(256 << 20, MIB), FLUSH_DELAY_MAX);
        assert_eq!(flush(256 << 20, MIB / 2), FLUSH_DELAY_MAX / 2);
    }
}

//! Time, processor time, and how long single operations took.
//!
//! The one place of this program that reads clocks. Latency is sampled: one operation in [`SAMPLE`] is timed, because two readings of the
//! clock cost a quarter of what the fastest operations take.
#![allow(
    clippy::disallowed_methods,
    reason = "measuring is what this file is for"
)]
use std::time::{Duration, Instant};

/// One operation in so many is timed on its own; a power of two.
pub const SAMPLE: u64 = 16;

/// Now.
#[inline]
pub fn now() -> Instant {
    Instant::now()
}

/// What a stretch of work took.
#[derive(Clone, Copy, Debug, Default)]
pub struct Spent {
    pub wall: Duration,
    /// All threads of the process, to a hundredth of a second.
    pub cpu: Duration,
    /// Bytes that all threads handed to `write`.
    pub written: u64,
}

impl std::ops::AddAssign for Spent {
    fn add_assign(&mut self, other: Self) {
        self.wall += other.wall;
        self.cpu += other.cpu;
        self.written += other.written;
    }
}

/// Measures from its making on.
pub struct Stretch {
    start: Instant,
    stopped: Option<Duration>,
    cpu: Duration,
    written: u64,
}

impl Stretch {
    pub fn start() -> Self {
        Self {
            cpu: cpu(),
            written: written(),
            start: now(),
            stopped: None,
        }
    }

    /// Elapsed time, until it was stopped if it was.
    pub fn wall(&self) -> Duration {
        self.stopped.unwrap_or_else(|| self.start.elapsed())
    }

    /// What happens from now on does not count.
    pub fn stop(mut self) -> Self {
        self.stopped = Some(self.wall());
        self
    }

    pub fn spent(&self) -> Spent {
        Spent {
            wall: self.wall(),
            cpu: cpu().saturating_sub(self.cpu),
            written: written().saturating_sub(self.written),
        }
    }
}

/// Processor time of the process. Linux counts it in ticks of 10 ms.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name of the program is in brackets and may hold anything.
    let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks: u64 = fields
        .split_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|field| field.parse::<u64>().ok())
        .sum();
    Duration::from_millis(ticks * 10)
}

fn written() -> u64 {
    let io = std::fs::read_to_string("/proc/self/io").unwrap_or_default();
    io.lines()
        .find_map(|line| line.strip_prefix("wchar: ")?.parse().ok())
        .unwrap_or(0)
}

/// Resident memory of the process in bytes.
pub fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm
        .split_whitespace()
        .nth(1)
        .and_then(|pages| pages.parse::<u64>().ok())
        .unwrap_or(0)
        * 4096
}

/// Lets other threads work for a moment.
pub fn pause(duration: Duration) {
    std::thread::sleep(duration);
}

/// Waits until the process has used next to no processor time for a fifth of a second: for engines that do not say what they do in the
/// background.
pub fn wait_until_quiet() {
    const STEP: Duration = Duration::from_millis(50);
    let mut quiet = 0;
    let mut before = cpu();
    while quiet < 4 {
        pause(STEP);
        let after = cpu();
        // One tick of the clock by which Linux counts.
        quiet = if after - before <= Duration::from_millis(10) {
            quiet + 1
        } else {
            0
        };
        before = after;
    }
}

const SUB_BITS: u32 = 4;

/// A histogram of nanoseconds whose buckets are at most a sixteenth wide.
#[derive(Clone)]
pub struct Histogram {
    buckets: Vec<u64>,
    count: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            buckets: vec![0; 64 << SUB_BITS],
            count: 0,
        }
    }
}

impl Histogram {
    #[inline]
    fn bucket(nanos: u64) -> usize {
        let magnitude = 63 - (nanos | 1 << SUB_BITS).leading_zeros();
        let shift = magnitude - SUB_BITS;
        (((shift as usize) << SUB_BITS) + (nanos >> shift) as usize).min((64 << SUB_BITS) - 1)
    }

    fn upper(bucket: usize) -> u64 {
        let (shift, rest) = (bucket >> SUB_BITS, bucket & ((1 << SUB_BITS) - 1));
        if shift == 0 {
            return rest as u64;
        }
        // Buckets past the first sixteen hold numbers whose highest bit is set.
        let shift = shift - 1;
        (((1 << SUB_BITS) + rest as u64 + 1) << shift) - 1
    }

    #[inline]
    pub fn record(&mut self, took: Duration) {
        self.buckets[Self::bucket(took.as_nanos() as u64)] += 1;
        self.count += 1;
    }

    pub fn merge(&mut self, other: &Self) {
        self.buckets
            .iter_mut()
            .zip(&other.buckets)
            .for_each(|(a, b)| *a += b);
        self.count += other.count;
    }

    /// Buckets that are not empty, as pairs of numbers.
    pub fn encode(&self) -> String {
        let filled = self
            .buckets
            .iter()
            .enumerate()
            .filter(|(_, count)| **count > 0);
        let pairs: Vec<String> = filled
            .map(|(bucket, count)| format!("{bucket} {count}"))
            .collect();
        if pairs.is_empty() {
            "0 0".into()
        } else {
            pairs.join(" ")
        }
    }

    pub fn decode(pairs: &[u64]) -> Self {
        let mut this = Self::default();
        for pair in pairs.chunks_exact(2) {
            if let Some(bucket) = this.buckets.get_mut(pair[0] as usize) {
                *bucket += pair[1];
                this.count += pair[1];
            }
        }
        this
    }

    /// In nanoseconds; 0 if nothing was recorded.
    pub fn quantile(&self, quantile: f64) -> u64 {
        let wanted = (self.count as f64 * quantile).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (bucket, count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return Self::upper(bucket);
            }
        }
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_close() {
        let mut histogram = Histogram::default();
        for nanos in 1..=100_000 {
            histogram.record(Duration::from_nanos(nanos));
        }
        for (quantile, expected) in [(0.5, 50_000.0), (0.99, 99_000.0), (0.999, 99_900.0)] {
            let found = histogram.quantile(quantile) as f64;
            assert!((found / expected - 1.0).abs() < 0.07, "{quantile}: {found}");
        }
        for nanos in [0, 1, 15, 16, 17, 31, 32, 1 << 40, u64::MAX] {
            let bucket = Histogram::bucket(nanos);
            assert!(
                bucket == (64 << SUB_BITS) - 1 || Histogram::upper(bucket) >= nanos,
                "{nanos}"
            );
        }
    }

    #[test]
    fn work_takes_processor_time() {
        let stretch = Stretch::start();
        let mut x = 1u64;
        while stretch.wall() < Duration::from_millis(200) {
            x = crate::data::mix(x);
        }
        assert!(x != 0 && stretch.spent().cpu >= Duration::from_millis(20));
        assert!(resident() > 1 << 20);
    }
}

//! How many bytes a second compactions may write.
//!
//! A token bucket that goes into debt: whoever takes bytes gets them at once and is told how long to wait before the next. Nothing
//! is held up in the middle of a request, and the average still keeps to the rate. A burst of up to [`BURST_MS`] worth of bytes goes
//! through unhindered. The clock is passed in.
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use crate::Clock;

/// What may be saved up while nothing is written.
const BURST_MS: u64 = 100;
/// Longest single wait: a clock that was set back must not stop the work for long.
const WAIT_MAX: Duration = Duration::from_secs(2);

/// A limit on bytes per second, shared by all who write under it.
pub struct RateLimiter {
    clock: Clock,
    /// 0: no limit.
    bytes_per_second: AtomicU64,
    /// Bytes owed, and when that was so.
    debt: Mutex<(u64, i64)>,
}

impl std::fmt::Debug for RateLimiter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RateLimiter")
            .field("bytes_per_second", &self.bytes_per_second())
            .finish_non_exhaustive()
    }
}

impl RateLimiter {
    /// Limits to so many bytes a second; 0 is no limit.
    pub fn new(bytes_per_second: u64, clock: Clock) -> Arc<Self> {
        let now = clock();
        Arc::new(Self {
            clock,
            bytes_per_second: AtomicU64::new(bytes_per_second),
            debt: Mutex::new((0, now)),
        })
    }

    /// No limit.
    pub fn unlimited() -> Arc<Self> {
        Self::new(0, Arc::new(|| 0))
    }

    /// The limit at present.
    pub fn bytes_per_second(&self) -> u64 {
        self.bytes_per_second.load(Ordering::Relaxed)
    }

    /// Changes the limit while work is under way.
    pub fn set_bytes_per_second(&self, limit: u64) {
        self.bytes_per_second.store(limit, Ordering::Relaxed);
    }

    /// Takes bytes that are about to be written, and says how long to wait afterwards.
    pub(crate) fn take(&self, bytes: u64) -> Duration {
        let rate = self.bytes_per_second();
        if rate == 0 {
            return Duration::ZERO;
        }
        let now = (self.clock)();
        let mut debt = self.debt.lock();
        let (owed, since) = *debt;
        let passed_ms = u64::try_from(now.saturating_sub(since)).unwrap_or(0);
        let paid = (u128::from(rate) * u128::from(passed_ms) / 1000).min(u128::from(u64::MAX));
        let owed = owed.saturating_sub(paid as u64).saturating_add(bytes);
        *debt = (owed, now.max(since));
        let free = (u128::from(rate) * u128::from(BURST_MS) / 1000) as u64;
        let over = u128::from(owed.saturating_sub(free));
        let wait_ms = (over * 1000).div_ceil(u128::from(rate));
        Duration::from_millis(wait_ms.min(WAIT_MAX.as_millis()) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicI64;

    #[test]
    fn the_average_keeps_to_the_rate() {
        let now = Arc::new(AtomicI64::new(1_000_000));
        let clock = now.clone();
        let limiter = RateLimiter::new(10_000_000, Arc::new(move || clock.load(Ordering::SeqCst)));
        let start = now.load(Ordering::SeqCst);
        for _ in 0..400 {
            let wait = limiter.take(256 << 10);
            now.fetch_add(wait.as_millis() as i64, Ordering::SeqCst);
        }
        let took_ms = now.load(Ordering::SeqCst) - start;
        let at_rate_ms = (400 * (256 << 10)) / 10_000;
        assert!(
            (at_rate_ms - 110..=at_rate_ms + 110).contains(&took_ms),
            "{took_ms} instead of {at_rate_ms}"
        );
    }

    #[test]
    fn without_a_limit_nobody_waits_and_a_new_limit_counts_at_once() {
        let limiter = RateLimiter::unlimited();
        assert_eq!(limiter.take(u64::MAX), Duration::ZERO);
        limiter.set_bytes_per_second(1 << 20);
        assert_eq!(limiter.take(1), Duration::ZERO, "a burst is free");
        assert!(limiter.take(1 << 20) > Duration::from_millis(800));
        assert!(limiter.take(u64::MAX) <= WAIT_MAX);
    }

    #[test]
    fn time_that_goes_backwards_gives_nothing() {
        let now = Arc::new(AtomicI64::new(5_000));
        let clock = now.clone();
        let limiter = RateLimiter::new(1_000, Arc::new(move || clock.load(Ordering::SeqCst)));
        limiter.take(1_100);
        now.store(0, Ordering::SeqCst);
        assert!(limiter.take(0) >= Duration::from_millis(1_000));
        now.store(5_000, Ordering::SeqCst);
        assert!(
            limiter.take(0) >= Duration::from_millis(1_000),
            "no time has passed"
        );
        now.store(6_100, Ordering::SeqCst);
        assert_eq!(limiter.take(0), Duration::ZERO);
    }
}

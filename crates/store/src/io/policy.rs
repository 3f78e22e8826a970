//! How patient the store is with its object store: time-outs, repeats, how many of them there may be, second requests.
//!
//! Everything here is pure: time and chance are arguments.
use std::time::Duration;

/// Options of all requests of a store.
#[derive(Clone, Debug, PartialEq)]
pub struct IoOptions {
    /// A request that has not been answered after this long is given up, and its outcome counts as unknown; 30 s. Requests
    /// that carry a body get a second more for each MiB of it.
    pub request_timeout: Duration,
    /// How often a request that failed is made again; 4.
    pub retries_max: u32,
    /// Pauses before repeats lie between nothing and a bound that starts here and doubles each time; 50 ms.
    pub retry_pause: Duration,
    /// That bound never exceeds this; 5 s.
    pub retry_pause_max: Duration,
    /// Repeats and second requests of this store that may be made at once before they are held back, and ...
    pub retry_budget: u32,
    /// ... how many of them each second gives back. A store in trouble is not stormed: what exceeds the budget fails at
    /// once. 200 and 20.
    pub retry_budget_per_second: u32,
    /// When a read is asked a second time without waiting for an error; the first answer counts. Off.
    pub hedge: Hedge,
    /// Bytes of each part of an upload but the last, and of the longest file that is put at once; 8 MiB. S3 takes no parts
    /// below 5 MiB.
    pub part_bytes: usize,
    /// What requests cost.
    pub prices: Prices,
}

impl Default for IoOptions {
    fn default() -> Self {
        Self {
            request_timeout: Duration::from_secs(30),
            retries_max: 4,
            retry_pause: Duration::from_millis(50),
            retry_pause_max: Duration::from_secs(5),
            retry_budget: 200,
            retry_budget_per_second: 20,
            hedge: Hedge::Off,
            part_bytes: 8 << 20,
            prices: Prices::default(),
        }
    }
}

/// When a slow read is asked a second time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Hedge {
    /// Never.
    #[default]
    Off,
    /// After a fixed time.
    After(Duration),
    /// After the time that 99 of 100 recent reads took, but not before this long; not before 100 reads were made.
    AfterSlowest(Duration),
}

/// What an object store asks for requests and traffic, in billionths of a dollar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prices {
    /// A put, a part or another step of an upload, a copy, a listing.
    pub write: u64,
    /// A get or a question for an object's size.
    pub read: u64,
    /// A delete, or giving up an upload.
    pub delete: u64,
    /// A GiB that is read.
    pub gib_read: u64,
    /// A GiB that is written.
    pub gib_written: u64,
}

impl Default for Prices {
    /// S3 Standard, read from its own region: $0.005 for 1,000 writes, $0.0004 for 1,000 reads, all else free.
    fn default() -> Self {
        Self {
            write: 5_000,
            read: 400,
            delete: 0,
            gib_read: 0,
            gib_written: 0,
        }
    }
}

impl IoOptions {
    /// The pause before repeat number `repeat` (the first is 0); `chance` is any number.
    pub(super) fn pause(&self, repeat: u32, chance: u64) -> Duration {
        let doubled = self.retry_pause.saturating_mul(1 << repeat.min(16));
        let bound = doubled.min(self.retry_pause_max);
        let bound = u64::try_from(bound.as_micros()).unwrap_or(u64::MAX);
        Duration::from_micros(match bound {
            u64::MAX => chance,
            bound => chance % (bound + 1),
        })
    }

    pub(super) fn timeout(&self, body_bytes: u64) -> Duration {
        self.request_timeout
            .saturating_add(Duration::from_secs(body_bytes >> 20))
    }
}

/// A bucket of tokens: a repeat takes one, time brings them back.
#[derive(Debug)]
pub(super) struct Budget {
    most_milli: u64,
    per_second: u64,
    left_milli: u64,
    at: Duration,
}

impl Budget {
    pub(super) fn new(options: &IoOptions) -> Self {
        let most_milli = u64::from(options.retry_budget) * 1_000;
        Self {
            most_milli,
            per_second: u64::from(options.retry_budget_per_second),
            left_milli: most_milli,
            at: Duration::ZERO,
        }
    }

    /// Takes a token at `now` (since any fixed moment), if there is one.
    pub(super) fn take(&mut self, now: Duration) -> bool {
        let passed = now.saturating_sub(self.at).as_millis();
        let passed = u64::try_from(passed).unwrap_or(u64::MAX);
        if passed > 0 {
            let back = passed.saturating_mul(self.per_second);
            self.left_milli = self.left_milli.saturating_add(back).min(self.most_milli);
            self.at = now;
        }
        match self.left_milli.checked_sub(1_000) {
            Some(left) => {
                self.left_milli = left;
                true
            }
            None => false,
        }
    }
}

/// How long recent reads took: counts in buckets whose bounds grow by a fifth, old ones fading.
#[derive(Debug)]
pub(super) struct Latencies {
    counts: [u32; BUCKETS],
    total: u32,
}

/// From 0.1 ms, a fifth more each, up to beyond a minute.
const BUCKETS: usize = 80;
const FIRST_MICROS: f64 = 100.0;
const GROWTH: f64 = 1.2;
/// When so many were counted, all counts are halved.
const RECENT_MAX: u32 = 8_192;
const RECENT_MIN: u32 = 100;

impl Default for Latencies {
    fn default() -> Self {
        Self {
            counts: [0; BUCKETS],
            total: 0,
        }
    }
}

impl Latencies {
    pub(super) fn add(&mut self, taken: Duration) {
        let steps = (taken.as_secs_f64() * 1e6 / FIRST_MICROS).max(1.0).ln() / GROWTH.ln();
        // A float that is too large or not a number becomes a bound of the type.
        let bucket = (steps.ceil() as usize).min(BUCKETS - 1);
        if let Some(count) = self.counts.get_mut(bucket) {
            *count += 1;
            self.total += 1;
        }
        if self.total >= RECENT_MAX {
            self.counts.iter_mut().for_each(|count| *count /= 2);
            self.total = self.counts.iter().sum();
        }
    }

    /// The time that 99 of 100 did not exceed, to a fifth; `None` before there were enough.
    pub(super) fn slowest(&self) -> Option<Duration> {
        if self.total < RECENT_MIN {
            return None;
        }
        let mut above = self.total / 100;
        let mut bucket = BUCKETS - 1;
        for (i, &count) in self.counts.iter().enumerate().rev() {
            bucket = i;
            match above.checked_sub(count) {
                Some(rest) => above = rest,
                None => break,
            }
        }
        let bucket = i32::try_from(bucket).unwrap_or(i32::MAX);
        Some(Duration::from_secs_f64(
            FIRST_MICROS * GROWTH.powi(bucket) / 1e6,
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_are_spread() {
        let options = IoOptions::default();
        let longest = |repeat| {
            let pauses = (0..100_000)
                .step_by(7)
                .map(|chance| options.pause(repeat, chance * 997));
            pauses.max().unwrap().as_millis()
        };
        assert!((45..=50).contains(&longest(0)), "{}", longest(0));
        assert!((90..=100).contains(&longest(1)));
        assert!((4_900..=5_000).contains(&longest(30)));
        assert_eq!(options.pause(3, 0), Duration::ZERO);
        assert_eq!(options.timeout(8 << 20), Duration::from_secs(38));
    }

    #[test]
    fn a_budget_is_used_up_and_comes_back() {
        let mut budget = Budget::new(&IoOptions {
            retry_budget: 3,
            retry_budget_per_second: 2,
            ..IoOptions::default()
        });
        let ms = Duration::from_millis;
        assert_eq!(
            [(); 5].map(|()| budget.take(ms(0))),
            [true, true, true, false, false]
        );
        assert!(!budget.take(ms(499)));
        assert!(budget.take(ms(500)));
        assert!(!budget.take(ms(500)));
        assert!(budget.take(Duration::MAX) && budget.take(ms(7)) && budget.take(ms(8)));
        assert!(
            !budget.take(ms(9)),
            "time that goes backwards gives nothing"
        );
    }

    #[test]
    fn the_slowest_of_a_hundred_is_found_to_a_fifth() {
        let mut latencies = Latencies::default();
        for i in 1..100 {
            latencies.add(Duration::from_millis(i % 10 + 5));
            assert_eq!(latencies.slowest(), None);
        }
        for _ in 0..3 {
            for i in 1..=1_000 {
                latencies.add(Duration::from_millis(if i % 50 == 0 { 400 } else { 12 }));
            }
        }
        let slowest = latencies.slowest().unwrap().as_millis();
        assert!((400..=480).contains(&slowest), "{slowest}");
        for _ in 0..100_000 {
            latencies.add(Duration::from_millis(2));
        }
        assert!(latencies.slowest().unwrap().as_millis() < 3);
        latencies.add(Duration::MAX);
    }
}

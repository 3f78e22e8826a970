//! Holds a generated source to the speed at which its rows say they happen.

use std::sync::Arc;

/// Longest wait, in milliseconds, before asking the clock again.
pub(crate) const RETRY_MS_MAX: u64 = 1_000;

/// Couples the clock to the times of rows. It starts at whatever row comes first, so a restored source goes on at its speed
/// instead of catching up.
pub(crate) struct Pace {
    now_ms: Arc<dyn Fn() -> i64 + Send + Sync>,
    /// Clock minus row time at the first row.
    clock_ahead_ms: Option<i64>,
}

impl Pace {
    pub(crate) fn new(now_ms: Arc<dyn Fn() -> i64 + Send + Sync>) -> Self {
        Self {
            now_ms,
            clock_ahead_ms: None,
        }
    }

    /// Rows up to this time may go; `next_ms` is the time of the next one.
    pub(crate) fn due_until_ms(&mut self, next_ms: i64) -> i64 {
        let now_ms = (self.now_ms)();
        now_ms
            - *self
                .clock_ahead_ms
                .get_or_insert(now_ms.saturating_sub(next_ms))
    }

    /// How long to wait until a row at `next_ms` is due.
    pub(crate) fn retry_ms(next_ms: i64, due_until_ms: i64) -> u64 {
        next_ms
            .saturating_sub(due_until_ms)
            .clamp(1, RETRY_MS_MAX as i64)
            .unsigned_abs()
    }
}

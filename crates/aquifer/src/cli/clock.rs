//! The real clock. Everything else takes its time from here, passed in.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// Milliseconds since 1970, for a job.
pub fn wall() -> Arc<dyn Fn() -> i64 + Send + Sync> {
    Arc::new(now_ms)
}

/// Milliseconds since 1970. A clock before 1970 reads as 0.
#[allow(clippy::disallowed_methods)] // The one door by which time comes in.
fn now_ms() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

//! When gathered reads are sent.
//!
//! Reads are gathered so that one request serves many. They go out when a batch is full, when the operator has nothing else to do, or when the
//! oldest of them has waited as long as it may, whichever comes first. So size and time-out are bounds: an operator that is idle waits for
//! neither.

/// When gathered reads are sent.
#[derive(Clone, Copy, Debug)]
pub struct ReadBuffer {
    batch_max: usize,
    timeout_ms: u64,
    /// When the oldest of the gathered reads came.
    since_ms: Option<i64>,
}

impl ReadBuffer {
    /// At most so many reads wait, for at most so long.
    pub fn new(batch_max: usize, timeout_ms: u64) -> Self {
        Self {
            batch_max: batch_max.max(1),
            timeout_ms,
            since_ms: None,
        }
    }

    /// Whether the gathered reads are to be sent now. `idle`: there is nothing else to do. To be asked whenever reads were added, and now and
    /// then while the operator is busy.
    pub fn should_issue(&mut self, gathered: usize, idle: bool, now_ms: i64) -> bool {
        if gathered == 0 {
            self.since_ms = None;
            return false;
        }
        let since_ms = *self.since_ms.get_or_insert(now_ms);
        let waited_ms = now_ms.saturating_sub(since_ms);
        let late = u64::try_from(waited_ms).is_ok_and(|waited_ms| waited_ms >= self.timeout_ms);
        let issue = idle || gathered >= self.batch_max || late;
        if issue {
            self.since_ms = None;
        }
        issue
    }

    /// They were sent for another reason.
    pub fn issued(&mut self) {
        self.since_ms = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Flink's `testBufferTimeout`, as a bound: an idle operator waits for nothing.
    #[test]
    fn a_partial_batch_goes_out_after_the_time_out() {
        let mut buffer = ReadBuffer::new(1000, 1000);
        assert!(!buffer.should_issue(1, false, 0));
        assert!(!buffer.should_issue(3, false, 999));
        assert!(buffer.should_issue(3, false, 1000));
        // The next batch has its own time.
        assert!(!buffer.should_issue(2, false, 1500));
        assert!(buffer.should_issue(1000, false, 1600), "a full batch");
        assert!(
            !buffer.should_issue(1, false, 2400),
            "has set the time back"
        );
        assert!(!buffer.should_issue(1, false, 3399));
        assert!(buffer.should_issue(1, false, 3400));
    }

    #[test]
    fn an_idle_operator_waits_for_nothing() {
        let mut buffer = ReadBuffer::new(1000, 1000);
        assert!(buffer.should_issue(1, true, 0));
        assert!(!buffer.should_issue(0, true, 0), "there is nothing to send");
        // What was sent by somebody else has no time any more.
        assert!(!buffer.should_issue(1, false, 10));
        buffer.issued();
        assert!(!buffer.should_issue(1, false, 1010));
        assert!(buffer.should_issue(1, false, 2010));
    }

    #[test]
    fn a_clock_that_is_set_back_does_not_matter() {
        let mut buffer = ReadBuffer::new(10, 5);
        assert!(!buffer.should_issue(1, false, i64::MAX));
        assert!(!buffer.should_issue(1, false, i64::MIN));
        assert!(buffer.should_issue(10, false, i64::MIN));
        assert!(ReadBuffer::new(0, 5).should_issue(1, false, 0), "0 is 1");
    }
}

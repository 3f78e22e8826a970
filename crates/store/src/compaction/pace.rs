//! Keeps a compaction to the rate of the process, and ends it when nobody waits for it any more.
use crate::context::Context;
use crate::error::{Error, Result};

/// The rate is asked once for so many bytes.
const STEP_BYTES: u64 = 256 << 10;

/// Counts what a job writes.
pub(crate) struct Pace<'c> {
    context: &'c Context,
    counted: u64,
}

impl<'c> Pace<'c> {
    pub(crate) fn new(context: &'c Context) -> Self {
        Self {
            context,
            counted: 0,
        }
    }

    /// To be told, after each row, how many bytes the job has written in all. Waits if that is too fast.
    #[inline]
    pub(crate) fn written(&mut self, bytes: u64) -> Result<()> {
        if bytes.saturating_sub(self.counted) < STEP_BYTES {
            return Ok(());
        }
        self.step(bytes)
    }

    fn step(&mut self, bytes: u64) -> Result<()> {
        let more = bytes.saturating_sub(self.counted);
        self.counted = bytes;
        let wait = self.context.env.compaction_rate.take(more);
        let goes_on = match wait.is_zero() {
            true => !self.context.is_stopped(),
            false => self.context.pause(wait),
        };
        match goes_on {
            true => Ok(()),
            false => Err(Error::retry(
                "a compaction was given up, because its store is closed",
            )),
        }
    }
}

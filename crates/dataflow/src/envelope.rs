//! What travels on a timely channel: batches and watermarks, addressed to a worker.
//!
//! Watermarks travel in band, so that they cannot overtake the rows they speak of. Timely requires that a channel neither adds
//! nor drops records, so a watermark for every worker is one envelope per worker, made before the channel.

use serde::{Deserialize, Serialize};

/// A batch or a watermark.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Element<D> {
    /// Rows.
    Batch(D),
    /// No row with an event time (ms) at or below this will follow from the sender.
    Watermark(i64),
}

/// An element on its way from one worker to another.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Envelope<D> {
    /// The sending worker.
    pub from: u32,
    /// The receiving worker.
    pub to: u32,
    /// What is sent.
    pub element: Element<D>,
}

/// The smallest watermark over several channels, which only moves forward.
#[derive(Debug)]
pub(crate) struct WatermarkMerge {
    channels: Vec<i64>,
    merged: i64,
}

impl WatermarkMerge {
    /// For this many channels, none of which has said anything yet.
    pub fn new(channels: usize) -> Self {
        Self {
            channels: vec![i64::MIN; channels],
            merged: i64::MIN,
        }
    }

    /// Takes a channel's watermark; returns the new minimum if it moved. A channel's watermark never moves back.
    pub fn update(&mut self, channel: usize, watermark_ms: i64) -> Option<i64> {
        let slot = &mut self.channels[channel];
        *slot = (*slot).max(watermark_ms);
        let merged = self.channels.iter().copied().min().unwrap_or(i64::MAX);
        (merged > self.merged).then(|| {
            self.merged = merged;
            merged
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slowest_channel_decides() {
        let mut merge = WatermarkMerge::new(2);
        assert_eq!(merge.update(0, 10), None);
        assert_eq!(merge.update(1, 5), Some(5));
        assert_eq!(merge.update(1, 4), None, "a watermark does not move back");
        assert_eq!(merge.update(1, 20), Some(10));
        assert_eq!(merge.update(0, i64::MAX), Some(20));
        assert_eq!(merge.update(1, i64::MAX), Some(i64::MAX));
        assert_eq!(merge.update(1, i64::MAX), None);
    }
}

//! The one timestamp of the dataflow: a checkpoint epoch and a tick, in a totally ordered `u64`.
//!
//! The epoch is the id of the checkpoint whose barrier ends it: an operator has finished epoch `e` when its frontier has passed
//! `start_of(e + 1)`, and that is the barrier. The tick only grows within a run and drives flow control. Event time is not in
//! here: watermarks travel as data.

/// A dataflow time.
pub(crate) type Time = u64;

/// Bits of the tick: 2^40 ticks last 34 years at a thousand a second.
const TICK_BITS: u32 = 40;
const TICK_MASK: u64 = (1 << TICK_BITS) - 1;

/// The first time of an epoch.
pub(crate) fn start_of(epoch: u64) -> Time {
    debug_assert!(
        epoch < 1 << (64 - TICK_BITS),
        "epoch {epoch} does not fit in 24 bits"
    );
    epoch << TICK_BITS
}

/// The time of a tick within an epoch.
pub(crate) fn at(epoch: u64, tick: u64) -> Time {
    start_of(epoch) | (tick & TICK_MASK)
}

/// The epoch of a time.
pub(crate) fn epoch_of(time: Time) -> u64 {
    time >> TICK_BITS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epochs_order_before_ticks() {
        assert!(at(1, TICK_MASK) < start_of(2));
        assert!(at(2, 5) < at(2, 6));
        assert_eq!(epoch_of(at(77, 12)), 77);
    }
}

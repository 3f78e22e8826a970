//! The options of `'connector' = 'nexmark'`, by the names and with the defaults of the Nexmark suite for Flink.

use aquifer_dataflow::JobError;
use aquifer_dataflow::connector::TableSpec;

use super::NAME;
use super::timeline::{RateShape, Timeline};
use crate::calendar;
use crate::options::Options;

/// Upper bound of the average sizes, so that a batch has a bound too.
pub(super) const AVERAGE_BYTES_MAX: u64 = 1 << 20;

const KNOWN: &[&str] = &[
    "auction.avg-size",
    "auction.hot-ratio.sellers",
    "auction.proportion",
    "base-time",
    "bid.avg-size",
    "bid.hot-ratio.auctions",
    "bid.hot-ratio.bidders",
    "bid.proportion",
    "events.num",
    "first-event.rate",
    "keep-alive",
    "max-emit-speed",
    "next-event.rate",
    "person.avg-size",
    "person.proportion",
    "rate.limited",
    "rate.period",
    "rate.shape",
    "stop-at",
];

/// What the generator is asked to make.
#[derive(Clone, Debug)]
pub(super) struct NexmarkOptions {
    pub(super) timeline: Timeline,
    /// One past the last event, or `None` if there is no last one.
    pub(super) end: Option<u64>,
    /// After the last event, wait instead of finishing.
    pub(super) keep_alive: bool,
    /// Emit events when their time comes instead of as fast as possible.
    pub(super) limited: bool,
    pub(super) person_proportion: u64,
    pub(super) auction_proportion: u64,
    pub(super) bid_proportion: u64,
    pub(super) person_bytes: u64,
    pub(super) auction_bytes: u64,
    pub(super) bid_bytes: u64,
    /// One bid in this many is for any auction, the others are for a hot one.
    pub(super) hot_auction_ratio: u64,
    /// One bid in this many is by anyone, the others are by a hot bidder.
    pub(super) hot_bidder_ratio: u64,
    /// One auction in this many is by anyone, the others are by a hot seller.
    pub(super) hot_seller_ratio: u64,
}

impl NexmarkOptions {
    pub(super) fn read(table: &TableSpec) -> Result<Self, JobError> {
        let options = Options::new(table, NAME);
        options.check_known(KNOWN.iter().copied())?;
        let positive = |key, default| {
            options
                .whole(key, default, 1..=i64::from(i32::MAX))
                .map(|n| n.unsigned_abs())
        };
        let proportion = |key, default| {
            options
                .whole(key, default, 0..=1_000_000)
                .map(|n| n.unsigned_abs())
        };
        let average = |key, default| options.bytes(key, default, AVERAGE_BYTES_MAX);

        let shape = match options.choice("rate.shape", &["SQUARE", "SINE"], 0)? {
            0 => RateShape::Square,
            _ => RateShape::Sine,
        };
        let period_s = options.duration_ms("rate.period", 600_000)? / 1_000;
        if period_s < 1 {
            let found = options.text("rate.period").unwrap_or("");
            return Err(options.malformed("rate.period", "at least one second", found));
        }
        let timeline = Timeline::new(
            base_time_ms(&options)?,
            positive("first-event.rate", 10_000)?,
            positive("next-event.rate", 10_000)?,
            shape,
            period_s.unsigned_abs(),
        );

        let events = options.whole("events.num", 0, 0..=i64::MAX)?;
        let stop_at = options.whole("stop-at", -1, i64::MIN..=i64::MAX)?;
        let end = [
            Some(events).filter(|n| *n > 0),
            Some(stop_at).filter(|n| *n >= 0),
        ]
        .into_iter()
        .flatten()
        .min()
        .map(i64::unsigned_abs);

        let read = Self {
            timeline,
            end,
            keep_alive: options.flag("keep-alive", false)?,
            limited: options.flag("rate.limited", false)?
                || !options.flag("max-emit-speed", true)?,
            person_proportion: proportion("person.proportion", 1)?,
            auction_proportion: proportion("auction.proportion", 3)?,
            bid_proportion: proportion("bid.proportion", 46)?,
            person_bytes: average("person.avg-size", 200)?,
            auction_bytes: average("auction.avg-size", 500)?,
            bid_bytes: average("bid.avg-size", 100)?,
            hot_auction_ratio: positive("bid.hot-ratio.auctions", 2)?,
            hot_bidder_ratio: positive("bid.hot-ratio.bidders", 4)?,
            hot_seller_ratio: positive("auction.hot-ratio.sellers", 4)?,
        };
        if read.proportions() == 0 {
            return Err(JobError::usage(format!(
                "table '{}': at least one of 'person.proportion', 'auction.proportion' and 'bid.proportion' must be more than 0, found 0 for all",
                table.name
            )));
        }
        Ok(read)
    }

    /// Events of one round of people, auctions and bids.
    pub(super) fn proportions(&self) -> u64 {
        self.person_proportion + self.auction_proportion + self.bid_proportion
    }

    /// Whether the source ends by itself.
    pub(super) fn bounded(&self) -> bool {
        self.end.is_some() && !self.keep_alive
    }
}

/// `base-time` is ours: the suite starts at the wall clock, which no two runs share. A date-time, or milliseconds since 1970.
fn base_time_ms(options: &Options<'_>) -> Result<i64, JobError> {
    /// 2015-07-15T00:00:00, where Apache Beam's generator starts.
    const DEFAULT_MS: i64 = 1_436_918_400_000;
    let Some(text) = options.text("base-time") else {
        return Ok(DEFAULT_MS);
    };
    let trimmed = text.trim().trim_end_matches('Z');
    calendar::parse_moment(trimmed)
        .and_then(|moment| moment.to_units(1_000))
        .or_else(|| trimmed.parse().ok())
        .filter(|ms| (-(1 << 53)..1 << 53).contains(ms))
        .ok_or_else(|| {
            let expected = "a date-time such as '2015-07-15T00:00:00', or milliseconds since 1970";
            options.malformed("base-time", expected, text)
        })
}

//! Counts requests, bytes and what they cost.
use std::sync::atomic::{AtomicU64, Ordering};

use super::policy::Prices;

/// What is asked of an object store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    Get,
    Head,
    Put,
    UploadStart,
    UploadPart,
    UploadComplete,
    UploadAbort,
    Delete,
}

const KINDS: usize = 8;

/// Things that happen to requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// It was made again after a failure.
    Repeated,
    /// It was not made again, because the budget was used up.
    HeldBack,
    /// It was not answered in time.
    TimedOut,
    /// A second one was made because the first was slow.
    Hedged,
    /// The second one was answered first.
    HedgeWon,
    /// A write whose answer was lost was found to have been done.
    FoundDone,
}

const EVENTS: usize = 6;

/// Counters that threads share.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    requests: [AtomicU64; KINDS],
    events: [AtomicU64; EVENTS],
    bytes_read: AtomicU64,
    bytes_written: AtomicU64,
    local_reads: AtomicU64,
    local_bytes_read: AtomicU64,
}

/// What a store has asked of its object store and of the local disk, since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IoStats {
    /// Reads of ranges of objects.
    pub gets: u64,
    /// Questions whether an object is there and how large.
    pub heads: u64,
    /// Objects written with one request.
    pub puts: u64,
    /// Uploads in parts that were begun.
    pub upload_starts: u64,
    /// Parts of uploads.
    pub upload_parts: u64,
    /// Uploads in parts that were completed.
    pub upload_completes: u64,
    /// Uploads in parts that were given up.
    pub upload_aborts: u64,
    /// Deletes.
    pub deletes: u64,
    /// Bytes that were read from the object store.
    pub bytes_read: u64,
    /// Bytes that were sent to the object store, those of failed requests included.
    pub bytes_written: u64,
    /// Requests that were made again after a failure; they count above too.
    pub retries: u64,
    /// Requests that were not made again because too many failed at the time.
    pub retries_held_back: u64,
    /// Requests that were not answered in time.
    pub timeouts: u64,
    /// Reads that were asked a second time because they were slow.
    pub hedges: u64,
    /// Those of them whose second request was answered first.
    pub hedges_won: u64,
    /// Writes that seemed to have failed and were found to have been done.
    pub writes_found_done: u64,
    /// Reads of local files that took the place of requests.
    pub local_reads: u64,
    /// Bytes of those.
    pub local_bytes_read: u64,
    /// What the requests and bytes cost, in billionths of a dollar.
    pub cost_nano_usd: u64,
}

impl Meter {
    /// Counts a request that carries `bytes` to the store.
    pub(crate) fn request(&self, request: Request, bytes: u64) {
        if let Some(counter) = self.requests.get(request as usize) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
        self.bytes_written.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn event(&self, event: Event) {
        if let Some(counter) = self.events.get(event as usize) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn read(&self, bytes: u64) {
        self.bytes_read.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn local_read(&self, bytes: u64) {
        self.local_reads.fetch_add(1, Ordering::Relaxed);
        self.local_bytes_read.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn stats(&self, prices: &Prices) -> IoStats {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let request = |kind: Request| self.requests.get(kind as usize).map_or(0, load);
        let event = |kind: Event| self.events.get(kind as usize).map_or(0, load);
        let mut stats = IoStats {
            gets: request(Request::Get),
            heads: request(Request::Head),
            puts: request(Request::Put),
            upload_starts: request(Request::UploadStart),
            upload_parts: request(Request::UploadPart),
            upload_completes: request(Request::UploadComplete),
            upload_aborts: request(Request::UploadAbort),
            deletes: request(Request::Delete),
            bytes_read: load(&self.bytes_read),
            bytes_written: load(&self.bytes_written),
            retries: event(Event::Repeated),
            retries_held_back: event(Event::HeldBack),
            timeouts: event(Event::TimedOut),
            hedges: event(Event::Hedged),
            hedges_won: event(Event::HedgeWon),
            writes_found_done: event(Event::FoundDone),
            local_reads: load(&self.local_reads),
            local_bytes_read: load(&self.local_bytes_read),
            cost_nano_usd: 0,
        };
        stats.cost_nano_usd = stats.cost(prices);
        stats
    }
}

impl IoStats {
    /// What these requests and bytes cost at some prices, in billionths of a dollar.
    pub fn cost(&self, prices: &Prices) -> u64 {
        let writes = self.puts + self.upload_starts + self.upload_parts + self.upload_completes;
        let requests = writes.saturating_mul(prices.write)
            + (self.gets + self.heads).saturating_mul(prices.read)
            + (self.deletes + self.upload_aborts).saturating_mul(prices.delete);
        let gib = |bytes: u64, price: u64| {
            u64::try_from((u128::from(bytes) * u128::from(price)) >> 30).unwrap_or(u64::MAX)
        };
        requests
            .saturating_add(gib(self.bytes_read, prices.gib_read))
            .saturating_add(gib(self.bytes_written, prices.gib_written))
    }

    /// All requests to the object store.
    pub fn requests(&self) -> u64 {
        self.gets
            + self.heads
            + self.puts
            + self.upload_starts
            + self.upload_parts
            + self.upload_completes
            + self.upload_aborts
            + self.deletes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_million_gets_and_a_thousand_puts_cost_what_the_price_list_says() {
        let meter = Meter::default();
        (0..1_000_000).for_each(|_| meter.request(Request::Get, 0));
        (0..1_000).for_each(|_| meter.request(Request::Put, 3 << 20));
        meter.request(Request::Delete, 0);
        meter.read(5 << 30);
        meter.event(Event::HedgeWon);
        let stats = meter.stats(&Prices::default());
        assert_eq!(stats.cost_nano_usd, 405_000_000);
        assert_eq!((stats.requests(), stats.hedges_won), (1_001_001, 1));
        let away = Prices {
            gib_read: 90_000_000,
            gib_written: 1,
            ..Prices::default()
        };
        assert_eq!(stats.cost(&away), 405_000_000 + 450_000_000 + 2);
    }
}

//! What the backend knows of one table: where its rows are, when they expire, how much was appended to them.

use std::sync::Arc;

use aquifer_store::TableOptions;
use xxhash_rust::xxh3::xxh3_64;

use super::database::Family;
use super::expiry::{Dropping, Expiry, Rule};

/// Counters of appended bytes. Rows share them by hash.
const COUNTERS: usize = 1024;

/// See the module.
pub(super) struct Table {
    /// Its place in the backend's list of databases.
    pub(super) database: usize,
    /// The column family.
    pub(super) family: String,
    /// What compactions know.
    pub(super) expiry: Arc<Expiry>,
    /// After how long its files are rewritten, in seconds, as its database knows it; 0: never.
    pub(super) periodic_seconds: u64,
    rule: Option<Rule>,
    /// Reads show rows that have expired and were not removed yet.
    pub(super) show_expired: bool,
    appended: Appended,
}

impl Table {
    /// A table whose options nobody has told yet.
    pub(super) fn new(database: usize, family: &Family) -> Self {
        Self {
            database,
            family: family.name.clone(),
            expiry: Arc::clone(&family.expiry),
            periodic_seconds: family.periodic_seconds,
            rule: None,
            show_expired: false,
            appended: Appended::default(),
        }
    }

    /// The program has registered the table.
    pub(super) fn set_options(&mut self, options: &TableOptions) {
        self.rule = Rule::of(options);
        self.show_expired = options.show_expired;
        self.expiry.set(Dropping::of(options));
    }

    /// Whether reads hide a row of this time.
    #[inline]
    pub(super) fn hides(
        &self,
        time_ms: Option<i64>,
        clock_ms: impl FnOnce() -> i64,
        event_time_ms: impl FnOnce() -> Option<i64>,
    ) -> bool {
        let Some(rule) = self.rule.filter(|_| !self.show_expired) else {
            return false;
        };
        let now_ms = match rule.event_time {
            false => Some(clock_ms()),
            true => event_time_ms(),
        };
        now_ms.is_some_and(|now_ms| rule.ttl.expired(time_ms, now_ms))
    }

    /// Bytes were appended to a row. Returns how many were at least since the table began its present chunk; those of a row with the same
    /// hash are in it.
    pub(super) fn appended(&mut self, key: &[u8], bytes: usize) -> usize {
        self.appended.add(key, bytes)
    }

    /// The chunk that the table appends to. If it is another one, its rows are new.
    pub(super) fn chunk_is(&mut self, number: u64) {
        if self.appended.chunk != number {
            self.appended.chunk = number;
            self.appended.counters.fill(0);
        }
    }
}

/// Bytes by hash of the row.
#[derive(Default)]
struct Appended {
    chunk: u64,
    /// None until something is appended.
    counters: Vec<u32>,
}

impl Appended {
    fn add(&mut self, key: &[u8], bytes: usize) -> usize {
        if self.counters.is_empty() {
            self.counters.resize(COUNTERS, 0);
        }
        let index = xxh3_64(key) as usize % COUNTERS;
        let Some(counter) = self.counters.get_mut(index) else {
            return 0;
        };
        *counter = counter.saturating_add(u32::try_from(bytes).unwrap_or(u32::MAX));
        *counter as usize
    }
}

#[cfg(test)]
mod tests {
    use aquifer_store::TableId;

    use super::*;

    fn table() -> Table {
        let family = Family {
            name: "t".into(),
            table: TableId(0),
            expiry: Expiry::unknown(),
            periodic_seconds: 0,
        };
        Table::new(0, &family)
    }

    #[test]
    fn rows_hide_when_they_have_expired() {
        let mut table = table();
        let options = TableOptions {
            ttl_ms: Some(10),
            ..TableOptions::default()
        };
        assert!(!table.hides(Some(0), || 100, || None));
        table.set_options(&options);
        assert!(table.hides(Some(0), || 10, || None));
        assert!(!table.hides(Some(0), || 9, || Some(100)));
        assert!(!table.hides(None, || 100, || None));
        let shown = TableOptions {
            show_expired: true,
            ..options.clone()
        };
        table.set_options(&shown);
        assert!(!table.hides(Some(0), || 10, || None));
        let event = TableOptions {
            event_time: true,
            ..options
        };
        table.set_options(&event);
        assert!(!table.hides(Some(0), || 100, || None));
        assert!(table.hides(Some(0), || 0, || Some(10)));
        table.set_options(&TableOptions::default());
        assert!(!table.hides(Some(0), || 10, || Some(10)));
    }

    #[test]
    fn appended_bytes_are_counted_per_row_and_chunk() {
        let mut table = table();
        assert_eq!(table.appended(b"a", 1), 1);
        assert_eq!(table.appended(b"a", 2), 3);
        assert_eq!(table.appended(b"b", 5), 5);
        assert_eq!(table.appended(b"a", usize::MAX), u32::MAX as usize);
        table.chunk_is(0);
        assert_eq!(table.appended(b"b", 1), 6);
        table.chunk_is(1);
        assert_eq!(table.appended(b"a", 1), 1);
    }
}

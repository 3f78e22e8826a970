//! Timers, in event time or processing time, kept in the store.
//!
//! A timer is (timestamp, key, namespace); registering it twice is registering it once. It is one row of an ordered table,
//! `timestamp ‖ key ‖ namespace`, in the key group of its key, so timers are part of every snapshot and move with their key groups.
//! Memory holds only a *lower bound* of the first timestamp of each key group (`bounds`): a watermark below all bounds costs one comparison,
//! and a scan starts at the bound, past the tombstones of timers that have fired. Whoever runs an operator has a checkpoint keep the bounds
//! ([`TimerService::encode_bounds`]), so that a restored operator reads nothing before a timer is due, and then only of the key groups that
//! may hold one. Where bounds are unknown, because nobody kept them, the first look reads the first rows of every key group: one block per
//! key group and sorted run at most, 1024 key groups at a time.
//!
//! ```text
//! while let Some(timers) = service.next_due(watermark).await? {
//!     for timer in timers { /* set the current key, run the callback, await it */ }
//! }
//! // only now hand the watermark on
//! ```
//! Timers that a callback registers at or below the watermark come in the same loop: `next_due` looks at the bounds anew each time, and
//! says `None` only when nothing is due. (Flink's asynchronous timers forward the watermark first, and lose the last window of a bounded input.)

mod bounds;

use std::cell::Cell;
use std::rc::Rc;

use aquifer_store::{ScanRows, TableId};
use bytes::Bytes;

use self::bounds::{Bounds, Candidates};
use crate::StateError;
use crate::access::{ScanRange, StateAccess};
use crate::ordered::{OrderedKey, decode_bytes, encode_bytes};

/// Timers that one call of `next_due` loads over all key groups.
const TIMERS_PER_PIECE: usize = 4096;
/// Key groups that are looked at together.
const GROUPS_PER_PIECE: usize = 1024;

/// How names of operator states begin that keep bounds.
const BOUNDS: &str = "_timer_bounds/";

/// What the timestamps of a timer service are compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeDomain {
    /// The operator's watermark.
    Event,
    /// The worker's clock.
    Processing,
}

impl TimeDomain {
    /// The name under which the timers of a service are registered.
    pub fn state_name(self, service: &str) -> String {
        match self {
            Self::Event => format!("_timer_state/event_{service}"),
            Self::Processing => format!("_timer_state/processing_{service}"),
        }
    }

    /// The name of the operator state that keeps the bounds of a service's timers.
    pub fn bounds_name(self, service: &str) -> String {
        match self {
            Self::Event => format!("{BOUNDS}event_{service}"),
            Self::Processing => format!("{BOUNDS}processing_{service}"),
        }
    }

    /// Whether [`Self::bounds_name`] makes names like this.
    pub(crate) fn keeps_bounds(name: &str) -> bool {
        name.starts_with(BOUNDS)
    }
}

/// A timer that is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timer {
    /// Event or processing time, in milliseconds.
    pub timestamp: i64,
    /// Key group of the key.
    pub group: u16,
    /// The encoded key.
    pub key: Bytes,
    /// The encoded namespace; empty for user timers.
    pub namespace: Bytes,
}

/// The timers of one service of one operator on one worker. Clones share them.
#[derive(Clone)]
pub struct TimerService {
    access: StateAccess,
    table: TableId,
    bounds: Rc<Bounds>,
    watermark: Rc<Cell<i64>>,
}

impl TimerService {
    /// What the checkpoint says about timers, for keys of this type.
    pub fn layout(key: &str) -> String {
        format!("timers-1 key={key}")
    }

    /// Timers in a registered table, which must be ordered.
    pub fn new(access: StateAccess, table: TableId) -> Self {
        let bounds = Bounds::unknown(access.key_groups());
        Self {
            access,
            table,
            bounds: Rc::new(bounds),
            watermark: Rc::new(Cell::new(i64::MIN)),
        }
    }

    /// What a checkpoint is to keep, besides the timers themselves: for [`Self::restore_bounds`].
    pub fn encode_bounds(&self) -> Vec<u8> {
        self.bounds.encode()
    }

    /// Takes over what the workers of a restored checkpoint have kept, before the first timer is registered. Key groups of which none speaks
    /// are looked at when time moves.
    pub fn restore_bounds<'a>(
        &self,
        kept: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<(), StateError> {
        kept.into_iter()
            .try_for_each(|part| self.bounds.restore(part))
    }

    /// Nothing was restored: there are no timers.
    pub fn begins_empty(&self) {
        let range = self.bounds.range();
        for group in range.start..=range.end {
            self.bounds.set(group, None);
        }
    }

    /// No timer has a smaller timestamp; `None`: there is none at all. A bound and not the first timestamp itself: after a restore, and when
    /// timers were deleted, it is too low until `next_due` has looked.
    pub fn first_bound(&self) -> Option<i64> {
        self.bounds.first()
    }

    /// Shows every timer of a namespace (encoded), key group by key group in the order of their timestamps. Timers that are registered or
    /// deleted while it waits may or may not be seen.
    pub async fn for_each(
        &self,
        namespace: &[u8],
        mut each: impl FnMut(Timer) -> Result<(), StateError>,
    ) -> Result<(), StateError> {
        let range = self.bounds.range();
        for group in range.start..=range.end {
            let mut from = Vec::new();
            loop {
                let piece = self
                    .access
                    .scan(self.table, group, &[], &from, None, TIMERS_PER_PIECE)
                    .await?;
                for (key, _) in &piece.rows {
                    let timer = decode_row(group, key)?;
                    if timer.namespace == namespace {
                        each(timer)?;
                    }
                }
                match piece.rows.last() {
                    Some((last, _)) if !piece.done => {
                        from.clear();
                        from.extend_from_slice(last);
                        from.push(0);
                    }
                    _ => break,
                }
            }
        }
        Ok(())
    }

    /// Removes every timer of a namespace (encoded).
    pub async fn delete_all(&self, namespace: &[u8]) -> Result<(), StateError> {
        self.for_each(namespace, |timer| {
            self.delete(timer.timestamp, timer.group, &timer.key, &timer.namespace)
        })
        .await
    }

    /// The last watermark that `next_due` was asked about.
    pub fn current_watermark(&self) -> i64 {
        self.watermark.get()
    }

    /// Registers a timer; a timer that is there already stays.
    pub fn register(
        &self,
        timestamp: i64,
        group: u16,
        key: &[u8],
        namespace: &[u8],
    ) -> Result<(), StateError> {
        self.access
            .put(self.table, group, &row_key(timestamp, key, namespace), &[])?;
        self.bounds.lower(group, timestamp);
        Ok(())
    }

    /// Removes a timer, whether it is there or not.
    pub fn delete(
        &self,
        timestamp: i64,
        group: u16,
        key: &[u8],
        namespace: &[u8],
    ) -> Result<(), StateError> {
        self.access
            .delete(self.table, group, &row_key(timestamp, key, namespace))
    }

    /// Takes the next timers with `timestamp <= watermark`, in ascending order of timestamps, at most a few thousand at once. `None` when
    /// nothing is due: see the module for the loop.
    pub async fn next_due(&self, watermark: i64) -> Result<Option<Vec<Timer>>, StateError> {
        self.watermark.set(watermark.max(self.watermark.get()));
        loop {
            let candidates = self.bounds.candidates(watermark, GROUPS_PER_PIECE);
            if candidates.groups.is_empty() {
                return Ok(None);
            }
            let timers = self.take(&candidates, watermark).await?;
            // Otherwise the bounds were too low and are right now, or have moved meanwhile.
            if !timers.is_empty() {
                return Ok(Some(timers));
            }
        }
    }

    async fn take(
        &self,
        candidates: &Candidates,
        watermark: i64,
    ) -> Result<Vec<Timer>, StateError> {
        let Candidates {
            groups: candidates,
            others_from,
        } = candidates;
        let rows_max = TIMERS_PER_PIECE / candidates.len().max(1);
        let starts: Vec<Vec<u8>> = candidates
            .iter()
            .map(|(_, bound)| timestamp_key(*bound))
            .collect();
        let ranges: Vec<ScanRange<'_>> = candidates
            .iter()
            .zip(&starts)
            .map(|((group, _), from)| ScanRange {
                group: *group,
                prefix: &[],
                from,
                until: None,
                rows_max,
            })
            .collect();
        let pieces = self
            .access
            .scan_many(self.table, &ranges, self.access.waiting_mode())
            .await?;
        // From here on nothing waits: the rows are the newest, and bounds and rows change together.
        if !self.bounds.are_still(candidates) {
            // Meanwhile a timer was registered below where a scan had started: scan again.
            return Ok(Vec::new());
        }
        let mut loaded = Vec::with_capacity(pieces.len());
        for ((group, _), piece) in candidates.iter().zip(pieces) {
            loaded.push(GroupPiece::decode(*group, piece)?);
        }
        // Past the last timer that was loaded of a group, the group may hold more: only up to there the order over groups is known.
        let horizon = loaded.iter().filter_map(GroupPiece::known_up_to).min();
        let limit = watermark.min(*others_from);
        let limit = horizon.map_or(limit, |horizon| horizon.min(limit));
        let mut due = Vec::new();
        for piece in loaded {
            let next = piece.timers.iter().find(|timer| timer.timestamp > limit);
            let bound = match (next, piece.done) {
                (Some(next), _) => Some(next.timestamp),
                (None, true) => None,
                // Everything that was loaded is due, and there may be more of the same timestamp.
                (None, false) => piece.timers.last().map(|last| last.timestamp),
            };
            self.bounds.set(piece.group, bound);
            due.extend(
                piece
                    .timers
                    .into_iter()
                    .take_while(|timer| timer.timestamp <= limit),
            );
        }
        due.sort_by_key(|timer| timer.timestamp);
        for timer in &due {
            let key = row_key(timer.timestamp, &timer.key, &timer.namespace);
            self.access.delete(self.table, timer.group, &key)?;
        }
        Ok(due)
    }
}

/// The first timers of one key group.
struct GroupPiece {
    group: u16,
    timers: Vec<Timer>,
    done: bool,
}

impl GroupPiece {
    fn decode(group: u16, rows: ScanRows) -> Result<Self, StateError> {
        let timers = rows.rows.iter().map(|(key, _)| decode_row(group, key));
        Ok(Self {
            group,
            timers: timers.collect::<Result<_, _>>()?,
            done: rows.done,
        })
    }

    /// The timestamp up to which this group is loaded; `None` if it is loaded whole.
    fn known_up_to(&self) -> Option<i64> {
        match self.timers.last() {
            Some(last) if !self.done => Some(last.timestamp),
            _ => None,
        }
    }
}

fn timestamp_key(timestamp: i64) -> Vec<u8> {
    let mut out = Vec::new();
    timestamp.encode_ordered(&mut out);
    out
}

fn row_key(timestamp: i64, key: &[u8], namespace: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(16 + key.len() + namespace.len());
    timestamp.encode_ordered(&mut out);
    encode_bytes(key, &mut out);
    out.extend_from_slice(namespace);
    out
}

fn decode_row(group: u16, row: &Bytes) -> Result<Timer, StateError> {
    let mut input: &[u8] = row;
    let timestamp = i64::decode_ordered(&mut input)?;
    let key = Bytes::from(decode_bytes(&mut input)?);
    let namespace = row.slice(row.len() - input.len()..);
    Ok(Timer {
        timestamp,
        group,
        key,
        namespace,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_sort_by_time_and_tell_keys_from_namespaces() {
        let timers = [
            (-5, "ab", "c"),
            (-5, "a", "bc"),
            (3, "", "\0"),
            (3, "\0", ""),
            (i64::MAX, "k", ""),
        ];
        for (timestamp, key, namespace) in timers {
            let row = Bytes::from(row_key(timestamp, key.as_bytes(), namespace.as_bytes()));
            let timer = decode_row(9, &row).unwrap();
            assert_eq!((timer.timestamp, timer.group), (timestamp, 9));
            assert_eq!(
                (&timer.key[..], &timer.namespace[..]),
                (key.as_bytes(), namespace.as_bytes())
            );
        }
        assert_ne!(row_key(-5, b"ab", b"c"), row_key(-5, b"a", b"bc"));
        assert!(row_key(-1, b"z", b"") < row_key(0, b"a", b""));
    }

    #[test]
    fn hostile_rows_are_refused() {
        for row in [
            &b""[..],
            b"1234567",
            b"12345678",
            b"12345678k",
            b"12345678k\0\x07",
        ] {
            assert!(matches!(
                decode_row(0, &Bytes::copy_from_slice(row)),
                Err(StateError::Corrupt(_))
            ));
        }
    }
}

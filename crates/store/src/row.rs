//! A row: what one source (memtable or file) says of one key.
//!
//! A source holds one row per key. Newer sources come before older ones: a [`RowKind::Value`] or [`RowKind::Tombstone`] hides
//! everything older, [`RowKind::Operands`] adds to it. Beside its rows a source may hold range tombstones, which hide what
//! *older* sources hold of a range of keys, never rows of the same source.
#![allow(dead_code, reason = "filled by the layers that follow")]

/// What a row does to its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RowKind {
    /// Removes it.
    Tombstone,
    /// Sets it.
    Value,
    /// Merges into what older sources hold: the value is a list of operands, oldest first, each a varint length and bytes.
    Operands,
}

/// A row as writers are given it and readers see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RowRef<'a> {
    pub(crate) kind: RowKind,
    /// When it was written, in milliseconds since the Unix epoch, if the writer said so.
    pub(crate) time_ms: Option<i64>,
    /// Empty for a tombstone.
    pub(crate) value: &'a [u8],
    /// The value is a value block as it lies in a file: compactions hand it on as it is. Never set on rows of memtables.
    pub(crate) sealed: bool,
}

impl<'a> RowRef<'a> {
    /// A row whose value lies open.
    #[inline]
    pub(crate) fn new(kind: RowKind, time_ms: Option<i64>, value: &'a [u8]) -> Self {
        Self {
            kind,
            time_ms,
            value,
            sealed: false,
        }
    }

    /// A value without a time, or a tombstone for `None`.
    #[inline]
    pub(crate) fn plain(value: Option<&'a [u8]>) -> Self {
        let kind = match value {
            Some(_) => RowKind::Value,
            None => RowKind::Tombstone,
        };
        Self::new(kind, None, value.unwrap_or_default())
    }
}

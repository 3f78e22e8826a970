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
}

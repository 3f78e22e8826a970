//! A row: what one source (memtable or file) says of one key.
//!
//! A source holds one row per key. Newer sources come before older ones: a [`RowKind::Value`] or [`RowKind::Tombstone`] hides
//! everything older, [`RowKind::Operands`] adds to it. Beside its rows a source may hold range tombstones, which hide what
//! *older* sources hold of a range of keys, never rows of the same source.
//!
//! The value of a row of operands in a file: flags (u8: [`SPAN`], [`ROOTED`], [`BASE`]), the span (varint, if flagged: by how
//! many milliseconds the first operand is older than the row's time), the value the operands begin with (varint length and
//! bytes, if flagged), then the operands, oldest first, each a varint length and bytes.
use crate::encoding::{put_bytes, put_varint, varint};
use std::borrow::Cow;

use crate::error::{Error, Result};
use crate::sst::seal::unseal;

/// The first operand is older than the row's time.
const SPAN: u8 = 1;
/// Nothing older than the operands counts: they are complete, but nobody who knew their fold has seen them.
const ROOTED: u8 = 2;
/// Before the operands there is the value they begin with. Only together with [`ROOTED`].
const BASE: u8 = 4;

/// What a row does to its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RowKind {
    /// Removes it.
    Tombstone,
    /// Sets it.
    Value,
    /// Merges into what older sources hold.
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
    /// The value is under seal, as it lies in a file: compactions hand it on as it is. Never set on rows of memtables.
    pub(crate) sealed: Option<Seal>,
}

/// What it takes to open a value that is under seal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seal {
    /// Seed of the file it comes from.
    pub(crate) seed: u64,
    /// Where it lies in that file.
    pub(crate) offset: u64,
    pub(crate) plain_bytes: u32,
}

/// What a row says, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SourceRow<'a> {
    pub(crate) time_ms: Option<i64>,
    pub(crate) content: Content<'a>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Content<'a> {
    Tombstone,
    Value(&'a [u8]),
    Operands(Operands<'a>),
}

/// Operands, oldest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Operands<'a> {
    /// Nothing older counts.
    pub(crate) rooted: bool,
    /// The value they begin with; only if rooted.
    pub(crate) base: Option<&'a [u8]>,
    /// The time of the first; the row has that of the last.
    pub(crate) first_ms: Option<i64>,
    pub(crate) list: List<'a>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum List<'a> {
    One(&'a [u8]),
    /// Each a varint length and bytes.
    Many(&'a [u8]),
}

impl<'a> Iterator for List<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        match *self {
            Self::One(operand) => {
                *self = Self::Many(&[]);
                Some(operand)
            }
            Self::Many(list) => {
                let (operand, rest) = split(list)?;
                *self = Self::Many(rest);
                Some(operand)
            }
        }
    }
}

/// A length and as many bytes off the front.
fn split(list: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, at) = varint(list)?;
    list.get(at..)?.split_at_checked(usize::try_from(len).ok()?)
}

impl<'a> RowRef<'a> {
    /// A row whose value lies open.
    #[inline]
    pub(crate) fn new(kind: RowKind, time_ms: Option<i64>, value: &'a [u8]) -> Self {
        Self {
            kind,
            time_ms,
            value,
            sealed: None,
        }
    }

    /// The oldest time in the row: of a row of operands, that of the first.
    pub(crate) fn oldest_ms(&self) -> Option<i64> {
        match self.kind {
            RowKind::Operands => match self.open().ok()?.content {
                Content::Operands(operands) => operands.first_ms,
                _ => self.time_ms,
            },
            _ => self.time_ms,
        }
    }

    /// The value, with its seal broken if it has one. `what` names the row in errors.
    pub(crate) fn plain_value(&self, what: &dyn Fn() -> String) -> Result<Cow<'a, [u8]>> {
        match self.sealed {
            None => Ok(Cow::Borrowed(self.value)),
            Some(seal) => unseal(what, self.value, seal.seed, seal.offset).map(Cow::Owned),
        }
    }

    /// Bytes of the value when it is not under seal.
    #[inline]
    pub(crate) fn value_bytes(&self) -> usize {
        match self.sealed {
            None => self.value.len(),
            Some(seal) => seal.plain_bytes as usize,
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

    /// Takes a row of a file apart; an error if its operands are none.
    #[inline]
    pub(crate) fn open(self) -> Result<SourceRow<'a>> {
        let content = match self.kind {
            RowKind::Tombstone => Content::Tombstone,
            RowKind::Value => Content::Value(self.value),
            RowKind::Operands => {
                let operands = open_operands(self.value, self.time_ms);
                Content::Operands(operands.ok_or_else(|| {
                    Error::corrupt(format!(
                        "a row of operands is damaged: its {} bytes are not a list of operands",
                        self.value.len()
                    ))
                })?)
            }
        };
        Ok(SourceRow {
            time_ms: self.time_ms,
            content,
        })
    }
}

fn open_operands(bytes: &[u8], time_ms: Option<i64>) -> Option<Operands<'_>> {
    let (&flags, mut rest) = bytes.split_first()?;
    if flags & !(SPAN | ROOTED | BASE) != 0 || flags & (BASE | ROOTED) == BASE {
        return None;
    }
    let mut first_ms = time_ms;
    if flags & SPAN != 0 {
        let (span, len) = varint(rest)?;
        rest = rest.get(len..)?;
        first_ms = Some(time_ms?.saturating_sub_unsigned(span));
    }
    let mut base = None;
    if flags & BASE != 0 {
        let (value, after) = split(rest)?;
        (base, rest) = (Some(value), after);
    }
    let list = rest;
    while !rest.is_empty() {
        rest = split(rest)?.1;
    }
    Some(Operands {
        rooted: flags & ROOTED != 0,
        base,
        first_ms,
        list: List::Many(list),
    })
}

/// Whether a row of operands hides everything older.
#[inline]
pub(crate) fn is_rooted(operands: &[u8]) -> bool {
    operands.first().is_some_and(|flags| flags & ROOTED != 0)
}

/// Appends operands as the value of a row whose time is `time_ms`.
pub(crate) fn put_operands(out: &mut Vec<u8>, operands: &Operands<'_>, time_ms: Option<i64>) {
    let span = match (operands.first_ms, time_ms) {
        (Some(first), Some(last)) => u64::try_from(last.saturating_sub(first)).unwrap_or(0),
        _ => 0,
    };
    let mut flags = 0;
    for (is_set, flag) in [
        (span > 0, SPAN),
        (operands.rooted, ROOTED),
        (operands.base.is_some(), BASE),
    ] {
        flags |= if is_set { flag } else { 0 };
    }
    out.push(flags);
    if span > 0 {
        put_varint(out, span);
    }
    if let Some(base) = operands.base {
        put_bytes(out, base);
    }
    match operands.list {
        List::One(operand) => put_bytes(out, operand),
        List::Many(list) => out.extend_from_slice(list),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened(bytes: &[u8], time_ms: Option<i64>) -> Result<SourceRow<'_>> {
        RowRef::new(RowKind::Operands, time_ms, bytes).open()
    }

    #[test]
    fn operands_come_back() {
        let mut many = Vec::new();
        for operand in [&b"a"[..], b"", &[7; 300]] {
            put_bytes(&mut many, operand);
        }
        for (first_ms, time_ms) in [
            (None, None),
            (Some(5), Some(5)),
            (Some(-7), Some(1 << 40)),
            (Some(i64::MIN / 2), Some(i64::MAX / 2)),
        ] {
            for (rooted, base) in [(false, None), (true, None), (true, Some(&b"base"[..]))] {
                for list in [List::One(b"only"), List::Many(&many)] {
                    let operands = Operands {
                        rooted,
                        base,
                        first_ms,
                        list,
                    };
                    let mut bytes = Vec::new();
                    put_operands(&mut bytes, &operands, time_ms);
                    let Content::Operands(found) = opened(&bytes, time_ms).unwrap().content else {
                        panic!("a row of operands is one")
                    };
                    assert_eq!(
                        (found.rooted, found.base, found.first_ms),
                        (rooted, base, first_ms)
                    );
                    assert!(found.list.eq(list));
                    // Every cut is noticed, except between operands.
                    for len in 0..bytes.len() {
                        if let Ok(row) = opened(&bytes[..len], time_ms) {
                            let Content::Operands(cut) = row.content else {
                                panic!("a row of operands is one")
                            };
                            assert!(cut.list.count() < list.count());
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn hostile_operands_are_errors() {
        assert!(opened(&[], None).is_err(), "no flags");
        assert!(opened(&[8], None).is_err(), "an unknown flag");
        assert!(
            opened(&[BASE, 0], None).is_err(),
            "a base that is not rooted"
        );
        assert!(opened(&[SPAN, 1], None).is_err(), "a span without time");
        assert!(opened(&[0, 200], None).is_err(), "half a length");
        assert!(opened(&[0, 5, 1], None).is_err(), "too few bytes");
        assert!(opened(&[0], None).is_ok(), "no operands at all");
    }
}

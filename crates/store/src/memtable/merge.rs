//! Operands that meet a memtable's row.
//!
//! Where the row says all there is to know of its key, the operand folds into it at once. Where older sources may hold more,
//! it joins the row's operands: appended in place, or combined with them if the fold can.
use super::layout::{Head, Kind};
use super::{Memtable, VALUE_BYTES_MAX, too_long};
use crate::encoding::put_varint;
use crate::error::{Error, Result};
use crate::rules::{MergeRule, Rules};

impl Memtable {
    /// Merges an operand into a key's row. With `older`, older sources may know the key. Returns how many bytes the row's value or
    /// operands have now.
    #[allow(clippy::too_many_arguments, reason = "the parts of one row")]
    pub(crate) fn merge(
        &mut self,
        hash: u64,
        group: u16,
        key: &[u8],
        operand: &[u8],
        time_ms: Option<i64>,
        rules: &Rules,
        older: bool,
    ) -> Result<usize> {
        if matches!(rules.merge, MergeRule::Unknown) {
            return Err(Error::usage(
                "an operand was merged into a table that takes none, or whose fold is not known",
            ));
        }
        let Some(found) = self.find(hash, group, key) else {
            let times = time_ms.map(|time| (time, time));
            if older {
                self.has_operands = true;
                self.insert(hash, group, key, Kind::One, times, operand)?;
                return Ok(operand.len());
            }
            let mut value = std::mem::take(&mut self.scratch);
            value.clear();
            fold(&rules.merge, None, operand, &mut value);
            let inserted = self.insert(hash, group, key, Kind::Value, times, &value);
            let len = value.len();
            self.scratch = value;
            return inserted.map(|()| len);
        };
        let row = self.arena.at(found.place);
        let head = Head::read(row);
        let before = head.times(row);
        let last = before.map(|(_, last)| last);
        let ended = rules.ended(last, time_ms);
        let kind = if ended { Kind::Tombstone } else { head.kind() };
        let times = match (before, time_ms) {
            (Some((first, last)), Some(now)) if !ended => Some((first.min(now), last.max(now))),
            (Some(before), None) if !ended => Some(before),
            (_, now) => now.map(|now| (now, now)),
        };
        let mut made = std::mem::take(&mut self.scratch);
        made.clear();
        let row = self.arena.at(found.place);
        let value = head.value(&self.arena, row);
        let result = match (&rules.merge, kind) {
            (MergeRule::Append, Kind::Tombstone) => {
                self.set_checked(found, Kind::Value, times, operand)
            }
            (MergeRule::Append, kind @ (Kind::Value | Kind::One)) => {
                self.extend(found, kind, times, &[operand])
            }
            (rule @ MergeRule::Fold(_), Kind::Tombstone) => {
                fold(rule, None, operand, &mut made);
                self.set_checked(found, Kind::Value, times, &made)
            }
            (rule @ MergeRule::Fold(_), Kind::Value) => {
                fold(rule, Some(value), operand, &mut made);
                self.set_checked(found, Kind::Value, times, &made)
            }
            (MergeRule::Fold(fold), Kind::One) if fold.combine(value, operand, &mut made) => {
                self.set_checked(found, Kind::One, times, &made)
            }
            (_, Kind::Many) => {
                put_varint(&mut made, operand.len() as u64);
                self.extend(found, Kind::Many, times, &[&made, operand])
            }
            (_, _) => {
                made.clear();
                put_varint(&mut made, value.len() as u64);
                made.extend_from_slice(value);
                put_varint(&mut made, operand.len() as u64);
                made.extend_from_slice(operand);
                self.set_checked(found, Kind::Many, times, &made)
            }
        };
        self.scratch = made;
        result
    }

    fn set_checked(
        &mut self,
        found: super::Found,
        kind: Kind,
        times: Option<(i64, i64)>,
        value: &[u8],
    ) -> Result<usize> {
        if value.len() > VALUE_BYTES_MAX {
            return Err(too_long(value.len()));
        }
        self.set(found, kind, times, value)?;
        Ok(value.len())
    }
}

fn fold(rule: &MergeRule, value: Option<&[u8]>, operand: &[u8], out: &mut Vec<u8>) {
    match rule {
        MergeRule::Fold(fold) => fold.fold(value, operand, out),
        MergeRule::Append | MergeRule::Unknown => out.extend_from_slice(operand),
    }
}

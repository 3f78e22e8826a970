//! What a reader is told of a key, given everything that sources say of it: operands are folded, what has expired is hidden.
use super::Value;
use crate::error::Result;
use crate::merge::{HeldOperands, fold_over};
use crate::row::SourceRow;
use crate::rules::Rules;

/// The value that `operands` of memtables, over operands of `files` (each newest first), make of what lies below them.
pub(crate) fn answer<'a>(
    below: Option<Value<'a>>,
    files: &[HeldOperands],
    memory: &[SourceRow<'_>],
    rules: &Rules,
    now_ms: i64,
) -> Result<Option<Value<'a>>> {
    let value = if files.is_empty() && memory.is_empty() {
        below
    } else {
        let below = below.as_ref().map(|value| (&**value, value.time_ms()));
        let folded = fold_over(below, files, memory, rules)?;
        folded.map(|(bytes, time_ms)| Value::owned(bytes.into(), time_ms))
    };
    Ok(value.filter(|value| !rules.hides(value.time_ms(), now_ms)))
}

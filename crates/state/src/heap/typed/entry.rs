//! What a typed table holds under one key and namespace: a value, a list, or a map; and how it becomes rows.

use crate::{StateError, TakeRow};

use super::layers::Parts;

/// A value with the time it was written or read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Timed<V> {
    pub(crate) value: V,
    /// `i64::MIN`: none.
    pub(crate) time_ms: i64,
}

impl<V> Timed<V> {
    pub(crate) fn new(value: V, time_ms: Option<i64>) -> Self {
        Self {
            value,
            time_ms: time_ms.unwrap_or(i64::MIN),
        }
    }

    /// The time, if it has one.
    pub(crate) fn time(&self) -> Option<i64> {
        time_of(self.time_ms)
    }
}

/// `i64::MIN` stands for no time.
pub(crate) fn time_of(time_ms: i64) -> Option<i64> {
    (time_ms != i64::MIN).then_some(time_ms)
}

/// Says whether a time has expired.
pub(crate) type Expired<'a> = &'a dyn Fn(Option<i64>) -> bool;
/// What one layer knows of an entry: all of it, or what was changed since the layer below was frozen.
pub(crate) trait Part: Send + Sync + Sized + 'static {
    /// Whether nothing below counts.
    fn stands_alone(&self) -> bool;
    /// Takes in the changes of the part above, which does not stand alone. What stood alone still does.
    fn add_newer(&mut self, newer: Self);
    /// Whether a part that stands alone holds nothing.
    fn is_empty(&self) -> bool;
    /// Drops what has expired in a part that stands alone; false if nothing is left. May look at a piece only: `resume` then says where to
    /// go on, and is where this call goes on.
    fn keep_live(&mut self, expired: Expired<'_>, resume: &mut Option<Box<[u8]>>) -> bool;
    /// Whether something in it has not expired.
    fn has_live(parts: &Parts<'_, Self>, expired: Expired<'_>) -> bool;
    /// The same in bounded time: true also if it is not known.
    fn may_be_live(parts: &Parts<'_, Self>, expired: Expired<'_>) -> bool {
        Self::has_live(parts, expired)
    }
    /// Bytes of this part, estimated.
    fn bytes(&self) -> u64;
}

/// A [`Part`] that can be written piece by piece: a list or a map, not a value.
pub(crate) trait Growing: Part {
    /// An empty entry.
    fn alone() -> Self;
    /// No changes of what lies below.
    fn over() -> Self;
}

/// A [`Part`] that a serializer turns into rows and back.
pub(crate) trait HeapEntry<S>: Part {
    /// Adds a row that follows the others of the entry.
    fn load(
        &mut self,
        suffix: &[u8],
        value: &[u8],
        time_ms: Option<i64>,
        serializer: &S,
    ) -> Result<(), StateError>;
    /// An entry with this row in it.
    fn loaded(
        suffix: &[u8],
        value: &[u8],
        time_ms: Option<i64>,
        serializer: &S,
    ) -> Result<Self, StateError>;
    /// Hands out its rows in order, without what has expired; of keys what follows key and namespace. Returns the first list chunk number it does not use.
    fn write(
        parts: &Parts<'_, Self>,
        serializer: &S,
        scratch: &mut Vec<u8>,
        expired: Expired<'_>,
        row: TakeRow<'_>,
    ) -> Result<u64, StateError>;
}

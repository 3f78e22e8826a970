//! Accumulators of one aggregate call, column-wise: one slot per group of the batch in hand, filled from state and written back.

use aquifer_dataflow::JobError;
use arrow::array::ArrayRef;

/// What a row does to its group's existence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A retraction from a group that does not exist (or a row of no group): nothing happens.
    Ignore,
    /// The first row of a group: accumulators start empty.
    First,
    /// The group exists and goes on.
    Update,
    /// The last row is taken back: the group ends.
    Last,
}

/// The rows that an accumulator has to fold.
#[derive(Clone, Copy)]
pub struct FoldRows<'a> {
    /// Group of each row; meaningless where the step is `Ignore`.
    pub groups: &'a [u32],
    /// Step of each row.
    pub steps: &'a [Step],
    /// For each row: 1 adds the value, -1 takes it back, 0 leaves this aggregate as it is (filter, null, seen before).
    pub signs: &'a [i8],
}

/// The value of an aggregate around each row.
pub struct Trace {
    /// Just before the row.
    pub before: ArrayRef,
    /// Just after it.
    pub after: ArrayRef,
}

/// The accumulators of one call for the groups of a batch.
pub trait Accumulators {
    /// Forgets all groups.
    fn clear(&mut self);
    /// Appends a group without state.
    fn push_empty(&mut self);
    /// Appends a group from its state, which is taken off the front; `None` if it is malformed.
    fn push(&mut self, state: &mut &[u8]) -> Option<()>;
    /// Appends the state of a group to `to`.
    fn store(&self, group: usize, to: &mut Vec<u8>);
    /// The present value of every group.
    fn values(&mut self) -> Result<ArrayRef, JobError>;
    /// Folds rows in their order; tells the value around each row if asked.
    fn fold(
        &mut self,
        input: Option<&ArrayRef>,
        rows: FoldRows<'_>,
        trace: bool,
    ) -> Result<Option<Trace>, JobError>;
}

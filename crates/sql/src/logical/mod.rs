//! Plan nodes that streams need and DataFusion lacks: watermark assignment and windowing table-valued functions.
//!
//! Columns that carry event time are marked in the field's metadata ([`TIME_ATTRIBUTE`]); projections and aliases keep the mark, computations lose it.

mod watermark;
mod window_tvf;

pub use watermark::WatermarkAssigner;
pub use window_tvf::{WINDOW_END, WINDOW_START, WINDOW_TIME, WindowKind, WindowTvf};

use arrow::datatypes::Field;

/// Key of the field metadata that marks a time attribute; its value is [`ROWTIME`] or [`PROCTIME`].
pub const TIME_ATTRIBUTE: &str = "aquifer.time-attribute";
/// Event time: the column a watermark is declared for.
pub const ROWTIME: &str = "rowtime";
/// Processing time: the result of `PROCTIME()`.
pub const PROCTIME: &str = "proctime";

/// The field, marked as a time attribute.
pub(crate) fn mark_time_attribute(field: &Field, kind: &str) -> Field {
    let mut metadata = field.metadata().clone();
    metadata.insert(TIME_ATTRIBUTE.to_string(), kind.to_string());
    field.clone().with_metadata(metadata)
}

/// The field without the mark.
pub(crate) fn unmark_time_attribute(field: &Field) -> Field {
    let mut metadata = field.metadata().clone();
    metadata.remove(TIME_ATTRIBUTE);
    field.clone().with_metadata(metadata)
}

/// `rowtime`, `proctime`, or `None` for an ordinary column.
pub fn time_attribute(field: &Field) -> Option<&str> {
    field.metadata().get(TIME_ATTRIBUTE).map(String::as_str)
}

//! Which rows a plan makes: only inserts, or updates too.

use std::fmt;

/// The kinds of rows a plan node emits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangelogMode {
    /// Only `+I`.
    InsertOnly,
    /// `+I`, `-U`, `+U` and `-D`.
    Updating,
}

impl fmt::Display for ChangelogMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ChangelogMode::InsertOnly => "[I]",
            ChangelogMode::Updating => "[I,UB,UA,D]",
        })
    }
}

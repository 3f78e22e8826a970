//! Compaction: levels are kept small and sorted, so that a read looks into few files.
//!
//! [`picker`] decides from a version alone what to do next; [`job`] does it on a blocking thread; [`input`] reads files
//! ahead while it works. The store installs the result. At most one compaction runs at a time.
pub(crate) mod input;
pub(crate) mod job;
pub(crate) mod picker;

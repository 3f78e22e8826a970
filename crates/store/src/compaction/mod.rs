//! Compaction: levels are kept small and sorted, so that a read looks into few files.
//!
//! [`picker`] decides from a version alone what to do next; [`job`] does it on background threads, which [`split`] it among themselves, at the [`pace`] that is allowed;
//! [`input`] reads files ahead while it works. The store installs the result. Several compactions may run at once, also in other
//! processes: [`task`] is a job written down, [`remote`] how it gets there and back.
pub(crate) mod input;
pub(crate) mod job;
pub(crate) mod pace;
pub(crate) mod picker;
pub(crate) mod remote;
pub(crate) mod split;
pub(crate) mod task;

//! Sorted string tables: the immutable files of the tree. `docs/format/sst.md` has the byte diagram.
//!
//! [`writer`] makes a file as a stream, [`reader`] loads [`part`]s of one, [`file`] is the handle that versions share, and
//! [`lookup`] asks it. A part that has been loaded is checked once against its checksum; files themselves never change.
pub(crate) mod block;
pub(crate) mod file;
pub(crate) mod filter;
pub(crate) mod footer;
pub(crate) mod index;
pub(crate) mod lookup;
pub(crate) mod new_file;
pub(crate) mod part;
pub(crate) mod properties;
pub(crate) mod ranges;
pub(crate) mod reader;
pub(crate) mod seal;
pub(crate) mod slot;
#[cfg(test)]
mod tests;
pub(crate) mod writer;

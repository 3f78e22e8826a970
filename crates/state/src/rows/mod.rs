//! How rows move from one backend to another.
//!
//! All backends say the same things in rows; they differ in where rows lie. So a backend restores what another one has written by reading
//! the rows of a snapshot ([`row_source`]) and putting them, and whoever writes a snapshot for others puts rows into a sink
//! ([`SstRowSink`]). What always holds: rows come in the order (key group, table, key), each key once, with its operands folded. Sources
//! and sinks block, so they are used at a restore or on a thread of their own.

mod counted;
mod inline;
mod sink;
mod sst;

use aquifer_store::{Environment, KeyGroupRange, TableId};

pub(crate) use self::counted::counted;
pub(crate) use self::inline::environment as environment_with_inline;
pub use self::sink::{SstRowSink, WrittenRows};
use self::sst::SstRowSource;
use crate::{KeyedSnapshot, StateDescription, StateError};

/// One row, borrowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowRefs<'a> {
    /// The key group of its key.
    pub group: u16,
    /// Its table.
    pub table: TableId,
    /// Everything that follows group and table in its key.
    pub key: &'a [u8],
    /// Its value.
    pub value: &'a [u8],
    /// When it was written, if its writer said so.
    pub time_ms: Option<i64>,
}

/// Takes rows.
pub trait RowSink {
    /// Takes one row, which comes after all rows before in the order (key group, table, key).
    fn put(&mut self, row: RowRefs<'_>) -> Result<(), StateError>;
}

/// Hands out the rows of a snapshot in the order (key group, table, key).
pub trait RowSource {
    /// Hands the next rows to `each`, `rows_max` at most; blocks while they are read. False when there are no more.
    fn next(
        &mut self,
        rows_max: usize,
        each: &mut dyn FnMut(RowRefs<'_>) -> Result<(), StateError>,
    ) -> Result<bool, StateError>;

    /// Goes on with the first row that is not before this one.
    fn seek(&mut self, group: u16, table: TableId, key: &[u8]) -> Result<(), StateError>;
}

/// What sources keep on the local disk for those that come after them: databases of `rocksdb`, each of which is downloaded once. Clones share
/// them; a copy goes when neither they nor a source has it any more.
#[derive(Clone, Default)]
pub(crate) struct LocalCopies {
    #[cfg(feature = "rocksdb")]
    databases: crate::rocksdb::OpenDatabases,
}

/// The rows of a snapshot that lie within `clip`, of these tables. Rows that have expired by the tables' options are left out: pass
/// options without a TTL to see them all, but for chunks of lists that do not count any more.
///
/// `environment.runtime` must have worker threads of its own; nothing is written.
pub fn row_source(
    snapshot: &KeyedSnapshot,
    clip: KeyGroupRange,
    tables: &[(StateDescription, TableId)],
    environment: &Environment,
) -> Result<Box<dyn RowSource>, StateError> {
    let copies = LocalCopies::default();
    let rows = row_source_with(snapshot, clip, tables, environment, &copies)?;
    Ok(counted(rows, snapshot))
}

/// The same with all chunks of lists, for whoever asks for rows of a snapshot several times.
pub(crate) fn row_source_with(
    snapshot: &KeyedSnapshot,
    clip: KeyGroupRange,
    tables: &[(StateDescription, TableId)],
    environment: &Environment,
    copies: &LocalCopies,
) -> Result<Box<dyn RowSource>, StateError> {
    #[cfg(feature = "rocksdb")]
    if !snapshot.databases.is_empty() {
        use crate::rocksdb::DatabaseRows;
        let databases = &copies.databases;
        let rows = DatabaseRows::open(snapshot, clip, tables, environment, databases)?;
        return Ok(Box::new(rows));
    }
    #[cfg(not(feature = "rocksdb"))]
    let LocalCopies {} = copies;
    #[cfg(not(feature = "rocksdb"))]
    if let Some(database) = snapshot.databases.first() {
        return Err(StateError::Usage(format!(
            "the state of operator `{}` lies in an embedded database, which this build cannot read: build with --features rocksdb",
            database.operator
        )));
    }
    let source = SstRowSource::open(snapshot, clip, tables, environment)?;
    Ok(Box::new(source))
}

#[cfg(test)]
mod tests;

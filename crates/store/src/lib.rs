//! An LSM tree whose files live on an object store, made for the state of streaming jobs.
mod background;
mod cache;
mod checkpoint;
mod compaction;
mod context;
mod encoding;
mod error;
mod flush;
mod key;
mod memtable;
mod options;
mod read;
mod sst;
mod store;
mod version;

pub mod objects;

pub use cache::BlockCache;
pub use checkpoint::{Checkpoint, FileRef};
pub use error::{Error, ErrorKind};
pub use options::{Environment, KeyGroupRange, StoreOptions, StoreStats, TableId, TableOptions};
pub use read::scan::{ColdScan, ScanLookup, ScanRows};
pub use read::{ColdRead, Lookup, Value};
pub use store::Store;

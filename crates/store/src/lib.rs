//! An LSM tree whose files live on an object store, made for the state of streaming jobs.
//!
//! A streaming job has properties that a general key-value store cannot count on, and this one does:
//!
//! * **Sources replay.** After a crash the job goes back to its last checkpoint, so there is no write-ahead log, no
//!   sequence number and no transaction. A memtable holds one value per key and is updated in place.
//! * **One writer.** A [`Store`] belongs to one worker thread. It is synchronous; only uploads, downloads and compactions
//!   run elsewhere, on a tokio runtime that is passed in.
//! * **The checkpoint is the commit.** [`Store::freeze`] takes no time, [`Store::checkpoint`] writes what was frozen as one
//!   file in the background, and [`Store::poll`] hands out the list of files once they are durable. Restoring opens such
//!   lists, rescaling opens several, each clipped to a range of key groups. Nothing is copied and nothing is read.
//!
//! # Hot and cold
//!
//! A read that memory can answer is a function call: [`Lookup::Found`] borrows from the memtable or holds the cached
//! block, [`Lookup::Absent`] says that there is nothing. Everything else is [`Lookup::Cold`]: a description of the rest of
//! the read, which [`Store::fetch`] finishes asynchronously. Pass many of them at once: they are grouped by file and block,
//! neighbours are read with one request, and all requests are on their way together. A cold file costs one request for
//! index and filter, then one per run of blocks.
//!
//! ```
//! use std::sync::Arc;
//!
//! use aquifer_store::{
//!     BlockCache, Environment, KeyGroupRange, Lookup, Store, StoreOptions, TableId, TableOptions,
//! };
//! use object_store::{memory::InMemory, path::Path};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let runtime = tokio::runtime::Builder::new_multi_thread().enable_time().build()?;
//! let (wake, woken) = std::sync::mpsc::channel();
//! let mut environment = Environment::new(
//!     Arc::new(InMemory::new()),
//!     Path::from("my-job/shared"),
//!     runtime.handle().clone(),
//!     BlockCache::new(64 << 20),
//!     "000001-w0",
//! );
//! environment.waker = Arc::new(move || drop(wake.send(())));
//!
//! // The first attempt counts something and makes a checkpoint.
//! let counts = TableId(0);
//! let mut store = Store::open(environment.clone(), StoreOptions::default(), vec![])?;
//! store.create_table(counts, TableOptions::default())?;
//! store.put(counts, 7, b"alice", b"41")?;
//! store.put(counts, 7, b"alice", b"42")?;
//! store.freeze(counts)?;
//! store.checkpoint()?;
//! store.put(counts, 7, b"alice", b"lost with the attempt")?;
//! let checkpoint = loop {
//!     match store.poll()? {
//!         Some(checkpoint) => break checkpoint,
//!         None => woken.recv()?,
//!     }
//! };
//! drop(store);
//!
//! // The next attempt, with nothing in its cache, goes on from there with a part of the key groups.
//! environment.file_prefix = "000002-w0".into();
//! environment.block_cache = BlockCache::new(64 << 20);
//! let range = KeyGroupRange { start: 0, end: 63 };
//! let mut store = Store::open(environment, StoreOptions::default(), vec![(checkpoint, range)])?;
//! store.create_table(counts, TableOptions::default())?;
//! let Lookup::Cold(read) = store.get(counts, 7, b"alice")? else { panic!("nothing is in memory") };
//! let values = runtime.block_on(store.fetch(vec![read]))?;
//! assert_eq!(values[0].as_deref(), Some(&b"42"[..]));
//! // Now the block is in the cache.
//! assert!(matches!(store.get(counts, 7, b"alice")?, Lookup::Found(value) if *value == *b"42"));
//! # Ok(())
//! # }
//! ```
//!
//! # A value that was fetched may be old
//!
//! A cold read answers for the moment it was planned. Before using its value, look the key up again: if that is cold once
//! more and [`Store::installs`] has not moved, the memtables know nothing newer and the fetched value stands. In a table that
//! takes operands, compare what [`ColdRead::moment`] says of both reads instead.
//!
//! # What can be written without reading
//!
//! * [`Store::merge`] adds an operand to what a key holds: appended to a list, or folded by a [`Fold`] that is registered in
//!   the [`Environment`]. Operands are kept in order, and fold whenever memtables, flushes or compactions bring them together.
//! * [`Store::delete_prefix`] removes all keys under a prefix with one entry, however many there are.
//! * [`Store::put_at`] and [`Store::merge_at`] say when a row was written. In a table with a TTL, rows that are older are
//!   hidden from reads and fall out in compactions. Of operands and the value they meet the newest time counts; what had
//!   expired when an operand came does not come back to life. [`TableOptions::untimed_as_ms`] says what becomes of rows without a
//!   time. In a table with [`TableOptions::event_time`], [`Store::advance_event_time`] takes the place of the clock, and only compactions
//!   keep what has expired from coming back to life with an operand.
//!
//! A key has at most 65,531 bytes and a value at most 1 GiB.
//!
//! # The anatomy
//!
//! | module | holds |
//! |---|---|
//! | `memtable` | rows since the last freeze: an arena with a hash index, an ordered companion for scanned tables |
//! | `row`, `rules`, `merge`, `fold` | what a row says, what a table's options mean, how rows of one key become one |
//! | `expiry` | by which now the rows of each table expire |
//! | `flush` | frozen memtables of all tables become one file |
//! | `sst` | the files: blocks, filter, index, footer; writing as a stream, reading with checks |
//! | `version` | which files make up the tree, and which key groups of each count |
//! | `read` | point reads, batches, scans, and finishing cold ones |
//! | `compaction` | keeping levels small: a pure picker, a job, reading ahead |
//! | `pool`, `rate_limit`, `throttle` | threads for background work, how much it may write, and how writers are slowed down |
//! | `cache` | memory for blocks, indexes and filters, shared by all stores of a process |
//! | `store` | what binds them on the worker's thread |
//! | `file_cache` | files on local disk in front of the object store, shared by all stores of a process |
//! | `io` | where bytes of files are read and written, and how many requests and threads that takes |
//! | [`inspect`] | what single files hold, and whether they are whole |
//! | [`objects`] | opening object stores by URI |
//!
//! # What can go wrong
//!
//! Errors carry an [`ErrorKind`] that says what to do. Reads and uploads are tried again a few times before
//! [`ErrorKind::Retry`] is reported; every block, index and file list is checked when it is read, so damage is
//! [`ErrorKind::Corrupt`] and not a wrong answer. A flush that failed for good is reported by every later call of
//! [`Store::poll`]: the attempt must end and go back to its last checkpoint.
//!
//! Memory is bounded, also while a barrier is on its way: writes slow down, and then wait, while more than two memtables' worth of
//! flushes is under way. When L0 is far too full they slow down too, but never stop.
mod background;
mod cache;
mod checkpoint;
mod compaction;
mod context;
mod encoding;
mod error;
mod executor;
mod expiry;
mod file_cache;
mod flush;
mod fold;
mod io;
mod key;
mod memtable;
mod merge;
mod options;
#[cfg_attr(not(feature = "planted-bugs"), allow(dead_code))]
#[doc(hidden)]
pub mod planted;
mod pool;
mod rate_limit;
mod read;
mod row;
mod rules;
mod sst;
mod store;
mod teamwork;
mod throttle;
mod version;

#[doc(hidden)]
pub mod fuzz;
pub mod inspect;
pub mod objects;

pub use cache::BlockCache;
pub use checkpoint::{Checkpoint, FileRef};
pub use compaction::remote::RemoteCompaction;
pub use compaction::remote::compactor::{Compactor, CompactorOptions, CompactorProgress};
pub use error::{Error, ErrorKind};
pub use executor::{Executor, Job};
pub use file_cache::{DiskSpace, FileCache, FileCacheOptions, FileCacheStats, LocalDisk};
pub use fold::{Fold, Folds};
pub use io::{Hedge, IoOptions, IoStats, Prices};
pub use options::{
    Clock, Compression, Environment, ExpiryCleanup, KeyGroupRange, KeyPart, LocalPaths, Locate,
    Merge, Random, StoreOptions, StoreStats, TableId, TableOptions,
};
pub use pool::{BackgroundPool, BackgroundThreads};
pub use rate_limit::RateLimiter;
pub use read::scan::{ColdScan, SCAN_BYTES_MAX, ScanLookup, ScanRows};
pub use read::{ColdRead, Lookup, Moment, SeeValue, Value};
pub use store::Store;

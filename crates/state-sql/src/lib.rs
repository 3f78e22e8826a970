//! SQL over the state of a checkpoint or savepoint, of any backend.
//!
//! Every state is a table, which is read as a stream and never loaded: memory holds a few pieces of rows, and what DataFusion's operators hold
//! is bounded ([`StateSqlOptions::memory_bytes`]); sorts and aggregations go on on disk beyond that. Not all that an operator holds is counted: a sort
//! of two gigabytes within 64 MiB was seen to hold 330 MB. Nothing can be written.
//!
//! # Tables
//! A state has the name that its program gave it. If several operators have one of that name, the operator says which:
//! `"7-auctions".counts`. The table `tables` lists all of them.
//!
//! | column | type | of |
//! |---|---|---|
//! | `key` | the key's | keyed state |
//! | `namespace` | the namespace's | state with namespaces; bytes of timers |
//! | `user_key` | the user key's | maps |
//! | `index` | `BIGINT UNSIGNED` | lists: the place of the element |
//! | `value` | that of the value, element or accumulator; a timer's time | all |
//! | `written_at`, `expires_at` | timestamp | state with a TTL |
//! | `key_group` | `SMALLINT UNSIGNED` | keyed state |
//!
//! A struct stays one column, and its fields are reached by name: `value.price`. (As columns of their own they could be taken for `key` or
//! `namespace`, and a field more would make another table.) Tuples are structs with the fields `f0`, `f1`, …. An enum whose variants hold nothing
//! is text; another one is a struct of `variant` and a nullable field for each variant that holds something. Whole numbers of 128 bits are
//! `DECIMAL(39, 0)`; dates, times and decimals of rows of columns are what they are in SQL. What the checkpoint does not explain is bytes.
//!
//! States of SQL's operators have keys and values of columns: `key.auction`, `value.count`.
//!
//! Names are case-sensitive, as Flink's are.
//!
//! # What is read
//! `WHERE key = …` (or `IN (…)`) reads that key's rows only, and no more key groups than `WHERE key_group = …` says. So do conditions on all parts of a
//! key that has some: `WHERE key.auction = 7`. `LIMIT` ends reading. Other conditions look at all rows of the state.

mod catalog;
mod columns;
mod error;
pub mod output;
mod pushdown;
mod scan;
mod session;
mod table;

pub use self::error::{ErrorKind, SqlError};
pub use self::session::{StateQuery, StateSql, StateSqlOptions};

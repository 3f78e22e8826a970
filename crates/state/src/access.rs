//! INTERFACE STUB. How operators read and write state without caring whether it is hot or cold.
use std::rc::Rc;

use aquifer_store::{KeyGroupRange, TableId};
use bytes::Bytes;

use crate::{SharedBackend, StateError};

/// Many keys in one allocation: for multi-gets.
#[derive(Clone, Debug, Default)]
pub struct Keys {
    groups: Vec<u16>,
    ends: Vec<u32>,
    bytes: Vec<u8>,
}
impl Keys {
    pub fn push(&mut self, group: u16, key: &[u8]) {
        self.groups.push(group);
        self.bytes.extend_from_slice(key);
        self.ends.push(self.bytes.len() as u32);
    }
    pub fn len(&self) -> usize { self.groups.len() }
    pub fn is_empty(&self) -> bool { self.groups.is_empty() }
    pub fn get(&self, i: usize) -> (u16, &[u8]) {
        let start = if i == 0 { 0 } else { self.ends[i - 1] as usize };
        (self.groups[i], &self.bytes[start..self.ends[i] as usize])
    }
    pub fn clear(&mut self) {
        self.groups.clear();
        self.ends.clear();
        self.bytes.clear();
    }
}

/// The answers of a multi-get, in the order of the keys; `None` = absent.
#[derive(Clone, Debug, Default)]
pub struct Values {
    ranges: Vec<Option<(u32, u32)>>,
    bytes: Vec<u8>,
}
impl Values {
    pub fn len(&self) -> usize { self.ranges.len() }
    pub fn is_empty(&self) -> bool { self.ranges.is_empty() }
    pub fn get(&self, i: usize) -> Option<&[u8]> {
        self.ranges[i].map(|(s, e)| &self.bytes[s as usize..e as usize])
    }
    // crate-internal: reset(n), set(i, &[u8])
}

/// A worker's state as one operator sees it. Cheap to clone. Used from the worker's thread only.
///
/// Futures returned here are ready on first poll when memory can answer. Cold reads of one schedule are gathered and issued together
/// by `issue`, which the operator's runner calls once at the end of every schedule; they are run on the tokio runtime and wake the awaiting task's waker.
#[derive(Clone)]
pub struct StateAccess {
    inner: Rc<()>,
}
#[allow(unused_variables)]
impl StateAccess {
    /// `asynchronous = false` makes every cold read block the worker (`table.exec.async-state.enabled = false`, state API V1).
    pub fn new(backend: SharedBackend, runtime: tokio::runtime::Handle, range: KeyGroupRange, max_parallelism: u16, asynchronous: bool) -> Self { todo!() }
    pub fn backend(&self) -> &SharedBackend { todo!() }
    pub fn key_groups(&self) -> KeyGroupRange { todo!() }
    pub fn max_parallelism(&self) -> u16 { todo!() }
    /// Starts loading what these keys need, without waiting: a later `multi_get` of the same keys will most likely be hot. True if anything was cold:
    /// then the returned future resolves when the blocks are in memory.
    pub fn prefetch(&self, table: TableId, keys: &Keys) -> Result<Option<futures_util::future::LocalBoxFuture<'static, Result<(), StateError>>>, StateError> { todo!() }
    pub async fn multi_get(&self, table: TableId, keys: &Keys, values: &mut Values) -> Result<(), StateError> { todo!() }
    pub async fn get(&self, table: TableId, group: u16, key: &[u8]) -> Result<Option<Bytes>, StateError> { todo!() }
    pub fn put(&self, table: TableId, group: u16, key: &[u8], value: &[u8]) -> Result<(), StateError> { todo!() }
    pub fn delete(&self, table: TableId, group: u16, key: &[u8]) -> Result<(), StateError> { todo!() }
    /// One piece of a scan; see `aquifer_store::Store::scan`.
    pub async fn scan(&self, table: TableId, group: u16, prefix: &[u8], from: &[u8], until: Option<&[u8]>, rows_max: usize) -> Result<aquifer_store::ScanRows, StateError> { todo!() }
    /// Sends the cold reads gathered so far as one grouped request.
    pub fn issue(&self) { todo!() }
    /// Records waiting for cold reads.
    pub fn waiting(&self) -> usize { todo!() }
}

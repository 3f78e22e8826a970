//! Named in-memory stores. They live as long as the process, so that a job that is started again in it finds its checkpoints.

use std::collections::BTreeMap;
use std::sync::Arc;

use object_store::ObjectStore;
use object_store::memory::InMemory;
use parking_lot::Mutex;

static STORES: Mutex<BTreeMap<String, Arc<InMemory>>> = Mutex::new(BTreeMap::new());

pub(super) fn open(name: &str) -> Arc<dyn ObjectStore> {
    STORES.lock().entry(name.to_owned()).or_default().clone()
}

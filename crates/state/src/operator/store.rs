//! The state of one operator on one worker that is not keyed.

use std::any::Any;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use aquifer_store::KeyGroupRange;
use bytes::Bytes;

use super::broadcast::{Ordered, RegisteredBroadcast};
use super::list::RegisteredList;
use super::raw::Written;
use super::{
    BroadcastState, NamedList, OperatorList, OperatorStateSnapshot, RawInput, RawKeyedOutput,
    RawOperatorOutput, Redistribution,
};
use crate::ordered::OrderedKey;
use crate::serializer::Serializer;
use crate::timers::TimeDomain;
use crate::{ListStateDescriptor, MapStateDescriptor, StateError, key_group};

/// A state that was asked for.
pub(super) trait Registered {
    fn mode(&self) -> Redistribution;
    /// A clone of the handle.
    fn handle(&self) -> Box<dyn Any>;
    /// A copy of the state as it is now.
    fn freeze(&self) -> Result<NamedList, StateError>;
}

enum Entry {
    /// Restored, and not asked for yet.
    Restored(NamedList),
    Registered(Box<dyn Registered>),
}

impl Entry {
    fn mode(&self) -> Redistribution {
        match self {
            Self::Restored(list) => list.mode,
            Self::Registered(state) => state.mode(),
        }
    }
}

/// The state of one operator on one worker that is not keyed. Clones are the same store.
#[derive(Clone)]
pub struct OperatorStateStore {
    operator: Rc<str>,
    worker: usize,
    workers: usize,
    range: KeyGroupRange,
    restored_checkpoint: Option<u64>,
    entries: Rc<RefCell<BTreeMap<String, Entry>>>,
    written: Rc<RefCell<Written>>,
    raw: Rc<[Bytes]>,
    raw_keyed: Rc<[(u16, Bytes)]>,
}

impl OperatorStateStore {
    /// A store of the only worker of an operator that restores nothing: for tests.
    pub fn empty(operator: &str) -> Self {
        let nothing = OperatorStateSnapshot::default();
        Self::restored(operator, 0, 1, 128, &nothing, None)
    }

    /// The store of worker `worker` of `workers`, which restores its share of a checkpoint (as [`redistribute`](super::redistribute()) made
    /// it). `restored_checkpoint` is the checkpoint's number; none if the job has just begun.
    pub fn restored(
        operator: &str,
        worker: u16,
        workers: u16,
        max_parallelism: u16,
        share: &OperatorStateSnapshot,
        restored_checkpoint: Option<u64>,
    ) -> Self {
        let entries = share.lists.iter().map(|list| {
            let entry = Entry::Restored(list.clone());
            (list.name.clone(), entry)
        });
        Self {
            operator: operator.into(),
            worker: usize::from(worker),
            workers: usize::from(workers.max(1)),
            range: key_group::range_of(worker, max_parallelism, workers),
            restored_checkpoint,
            entries: Rc::new(RefCell::new(entries.collect())),
            written: Rc::default(),
            raw: share.raw.as_slice().into(),
            raw_keyed: share.raw_keyed.as_slice().into(),
        }
    }

    /// A list that is split evenly when it is restored. Asked for again it is the same list.
    pub fn list_state<V: 'static, S: Serializer<V>, N>(
        &self,
        descriptor: &ListStateDescriptor<V, S, N>,
    ) -> Result<OperatorList<V>, StateError> {
        self.list(
            &descriptor.common.name,
            descriptor.serializer(),
            Redistribution::Split,
        )
    }

    /// A list of which every worker gets the whole when it is restored, at the same parallelism too. It grows at every restore unless the
    /// operator puts its own part in its place.
    pub fn union_list_state<V: 'static, S: Serializer<V>, N>(
        &self,
        descriptor: &ListStateDescriptor<V, S, N>,
    ) -> Result<OperatorList<V>, StateError> {
        self.list(
            &descriptor.common.name,
            descriptor.serializer(),
            Redistribution::Union,
        )
    }

    /// A map that is the same on every worker.
    pub fn broadcast_state<K: OrderedKey + 'static, V: 'static, S: Serializer<V>, N>(
        &self,
        descriptor: &MapStateDescriptor<K, V, S, N>,
    ) -> Result<BroadcastState<K, V>, StateError> {
        let keys = Ordered::<K>::default();
        self.broadcast_state_with(
            &descriptor.common.name,
            keys,
            descriptor.serializer().clone(),
        )
    }

    /// The same with a serializer for keys too: they need no order of their own then, and may change as their serializer allows.
    pub fn broadcast_state_with<K: 'static, V: 'static, KS: Serializer<K>, S: Serializer<V>>(
        &self,
        name: &str,
        keys: KS,
        values: S,
    ) -> Result<BroadcastState<K, V>, StateError> {
        self.open(name, Redistribution::Broadcast, |old| {
            let opened = RegisteredBroadcast::open(&self.operator, name, keys, values, old)?;
            Ok(Box::new(opened))
        })
    }

    fn list<V: 'static, S: Serializer<V>>(
        &self,
        name: &str,
        serializer: &S,
        mode: Redistribution,
    ) -> Result<OperatorList<V>, StateError> {
        self.open(name, mode, |old| {
            let serializer = serializer.clone();
            let opened = RegisteredList::open(&self.operator, name, mode, serializer, old)?;
            Ok(Box::new(opened))
        })
    }

    fn open<H: 'static>(
        &self,
        name: &str,
        mode: Redistribution,
        open: impl FnOnce(Option<&NamedList>) -> Result<Box<dyn Registered>, StateError>,
    ) -> Result<H, StateError> {
        let mut entries = self.entries.borrow_mut();
        let known = entries.get(name);
        if let Some(known) = known.map(Entry::mode).filter(|known| *known != mode) {
            return Err(StateError::Usage(format!(
                "state `{name}` of operator `{}` is redistributed by {}, but was asked for by {}",
                self.operator,
                known.name(),
                mode.name()
            )));
        }
        let registered = match known {
            Some(Entry::Registered(registered)) => registered,
            Some(Entry::Restored(old)) => {
                let opened = open(Some(old))?;
                entries.insert(name.to_owned(), Entry::Registered(opened));
                return self.handle(&entries, name);
            }
            None => {
                let opened = open(None)?;
                entries.insert(name.to_owned(), Entry::Registered(opened));
                return self.handle(&entries, name);
            }
        };
        self.downcast(registered.handle(), name)
    }

    fn handle<H: 'static>(
        &self,
        entries: &BTreeMap<String, Entry>,
        name: &str,
    ) -> Result<H, StateError> {
        match entries.get(name) {
            Some(Entry::Registered(registered)) => self.downcast(registered.handle(), name),
            _ => Err(self.other_type(name)),
        }
    }

    fn downcast<H: 'static>(&self, handle: Box<dyn Any>, name: &str) -> Result<H, StateError> {
        match handle.downcast() {
            Ok(handle) => Ok(*handle),
            Err(_) => Err(self.other_type(name)),
        }
    }

    fn other_type(&self, name: &str) -> StateError {
        StateError::Usage(format!(
            "state `{name}` of operator `{}` was asked for before with elements of another type",
            self.operator
        ))
    }

    /// Names of lists, restored ones included; without those in which whoever runs the operator keeps bounds of timers.
    pub fn registered(&self) -> Vec<String> {
        self.names(|mode| mode != Redistribution::Broadcast)
    }

    /// Names of broadcast maps, restored ones included.
    pub fn registered_broadcast(&self) -> Vec<String> {
        self.names(|mode| mode == Redistribution::Broadcast)
    }

    fn names(&self, wanted: impl Fn(Redistribution) -> bool) -> Vec<String> {
        let entries = self.entries.borrow();
        let wanted = entries
            .iter()
            .filter(|(name, entry)| wanted(entry.mode()) && !TimeDomain::keeps_bounds(name));
        wanted.map(|(name, _)| name.clone()).collect()
    }

    /// The checkpoint that was restored, if one was.
    pub fn restored_checkpoint(&self) -> Option<u64> {
        self.restored_checkpoint
    }

    /// Whether a checkpoint was restored.
    pub fn is_restored(&self) -> bool {
        self.restored_checkpoint.is_some()
    }

    /// The raw stream of the checkpoint under way.
    pub fn raw_output(&self) -> RawOperatorOutput {
        RawOperatorOutput {
            operator: Rc::clone(&self.operator),
            written: Rc::clone(&self.written),
        }
    }

    /// The raw keyed stream of the checkpoint under way.
    pub fn raw_keyed_output(&self) -> RawKeyedOutput {
        RawKeyedOutput {
            operator: Rc::clone(&self.operator),
            range: self.range,
            written: Rc::clone(&self.written),
        }
    }

    /// The restored partitions of the raw stream.
    pub fn raw_inputs(&self) -> Vec<RawInput> {
        self.raw.iter().cloned().map(RawInput::new).collect()
    }

    /// The restored key groups of the raw keyed stream, ascending.
    pub fn raw_keyed_inputs(&self) -> Vec<(u16, RawInput)> {
        let groups = self.raw_keyed.iter().cloned();
        groups
            .map(|(group, bytes)| (group, RawInput::new(bytes)))
            .collect()
    }

    /// The barrier: a copy of everything, which later writes do not change, and the raw streams, which begin anew.
    pub fn freeze(&self) -> Result<OperatorStateSnapshot, StateError> {
        let mut lists = Vec::new();
        for entry in self.entries.borrow().values() {
            lists.push(match entry {
                Entry::Registered(state) => state
                    .freeze()
                    .map_err(|error| error.about(&format!("operator `{}`", self.operator)))?,
                Entry::Restored(list) => self.kept(list),
            });
        }
        let (raw, raw_keyed) = self.written.borrow_mut().take();
        Ok(OperatorStateSnapshot {
            lists,
            raw,
            raw_keyed,
        })
    }

    /// What this worker keeps of a state that nobody asks for. Of a union all workers together keep it once, or it would grow at every
    /// restore.
    fn kept(&self, list: &NamedList) -> NamedList {
        let mut kept = list.clone();
        if list.mode == Redistribution::Union {
            let count = list.elements.len();
            let at = |worker: usize| count * worker / self.workers;
            let own = list.elements.get(at(self.worker)..at(self.worker + 1));
            kept.elements = Arc::new(own.unwrap_or_default().to_vec());
        }
        kept
    }
}

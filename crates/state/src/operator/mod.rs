//! State of operators that is not keyed: lists, broadcast maps, and raw streams of bytes.
//!
//! Each worker of an operator has an [`OperatorStateStore`]. What it holds is small and lies in memory; at a barrier it is copied
//! ([`OperatorStateStore::freeze`]) and goes into the checkpoint's metadata. When a checkpoint is restored, [`redistribute()`] deals out what
//! the old workers had among the new ones.
//!
//! What always holds: a state has one name within its operator and one [`Redistribution`] for ever; a restored state that nobody asks for
//! stays in later checkpoints; raw streams are written anew for every checkpoint. What can go wrong: a state is asked for with another
//! redistribution (`Usage`) or with a serializer that cannot read it (`Incompatible`), and raw streams grow beyond what metadata takes
//! (`Limit`).
//!
//! ```
//! use aquifer_state::operator::{OperatorStateStore, redistribute};
//! use aquifer_state::{ListStateDescriptor, MapStateDescriptor};
//!
//! let offsets = ListStateDescriptor::<(String, u64)>::new("offsets");
//! let rules = MapStateDescriptor::<u32, String>::new("rules");
//!
//! let store = OperatorStateStore::empty("1-source");
//! store.list_state(&offsets)?.update([("part-0".to_owned(), 17), ("part-1".to_owned(), 4)]);
//! store.broadcast_state(&rules)?.put(7, "drop".to_owned())?;
//! let snapshot = store.freeze()?;
//!
//! // Two workers go on where one was: the list is split, the map is on both.
//! let shares = redistribute(&[snapshot], 1, 2, 128)?;
//! for (worker, share) in (0..).zip(&shares) {
//!     let store = OperatorStateStore::restored("1-source", worker, 2, 128, share, None);
//!     assert_eq!(store.list_state(&offsets)?.len(), 1);
//!     assert_eq!(store.broadcast_state(&rules)?.get(&7)?.as_deref(), Some("drop"));
//! }
//! # Ok::<(), aquifer_state::StateError>(())
//! ```

mod broadcast;
mod codec;
mod list;
mod raw;
mod redistribute;
mod restored;
mod store;

use std::sync::Arc;

use bytes::Bytes;

pub use self::broadcast::{BroadcastState, ReadOnlyBroadcastState};
pub(crate) use self::codec::{ListReferences, encode_states, read_states};
pub use self::list::OperatorList;
pub use self::raw::{
    RAW_BYTES_MAX, RAW_PARTITIONS_MAX, RawInput, RawKeyedOutput, RawOperatorOutput,
};
pub use self::redistribute::redistribute;
pub use self::store::OperatorStateStore;
use crate::serializer::SerializerSnapshot;

/// How a state that is not keyed is dealt out when it is restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Redistribution {
    /// The lists of all workers, one after the other, are split evenly.
    Split,
    /// Every worker gets the lists of all workers, one after the other.
    Union,
    /// Every worker has the same map; a new worker gets the copy of an old one.
    Broadcast,
}

impl Redistribution {
    /// For messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Split => "split",
            Self::Union => "union",
            Self::Broadcast => "broadcast",
        }
    }
}

/// State of one operator on one worker, as it is in a checkpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OperatorStateSnapshot {
    /// Lists and broadcast maps, by name.
    pub lists: Vec<NamedList>,
    /// Partitions of the raw stream.
    pub raw: Vec<Bytes>,
    /// The raw keyed stream, by ascending key group.
    pub raw_keyed: Vec<(u16, Bytes)>,
}

/// A list or a broadcast map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedList {
    /// Its name.
    pub name: String,
    /// How it is dealt out.
    pub mode: Redistribution,
    /// What the serializer of its elements, or of the map's values, said of itself.
    pub value: SerializerSnapshot,
    /// The same of the map's keys.
    pub key: Option<SerializerSnapshot>,
    /// Elements; of a map key and value in turns, in the order of the keys' bytes. Workers that hold the same share it.
    pub elements: Arc<Vec<Bytes>>,
}

impl OperatorStateSnapshot {
    /// Whether there is nothing to keep.
    pub fn is_empty(&self) -> bool {
        self.lists.is_empty() && self.raw.is_empty() && self.raw_keyed.is_empty()
    }
}

//! Which keys and namespaces hold something of a state.
//!
//! Rows are walked key group by key group, in their order, in pieces of bounded size. Of each row the key and the namespace are decoded off the
//! front; the rest of their rows is passed over, so a large map is not read entry by entry. Where maps are large, pieces are small: each costs a
//! way to the store, which is worth it only if it saves reading many entries. Keys that are written or removed while
//! an enumeration is under way may or may not be seen by it; every other key is seen exactly once.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::marker::PhantomData;
use std::pin::pin;
use std::rc::Rc;

use aquifer_store::KeyGroupRange;
use futures_util::stream::{self, Stream};
use futures_util::{StreamExt, TryStreamExt};

use self::handle::{Sealed, Source, Walk};
use crate::StateError;
use crate::access::{ScanRange, Waiting, ready};
use crate::heap::typed::HeapTable;
use crate::ordered::{OrderedKey, encode_ordered};
use crate::serializer::Serializer;
use crate::state::chunks::Frames;
use crate::state::current_key::Key;
use crate::state::list::ListPlace;
use crate::state::namespace::prefix_len;
use crate::state::place::{Place, RowTable};
use crate::state::reducing::ReduceFunction;
use crate::state::ttl::Ttl;
use crate::state::{
    AggregateFunction, AggregatingState, FoldingState, ListState, MapState, ReducingState,
    StateFuture, StateStream, StateValue, ValueState,
};

/// Rows that are looked at together where each key has one row.
const ROWS_PER_PIECE: usize = 64 << 10;
/// Rows that are looked at together where a key may have many.
const ENTRIES_PER_PIECE: usize = 1 << 10;
/// The same where keys have been found to have many: most of what is read would be entries of one key.
const ENTRIES_PER_SEEK: usize = 64;
/// Pieces of that size before a large one is tried again.
const SEEKS: u8 = 15;
/// A large piece of so few keys is followed by seeks.
const KEYS_WORTH_A_SEEK: usize = 2;

/// A handle whose keys can be enumerated: those of all kinds of state.
pub trait KeyedHandle: Sealed {
    /// The type of its namespaces.
    type Namespace: OrderedKey + 'static;

    /// The namespace that following calls act on.
    fn set_namespace(&self, namespace: &Self::Namespace);
}

/// What a handle tells an enumeration. Nothing outside of this crate can name it.
pub mod handle {
    use super::{HeapTable, Rc, RefCell, RowTable, Ttl};

    /// Where the rows of a state are.
    pub struct Walk {
        pub(super) source: Source,
        /// Whether a key may have many rows.
        pub(super) many: bool,
        /// Whether rows are chunks of lists, whose elements have times of their own.
        pub(super) lists: bool,
    }

    pub(super) enum Source {
        Rows(RowTable),
        Heap(Rc<RefCell<dyn HeapTable>>, Option<Rc<Ttl>>),
    }

    /// Handles of this crate.
    pub trait Sealed {
        /// Where the rows are.
        fn walk(&self) -> Walk;
        /// Puts the namespace aside, to be put back by `restore_namespace`.
        fn save_namespace(&self) -> Option<Vec<u8>>;
        /// Puts a namespace back.
        fn restore_namespace(&self, saved: &Option<Vec<u8>>);
    }
}

fn walk_of<H: HeapTable>(place: &Place<H>, many: bool) -> Walk {
    let source = match place {
        Place::Rows(rows) => Source::Rows(rows.clone()),
        Place::Heap(heap) => Source::Heap(heap.table.clone(), heap.ttl.clone()),
    };
    Walk {
        source,
        many,
        lists: false,
    }
}

macro_rules! keyed_handle {
    ([$($generics:tt)*] $handle:ty, $namespace:ident, |$state:ident| $walk:expr, $scope:expr) => {
        impl<$($generics)*> Sealed for $handle {
            fn walk(&self) -> Walk {
                let $state = self;
                $walk
            }
            fn save_namespace(&self) -> Option<Vec<u8>> {
                let $state = self;
                $scope.save()
            }
            fn restore_namespace(&self, saved: &Option<Vec<u8>>) {
                let $state = self;
                $scope.restore(saved);
            }
        }
        impl<$($generics)*> KeyedHandle for $handle {
            type Namespace = $namespace;
            fn set_namespace(&self, namespace: &$namespace) {
                let $state = self;
                $scope.set(namespace);
            }
        }
    };
}

keyed_handle!(
    [V: StateValue, S: Serializer<V> + Send, N: OrderedKey + 'static]
    ValueState<V, S, N>, N, |state| walk_of(&state.single.place, false), state.single.scope
);
keyed_handle!(
    [UK: OrderedKey + 'static, V: StateValue, S: Serializer<V> + Send, N: OrderedKey + 'static]
    MapState<UK, V, S, N>, N, |state| walk_of(&state.place, true), state.scope
);
keyed_handle!(
    [V: StateValue, S: Serializer<V> + Send, N: OrderedKey + 'static]
    ListState<V, S, N>, N, |state| Walk {
        source: match &state.place {
            ListPlace::Rows(chunks) => Source::Rows(chunks.rows().clone()),
            ListPlace::Heap(heap, _) => Source::Heap(heap.table.clone(), heap.ttl.clone()),
        },
        many: true,
        lists: true,
    }, state.scope
);
keyed_handle!(
    [V: StateValue, R: ReduceFunction<V>, S: Serializer<V> + Send, N: OrderedKey + 'static]
    ReducingState<V, R, S, N>, N, |state| walk_of(&state.single.place, false), state.single.scope
);
keyed_handle!(
    [A: AggregateFunction, S: Serializer<A::Acc> + Send, N: OrderedKey + 'static]
    AggregatingState<A, S, N>, N, |state| walk_of(&state.single.place, false), state.single.scope
);
keyed_handle!(
    [
        T: 'static, V: StateValue, F: Fn(&mut V, T) + 'static, S: Serializer<V> + Send,
        N: OrderedKey + 'static
    ]
    FoldingState<T, V, F, S, N>, N, |state| walk_of(&state.inner.single.place, false),
    state.inner.single.scope
);

/// Walks the distinct `key ‖ namespace`s of a state.
pub(crate) struct Keys<K, N> {
    walk: Walk,
    /// Key groups that have not been begun.
    groups: std::ops::RangeInclusive<u16>,
    /// The key group in hand, and where its next piece starts.
    at: Option<(u16, Vec<u8>)>,
    /// Small pieces to come.
    seeks: u8,
    waiting: Waiting,
    loaded: VecDeque<Found>,
    types: PhantomData<fn() -> (K, N)>,
}

/// A `key ‖ namespace` that holds something.
pub(crate) struct Found {
    group: u16,
    prefix: Vec<u8>,
}

impl<K: OrderedKey, N: OrderedKey + 'static> Keys<K, N> {
    pub(crate) fn new<H: KeyedHandle<Namespace = N>>(
        state: &H,
        range: KeyGroupRange,
        waiting: Waiting,
    ) -> Self {
        Self {
            walk: state.walk(),
            groups: range.start..=range.end,
            at: None,
            seeks: SEEKS,
            waiting,
            loaded: VecDeque::new(),
            types: PhantomData,
        }
    }

    /// The next pair.
    pub(crate) async fn next(&mut self) -> Result<Option<Found>, StateError> {
        while self.loaded.is_empty() {
            if self.at.is_none() {
                let Some(group) = self.groups.next() else {
                    return Ok(None);
                };
                self.at = Some((group, Vec::new()));
            }
            self.load().await?;
        }
        Ok(self.loaded.pop_front())
    }

    /// The next pair of a walk that blocks.
    fn next_blocking(&mut self) -> Result<Option<Found>, StateError> {
        match self.loaded.pop_front() {
            Some(found) => Ok(Some(found)),
            None => ready(self.next()),
        }
    }

    /// Counts what is left.
    pub(crate) async fn count(mut self) -> Result<u64, StateError> {
        let mut count = 0;
        while self.next().await?.is_some() {
            count += 1 + self.loaded.len() as u64;
            self.loaded.clear();
        }
        Ok(count)
    }

    async fn load(&mut self) -> Result<(), StateError> {
        let Some((group, from)) = self.at.take() else {
            return Ok(());
        };
        let rows = match &self.walk.source {
            Source::Heap(table, ttl) => {
                let now_ms = ttl.as_deref().and_then(Ttl::now_ms);
                let keys = table.borrow().live_keys(group, now_ms)?;
                self.loaded.extend(keys.into_iter().map(|prefix| Found {
                    group,
                    prefix: prefix.into(),
                }));
                return Ok(());
            }
            Source::Rows(rows) => rows,
        };
        let rows_max = match (self.walk.many, self.seeks) {
            (false, _) => ROWS_PER_PIECE,
            (true, 0) => ENTRIES_PER_PIECE,
            (true, _) => ENTRIES_PER_SEEK,
        };
        let range = ScanRange {
            group,
            prefix: &[],
            from: &from,
            until: None,
            rows_max,
        };
        let mut pieces = rows
            .access
            .scan_many(rows.table, &[range], self.waiting)
            .await?;
        let Some(piece) = pieces.pop() else {
            return Ok(());
        };
        let mut times = piece.times.iter();
        // The last pair that was handed out, and the last that was met.
        let (mut seen, mut met): (Option<Vec<u8>>, Option<Vec<u8>>) = (None, None);
        for (key, value) in &piece.rows {
            let time_ms = times.next().copied().flatten();
            let known = |prefix: &Option<Vec<u8>>| {
                prefix
                    .as_deref()
                    .is_some_and(|prefix| key.starts_with(prefix))
            };
            if known(&seen) {
                continue;
            }
            if !known(&met) {
                let prefix = key.get(..prefix_len::<K, N>(key)?).unwrap_or_default();
                met = Some(prefix.to_vec());
            }
            if holds_something(rows, self.walk.lists, value, time_ms)?
                && let Some(prefix) = &met
            {
                self.loaded.push_back(Found {
                    group,
                    prefix: prefix.clone(),
                });
                seen = met.clone();
            }
        }
        let mut passes_over = false;
        if !piece.done
            && let Some((last, _)) = piece.rows.last()
        {
            let mut from = last.to_vec();
            from.push(0);
            // What is left of a pair that was handed out is passed over.
            if let Some(prefix) = seen.filter(|prefix| last.starts_with(prefix)) {
                passes_over = true;
                match successor(prefix) {
                    Some(after) => from = after,
                    None => return Ok(()),
                }
            }
            self.at = Some((group, from));
        }
        self.seeks = match self.loaded.len() {
            found if found > KEYS_WORTH_A_SEEK => 0,
            _ if !passes_over && !piece.done => 0,
            _ if self.seeks > 0 => self.seeks - 1,
            _ if passes_over => SEEKS,
            _ => 0,
        };
        Ok(())
    }
}

/// Whether something in a row has not expired.
fn holds_something(
    rows: &RowTable,
    list: bool,
    value: &[u8],
    time_ms: Option<i64>,
) -> Result<bool, StateError> {
    let Some(ttl) = rows.ttl.as_deref() else {
        return Ok(true);
    };
    let now_ms = ttl.now_ms();
    if ttl.expired(time_ms, now_ms) {
        return Ok(false);
    }
    if !list {
        return Ok(true);
    }
    let mut frames = Frames::new(value);
    while let Some(frame) = frames.next()? {
        if !ttl.expired(frame.time_ms, now_ms) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The first key that does not start with this prefix and is larger; `None` if there is none.
fn successor(mut prefix: Vec<u8>) -> Option<Vec<u8>> {
    while let Some(last) = prefix.pop() {
        if let Some(next) = last.checked_add(1) {
            prefix.push(next);
            return Some(prefix);
        }
    }
    None
}

impl Found {
    /// Key and namespace.
    pub(crate) fn decode<K: OrderedKey, N: OrderedKey>(&self) -> Result<(K, N), StateError> {
        let mut rest = &self.prefix[..];
        Ok((K::decode_ordered(&mut rest)?, N::decode_ordered(&mut rest)?))
    }

    /// The key, if the namespace is this one.
    pub(crate) fn key_in<K: OrderedKey>(&self, namespace: &[u8]) -> Result<Option<K>, StateError> {
        let mut rest = &self.prefix[..];
        let key = K::decode_ordered(&mut rest)?;
        Ok((rest == namespace).then_some(key))
    }

    /// The encoded key, if the namespace has this encoding.
    fn encoded_key(&self, namespace: &[u8]) -> &[u8] {
        self.prefix.strip_suffix(namespace).unwrap_or(&self.prefix)
    }
}

/// The keys that hold something in a namespace.
pub(crate) fn keys<K: OrderedKey + 'static, N: OrderedKey + 'static>(
    walk: Keys<K, N>,
    namespace: &N,
) -> StateStream<K> {
    let namespace = encode_ordered(namespace);
    pairs_found(walk)
        .try_filter_map(move |found| {
            let key = found.key_in(&namespace);
            async move { key }
        })
        .boxed_local()
        .into()
}

/// All pairs of key and namespace that hold something.
pub(crate) fn keys_and_namespaces<K: OrderedKey + 'static, N: OrderedKey + 'static>(
    walk: Keys<K, N>,
) -> StateStream<(K, N)> {
    pairs_found(walk)
        .and_then(|found| async move { found.decode() })
        .boxed_local()
        .into()
}

fn pairs_found<K: OrderedKey + 'static, N: OrderedKey + 'static>(
    walk: Keys<K, N>,
) -> impl Stream<Item = Result<Found, StateError>> {
    stream::try_unfold(walk, |mut walk| async move {
        Ok(walk.next().await?.map(|found| (found, walk)))
    })
    .fuse()
}

/// The same, blocking.
pub(crate) fn keys_blocking<K: OrderedKey, N: OrderedKey + 'static>(
    mut walk: Keys<K, N>,
    namespace: &N,
) -> impl Iterator<Item = Result<K, StateError>> + use<K, N> {
    let namespace = encode_ordered(namespace);
    std::iter::from_fn(move || {
        loop {
            match walk
                .next_blocking()
                .and_then(|found| found.map(|found| found.key_in(&namespace)).transpose())
            {
                Ok(None) => return None,
                Ok(Some(None)) => {}
                Ok(Some(Some(key))) => return Some(Ok(key)),
                Err(error) => return Some(Err(error)),
            }
        }
    })
}

/// The same, blocking.
pub(crate) fn keys_and_namespaces_blocking<K: OrderedKey, N: OrderedKey + 'static>(
    mut walk: Keys<K, N>,
) -> impl Iterator<Item = Result<(K, N), StateError>> + use<K, N> {
    std::iter::from_fn(move || {
        let found = walk.next_blocking().transpose()?;
        Some(found.and_then(|found| found.decode()))
    })
}

/// How many pairs of key and namespace hold something.
pub(crate) fn count<K: OrderedKey + 'static, N: OrderedKey + 'static>(
    walk: Keys<K, N>,
) -> StateFuture<u64> {
    StateFuture::started(walk.count())
}

/// Calls `act` with each key that holds something in a namespace, as the current key, and with the handle set to that namespace.
pub(crate) async fn apply_to_all_keys<K, H>(
    mut walk: Keys<K, H::Namespace>,
    current: &super::CurrentKey,
    state: &H,
    namespace: &H::Namespace,
    mut act: impl AsyncFnMut(&K, &H) -> Result<(), StateError>,
) -> Result<(), StateError>
where
    K: OrderedKey,
    H: KeyedHandle,
{
    let encoded = encode_ordered(namespace);
    while let Some(found) = walk.next().await? {
        let Some(key) = found.key_in::<K>(&encoded)? else {
            continue;
        };
        let mut aside = Key::new(found.group, found.encoded_key(&encoded));
        let mut acting = pin!(act(&key, state));
        // Whoever drives this future sets the key of its record before each poll: the key in hand is put in its place for as long.
        poll_fn(|context| {
            current.swap(&mut aside);
            let saved = state.save_namespace();
            state.set_namespace(namespace);
            let polled = acting.as_mut().poll(context);
            state.restore_namespace(&saved);
            current.swap(&mut aside);
            polled
        })
        .await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_successor_of_a_prefix_is_past_all_its_keys() {
        assert_eq!(successor(vec![1, 2]), Some(vec![1, 3]));
        assert_eq!(successor(vec![1, 0xff, 0xff]), Some(vec![2]));
        assert_eq!(successor(vec![0xff]), None);
        assert_eq!(successor(vec![]), None);
    }
}

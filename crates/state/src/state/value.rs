//! Value state: at most one value per key.

use std::cell::RefCell;
use std::marker::PhantomData;
use std::rc::Rc;

use aquifer_store::TableId;

use crate::StateError;
use crate::access::{Hot, Planned, StateAccess, Waiting, ready};
use crate::serializer::{Postcard, Serializer};
use crate::state::{CurrentKey, StateFuture};

/// What memory says, with what is needed to go on if it says nothing.
enum Found<R> {
    Now(R),
    Later(Planned, u16, Vec<u8>),
}

/// One value per key. Row: `key -> value`.
pub struct ValueState<V, S = Postcard<V>> {
    access: StateAccess,
    table: TableId,
    current: CurrentKey,
    serializer: S,
    scratch: Rc<RefCell<Vec<u8>>>,
    value: PhantomData<fn() -> V>,
}

impl<V, S: Clone> Clone for ValueState<V, S> {
    fn clone(&self) -> Self {
        Self {
            access: self.access.clone(),
            table: self.table,
            current: self.current.clone(),
            serializer: self.serializer.clone(),
            scratch: Rc::clone(&self.scratch),
            value: PhantomData,
        }
    }
}

impl<V: 'static, S: Serializer<V>> ValueState<V, S> {
    /// A handle on a registered table.
    pub fn new(access: StateAccess, table: TableId, current: CurrentKey, serializer: S) -> Self {
        Self {
            access,
            table,
            current,
            serializer,
            scratch: Rc::default(),
            value: PhantomData,
        }
    }

    /// The value of the current key, if it has one.
    pub fn get(&self) -> StateFuture<Option<V>> {
        self.read(self.access.waiting_mode())
    }

    /// Like `get`, but blocks on a cold key (state API V1).
    pub fn value(&self) -> Result<Option<V>, StateError> {
        ready(self.read(Waiting::Blocking))
    }

    /// Sets the value of the current key.
    pub fn put(&self, value: V) -> Result<(), StateError> {
        self.update(&value)
    }

    /// Sets the value of the current key.
    pub fn update(&self, value: &V) -> Result<(), StateError> {
        let mut bytes = self.scratch.borrow_mut();
        bytes.clear();
        self.serializer.serialize(value, &mut bytes)?;
        self.current
            .with(|group, key| self.access.put(self.table, group, key, &bytes))?
    }

    /// Removes the value of the current key.
    pub fn clear(&self) -> Result<(), StateError> {
        self.current
            .with(|group, key| self.access.delete(self.table, group, key))?
    }

    fn read(&self, waiting: Waiting) -> StateFuture<Option<V>> {
        let serializer = &self.serializer;
        let hot = self.current.with(|group, key| {
            let found = self
                .access
                .look_up(self.table, group, key, &mut |value, _| {
                    value.map(|value| serializer.deserialize(value)).transpose()
                })?;
            Ok::<_, StateError>(match found {
                Hot::Answer(answer) => Found::Now(answer),
                Hot::Cold(planned) => Found::Later(planned, group, key.to_vec()),
            })
        });
        let (planned, group, key) = match hot.flatten() {
            Ok(Found::Now(answer)) => return StateFuture::ready(answer),
            Ok(Found::Later(planned, group, key)) => (planned, group, key),
            Err(error) => return StateFuture::ready(Err(error)),
        };
        let (access, table, serializer) = (self.access.clone(), self.table, serializer.clone());
        StateFuture::waiting(async move {
            access
                .finish(table, group, &key, planned, waiting, |value, _| {
                    value.map(|value| serializer.deserialize(value)).transpose()
                })
                .await?
        })
    }
}

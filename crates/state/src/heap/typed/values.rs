//! Values on the heap: an entry is a value with its time, and always stands alone.

use super::entry::{Expired, HeapEntry, Part, Timed};
use super::layers::Parts;
use super::table::HeapTableOf;
use crate::serializer::Serializer;
use crate::state::StateValue;
use crate::{StateError, TakeRow};

/// Values, one per key and namespace.
pub(crate) type HeapValues<V, S> = HeapTableOf<Timed<V>, S>;

impl<V: StateValue> Part for Timed<V> {
    fn stands_alone(&self) -> bool {
        true
    }

    fn add_newer(&mut self, newer: Self) {
        *self = newer;
    }

    fn is_empty(&self) -> bool {
        false
    }

    fn keep_live(&mut self, expired: Expired<'_>, _resume: &mut Option<Box<[u8]>>) -> bool {
        !expired(self.time())
    }

    fn has_live(parts: &Parts<'_, Self>, expired: Expired<'_>) -> bool {
        let newest = parts.newest_first().next();
        newest.is_some_and(|value| !expired(value.time()))
    }

    fn bytes(&self) -> u64 {
        size_of::<Self>() as u64
    }
}

impl<V: StateValue, S: Serializer<V>> HeapEntry<S> for Timed<V> {
    fn load(
        &mut self,
        suffix: &[u8],
        value: &[u8],
        time_ms: Option<i64>,
        serializer: &S,
    ) -> Result<(), StateError> {
        *self = Self::loaded(suffix, value, time_ms, serializer)?;
        Ok(())
    }

    fn loaded(
        suffix: &[u8],
        value: &[u8],
        time_ms: Option<i64>,
        serializer: &S,
    ) -> Result<Self, StateError> {
        if !suffix.is_empty() {
            return Err(StateError::Corrupt(format!(
                "a row of a value has {} bytes after its key and namespace, expected none",
                suffix.len()
            )));
        }
        Ok(Self::new(serializer.deserialize(value)?, time_ms))
    }

    fn write(
        parts: &Parts<'_, Self>,
        serializer: &S,
        scratch: &mut Vec<u8>,
        expired: Expired<'_>,
        row: TakeRow<'_>,
    ) -> Result<u64, StateError> {
        let newest = parts.newest_first().next();
        if let Some(value) = newest.filter(|value| !expired(value.time())) {
            scratch.clear();
            serializer.serialize(&value.value, scratch)?;
            row(&[], scratch, value.time())?;
        }
        Ok(0)
    }
}

impl<V: StateValue, S: Serializer<V> + Send> HeapValues<V, S> {
    /// The value of a key.
    #[inline]
    pub(crate) fn get(&self, group: u16, key: &[u8]) -> Result<Option<&Timed<V>>, StateError> {
        self.newest(group, key)
    }

    /// Gives the value of a key another time.
    pub(crate) fn set_time(
        &mut self,
        group: u16,
        key: &[u8],
        time_ms: i64,
    ) -> Result<(), StateError> {
        if let Some(value) = self.top_mut(group, key)? {
            value.time_ms = time_ms;
        } else if let Some(frozen) = self.newest(group, key)? {
            let value = frozen.value.clone();
            self.put(group, key, Timed { value, time_ms })?;
        }
        Ok(())
    }

    /// Takes the value of a key out.
    pub(crate) fn take(&mut self, group: u16, key: &[u8]) -> Result<Option<Timed<V>>, StateError> {
        if self.top_mut(group, key)?.is_some() {
            return self.remove(group, key);
        }
        let frozen = self.newest(group, key)?.cloned();
        if frozen.is_some() {
            self.remove(group, key)?;
        }
        Ok(frozen)
    }
}

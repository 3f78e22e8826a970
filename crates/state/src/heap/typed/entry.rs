//! What a typed table holds under one key and namespace: a value, a list, or a map.

use std::collections::BTreeMap;

use crate::StateError;
use crate::serializer::Serializer;
use crate::state::StateValue;
use crate::state::chunks::{self, CHUNK_BYTES_TARGET, Frames};

/// A value with the time it was written or read.
#[derive(Clone, Debug)]
pub(crate) struct Timed<V> {
    pub(crate) value: V,
    /// `i64::MIN`: none.
    pub(crate) time_ms: i64,
}

impl<V> Timed<V> {
    pub(crate) fn new(value: V, time_ms: Option<i64>) -> Self {
        Self {
            value,
            time_ms: time_ms.unwrap_or(i64::MIN),
        }
    }

    /// The time, if it has one.
    pub(crate) fn time(&self) -> Option<i64> {
        time_of(self.time_ms)
    }
}

/// `i64::MIN` stands for no time.
pub(crate) fn time_of(time_ms: i64) -> Option<i64> {
    (time_ms != i64::MIN).then_some(time_ms)
}

/// A list, oldest first.
pub(crate) type HeapList<V> = Vec<Timed<V>>;
/// A map, by encoded user key.
pub(crate) type HeapMap<V> = BTreeMap<Box<[u8]>, Timed<V>>;

/// Says whether a time has expired.
pub(crate) type Expired<'a> = &'a dyn Fn(Option<i64>) -> bool;
/// Takes the suffix of a row's key (after key and namespace), its value and its time.
pub(crate) type TakeRow<'a> =
    &'a mut dyn FnMut(&[u8], &[u8], Option<i64>) -> Result<(), StateError>;

/// What a typed table holds under one key and namespace.
pub(crate) trait HeapEntry<S>: Clone + Send + 'static {
    /// An entry with this row in it.
    fn loaded(
        suffix: &[u8],
        value: &[u8],
        time_ms: Option<i64>,
        serializer: &S,
    ) -> Result<Self, StateError>;
    /// Adds a row that follows the others.
    fn load(
        &mut self,
        suffix: &[u8],
        value: &[u8],
        time_ms: Option<i64>,
        serializer: &S,
    ) -> Result<(), StateError>;
    /// Drops what has expired; false if nothing is left.
    fn keep_live(&mut self, expired: Expired<'_>) -> bool;
    /// Whether something in it has not expired.
    fn has_live(&self, expired: Expired<'_>) -> bool;
    /// Hands out its rows in order, without what has expired. Returns the first list chunk number it does not use.
    fn write(
        &self,
        serializer: &S,
        expired: Expired<'_>,
        row: TakeRow<'_>,
    ) -> Result<u64, StateError>;
    /// Bytes, estimated.
    fn bytes(&self) -> u64;
}

impl<V: StateValue, S: Serializer<V>> HeapEntry<S> for Timed<V> {
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

    fn keep_live(&mut self, expired: Expired<'_>) -> bool {
        !expired(self.time())
    }

    fn has_live(&self, expired: Expired<'_>) -> bool {
        !expired(self.time())
    }

    fn write(
        &self,
        serializer: &S,
        expired: Expired<'_>,
        row: TakeRow<'_>,
    ) -> Result<u64, StateError> {
        if !expired(self.time()) {
            let mut bytes = Vec::new();
            serializer.serialize(&self.value, &mut bytes)?;
            row(&[], &bytes, self.time())?;
        }
        Ok(0)
    }

    fn bytes(&self) -> u64 {
        size_of::<Self>() as u64
    }
}

impl<V: StateValue, S: Serializer<V>> HeapEntry<S> for HeapList<V> {
    fn loaded(
        suffix: &[u8],
        value: &[u8],
        time_ms: Option<i64>,
        serializer: &S,
    ) -> Result<Self, StateError> {
        let mut list = Self::new();
        HeapEntry::load(&mut list, suffix, value, time_ms, serializer)?;
        Ok(list)
    }

    fn load(
        &mut self,
        _suffix: &[u8],
        value: &[u8],
        _time_ms: Option<i64>,
        serializer: &S,
    ) -> Result<(), StateError> {
        let mut frames = Frames::new(value);
        while let Some(frame) = frames.next()? {
            self.push(Timed::new(
                serializer.deserialize(frame.bytes)?,
                frame.time_ms,
            ));
        }
        Ok(())
    }

    fn keep_live(&mut self, expired: Expired<'_>) -> bool {
        self.retain(|element| !expired(element.time()));
        !self.is_empty()
    }

    fn has_live(&self, expired: Expired<'_>) -> bool {
        self.iter().any(|element| !expired(element.time()))
    }

    fn write(
        &self,
        serializer: &S,
        expired: Expired<'_>,
        row: TakeRow<'_>,
    ) -> Result<u64, StateError> {
        let (mut frames, mut element_bytes) = (Vec::new(), Vec::new());
        let mut newest = None;
        let mut chunk = 0u64;
        for element in self.iter().filter(|element| !expired(element.time())) {
            element_bytes.clear();
            serializer.serialize(&element.value, &mut element_bytes)?;
            chunks::push_frame(&mut frames, element.time(), &element_bytes);
            newest = newest.max(element.time());
            if frames.len() >= CHUNK_BYTES_TARGET {
                row(&chunk.to_be_bytes(), &frames, newest)?;
                frames.clear();
                newest = None;
                chunk += 1;
            }
        }
        if !frames.is_empty() {
            row(&chunk.to_be_bytes(), &frames, newest)?;
            chunk += 1;
        }
        Ok(chunk)
    }

    fn bytes(&self) -> u64 {
        (size_of::<Self>() + self.len() * size_of::<Timed<V>>()) as u64
    }
}

impl<V: StateValue, S: Serializer<V>> HeapEntry<S> for HeapMap<V> {
    fn loaded(
        suffix: &[u8],
        value: &[u8],
        time_ms: Option<i64>,
        serializer: &S,
    ) -> Result<Self, StateError> {
        let mut map = Self::new();
        HeapEntry::load(&mut map, suffix, value, time_ms, serializer)?;
        Ok(map)
    }

    fn load(
        &mut self,
        suffix: &[u8],
        value: &[u8],
        time_ms: Option<i64>,
        serializer: &S,
    ) -> Result<(), StateError> {
        let value = Timed::new(serializer.deserialize(value)?, time_ms);
        self.insert(suffix.into(), value);
        Ok(())
    }

    fn keep_live(&mut self, expired: Expired<'_>) -> bool {
        self.retain(|_, value| !expired(value.time()));
        !self.is_empty()
    }

    fn has_live(&self, expired: Expired<'_>) -> bool {
        self.values().any(|value| !expired(value.time()))
    }

    fn write(
        &self,
        serializer: &S,
        expired: Expired<'_>,
        row: TakeRow<'_>,
    ) -> Result<u64, StateError> {
        let mut bytes = Vec::new();
        for (user_key, value) in self.iter().filter(|(_, value)| !expired(value.time())) {
            bytes.clear();
            serializer.serialize(&value.value, &mut bytes)?;
            row(user_key, &bytes, value.time())?;
        }
        Ok(0)
    }

    fn bytes(&self) -> u64 {
        let keys: usize = self.keys().map(|key| key.len()).sum();
        (keys + self.len() * size_of::<Timed<V>>()) as u64
    }
}

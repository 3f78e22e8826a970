//! Reading what an older type wrote, by a function of the program.

use std::marker::PhantomData;
use std::sync::Arc;

use super::{Compatibility, Serializer, SerializerSnapshot};
use crate::StateError;

/// A serializer that also reads what others have written, each with a function that makes the new type of the old one.
///
/// If the state was written by one of those others, every value is read by it, upgraded, and written by `S` when the state is opened. That takes
/// as long as reading and writing the whole state; [`super::Tagged`] does without.
///
/// ```
/// use aquifer_state::serializer::{Compatibility, Postcard, Serializer};
///
/// let old = Postcard::<u32>::default();
/// let new = Postcard::<u64>::default().upgrading(|old: u32| u64::from(old));
/// assert_eq!(new.compatibility(&old.snapshot()), Compatibility::AfterMigration);
/// ```
pub struct Upgrading<T, S> {
    inner: S,
    /// What may have been written before.
    formers: Vec<Arc<dyn Former<T>>>,
    /// What was written, if it was one of those.
    reader: Option<Arc<dyn Reader<T>>>,
    value: PhantomData<fn() -> T>,
}

impl<T, S: Clone> Clone for Upgrading<T, S> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            formers: self.formers.clone(),
            reader: self.reader.clone(),
            value: PhantomData,
        }
    }
}

/// A serializer of an older type, with the way to the new one.
trait Former<T>: Send + Sync {
    fn compatibility(&self, old: &SerializerSnapshot) -> Compatibility;
    fn restored(&self, old: &SerializerSnapshot) -> Result<Arc<dyn Reader<T>>, StateError>;
}

/// Reads values of an older type as the new one.
trait Reader<T>: Send + Sync {
    fn read(&self, old: &SerializerSnapshot, bytes: &[u8]) -> Result<T, StateError>;
}

struct Upgrade<S, Old, F> {
    serializer: S,
    /// The bytes themselves have to be migrated.
    migrates: bool,
    upgrade: Arc<F>,
    value: PhantomData<fn() -> Old>,
}

impl<T, Old, S, F> Former<T> for Upgrade<S, Old, F>
where
    S: Serializer<Old> + Send + Sync,
    F: Fn(Old) -> T + Send + Sync + 'static,
    T: 'static,
    Old: 'static,
{
    fn compatibility(&self, old: &SerializerSnapshot) -> Compatibility {
        self.serializer.compatibility(old)
    }

    fn restored(&self, old: &SerializerSnapshot) -> Result<Arc<dyn Reader<T>>, StateError> {
        let serializer = self.serializer.clone();
        Ok(Arc::new(Self {
            migrates: serializer.compatibility(old) == Compatibility::AfterMigration,
            serializer: serializer.restored(old)?,
            upgrade: Arc::clone(&self.upgrade),
            value: PhantomData,
        }))
    }
}

impl<T, Old, S, F> Reader<T> for Upgrade<S, Old, F>
where
    S: Serializer<Old> + Send + Sync,
    F: Fn(Old) -> T + Send + Sync,
{
    fn read(&self, old: &SerializerSnapshot, bytes: &[u8]) -> Result<T, StateError> {
        let value = if self.migrates {
            self.serializer.migrate(old, bytes)?
        } else {
            self.serializer.deserialize(bytes)?
        };
        Ok((self.upgrade)(value))
    }
}

impl<T: 'static, S: Serializer<T>> Upgrading<T, S> {
    /// A serializer that so far reads only what `inner` reads.
    pub fn new(inner: S) -> Self {
        Self {
            inner,
            formers: Vec::new(),
            reader: None,
            value: PhantomData,
        }
    }

    /// Also reads what `former` has written. The first that can read what is there is asked; `inner` comes before all.
    #[must_use]
    pub fn from<Old: 'static, F: Serializer<Old> + Send + Sync>(
        mut self,
        former: F,
        upgrade: impl Fn(Old) -> T + Send + Sync + 'static,
    ) -> Self {
        self.formers.push(Arc::new(Upgrade {
            serializer: former,
            migrates: false,
            upgrade: Arc::new(upgrade),
            value: PhantomData,
        }));
        self
    }
}

impl<T: 'static, S: Serializer<T>> Serializer<T> for Upgrading<T, S> {
    #[inline]
    fn serialize(&self, value: &T, out: &mut Vec<u8>) -> Result<(), StateError> {
        self.inner.serialize(value, out)
    }

    #[inline]
    fn deserialize(&self, bytes: &[u8]) -> Result<T, StateError> {
        self.inner.deserialize(bytes)
    }

    fn layout(&self) -> String {
        self.inner.layout()
    }

    fn snapshot(&self) -> SerializerSnapshot {
        self.inner.snapshot()
    }

    fn compatibility(&self, old: &SerializerSnapshot) -> Compatibility {
        let refusal = match self.inner.compatibility(old) {
            refusal @ Compatibility::Incompatible(_) => refusal,
            verdict => return verdict,
        };
        match self.former(old) {
            Some(_) => Compatibility::AfterMigration,
            None => refusal,
        }
    }

    fn restored(self, old: &SerializerSnapshot) -> Result<Self, StateError> {
        if !matches!(
            self.inner.compatibility(old),
            Compatibility::Incompatible(_)
        ) {
            return Ok(Self {
                inner: self.inner.restored(old)?,
                reader: None,
                ..self
            });
        }
        let reader = match self.former(old) {
            Some(former) => Some(former.restored(old)?),
            None => None,
        };
        Ok(Self { reader, ..self })
    }

    fn migrate(&self, old: &SerializerSnapshot, bytes: &[u8]) -> Result<T, StateError> {
        match &self.reader {
            Some(reader) => reader.read(old, bytes),
            None => self.inner.migrate(old, bytes),
        }
    }
}

impl<T, S> Upgrading<T, S> {
    /// The one that can read what is there.
    fn former(&self, old: &SerializerSnapshot) -> Option<&Arc<dyn Former<T>>> {
        let reads = |former: &&Arc<dyn Former<T>>| {
            !matches!(former.compatibility(old), Compatibility::Incompatible(_))
        };
        self.formers.iter().find(reads)
    }
}

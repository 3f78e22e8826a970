//! Values that may be null, for serializers that know none: a map may then say that it has a key and no value for it.

use super::{Compatibility, Serializer, SerializerSnapshot};
use crate::StateError;

const NULL: u8 = 0;
const VALUE: u8 = 1;

/// Options of what `S` writes: one byte more. (`Postcard` and `Tagged` write options themselves.)
///
/// ```
/// use aquifer_state::MapStateDescriptor;
/// use aquifer_state::serializer::{Nullable, Plain};
///
/// let seen = MapStateDescriptor::<String, Option<i64>, Nullable<Plain<i64>>>::new("seen");
/// # let _ = seen;
/// ```
#[derive(Clone, Debug, Default)]
pub struct Nullable<S> {
    inner: S,
    former: Option<Former>,
}

/// What a migration reads.
#[derive(Clone, Debug)]
struct Former {
    was_nullable: bool,
    /// The inner serializer has to migrate, too.
    migrates: bool,
    /// What the checkpoint says of values that are not null.
    inner: SerializerSnapshot,
}

impl<S> Nullable<S> {
    /// Options of what `inner` writes.
    pub fn new(inner: S) -> Self {
        let former = None;
        Self { inner, former }
    }
}

const ENCODING: &str = "nullable-1";

/// What a snapshot says of values that are not null, if it is one of this serializer.
pub(super) fn inner(snapshot: &SerializerSnapshot) -> Option<SerializerSnapshot> {
    let known = snapshot.encoding == ENCODING && snapshot.version == 1;
    known.then(|| SerializerSnapshot::decode(&snapshot.payload).ok())?
}

impl<T: 'static, S: Serializer<T>> Serializer<Option<T>> for Nullable<S> {
    #[inline]
    fn serialize(&self, value: &Option<T>, out: &mut Vec<u8>) -> Result<(), StateError> {
        match value {
            None => out.push(NULL),
            Some(value) => {
                out.push(VALUE);
                self.inner.serialize(value, out)?;
            }
        }
        Ok(())
    }

    #[inline]
    fn deserialize(&self, bytes: &[u8]) -> Result<Option<T>, StateError> {
        read(bytes, |bytes| self.inner.deserialize(bytes))
    }

    fn layout(&self) -> String {
        format!("{ENCODING}:{}", self.inner.layout())
    }

    fn snapshot(&self) -> SerializerSnapshot {
        let mut payload = Vec::new();
        self.inner.snapshot().encode(&mut payload);
        SerializerSnapshot {
            encoding: ENCODING.into(),
            version: 1,
            payload,
        }
    }

    /// As the inner serializer says; what was never null can be migrated.
    fn compatibility(&self, old: &SerializerSnapshot) -> Compatibility {
        if let Some(old) = inner(old) {
            return self.inner.compatibility(&old);
        }
        match self.inner.compatibility(old) {
            Compatibility::Incompatible(why) => Compatibility::Incompatible(why),
            _ => Compatibility::AfterMigration,
        }
    }

    fn restored(self, old: &SerializerSnapshot) -> Result<Self, StateError> {
        let nullable = inner(old);
        let was_nullable = nullable.is_some();
        let old = nullable.unwrap_or_else(|| old.clone());
        Ok(Self {
            former: Some(Former {
                was_nullable,
                migrates: self.inner.compatibility(&old) == Compatibility::AfterMigration,
                inner: old.clone(),
            }),
            inner: self.inner.restored(&old)?,
        })
    }

    fn migrate(&self, _old: &SerializerSnapshot, bytes: &[u8]) -> Result<Option<T>, StateError> {
        let Some(former) = &self.former else {
            return self.deserialize(bytes);
        };
        let value = |bytes: &[u8]| {
            if former.migrates {
                self.inner.migrate(&former.inner, bytes)
            } else {
                self.inner.deserialize(bytes)
            }
        };
        if former.was_nullable {
            read(bytes, value)
        } else {
            value(bytes).map(Some)
        }
    }
}

#[inline]
fn read<T>(
    bytes: &[u8],
    value: impl FnOnce(&[u8]) -> Result<T, StateError>,
) -> Result<Option<T>, StateError> {
    match bytes {
        [NULL] => Ok(None),
        [VALUE, bytes @ ..] => value(bytes).map(Some),
        [] => Err(StateError::Corrupt(
            "a value that may be null has no bytes, expected at least one".into(),
        )),
        [other, ..] => Err(StateError::Corrupt(format!(
            "a value of {} bytes that may be null begins with {other:#04x}, expected 0x01, or 0x00 alone",
            bytes.len()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serializer::{Plain, Postcard};

    type Text = Nullable<Plain<String>>;

    #[test]
    fn null_is_not_the_empty_text() {
        let serializer = Text::default();
        for value in [None, Some(String::new()), Some("x".into())] {
            let mut bytes = Vec::new();
            serializer.serialize(&value, &mut bytes).unwrap();
            assert_eq!(serializer.deserialize(&bytes).unwrap(), value);
        }
        for bad in [&[][..], &[0, 0], &[2], &[1, 0xff]] {
            assert!(matches!(
                serializer.deserialize(bad),
                Err(StateError::Corrupt(_))
            ));
        }
    }

    #[test]
    fn the_inner_verdict_counts() {
        let nullable = Nullable::new(Postcard::<u64>::default());
        assert_eq!(
            nullable.compatibility(&nullable.snapshot()),
            Compatibility::AsIs
        );
        let narrower = Nullable::new(Postcard::<u32>::default()).snapshot();
        assert!(matches!(
            nullable.compatibility(&narrower),
            Compatibility::Incompatible(_)
        ));
        // What was never null.
        let old = Postcard::<u64>::default().snapshot();
        assert_eq!(nullable.compatibility(&old), Compatibility::AfterMigration);
        let restored = nullable.clone().restored(&old).unwrap();
        assert_eq!(restored.migrate(&old, &[7]).unwrap(), Some(7));
        // What the inner serializer migrates.
        let upgrading = Postcard::<u64>::default().upgrading(|old: u32| u64::from(old));
        let upgrading = Nullable::new(upgrading);
        assert_eq!(
            upgrading.compatibility(&narrower),
            Compatibility::AfterMigration
        );
        let upgrading = upgrading.restored(&narrower).unwrap();
        assert_eq!(upgrading.migrate(&narrower, &[1, 9]).unwrap(), Some(9));
        assert_eq!(upgrading.migrate(&narrower, &[0]).unwrap(), None);
    }
}

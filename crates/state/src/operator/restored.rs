//! Reading what another serializer has written: the verdict comes before the first value.

use std::marker::PhantomData;

use crate::StateError;
use crate::serializer::{Compatibility, Serializer, SerializerSnapshot};

/// Reads values of one restored list.
pub(super) struct Decoder<'a, V, S> {
    serializer: S,
    /// Values are rewritten from what this one has written.
    migrate: Option<&'a SerializerSnapshot>,
    value: PhantomData<fn() -> V>,
}

impl<'a, V, S: Serializer<V>> Decoder<'a, V, S> {
    /// `what` names what is read, for an error.
    pub(super) fn new(
        serializer: S,
        old: &'a SerializerSnapshot,
        what: impl Fn() -> String,
    ) -> Result<Self, StateError> {
        let verdict = serializer.compatibility(old);
        let migrate = match verdict {
            Compatibility::Incompatible(why) => {
                return Err(StateError::Incompatible(format!(
                    "{} cannot be read: {why}",
                    what()
                )));
            }
            Compatibility::AfterMigration => Some(old),
            Compatibility::AsIs | Compatibility::Reconfigured => None,
        };
        Ok(Self {
            serializer: serializer.restored(old)?,
            migrate,
            value: PhantomData,
        })
    }

    pub(super) fn read(&self, bytes: &[u8]) -> Result<V, StateError> {
        match self.migrate {
            Some(old) => self.serializer.migrate(old, bytes),
            None => self.serializer.deserialize(bytes),
        }
    }

    /// The serializer that goes on.
    pub(super) fn into_serializer(self) -> S {
        self.serializer
    }
}

//! How values become bytes.
//!
//! A [`Serializer`] names its layout, which goes into the checkpoint: a program that reads the state with another one is refused when it
//! opens the state, not surprised later. [`Postcard`] serves every serde type; its layout covers
//! the names and types of its fields and variants.

mod shape;
mod snapshot;

use std::marker::PhantomData;

use serde::Serialize;
use serde::de::DeserializeOwned;
use xxhash_rust::xxh3::xxh3_64;

pub use self::snapshot::{Compatibility, Resolution, SerializerSnapshot, StateKind, StateSchema};
use crate::StateError;

/// Turns values of type `T` into bytes and back.
pub trait Serializer<T>: Clone + 'static {
    /// Appends the bytes of `value` to `out`.
    fn serialize(&self, value: &T, out: &mut Vec<u8>) -> Result<(), StateError>;

    /// Reads what `serialize` wrote; refuses anything else without panicking.
    fn deserialize(&self, bytes: &[u8]) -> Result<T, StateError>;

    /// Names encoding, its version, and the type.
    fn layout(&self) -> String;

    /// What a checkpoint keeps of this serializer.
    fn snapshot(&self) -> SerializerSnapshot {
        SerializerSnapshot::opaque(self.layout())
    }

    /// Whether this serializer may go on with what `old` has written. Asked before any value is read.
    fn compatibility(&self, old: &SerializerSnapshot) -> Compatibility {
        self.snapshot().compatibility(old)
    }

    /// This serializer as it has to be to read what `old` has written and to go on from it. Called once, before any value is read, after
    /// a verdict other than `Incompatible`.
    fn restored(self, old: &SerializerSnapshot) -> Result<Self, StateError> {
        let _ = old;
        Ok(self)
    }

    /// Reads one value that `old` has written: after the verdict `AfterMigration`.
    fn migrate(&self, old: &SerializerSnapshot, bytes: &[u8]) -> Result<T, StateError> {
        let _ = bytes;
        Err(StateError::Incompatible(format!(
            "a value written as `{}` cannot be migrated to `{}`",
            old.describe(),
            self.snapshot().describe()
        )))
    }
}

/// serde values in postcard's format (version 1).
pub struct Postcard<T> {
    layout: Option<String>,
    value: PhantomData<fn() -> T>,
}

impl<T> Clone for Postcard<T> {
    fn clone(&self) -> Self {
        Self {
            layout: self.layout.clone(),
            value: PhantomData,
        }
    }
}

impl<T> Default for Postcard<T> {
    fn default() -> Self {
        Self {
            layout: None,
            value: PhantomData,
        }
    }
}

impl<T> Postcard<T> {
    /// A serializer whose layout is `name` instead of the name and shape of the type: for types whose bytes stay the same although
    /// a field or the type is renamed. Give it a new name when the bytes change.
    pub fn named(name: impl Into<String>) -> Self {
        Self {
            layout: Some(name.into()),
            value: PhantomData,
        }
    }
}

impl<T: Serialize + DeserializeOwned + 'static> Serializer<T> for Postcard<T> {
    fn serialize(&self, value: &T, out: &mut Vec<u8>) -> Result<(), StateError> {
        let buffer = std::mem::take(out);
        *out = postcard::to_extend(value, buffer).map_err(|error| {
            StateError::Usage(format!(
                "a value of type {} cannot be serialized: {error}",
                std::any::type_name::<T>()
            ))
        })?;
        Ok(())
    }

    fn deserialize(&self, bytes: &[u8]) -> Result<T, StateError> {
        let corrupt = |what: &str| {
            StateError::Corrupt(format!(
                "{} bytes of state do not hold a {}: {what}",
                bytes.len(),
                std::any::type_name::<T>()
            ))
        };
        match postcard::take_from_bytes(bytes) {
            Ok((value, [])) => Ok(value),
            Ok((_, rest)) => Err(corrupt(&format!("{} bytes are left over", rest.len()))),
            Err(error) => Err(corrupt(&error.to_string())),
        }
    }

    fn layout(&self) -> String {
        let name = match &self.layout {
            Some(name) => return format!("postcard-1:{name}"),
            None => short_type_name(std::any::type_name::<T>()),
        };
        // Plain types are their name; of others the shape would be long, and only whether it has changed matters.
        match shape::shape::<T>() {
            Some(shape) if shape.contains('{') || shape.contains('/') => {
                let digest = xxh3_64(shape.as_bytes());
                format!("postcard-1:{name}#{digest:016x}")
            }
            _ => format!("postcard-1:{name}"),
        }
    }
}

/// Drops the paths of a type's name (`alloc::string::String` is `String`), so that moving a type or a new compiler does not change it.
fn short_type_name(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    let mut word = 0;
    for c in name.chars() {
        if c == ':' {
            out.truncate(word);
        } else {
            out.push(c);
            if !(c.is_alphanumeric() || c == '_') {
                word = out.len();
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_survive_and_other_bytes_do_not_pass() {
        type Value = (i64, Option<String>, Vec<u32>);
        let serializer = Postcard::<Value>::default();
        let value: Value = (-5, Some("ü".into()), vec![1, 2, 3]);
        let mut bytes = b"kept".to_vec();
        serializer.serialize(&value, &mut bytes).unwrap();
        let bytes = bytes.strip_prefix(b"kept").unwrap();
        assert_eq!(serializer.deserialize(bytes).unwrap(), value);
        for cut in 0..bytes.len() {
            assert!(matches!(
                serializer.deserialize(&bytes[..cut]),
                Err(StateError::Corrupt(_))
            ));
        }
        let longer = [bytes, &[0]].concat();
        assert!(matches!(
            serializer.deserialize(&longer),
            Err(StateError::Corrupt(_))
        ));
        // A length that promises more than there is must not be believed.
        let hostile = [0, 0, 0xff, 0xff, 0xff, 0xff, 0x0f];
        assert!(serializer.deserialize(&hostile).is_err());
    }

    #[test]
    fn layouts_name_types_without_their_paths() {
        assert_eq!(Postcard::<u64>::default().layout(), "postcard-1:u64");
        assert_eq!(
            Postcard::<(String, Option<Vec<i32>>)>::default().layout(),
            "postcard-1:(String, Option<Vec<i32>>)"
        );
        let limits = Postcard::<std::collections::BTreeMap<u8, Option<bool>>>::default().layout();
        let (name, digest) = limits.split_once('#').unwrap();
        assert_eq!(name, "postcard-1:BTreeMap<u8, Option<bool>>");
        assert_eq!(digest, format!("{:016x}", xxh3_64(b"{u8=>Option<bool>}")));
        assert_eq!(
            Postcard::<u64>::named("count-2").layout(),
            "postcard-1:count-2"
        );
        assert_eq!(
            short_type_name("a::B<c::d::E, &f::G, [h::I; 3]>"),
            "B<E, &G, [I; 3]>"
        );
    }
}

//! serde values in postcard's format: the smallest, by position.

mod numbers;

use std::marker::PhantomData;

use postcard::ser_flavors::Flavor;
use serde::Serialize;
use serde::de::DeserializeOwned;
use xxhash_rust::xxh3::xxh3_64;

use super::shape::{Identify, Shape, refusal, same_bytes, shortened, trace};
use super::{Compatibility, Serializer, SerializerSnapshot, Upgrading, short_type_name};
use crate::StateError;

/// Of the snapshots' encoding.
pub(super) const ENCODING: &str = "postcard-1";
/// The payload is a shape.
const BY_SHAPE: u32 = 1;
/// The payload is a name, a zero byte, and a shape if there is one.
const BY_NAME: u32 = 2;

/// serde values in postcard's format (version 1).
///
/// The bytes hold neither names nor types, so a state goes on only if fields and variants are the same in the same order; an enum may
/// have got more variants at its end. Names of types do not matter. [`Postcard::upgrading`] reads what an older
/// type wrote; [`super::Tagged`] reads it without being told.
pub struct Postcard<T> {
    name: Option<String>,
    value: PhantomData<fn() -> T>,
}

impl<T> Clone for Postcard<T> {
    fn clone(&self) -> Self {
        Self {
            name: self.name.clone(),
            value: PhantomData,
        }
    }
}

impl<T> Default for Postcard<T> {
    fn default() -> Self {
        Self {
            name: None,
            value: PhantomData,
        }
    }
}

impl<T> Postcard<T> {
    /// A serializer that goes on from what one of the same name has written, whatever the types are: for types whose bytes stay the same
    /// although a field is renamed. Give it a new name when the bytes change.
    pub fn named(name: impl Into<String>) -> Self {
        Self {
            name: Some(name.into()),
            value: PhantomData,
        }
    }

    /// Also reads what was written of the older type `Old`: each value is read once, upgraded, and written anew when the state is opened.
    pub fn upgrading<Old>(
        self,
        upgrade: impl Fn(Old) -> T + Send + Sync + 'static,
    ) -> Upgrading<T, Self>
    where
        T: Serialize + DeserializeOwned + 'static,
        Old: Serialize + DeserializeOwned + 'static,
    {
        Upgrading::new(self).from(Postcard::<Old>::default(), upgrade)
    }
}

/// What postcard's snapshots say.
struct Said<'a> {
    name: Option<&'a str>,
    shape: Option<Shape>,
}

fn said(snapshot: &SerializerSnapshot) -> Option<Said<'_>> {
    if snapshot.encoding != ENCODING {
        return None;
    }
    let text = std::str::from_utf8(&snapshot.payload).ok()?;
    let (name, shape) = match snapshot.version {
        BY_SHAPE => (None, text),
        BY_NAME => {
            let (name, shape) = text.rsplit_once('\0')?;
            (Some(name), shape)
        }
        _ => return None,
    };
    Some(Said {
        name,
        shape: Shape::parse(shape).ok(),
    })
}

/// The shape that a snapshot of this encoding tells.
pub(crate) fn shape_of(snapshot: &SerializerSnapshot) -> Option<Shape> {
    said(snapshot)?.shape
}

/// Where postcard puts its bytes.
struct Appended<'a>(&'a mut Vec<u8>);

impl Flavor for Appended<'_> {
    type Output = ();

    #[inline]
    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.0.push(byte);
        Ok(())
    }

    #[inline]
    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}

/// Appends any value; nothing if it fails.
fn append<T: Serialize>(value: &T, out: &mut Vec<u8>) -> Result<(), StateError> {
    let from = out.len();
    postcard::serialize_with_flavor(value, Appended(out)).map_err(|error| {
        out.truncate(from);
        StateError::Usage(format!(
            "a value of type {} cannot be serialized: {error}",
            std::any::type_name::<T>()
        ))
    })
}

/// Reads any value.
fn take<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, StateError> {
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

impl<T: Serialize + DeserializeOwned + 'static> Serializer<T> for Postcard<T> {
    #[inline]
    fn serialize(&self, value: &T, out: &mut Vec<u8>) -> Result<(), StateError> {
        if numbers::write(value, out) {
            return Ok(());
        }
        append(value, out)
    }

    // Of a number little more than the number is left of it; of anything else, a call.
    #[inline(always)]
    fn deserialize(&self, bytes: &[u8]) -> Result<T, StateError> {
        match numbers::read(bytes) {
            Some(number) => Ok(number),
            None => take(bytes),
        }
    }

    fn layout(&self) -> String {
        let name = match &self.name {
            Some(name) => return format!("{ENCODING}:{name}"),
            None => short_type_name(std::any::type_name::<T>()),
        };
        // Plain types are their name; of others the shape would be long, and only whether it has changed matters.
        match trace::<T>(Identify::ByNumber).map(|traced| traced.shape.to_string()) {
            Some(shape) if shape.contains(['{', '|']) => {
                let digest = xxh3_64(shape.as_bytes());
                format!("{ENCODING}:{name}#{digest:016x}")
            }
            _ => format!("{ENCODING}:{name}"),
        }
    }

    fn snapshot(&self) -> SerializerSnapshot {
        let shape = trace::<T>(Identify::ByNumber).map(|traced| traced.shape.to_string());
        let (version, payload) = match (&self.name, shape) {
            (Some(name), shape) => (BY_NAME, format!("{name}\0{}", shape.unwrap_or_default())),
            (None, Some(shape)) => (BY_SHAPE, shape),
            (None, None) => return SerializerSnapshot::opaque(self.layout()),
        };
        SerializerSnapshot {
            encoding: ENCODING.into(),
            version,
            payload: payload.into_bytes(),
        }
    }

    fn compatibility(&self, old: &SerializerSnapshot) -> Compatibility {
        let new = self.snapshot();
        if new == *old {
            return Compatibility::AsIs;
        }
        let (Some(was), Some(is)) = (said(old), said(&new)) else {
            return new.compatibility(old);
        };
        if was.name.is_some() || is.name.is_some() {
            return if was.name == is.name {
                Compatibility::Reconfigured
            } else {
                new.compatibility(old)
            };
        }
        let (Some(was), Some(is)) = (was.shape, is.shape) else {
            return new.compatibility(old);
        };
        match same_bytes(&was, &is) {
            Ok(()) => Compatibility::Reconfigured,
            Err(what) => {
                Compatibility::Incompatible(refusal(&shortened(&was), &shortened(&is), &what))
            }
        }
    }
}

#[cfg(test)]
mod tests;

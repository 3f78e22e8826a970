//! serde values that say what they are: types may change without a rewrite of the state.
//!
//! Every value begins with a byte that tells its kind; fields and variants carry the number of their name in a dictionary, which the checkpoint
//! keeps and which only grows. The bytes are in `docs/format/serializers.md`.

mod dictionary;
mod read;
mod tags;
mod write;

use std::marker::PhantomData;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use self::dictionary::Dictionary;
use super::shape::{
    Identify, Probe, Shape, Step, Traced, readable_by_name, refusal, shortened, trace,
};
use super::{Compatibility, Serializer, SerializerSnapshot, short_type_name};
use crate::StateError;
use crate::encoding::{Reader, put_bytes, put_u64};

/// Of the snapshots' encoding.
pub(super) const ENCODING: &str = "tagged-1";

/// serde values that say what they are, for types that will change.
///
/// A restored state goes on, and old rows stay as they are, if the type has
/// * new fields that are options or have `#[serde(default)]`, lost fields, or its fields in another order;
/// * fields with another name, if `#[serde(alias = "…")]` tells the old one;
/// * wider numbers (`u32` to `u64` or `i64`, `f32` to `f64`), `T` where there was `T` and is now `Option<T>`;
/// * new variants, or variants in another order.
///
/// That holds at any depth. Anything else is refused when the state is opened, before a value is read. A value takes a little more than with
/// [`super::Postcard`]: a byte per field, and one for what has no byte of its own.
///
/// ```
/// use aquifer_state::serializer::{Serializer, Tagged};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize)]
/// struct Before { owner: String, cents: u32 }
/// #[derive(Serialize, Deserialize)]
/// struct After { cents: u64, #[serde(default)] blocked: bool, owner: String }
///
/// # fn main() -> Result<(), aquifer_state::StateError> {
/// let before = Tagged::<Before>::default();
/// let mut bytes = Vec::new();
/// before.serialize(&Before { owner: "ada".into(), cents: 5 }, &mut bytes)?;
///
/// let after = Tagged::<After>::default().restored(&before.snapshot())?;
/// let value = after.deserialize(&bytes)?;
/// assert_eq!((value.cents, value.blocked, value.owner.as_str()), (5, false, "ada"));
/// # Ok(())
/// # }
/// ```
pub struct Tagged<T> {
    form: Arc<Form>,
    value: PhantomData<fn() -> T>,
}

/// What is the same for all values.
struct Form {
    /// The type, for people and for types without a shape.
    type_name: String,
    /// `None` for types that do not accept the values by which a shape is found out: their names stand in line.
    traced: Option<Traced>,
    dictionary: Dictionary,
}

impl<T> Clone for Tagged<T> {
    fn clone(&self) -> Self {
        Self {
            form: Arc::clone(&self.form),
            value: PhantomData,
        }
    }
}

impl<T: DeserializeOwned> Default for Tagged<T> {
    fn default() -> Self {
        let traced = trace::<T>(Identify::ByName);
        let mut dictionary = Dictionary::default();
        if let Some(traced) = &traced {
            dictionary.add_names_of(&traced.shape);
        }
        Self {
            form: Arc::new(Form {
                type_name: short_type_name(std::any::type_name::<T>()),
                traced,
                dictionary,
            }),
            value: PhantomData,
        }
    }
}

/// What a snapshot of this encoding says.
struct Said {
    type_name: String,
    shape: Option<Shape>,
    dictionary: Dictionary,
}

impl Said {
    /// `None`: the snapshot is of another encoding.
    fn of(snapshot: &SerializerSnapshot) -> Result<Option<Self>, StateError> {
        if snapshot.encoding != ENCODING || snapshot.version != 1 {
            return Ok(None);
        }
        let mut reader = Reader::new("snapshot of a self-describing type", &snapshot.payload);
        let type_name = reader.text()?;
        let shape = match reader.text_at_most(Shape::TEXT_BYTES_MAX, "a shape")? {
            none if none.is_empty() => None,
            shape => Some(Shape::parse(&shape)?),
        };
        let names = reader.list::<()>(8)?;
        let mut dictionary = Dictionary::default();
        for _ in 0..names.count {
            let name = reader.text()?;
            if !dictionary.add(&name) {
                return Err(reader.wrong(&format!(
                    "name `{name}` of a dictionary is there already, or the dictionary is too large"
                )));
            }
        }
        reader.end()?;
        Ok(Some(Self {
            type_name,
            shape,
            dictionary,
        }))
    }
}

/// What values of this snapshot are, for people.
pub(super) fn described(snapshot: &SerializerSnapshot) -> Option<String> {
    let said = Said::of(snapshot).ok()??;
    Some(match said.shape {
        Some(shape) => shortened(&shape),
        None => said.type_name,
    })
}

/// The program's type.
struct Asked<'a, T> {
    traced: &'a Traced,
    value: PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned> Probe for Asked<'_, T> {
    fn aliased(&self, place: &[Step], alias: &str) -> Option<String> {
        self.traced.aliased(place, alias).map(str::to_owned)
    }

    fn may_lack(&self, place: &[Step], field: &str) -> bool {
        self.traced.may_lack::<T>(place, field)
    }

    fn may_have_more(&self, place: &[Step]) -> bool {
        self.traced.may_have_more::<T>(place)
    }
}

impl Form {
    fn snapshot(&self) -> SerializerSnapshot {
        let shape = self.traced.as_ref().map(|traced| traced.shape.to_string());
        let mut payload = Vec::new();
        put_bytes(&mut payload, self.type_name.as_bytes());
        put_bytes(&mut payload, shape.unwrap_or_default().as_bytes());
        let names = self.dictionary.names();
        put_u64(&mut payload, names.len() as u64);
        for name in names {
            put_bytes(&mut payload, name.as_bytes());
        }
        SerializerSnapshot {
            encoding: ENCODING.into(),
            version: 1,
            payload,
        }
    }

    /// With the names of `old` first.
    fn continued(&self, mut old: Dictionary) -> Self {
        for name in self.dictionary.names() {
            old.add(name);
        }
        Self {
            type_name: self.type_name.clone(),
            traced: self.traced.clone(),
            dictionary: old,
        }
    }

    fn refused(&self, old: &Said, what: &str) -> Compatibility {
        let old = match &old.shape {
            Some(shape) => shortened(shape),
            None => old.type_name.clone(),
        };
        let new = match &self.traced {
            Some(traced) => shortened(&traced.shape),
            None => self.type_name.clone(),
        };
        Compatibility::Incompatible(refusal(&old, &new, what))
    }
}

impl<T: Serialize + DeserializeOwned + 'static> Serializer<T> for Tagged<T> {
    fn serialize(&self, value: &T, out: &mut Vec<u8>) -> Result<(), StateError> {
        let from = out.len();
        write::write(value, &self.form.dictionary, out).map_err(|error| {
            out.truncate(from);
            StateError::Usage(format!(
                "a value of type {} cannot be serialized: {error}",
                std::any::type_name::<T>()
            ))
        })
    }

    fn deserialize(&self, bytes: &[u8]) -> Result<T, StateError> {
        read::read(bytes, &self.form.dictionary).map_err(|error| {
            StateError::Corrupt(format!(
                "{} bytes of state do not hold a {}: {error}",
                bytes.len(),
                std::any::type_name::<T>()
            ))
        })
    }

    fn layout(&self) -> String {
        format!("{ENCODING}:{}", self.form.type_name)
    }

    fn snapshot(&self) -> SerializerSnapshot {
        self.form.snapshot()
    }

    fn compatibility(&self, old: &SerializerSnapshot) -> Compatibility {
        let said = match Said::of(old) {
            Ok(Some(said)) => said,
            Ok(None) => return self.snapshot().compatibility(old),
            Err(error) => return Compatibility::Incompatible(error.to_string()),
        };
        match (&said.shape, &self.form.traced) {
            (Some(shape), Some(traced)) => {
                let asked = Asked::<T> {
                    traced,
                    value: PhantomData,
                };
                if let Err(what) = readable_by_name(shape, &traced.shape, &asked) {
                    return self.form.refused(&said, &what);
                }
            }
            _ if said.type_name == self.form.type_name => {}
            _ => {
                let what = "what fields it has cannot be found out, so its name decides";
                return self.form.refused(&said, what);
            }
        }
        match self.form.continued(said.dictionary).snapshot() == *old {
            true => Compatibility::AsIs,
            false => Compatibility::Reconfigured,
        }
    }

    fn restored(self, old: &SerializerSnapshot) -> Result<Self, StateError> {
        let Some(said) = Said::of(old)? else {
            return Ok(self);
        };
        Ok(Self {
            form: Arc::new(self.form.continued(said.dictionary)),
            value: PhantomData,
        })
    }
}

#[cfg(test)]
mod tests;

//! How values become bytes.
//!
//! A [`Serializer`] says of itself what it writes, which goes into the checkpoint: a program whose serializer cannot go on from that is refused
//! when it opens the state, not surprised later.
//!
//! | | types | bytes | when the type changes |
//! |---|---|---|---|
//! | [`Postcard`] | serde | positions only, smallest | variants may be added at the end; else refused, or rewritten with [`Upgrading`] |
//! | [`Tagged`] | serde | each value says what it is, fields by number of their name | fields and variants may come, go and change places, numbers become wider, values optional; nothing is rewritten |
//! | [`Plain`] | numbers, `bool`, text, bytes | the bare bytes | refused |
//! | [`Nullable`] | options of what another serializer writes | one byte more | as the other says |
//! | `ArrowRow` (feature `arrow`) | rows of an Arrow schema | columns in order | columns may come, go, change places and become wider; nothing is rewritten |

#[cfg(feature = "arrow")]
mod arrow_row;
mod nullable;
mod plain;
mod postcard;
pub mod shape;
mod snapshot;
mod tagged;
mod upgrading;

#[cfg(feature = "arrow")]
pub use self::arrow_row::{ArrowRow, Cell};
pub use self::nullable::Nullable;
pub use self::plain::{Plain, PlainValue};
pub use self::postcard::Postcard;
pub(crate) use self::postcard::shape_of as postcard_shape;
pub use self::snapshot::{Compatibility, Resolution, SerializerSnapshot, StateKind, StateSchema};
pub use self::tagged::Tagged;
pub use self::upgrading::Upgrading;
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

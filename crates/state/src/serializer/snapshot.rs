//! What a checkpoint keeps of serializers, and what becomes of a state when they have changed.
//!
//! A serializer says of itself what it writes ([`SerializerSnapshot`]). When a state is restored, the serializer of the program looks at what
//! the checkpoint says and gives a verdict ([`Compatibility`]) before any value is read; [`StateSchema::resolve`] puts the verdicts
//! on key, namespace, user key and value together. The bytes are in `docs/format/metadata.md`; decoders trust nothing.

mod codec;

use crate::StateError;

/// What a serializer says of what it writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SerializerSnapshot {
    /// Name and version of the encoding: `postcard-1`, `tagged-1`, `plain-1`, `arrow-row-1`, `columns-1`, `nullable-1`,
    /// `raw`, `opaque`.
    pub encoding: String,
    /// Version of the payload, which the encoding numbers.
    pub version: u32,
    /// What the encoding wants to know again: names of types and fields, mostly as text. At most [`Self::PAYLOAD_BYTES_MAX`].
    pub payload: Vec<u8>,
}

impl SerializerSnapshot {
    /// Bytes of a payload at most.
    pub const PAYLOAD_BYTES_MAX: usize = 1 << 20;
    /// Bytes of an encoding's name at most.
    pub const ENCODING_BYTES_MAX: usize = 256;

    /// A snapshot that is compared and never looked into: `layout` names encoding, version and type.
    pub fn opaque(layout: impl Into<String>) -> Self {
        Self {
            encoding: "opaque".into(),
            version: 1,
            payload: layout.into().into_bytes(),
        }
    }

    /// Bytes that only their user understands.
    pub fn raw() -> Self {
        Self {
            encoding: "raw".into(),
            version: 1,
            payload: Vec::new(),
        }
    }

    /// Nothing is written at all: the namespace of states that have none.
    pub fn void() -> Self {
        Self {
            encoding: "void".into(),
            version: 1,
            payload: Vec::new(),
        }
    }

    /// The verdict of a serializer that reads nothing but its own kind.
    pub fn compatibility(&self, old: &Self) -> Compatibility {
        if self == old {
            Compatibility::AsIs
        } else {
            Compatibility::Incompatible(format!(
                "it was written as `{}` and the program now expects `{}`",
                old.describe(),
                self.describe()
            ))
        }
    }

    /// An error if a checkpoint cannot hold this: what is written must be what is read.
    pub(crate) fn check_size(&self) -> Result<(), StateError> {
        for (what, bytes, bytes_max) in [
            (
                "the name of an encoding",
                self.encoding.len(),
                Self::ENCODING_BYTES_MAX,
            ),
            (
                "what a serializer says of itself",
                self.payload.len(),
                Self::PAYLOAD_BYTES_MAX,
            ),
        ] {
            if bytes > bytes_max {
                return Err(StateError::Usage(format!(
                    "{what} (`{}`) has {bytes} bytes, expected at most {bytes_max}",
                    self.encoding.chars().take(40).collect::<String>()
                )));
            }
        }
        Ok(())
    }

    /// For people.
    pub fn describe(&self) -> String {
        // Options within options: nobody means more of them, and bytes may say anything.
        const OPTIONS_MAX: usize = 8;
        let mut text = String::new();
        let mut within: Option<Self> = None;
        for _ in 0..OPTIONS_MAX {
            match super::nullable::inner(within.as_ref().unwrap_or(self)) {
                Some(inner) => within = Some(inner),
                None => break,
            }
            text.push_str("Option of ");
        }
        text + &within.as_ref().unwrap_or(self).describe_plain()
    }

    /// The same of one that is not taken apart.
    fn describe_plain(&self) -> String {
        const TEXT_CHARS_MAX: usize = 200;
        if let Some(tagged) = super::tagged::described(self) {
            return format!("{}:{tagged}", self.encoding);
        }
        // What follows a zero byte is not a name.
        let text = std::str::from_utf8(&self.payload).ok();
        let text = text.and_then(|text| text.split('\0').next());
        let text = text.filter(|text| !text.chars().any(char::is_control));
        match text {
            Some("") => self.encoding.clone(),
            Some(text) if self.encoding == "opaque" && text.len() <= TEXT_CHARS_MAX => {
                text.to_owned()
            }
            Some(text) if text.len() <= TEXT_CHARS_MAX => format!("{}:{text}", self.encoding),
            _ => {
                let digest = xxhash_rust::xxh3::xxh3_64(&self.payload);
                format!("{}.{}#{digest:016x}", self.encoding, self.version)
            }
        }
    }
}

/// Whether a serializer may go on with what another one has written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Compatibility {
    /// It reads the bytes as they are, and writes the same.
    AsIs,
    /// It reads the bytes as they are once it knows what wrote them (`Serializer::restored`); nothing is rewritten.
    Reconfigured,
    /// It reads each value once with `Serializer::migrate`, and all are rewritten.
    AfterMigration,
    /// It cannot. The text says what was written and what is expected, in the user's words.
    Incompatible(String),
}

/// What kind of state a table holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StateKind {
    /// One value per key and namespace.
    Value,
    /// Chunks of elements per key and namespace.
    List,
    /// Entries by user key, per key and namespace.
    Map,
    /// One value per key and namespace, to which values are added.
    Reducing,
    /// One accumulator per key and namespace; also folding state.
    Aggregating,
    /// Timers.
    Timers,
    /// Rows that only their user understands.
    Raw,
}

impl StateKind {
    /// All kinds with their codes in files.
    const CODES: [(Self, u8, &'static str); 7] = [
        (Self::Raw, 0, "raw table"),
        (Self::Value, 1, "value state"),
        (Self::List, 2, "list state"),
        (Self::Map, 3, "map state"),
        (Self::Reducing, 4, "reducing state"),
        (Self::Aggregating, 5, "aggregating state"),
        (Self::Timers, 6, "timers"),
    ];

    fn entry(self) -> (Self, u8, &'static str) {
        let found = Self::CODES.into_iter().find(|(kind, ..)| *kind == self);
        found.unwrap_or((Self::Raw, 0, "raw table"))
    }

    /// For people.
    pub fn name(self) -> &'static str {
        self.entry().2
    }
}

/// What a checkpoint knows of the types of a state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateSchema {
    /// Kind of state, hence the layout of its rows.
    pub kind: StateKind,
    /// Of the key.
    pub key: SerializerSnapshot,
    /// Of the namespace.
    pub namespace: SerializerSnapshot,
    /// Of the user key of a map.
    pub user_key: Option<SerializerSnapshot>,
    /// Of the value, element or accumulator.
    pub value: SerializerSnapshot,
    /// Whether the rows have a time to live.
    pub ttl: bool,
    /// When rows without a time count as written: the moment at which a TTL was first wanted of them.
    pub untimed_as_ms: Option<i64>,
}

/// What has to be done before a restored state is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// Nothing.
    AsIs,
    /// The value's serializer must be told of its predecessor.
    Reconfigured,
    /// The state must be rewritten.
    AfterMigration,
}

impl StateSchema {
    /// Of a table whose rows only its user understands.
    pub fn raw(layout: &str) -> Self {
        Self {
            kind: StateKind::Raw,
            key: SerializerSnapshot::raw(),
            namespace: SerializerSnapshot::void(),
            user_key: None,
            value: SerializerSnapshot::opaque(layout),
            ttl: false,
            untimed_as_ms: None,
        }
    }

    /// An error if a checkpoint cannot hold what a part says of itself.
    pub(crate) fn check_size(&self) -> Result<(), StateError> {
        [&self.key, &self.namespace, &self.value]
            .into_iter()
            .chain(&self.user_key)
            .try_for_each(SerializerSnapshot::check_size)
    }

    /// The same with what its user says of the rows, for whoever looks into a checkpoint; whether a restored table fits is still decided
    /// by the text of its layout alone.
    pub fn rows(
        key: SerializerSnapshot,
        user_key: Option<SerializerSnapshot>,
        value: SerializerSnapshot,
    ) -> Self {
        Self {
            key,
            user_key,
            value,
            ..Self::raw("")
        }
    }

    /// Whether a program that wants `new` may go on with a state that was written as `self` says. `value` is the verdict of the value's
    /// serializer. Kind, key, namespace and user key must be the same, because rows are found by them. The error says which
    /// part is in the way; whoever knows the names of operator and state puts them before it.
    pub fn resolve(&self, new: &Self, value: &Compatibility) -> Result<Resolution, StateError> {
        if self.kind != new.kind {
            return Err(StateError::Incompatible(format!(
                "it was written as {} and the program now expects {}",
                self.kind.name(),
                new.kind.name()
            )));
        }
        for (part, old, new) in [
            ("key", Some(&self.key), Some(&new.key)),
            ("namespace", Some(&self.namespace), Some(&new.namespace)),
            ("user key", self.user_key.as_ref(), new.user_key.as_ref()),
        ] {
            if old != new {
                let name = |one: Option<&SerializerSnapshot>| {
                    one.map_or_else(|| "nothing".to_owned(), SerializerSnapshot::describe)
                };
                return Err(StateError::Incompatible(format!(
                    "its {part} was written as `{}` and the program now expects `{}`",
                    name(old),
                    name(new)
                )));
            }
        }
        match value {
            Compatibility::AsIs => Ok(Resolution::AsIs),
            Compatibility::Reconfigured => Ok(Resolution::Reconfigured),
            Compatibility::AfterMigration => Ok(Resolution::AfterMigration),
            Compatibility::Incompatible(why) => Err(StateError::Incompatible(why.clone())),
        }
    }

    /// The schema under which a state goes on that was written as `self` says and is now wanted as `new`: types are the new ones. A
    /// TTL that goes on keeps the time that untimed rows count from, so that a second restore does not give them a new life; a TTL that
    /// `begins`, because it is switched on or counts in another time than before, counts them from `now_ms`, which is now in that time.
    pub fn succeeded_by(&self, new: &Self, now_ms: Option<i64>, begins: bool) -> Self {
        Self {
            untimed_as_ms: match (new.ttl, begins) {
                (false, _) => None,
                (true, false) => self.untimed_as_ms,
                (true, true) => now_ms,
            },
            ..new.clone()
        }
    }
}

#[cfg(test)]
mod tests;

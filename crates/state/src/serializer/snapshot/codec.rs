//! Bytes of schemas, as they stand in `_metadata` and travel between workers (`docs/format/metadata.md`).

use super::{SerializerSnapshot, StateKind, StateSchema};
use crate::StateError;
use crate::encoding::{Reader, put_bytes, put_u32};

const FORMAT_VERSION: u8 = 1;
const HAS_USER_KEY: u8 = 1;
const HAS_TTL: u8 = 2;
const HAS_UNTIMED: u8 = 4;

impl SerializerSnapshot {
    /// Appends the snapshot to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_bytes(out, self.encoding.as_bytes());
        put_u32(out, self.version);
        put_bytes(out, &self.payload);
    }

    /// Reads what `encode` wrote; any other bytes are an error.
    pub fn decode(bytes: &[u8]) -> Result<Self, StateError> {
        let mut reader = Reader::new("snapshot of a serializer", bytes);
        let snapshot = Self::read(&mut reader)?;
        reader.end()?;
        Ok(snapshot)
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, StateError> {
        let encoding = reader.text_at_most(Self::ENCODING_BYTES_MAX, "the name of an encoding")?;
        let version = reader.u32()?;
        let payload =
            reader.bytes_at_most(Self::PAYLOAD_BYTES_MAX, "what a serializer says of itself")?;
        Ok(Self {
            encoding,
            version,
            payload: payload.to_vec(),
        })
    }
}

impl StateSchema {
    /// Appends the schema to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(FORMAT_VERSION);
        out.push(self.kind.entry().1);
        let flag = |is_set: bool, flag: u8| if is_set { flag } else { 0 };
        out.push(
            flag(self.user_key.is_some(), HAS_USER_KEY)
                | flag(self.ttl, HAS_TTL)
                | flag(self.untimed_as_ms.is_some(), HAS_UNTIMED),
        );
        self.key.encode(out);
        self.namespace.encode(out);
        if let Some(user_key) = &self.user_key {
            user_key.encode(out);
        }
        self.value.encode(out);
        if let Some(untimed) = self.untimed_as_ms {
            out.extend_from_slice(&untimed.to_le_bytes());
        }
    }

    /// Reads what `encode` wrote; any other bytes are an error.
    pub fn decode(bytes: &[u8]) -> Result<Self, StateError> {
        let mut reader = Reader::new("schema of a state", bytes);
        let version = reader.u8()?;
        if version != FORMAT_VERSION {
            return Err(StateError::Incompatible(format!(
                "the schema of a state has format version {version}, but this version of Aquifer reads version {FORMAT_VERSION}"
            )));
        }
        let code = reader.u8()?;
        let kind = StateKind::CODES.into_iter().find(|(_, c, _)| *c == code);
        let Some((kind, ..)) = kind else {
            return Err(reader.wrong(&format!("a state is of kind {code}, but 0 to 6 are known")));
        };
        let flags = reader.u8()?;
        if flags & !(HAS_USER_KEY | HAS_TTL | HAS_UNTIMED) != 0 {
            return Err(reader.wrong(&format!("of flags {flags:#04x} some are unknown")));
        }
        let key = SerializerSnapshot::read(&mut reader)?;
        let namespace = SerializerSnapshot::read(&mut reader)?;
        let user_key = match flags & HAS_USER_KEY {
            0 => None,
            _ => Some(SerializerSnapshot::read(&mut reader)?),
        };
        let value = SerializerSnapshot::read(&mut reader)?;
        let untimed_as_ms = match flags & HAS_UNTIMED {
            0 => None,
            _ => Some(reader.i64()?),
        };
        reader.end()?;
        Ok(Self {
            kind,
            key,
            namespace,
            user_key,
            value,
            ttl: flags & HAS_TTL != 0,
            untimed_as_ms,
        })
    }
}

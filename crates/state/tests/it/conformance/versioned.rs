//! A serializer of which it can be said what it makes of another version of itself.
use aquifer_state::StateError;
use aquifer_state::serializer::{Compatibility, Serializer, SerializerSnapshot};

/// Writes its version before each number, and reads no other version but where it migrates.
#[derive(Clone)]
pub struct Versioned {
    pub version: u32,
    /// What it says of whatever was there before.
    pub verdict: Compatibility,
}

impl Versioned {
    pub fn new(version: u32, verdict: Compatibility) -> Self {
        Self { version, verdict }
    }
}

impl Serializer<i64> for Versioned {
    fn serialize(&self, value: &i64, out: &mut Vec<u8>) -> Result<(), StateError> {
        out.extend_from_slice(format!("v{}:{value}", self.version).as_bytes());
        Ok(())
    }

    fn deserialize(&self, bytes: &[u8]) -> Result<i64, StateError> {
        let text = std::str::from_utf8(bytes).unwrap();
        let own = text.strip_prefix(&format!("v{}:", self.version));
        own.and_then(|value| value.parse().ok())
            .ok_or_else(|| StateError::Corrupt(text.into()))
    }

    fn layout(&self) -> String {
        format!("versioned-{}", self.version)
    }

    fn compatibility(&self, _: &SerializerSnapshot) -> Compatibility {
        self.verdict.clone()
    }

    fn migrate(&self, _: &SerializerSnapshot, bytes: &[u8]) -> Result<i64, StateError> {
        let text = std::str::from_utf8(bytes).unwrap();
        Ok(text.split_once(':').unwrap().1.parse().unwrap())
    }
}

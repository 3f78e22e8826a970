//! Fuzzes tagged values: whatever the bytes, an error or a value that is written and read again.
#![no_main]

use std::collections::BTreeMap;

use aquifer_state::serializer::{Serializer, Tagged};

type Value = Vec<(
    u64,
    Option<Option<String>>,
    BTreeMap<i16, Result<i128, char>>,
)>;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let tagged = Tagged::<Value>::default();
    if let Ok(value) = tagged.deserialize(data) {
        let mut bytes = Vec::new();
        tagged.serialize(&value, &mut bytes).unwrap();
        assert_eq!(tagged.deserialize(&bytes).unwrap(), value);
    }
});

//! Fuzzes reading values of state without the program that wrote them: what a checkpoint says of a serializer, then bytes of a value or key.
#![no_main]

use aquifer_state::dynamic::DynamicType;
use aquifer_state::serializer::SerializerSnapshot;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Some((&[low, high], rest)) = data.split_first_chunk() else {
        return;
    };
    let cut = usize::from(u16::from_le_bytes([low, high])).min(rest.len());
    let (snapshot, value) = rest.split_at(cut);
    let Ok(snapshot) = SerializerSnapshot::decode(snapshot) else {
        return;
    };
    if let Ok(read) = DynamicType::parse(&snapshot).decode(value) {
        let _ = read.to_string();
    }
    let kind = DynamicType::parse_key(&snapshot);
    if let Ok(key) = kind.decode(value) {
        // What was read as a key is one; of NaNs there is only one.
        if let Ok(bytes) = kind.encode_key(&key) {
            assert_eq!(kind.decode(&bytes).unwrap().to_string(), key.to_string());
        }
        let _ = kind.key_group(&key, 128);
    }
    if let Ok(text) = std::str::from_utf8(value) {
        let _ = kind.parse_text(text);
    }
});

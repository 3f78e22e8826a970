//! What reads bytes of state as functions of bytes: for `hostile`, and for the fuzz targets of the same names.
//!
//! On any bytes a target returns: no panic, no endless loop, no memory far beyond what it was given. What it could read it writes and reads
//! again, and both are the same.
use std::collections::BTreeMap;
use std::net::IpAddr;

use aquifer_state::dynamic::DynamicType;
use aquifer_state::serializer::shape::Shape;
use aquifer_state::serializer::{Nullable, Postcard, Serializer, SerializerSnapshot, Tagged};

/// A type with much in it that a format must tell apart.
pub type Value = Vec<(
    u64,
    Option<Option<String>>,
    BTreeMap<i16, Result<i128, char>>,
)>;

/// Tagged values: an error, or a value that is written and read again.
pub fn tagged_value(data: &[u8]) {
    let tagged = Tagged::<Value>::default();
    if let Ok(value) = tagged.deserialize(data) {
        let mut bytes = Vec::new();
        tagged.serialize(&value, &mut bytes).unwrap();
        assert_eq!(tagged.deserialize(&bytes).unwrap(), value);
    }
}

/// What checkpoints keep of serializers: decoding, and the verdicts of serializers on whatever comes out.
pub fn serializer_snapshot(data: &[u8]) {
    if let Ok(shape) = std::str::from_utf8(data)
        .map_err(|_| ())
        .and_then(|text| Shape::parse(text).map_err(|_| ()))
    {
        assert_eq!(Shape::parse(&shape.to_string()).unwrap(), shape);
    }
    let Ok(snapshot) = SerializerSnapshot::decode(data) else {
        return;
    };
    let mut bytes = Vec::new();
    snapshot.encode(&mut bytes);
    assert_eq!(bytes, data);
    let _ = snapshot.describe();
    let _ = Postcard::<IpAddr>::default().compatibility(&snapshot);
    let _ = Nullable::new(Tagged::<IpAddr>::default()).compatibility(&snapshot);
    let _ = Tagged::<IpAddr>::default().compatibility(&snapshot);
    let _ = Tagged::<IpAddr>::default().restored(&snapshot);
}

/// Values without the program that wrote them: what a checkpoint says of a serializer, then bytes of a value or key. The first two bytes say
/// where the one ends and the other begins.
pub fn dynamic_value(data: &[u8]) {
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
}

/// The input of `dynamic_value` for a serializer and a value.
fn described(snapshot: &SerializerSnapshot, value: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    snapshot.encode(&mut bytes);
    let cut = bytes.len() as u16;
    [&cut.to_le_bytes()[..], &bytes, value].concat()
}

fn sample_value() -> Value {
    let results = [(-7, Ok(i128::MIN)), (0, Err('ü')), (300, Ok(1))];
    vec![
        (u64::MAX, None, BTreeMap::new()),
        (0, Some(None), results.into_iter().collect()),
        (1 << 40, Some(Some("a longer text".into())), BTreeMap::new()),
    ]
}

/// Valid inputs to start from.
pub fn samples() -> Vec<(&'static str, Vec<u8>)> {
    let mut samples = Vec::new();
    fn written<V, S: Serializer<V>>(serializer: &S, value: &V) -> (SerializerSnapshot, Vec<u8>) {
        let mut bytes = Vec::new();
        serializer.serialize(value, &mut bytes).unwrap();
        (serializer.snapshot(), bytes)
    }
    let mut add = |(snapshot, value): (SerializerSnapshot, Vec<u8>)| {
        let mut bytes = Vec::new();
        snapshot.encode(&mut bytes);
        samples.push(("serializer_snapshot", bytes));
        samples.push(("dynamic_value", described(&snapshot, &value)));
    };
    let address: IpAddr = "2001:db8::7".parse().unwrap();
    let value = sample_value();
    add(written(&Tagged::default(), &value));
    add(written(&Tagged::default(), &address));
    add(written(&Postcard::default(), &value));
    add(written(&Postcard::default(), &address));
    add(written(
        &Nullable::new(Tagged::<Value>::default()),
        &Some(value.clone()),
    ));
    add(written(
        &Postcard::default(),
        &(1.5f32, -0.0f64, "x".to_owned()),
    ));
    for (key, bytes) in [
        ("u64", vec![0, 0, 0, 0, 0, 0, 1, 0]),
        ("str", b"key\0\x01".to_vec()),
        ("(i32,str)", b"\x80\0\0\x05k\0\x01".to_vec()),
    ] {
        add((SerializerSnapshot::opaque(key), bytes));
    }
    let text = "V1{owner:str,cents:u64,more:map<u8,option<seq<(f32,bool)>>>}";
    samples.push(("serializer_snapshot", text.into()));
    samples.push(("tagged_value", written(&Tagged::default(), &value).1));
    samples
}

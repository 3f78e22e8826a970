//! Fuzzes what checkpoints keep of serializers: decoding, and the verdicts of serializers on whatever comes out.
#![no_main]

use std::net::IpAddr;

use aquifer_state::serializer::shape::Shape;
use aquifer_state::serializer::{Nullable, Postcard, Serializer, SerializerSnapshot, Tagged};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
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
});

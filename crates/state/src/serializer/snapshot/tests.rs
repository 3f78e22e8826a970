//! Schemas survive being written; verdicts are given part by part.

use super::*;

fn full() -> StateSchema {
    StateSchema {
        kind: StateKind::Map,
        key: SerializerSnapshot::opaque("String"),
        namespace: SerializerSnapshot::opaque("i64"),
        user_key: Some(SerializerSnapshot::opaque("u32")),
        value: SerializerSnapshot {
            encoding: "tagged-1".into(),
            version: 7,
            payload: vec![0, 255, 3],
        },
        ttl: true,
        untimed_as_ms: Some(-5),
    }
}

fn encoded(schema: &StateSchema) -> Vec<u8> {
    let mut bytes = Vec::new();
    schema.encode(&mut bytes);
    bytes
}

/// Bytes alone led into a recursion that ended the process.
#[test]
fn options_of_options_without_end_are_described() {
    const LEVELS: usize = 30_000;
    let mut inner = Vec::new();
    SerializerSnapshot::opaque("i64").encode(&mut inner);
    // What a level has in front of the next.
    let level = |payload: usize| {
        let mut bytes = Vec::new();
        let nothing = SerializerSnapshot {
            encoding: "nullable-1".into(),
            version: 1,
            payload: Vec::new(),
        };
        nothing.encode(&mut bytes);
        let at = bytes.len() - size_of::<u64>();
        bytes[at..].copy_from_slice(&(payload as u64).to_le_bytes());
        bytes
    };
    let level_bytes = level(0).len();
    let mut payload = Vec::new();
    for left in (0..LEVELS).rev() {
        payload.extend(level(left * level_bytes + inner.len()));
    }
    payload.extend(&inner);
    let endless = SerializerSnapshot {
        encoding: "nullable-1".into(),
        version: 1,
        payload,
    };
    assert!(endless.check_size().is_ok());
    let described = endless.describe();
    assert!(described.starts_with("Option of Option of "), "{described}");
    assert!(described.len() < 400, "{described}");
    // As it was for what people mean.
    let mut two = SerializerSnapshot::opaque("i64");
    for _ in 0..2 {
        let mut payload = Vec::new();
        two.encode(&mut payload);
        two = SerializerSnapshot {
            payload,
            ..endless.clone()
        };
    }
    assert_eq!(two.describe(), "Option of Option of i64");
}

#[test]
fn schemas_come_back() {
    let mut schemas = vec![full(), StateSchema::raw("i64 -> rows")];
    for (kind, ..) in StateKind::CODES {
        schemas.push(StateSchema { kind, ..full() });
    }
    for schema in schemas {
        assert_eq!(StateSchema::decode(&encoded(&schema)).unwrap(), schema);
    }
    let mut bytes = Vec::new();
    full().value.encode(&mut bytes);
    assert_eq!(SerializerSnapshot::decode(&bytes).unwrap(), full().value);
}

#[test]
fn hostile_bytes_are_errors_or_schemas_but_never_panics() {
    let good = encoded(&full());
    for length in 0..good.len() {
        assert!(
            StateSchema::decode(&good[..length]).is_err(),
            "cut at {length}"
        );
    }
    for bit in 0..good.len() * 8 {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        assert_ne!(StateSchema::decode(&bad).ok(), Some(full()), "bit {bit}");
    }
    assert!(StateSchema::decode(&[&good[..], &[0]].concat()).is_err());
    // A payload of exactly the largest size passes, one byte more does not.
    let sized = |bytes| SerializerSnapshot {
        payload: vec![1; bytes],
        ..SerializerSnapshot::opaque("")
    };
    for (bytes, passes) in [
        (SerializerSnapshot::PAYLOAD_BYTES_MAX, true),
        (SerializerSnapshot::PAYLOAD_BYTES_MAX + 1, false),
    ] {
        let mut out = Vec::new();
        sized(bytes).encode(&mut out);
        assert_eq!(SerializerSnapshot::decode(&out).is_ok(), passes, "{bytes}");
    }
}

#[test]
fn every_part_has_its_say() {
    let old = full();
    let as_is = Compatibility::AsIs;
    assert_eq!(old.resolve(&full(), &as_is).unwrap(), Resolution::AsIs);
    for (verdict, resolution) in [
        (Compatibility::Reconfigured, Resolution::Reconfigured),
        (Compatibility::AfterMigration, Resolution::AfterMigration),
    ] {
        assert_eq!(old.resolve(&full(), &verdict).unwrap(), resolution);
    }
    let other = SerializerSnapshot::opaque("other");
    let refused: [(StateSchema, &[&str]); 5] = [
        (
            StateSchema {
                kind: StateKind::Value,
                ..full()
            },
            &["map state", "value state"],
        ),
        (
            StateSchema {
                key: other.clone(),
                ..full()
            },
            &["its key", "`String`", "`other`"],
        ),
        (
            StateSchema {
                namespace: other.clone(),
                ..full()
            },
            &["its namespace", "`i64`", "`other`"],
        ),
        (
            StateSchema {
                user_key: None,
                ..full()
            },
            &["its user key", "`u32`", "`nothing`"],
        ),
        (
            StateSchema {
                user_key: Some(other),
                ..full()
            },
            &["its user key", "`u32`", "`other`"],
        ),
    ];
    for (new, says) in refused {
        let error = old.resolve(&new, &as_is).unwrap_err();
        assert!(matches!(error, StateError::Incompatible(_)));
        let text = error.to_string();
        assert!(says.iter().all(|part| text.contains(part)), "{text}");
    }
    let no = Compatibility::Incompatible("field `age` cannot be read".into());
    let error = old.resolve(&full(), &no).unwrap_err().to_string();
    assert_eq!(error, "field `age` cannot be read");
}

#[test]
fn a_ttl_counts_untimed_rows_from_when_it_was_switched_on() {
    let with = |ttl, untimed_as_ms| StateSchema {
        ttl,
        untimed_as_ms,
        ..full()
    };
    let after = |old: &StateSchema, ttl, now| {
        let begins = ttl && !old.ttl;
        let new = old.succeeded_by(&with(ttl, None), Some(now), begins);
        new.untimed_as_ms
    };
    // Off to on: from now. On to on: as before, or not at all if all rows have times. Off: not at all.
    assert_eq!(after(&with(false, None), true, 70), Some(70));
    assert_eq!(after(&with(true, Some(70)), true, 90), Some(70));
    assert_eq!(after(&with(true, None), true, 90), None);
    assert_eq!(after(&with(true, Some(70)), false, 90), None);
    assert_eq!(after(&with(false, None), false, 90), None);
    // In another time: from now, in that time, if there is a now.
    let other = |now| with(true, Some(70)).succeeded_by(&with(true, None), now, true);
    assert_eq!(other(Some(90)).untimed_as_ms, Some(90));
    assert_eq!(other(None).untimed_as_ms, None);
}

#[test]
fn a_serializer_that_reads_only_its_own_says_so_in_words() {
    let old = SerializerSnapshot::opaque("postcard-1:u64");
    assert_eq!(old.compatibility(&old), Compatibility::AsIs);
    let new = SerializerSnapshot::opaque("postcard-1:String");
    let Compatibility::Incompatible(text) = new.compatibility(&old) else {
        panic!("it is another type");
    };
    assert!(text.contains("as `postcard-1:u64`") && text.contains("expects `postcard-1:String`"));
    let binary = full().value.describe();
    assert!(binary.starts_with("tagged-1.7#"), "{binary}");
}

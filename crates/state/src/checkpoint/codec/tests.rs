//! What is written is read; what was not written is an error, whatever the bytes.

use aquifer_store::{FileRef, KeyPart, Merge};
use aquifer_testkit::Rng;
use bytes::Bytes;

use super::*;

pub(crate) fn file(path: &str, size_bytes: u64) -> FileRef {
    FileRef {
        path: path.to_owned(),
        size_bytes,
        level: 0,
        smallest: Bytes::from_static(b"\0\0a"),
        upper: Bytes::from_static(b"\0\x7fz"),
        clip: KeyGroupRange { start: 0, end: 127 },
        entries: 3,
        end_bytes: 100,
        checksum: 0x1234,
        ..FileRef::default()
    }
}

fn sample() -> CheckpointMetadata {
    let description = |state: &str, ordered| StateDescription {
        operator: "3-group-aggregate".into(),
        state: state.into(),
        options: TableOptions {
            ordered,
            merge: Merge::Fold("sum-i64".into()),
            ttl_ms: ordered.then_some(86_400_000),
            prefix: vec![
                KeyPart::Fixed(8),
                KeyPart::Optional(vec![KeyPart::Terminated]),
            ],
            ..TableOptions::default()
        },
        layout: "i64 -> (i64, i64) v1".into(),
    };
    let keyed = |start, end, names: &[&str]| {
        let files = names.iter().map(|name| file(name, 1000)).collect();
        (
            KeyGroupRange { start, end },
            KeyedSnapshot {
                files: Checkpoint {
                    files,
                    ..Checkpoint::default()
                },
            },
        )
    };
    CheckpointMetadata {
        checkpoint_id: 123,
        job_name: "größter Job".into(),
        attempt: 7,
        created_unix_ms: 1_795_000_000_123,
        parallelism: 2,
        max_parallelism: 128,
        plan: "0a1b2c".into(),
        finished: true,
        tables: vec![
            (description("accState", false), TableId(1)),
            (description("timers", true), TableId(9)),
        ],
        keyed: vec![
            keyed(0, 63, &["s/a.sst", "s/shared.sst"]),
            keyed(64, 127, &["s/b.sst", "s/shared.sst"]),
        ],
        operators: vec![
            OperatorSnapshot {
                operator: "1-source".into(),
                elements: vec![vec![], vec![0xff; 40]],
                committables: vec![],
            },
            OperatorSnapshot {
                operator: "5-sink".into(),
                elements: vec![],
                committables: vec![b"part-1".to_vec()],
            },
        ],
        origin: Origin {
            mounts: vec![MountPoint {
                name: "0f1e".into(),
                uri: "s3://other".into(),
            }],
            claimed: Some("_at/0f1e/job/run-000001/chk-000009/_metadata".into()),
            claimed_files: vec!["_at/0f1e/job/run-000001/shared/1.sst".into()],
        },
    }
}

fn empty() -> CheckpointMetadata {
    CheckpointMetadata {
        finished: false,
        job_name: String::new(),
        plan: String::new(),
        tables: vec![],
        keyed: vec![],
        operators: vec![],
        origin: Origin::default(),
        ..sample()
    }
}

/// Bytes with a checksum that fits them, as a forger would make.
fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.truncate(bytes.len() - CHECKSUM_BYTES);
    let checksum = xxh3_64(&bytes);
    put_u64(&mut bytes, checksum);
    bytes
}

#[test]
fn what_is_written_is_read() {
    for metadata in [sample(), empty()] {
        let bytes = metadata.encode();
        assert!(bytes.len() > super::super::storage::TOMBSTONE.len());
        assert_eq!(CheckpointMetadata::decode(&bytes).unwrap(), metadata);
    }
    assert_eq!(sample().files(), ["s/a.sst", "s/b.sst", "s/shared.sst"]);
    assert_eq!(sample().state_bytes(), 3000);
}

#[test]
fn the_layout_is_the_documented_one() {
    let bytes = empty().encode();
    assert_eq!(&bytes[..12], b"AQCHKPT\n\x01\0\0\0");
    assert_eq!(
        &bytes[12..22],
        b"\x01\0\x2d\0\0\0\0\0\0\0",
        "the job section's tag and length"
    );
    assert_eq!(&bytes[22..30], &123u64.to_le_bytes());
    assert_eq!(bytes.len(), 12 + (10 + 45) + 3 * (10 + 8) + (10 + 24) + 8);
}

#[test]
fn every_truncation_and_every_flipped_bit_is_an_error() {
    let bytes = sample().encode();
    for length in 0..bytes.len() {
        assert!(
            CheckpointMetadata::decode(&bytes[..length]).is_err(),
            "cut at {length}"
        );
    }
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(CheckpointMetadata::decode(&flipped).is_err(), "bit {bit}");
    }
    let mut longer = bytes;
    longer.push(0);
    assert!(CheckpointMetadata::decode(&longer).is_err());
}

#[test]
fn forged_bytes_never_panic_nor_blow_up() {
    let bytes = sample().encode();
    let mut rng = Rng::new(2);
    let mut understood = 0;
    for round in 0..20_000 {
        let mut forged = bytes.clone();
        if round % 3 == 0 {
            forged.truncate(
                HEADER_BYTES + CHECKSUM_BYTES + rng.below((bytes.len() - 20) as u64) as usize,
            );
        }
        let changes = rng.below(4);
        for _ in 0..changes {
            let at = HEADER_BYTES as u64 + rng.below((forged.len() - HEADER_BYTES) as u64);
            // Lengths and counts are hit often enough, small and huge.
            forged[at as usize] = *rng
                .pick(&[
                    0,
                    1,
                    0x7f,
                    0x80,
                    0xff,
                    (rng.clone().next_u64() & 0xff) as u8,
                ])
                .unwrap();
        }
        if let Ok(metadata) = CheckpointMetadata::decode(&sealed(forged.clone())) {
            understood += 1;
            // What was understood is sound enough to be written again and read the same.
            assert_eq!(
                CheckpointMetadata::decode(&metadata.encode()).unwrap(),
                metadata
            );
            assert!(metadata.parallelism >= 1 && metadata.parallelism <= metadata.max_parallelism);
        }
    }
    assert!(understood > 500 && understood < 20_000, "{understood}");
}

#[test]
fn announced_lengths_are_not_believed() {
    // The tables' list announces 2^60 items; the message tells both numbers.
    let mut bytes = empty().encode();
    let at = 12 + 10 + 45 + 10;
    bytes[at..at + 8].copy_from_slice(&(1u64 << 60).to_le_bytes());
    let error = CheckpointMetadata::decode(&sealed(bytes))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("table section") && error.contains("1152921504606846976 items"),
        "{error}"
    );
}

#[test]
fn other_versions_and_sections() {
    let mut newer = sample().encode();
    newer[8] = 2;
    let error = CheckpointMetadata::decode(&newer).unwrap_err();
    assert!(
        matches!(&error, StateError::Incompatible(text) if text.contains("version 2")),
        "{error}"
    );
    for (tag, accepted) in [(6u16, false), (SECTION_OPTIONAL | 6, true)] {
        for at in [HEADER_BYTES, sample().encode().len() - CHECKSUM_BYTES] {
            let mut bytes = sample().encode();
            let mut extra = tag.to_le_bytes().to_vec();
            put_bytes(&mut extra, b"new");
            bytes.splice(at..at, extra);
            let read = CheckpointMetadata::decode(&sealed(bytes));
            assert_eq!(
                read.is_ok_and(|read| read == sample()),
                accepted,
                "{tag} at {at}"
            );
        }
    }
}

#[test]
fn nonsense_is_named() {
    let cases: [(CheckpointMetadata, &str); 3] = [
        (
            CheckpointMetadata {
                parallelism: 0,
                ..sample()
            },
            "parallelism 0",
        ),
        (
            CheckpointMetadata {
                parallelism: 129,
                ..sample()
            },
            "parallelism 129",
        ),
        (
            CheckpointMetadata {
                max_parallelism: 100,
                ..sample()
            },
            "64 to 127",
        ),
    ];
    for (metadata, says) in cases {
        let error = CheckpointMetadata::decode(&metadata.encode()).unwrap_err();
        assert!(
            matches!(&error, StateError::Corrupt(text) if text.contains(says)),
            "{error}"
        );
    }
}

//! What is written is read; what was not written is an error, whatever the bytes.

use std::sync::Arc;

use aquifer_store::{Checkpoint, FileRef, KeyPart, Merge};
use aquifer_testkit::Rng;
use bytes::Bytes;

use super::*;
use crate::checkpoint::OperatorSnapshot;
use crate::operator::{NamedList, OperatorStateSnapshot, Redistribution};
use crate::serializer::{SerializerSnapshot, StateKind};
use crate::{ClosedChunks, DbFile, DbSnapshot, InlineFile, TableMoment};

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

/// Two workers with a list each, the same broadcast map, and raw streams.
fn operator_states() -> Vec<OperatorStateSnapshot> {
    let list = |name: &str, mode, elements: &[&'static [u8]]| NamedList {
        name: name.into(),
        mode,
        value: SerializerSnapshot::opaque("u64"),
        key: (mode == Redistribution::Broadcast).then(|| SerializerSnapshot::opaque("String")),
        elements: Arc::new(elements.iter().copied().map(Bytes::from_static).collect()),
    };
    let worker = |offsets: &[&'static [u8]]| OperatorStateSnapshot {
        lists: vec![
            list("offsets", Redistribution::Split, offsets),
            list(
                "rules",
                Redistribution::Broadcast,
                &[b"a rule", b"what it is"],
            ),
        ],
        raw: vec![Bytes::from_static(b"raw"), Bytes::new()],
        raw_keyed: vec![(3, Bytes::from_static(b"keyed")), (9, Bytes::new())],
    };
    vec![worker(&[b"p0", b"p1"]), worker(&[])]
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
        schema: StateSchema {
            kind: StateKind::Aggregating,
            key: SerializerSnapshot::opaque("i64"),
            namespace: SerializerSnapshot::void(),
            user_key: ordered.then(|| SerializerSnapshot::opaque("String")),
            value: SerializerSnapshot::opaque("(i64, i64)"),
            ttl: ordered,
            untimed_as_ms: ordered.then_some(1_795_000_000_000),
        },
    };
    let keyed = |start, end, names: &[&str]| {
        let files = names.iter().map(|name| file(name, 1000)).collect();
        (
            KeyGroupRange { start, end },
            KeyedSnapshot {
                tables: vec![
                    TableMoment {
                        table: TableId(1),
                        list_chunk: u64::from(end),
                        list_bytes: 1 << 40,
                        list_oldest: u64::from(start),
                        list_latest_ms: Some(1_795_000_000_001),
                        list_closed: vec![
                            ClosedChunks {
                                last: u64::from(start),
                                latest_ms: None,
                            },
                            ClosedChunks {
                                last: u64::from(end) - 1,
                                latest_ms: Some(1_795_000_000_000),
                            },
                        ],
                        event_time_ms: None,
                    },
                    TableMoment {
                        event_time_ms: Some(-7),
                        ..TableMoment::new(TableId(9))
                    },
                ],
                ..KeyedSnapshot::of_files(Checkpoint {
                    files,
                    ..Checkpoint::default()
                })
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
        kind: CheckpointKind::CanonicalSavepoint,
        backend: BackendKind::Hashmap,
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
                states: operator_states(),
            },
            OperatorSnapshot {
                operator: "5-sink".into(),
                elements: vec![],
                committables: vec![b"part-1".to_vec()],
                states: vec![],
            },
        ],
        origin: Origin {
            mounts: vec![MountPoint {
                name: "0f1e".into(),
                uri: "s3://other".into(),
            }],
            claimed: vec![
                "s/_metadata".into(),
                "_at/0f1e/job/run-000001/chk-000009/_metadata".into(),
            ],
            claimed_files: vec!["_at/0f1e/job/run-000001/shared/1.sst".into()],
        },
    }
}

/// With inline files and databases as well.
fn full() -> CheckpointMetadata {
    let mut metadata = sample();
    let [(_, first), (_, second)] = &mut metadata.keyed[..] else {
        panic!("the sample has two parts");
    };
    let inline = |name: &str, bytes: &'static [u8]| InlineFile {
        name: name.into(),
        bytes: Bytes::from_static(bytes),
    };
    let database = |operator: &str| DbSnapshot {
        operator: operator.into(),
        range: KeyGroupRange { start: 0, end: 63 },
        families: vec![("count".into(), TableId(1)), ("timers".into(), TableId(9))],
        files: vec![
            DbFile {
                name: "000012.sst".into(),
                path: "s/w0-000012".into(),
                size_bytes: 400,
                checksum: 0xfeed,
                shared: true,
            },
            DbFile {
                name: "CURRENT".into(),
                path: "s/w0-current".into(),
                size_bytes: 16,
                checksum: 1,
                shared: false,
            },
        ],
    };
    first.inline = vec![inline("w0-1.sst", b"whole"), inline("w0-2.sst", b"")];
    first.databases = vec![database("3-group-aggregate"), database("7-x")];
    second.inline = vec![inline("w1-1.sst", b"other")];
    metadata
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
    for metadata in [sample(), full(), empty()] {
        let bytes = metadata.encode();
        assert!(bytes.len() > super::super::storage::TOMBSTONE.len());
        assert_eq!(CheckpointMetadata::decode(&bytes).unwrap(), metadata);
    }
    assert_eq!(sample().files(), ["s/a.sst", "s/b.sst", "s/shared.sst"]);
    assert_eq!(sample().state_bytes(), 3000);
    assert_eq!(full().files().len(), 5);
    assert_eq!(full().state_bytes(), 3000 + 416 + 10);
    for (kind, _) in KINDS {
        for (backend, _) in BACKENDS {
            let metadata = CheckpointMetadata {
                kind,
                backend,
                ..empty()
            };
            assert_eq!(
                CheckpointMetadata::decode(&metadata.encode()).unwrap(),
                metadata
            );
        }
    }
}

#[test]
fn a_workers_part_travels_whole() {
    for (_, part) in full().keyed {
        let mut bytes = Vec::new();
        part.encode(&mut bytes);
        assert_eq!(KeyedSnapshot::decode(&bytes).unwrap(), part);
        for length in 0..bytes.len() {
            assert!(KeyedSnapshot::decode(&bytes[..length]).is_err());
        }
        assert!(KeyedSnapshot::decode(&[&bytes[..], &[0]].concat()).is_err());
    }
}

/// What several workers hold alike is written once, and read into one place.
#[test]
fn a_list_that_workers_share_is_written_once() {
    let long: Arc<Vec<Bytes>> = Arc::new(vec![Bytes::from(vec![7; 1000]); 10]);
    let mut metadata = empty();
    let worker = |mode| OperatorStateSnapshot {
        lists: vec![NamedList {
            name: "u".into(),
            mode,
            value: SerializerSnapshot::raw(),
            key: None,
            // A copy, not the same place.
            elements: Arc::new(long.to_vec()),
        }],
        ..OperatorStateSnapshot::default()
    };
    let operator = |id: &str| OperatorSnapshot {
        operator: id.into(),
        states: vec![worker(Redistribution::Union); 50],
        ..OperatorSnapshot::default()
    };
    metadata.operators = vec![operator("a"), operator("b")];
    let bytes = metadata.encode();
    assert!(bytes.len() < 10 * 1100 + 100 * 100, "{}", bytes.len());
    let read = CheckpointMetadata::decode(&bytes).unwrap();
    assert_eq!(read, metadata);
    let lists = read.operators.iter().flat_map(|o| &o.states);
    let mut lists = lists.flat_map(|state| &state.lists);
    let first = &lists.next().unwrap().elements;
    assert!(lists.all(|list| Arc::ptr_eq(&list.elements, first)));
}

#[test]
fn the_state_of_an_operator_travels_whole() {
    for state in operator_states() {
        let mut bytes = Vec::new();
        state.encode(&mut bytes);
        assert_eq!(OperatorStateSnapshot::decode(&bytes).unwrap(), state);
        for length in 0..bytes.len() {
            assert!(OperatorStateSnapshot::decode(&bytes[..length]).is_err());
        }
        assert!(OperatorStateSnapshot::decode(&[&bytes[..], &[0]].concat()).is_err());
    }
}

#[test]
fn nonsense_in_operator_state_is_named() {
    type Spoil = fn(&mut OperatorStateSnapshot);
    let cases: [(Spoil, &str); 2] = [
        (|state| state.raw_keyed.reverse(), "ascending"),
        (
            |state| {
                let twice = state.lists[0].clone();
                state.lists.push(twice);
            },
            "two states named `offsets`",
        ),
    ];
    for (spoil, says) in cases {
        let mut metadata = sample();
        spoil(&mut metadata.operators[0].states[0]);
        let error = CheckpointMetadata::decode(&metadata.encode()).unwrap_err();
        assert!(
            matches!(&error, StateError::Corrupt(text) if text.contains(says)),
            "{error}"
        );
    }
}

#[test]
fn the_layout_is_the_documented_one() {
    let bytes = empty().encode();
    assert_eq!(&bytes[..12], b"AQCHKPT\n\x02\0\0\0");
    assert_eq!(
        &bytes[12..22],
        b"\x01\0\x2f\0\0\0\0\0\0\0",
        "the job section's tag and length"
    );
    assert_eq!(&bytes[22..30], &123u64.to_le_bytes());
    assert_eq!(bytes.len(), 12 + (10 + 47) + 3 * (10 + 8) + (10 + 24) + 8);
}

#[test]
fn every_truncation_and_every_flipped_bit_is_an_error() {
    let bytes = full().encode();
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
    let bytes = full().encode();
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
    let at = 12 + 10 + 47 + 10;
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
    newer[8] = 3;
    let error = CheckpointMetadata::decode(&newer).unwrap_err();
    assert!(
        matches!(&error, StateError::Incompatible(text) if text.contains("version 3")),
        "{error}"
    );
    for (tag, accepted) in [(8u16, false), (5, false), (SECTION_OPTIONAL | 6, true)] {
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

/// What is wrong is done to the metadata, and the error names it.
#[test]
fn further_sections_are_checked() {
    type Spoil = fn(&mut CheckpointMetadata);
    let cases: [(Spoil, &str); 8] = [
        (
            |m| m.keyed[1].1.inline[0].name = "w0-1.sst".into(),
            "two files are named `w0-1.sst`",
        ),
        (
            |m| m.keyed[0].1.inline[0].name = "../x".into(),
            "not made of letters",
        ),
        (
            |m| m.keyed[0].1.inline[0].name.clear(),
            "not made of letters",
        ),
        (
            |m| m.keyed[0].1.inline[0].name = "n".repeat(257),
            "at most 256",
        ),
        (
            |m| m.keyed[0].1.databases[0].files[0].name = "../../etc/passwd".into(),
            "is not the name of a file",
        ),
        (
            |m| {
                m.keyed[0].1.databases[0].range = KeyGroupRange { start: 9, end: 8 };
            },
            "backwards",
        ),
        (
            |m| m.keyed[0].1.databases[0].files[1].name = "000012.sst".into(),
            "two files named `000012.sst`",
        ),
        (|m| m.keyed[0].1.tables.reverse(), "ascending"),
    ];
    for (spoil, says) in cases {
        let mut metadata = full();
        spoil(&mut metadata);
        let error = CheckpointMetadata::decode(&metadata.encode()).unwrap_err();
        assert!(
            matches!(&error, StateError::Corrupt(text) if text.contains(says)),
            "{error}"
        );
    }
    // A part that does not exist, and a section that comes twice or too early.
    let with = |tag: u16, body: &[u8]| {
        let mut bytes = sample().encode();
        let at = bytes.len() - CHECKSUM_BYTES;
        let mut extra = tag.to_le_bytes().to_vec();
        put_bytes(&mut extra, body);
        bytes.splice(at..at, extra);
        sealed(bytes)
    };
    let mut body = Vec::new();
    for number in [1u64, 2, 0] {
        put_u64(&mut body, number);
    }
    for tag in [SECTION_INLINE, SECTION_DATABASES] {
        let error = CheckpointMetadata::decode(&with(tag, &body)).unwrap_err();
        assert!(error.to_string().contains("part 2"), "{error}");
        let nothing = 0u64.to_le_bytes();
        assert!(CheckpointMetadata::decode(&with(tag, &nothing)).is_ok());
    }
}

/// Each name was compared with all before it: a file of some megabytes took minutes.
#[test]
fn many_named_lists_are_read_in_one_pass() {
    let list = |number: u32| NamedList {
        name: format!("list {number}"),
        mode: Redistribution::Split,
        value: SerializerSnapshot::raw(),
        key: None,
        elements: Arc::default(),
    };
    let mut state = OperatorStateSnapshot {
        lists: (0..200_000).map(list).collect(),
        ..OperatorStateSnapshot::default()
    };
    let mut bytes = Vec::new();
    state.encode(&mut bytes);
    assert_eq!(
        OperatorStateSnapshot::decode(&bytes).unwrap().lists.len(),
        200_000
    );
    state.lists.push(list(7));
    let mut bytes = Vec::new();
    state.encode(&mut bytes);
    let error = OperatorStateSnapshot::decode(&bytes)
        .unwrap_err()
        .to_string();
    assert!(error.contains("`list 7`"), "{error}");
}

/// One of them was taken, and nobody ever saw the rows of the other.
#[test]
fn two_tables_of_one_state_are_refused() {
    let mut metadata = sample();
    let [(first, _), (second, _)] = &mut metadata.tables[..] else {
        panic!("the sample has two tables");
    };
    second.operator.clone_from(&first.operator);
    second.state.clone_from(&first.state);
    let state = first.state.clone();
    let error = CheckpointMetadata::decode(&metadata.encode()).unwrap_err();
    assert!(
        matches!(&error, StateError::Corrupt(text) if text.contains(&state)),
        "{error}"
    );
    let mut metadata = sample();
    metadata.tables[1].1 = metadata.tables[0].1;
    let error = CheckpointMetadata::decode(&metadata.encode()).unwrap_err();
    assert!(
        matches!(&error, StateError::Corrupt(text) if text.contains("table 1")),
        "{error}"
    );
}

/// A table has a few closed chunks; the work of restoring them grows with those of all parts together.
#[test]
fn more_closed_chunks_than_are_kept_apart_are_refused() {
    let part = |count: u64| {
        let closed = |last| ClosedChunks {
            last,
            latest_ms: None,
        };
        KeyedSnapshot {
            tables: vec![TableMoment {
                list_chunk: count + 1,
                list_closed: (0..count).map(closed).collect(),
                ..TableMoment::new(TableId(1))
            }],
            ..KeyedSnapshot::default()
        }
    };
    let decoded = |count| {
        let mut bytes = Vec::new();
        part(count).encode(&mut bytes);
        KeyedSnapshot::decode(&bytes)
    };
    assert!(decoded(64).unwrap() == part(64));
    let error = decoded(65).unwrap_err().to_string();
    assert!(error.contains("65") && error.contains("64"), "{error}");
}

#[test]
fn two_states_of_one_operator_are_refused() {
    let mut metadata = sample();
    let first = metadata.operators[0].operator.clone();
    metadata.operators[1].operator.clone_from(&first);
    let error = CheckpointMetadata::decode(&metadata.encode()).unwrap_err();
    assert!(
        matches!(&error, StateError::Corrupt(text) if text.contains(&first)),
        "{error}"
    );
}

#[test]
fn an_origin_that_nobody_wrote_is_refused() {
    let refused = |origin: Origin| {
        let metadata = CheckpointMetadata { origin, ..sample() };
        CheckpointMetadata::decode(&metadata.encode())
            .unwrap_err()
            .to_string()
    };
    let mount = sample().origin.mounts.remove(0);
    let error = refused(Origin {
        mounts: vec![mount.clone(), mount],
        ..Origin::default()
    });
    assert!(error.contains("0f1e"), "{error}");
    // What is claimed is overwritten one day.
    for path in ["", "data/orders.csv", "job/_metadata2", "_metadata/x"] {
        let error = refused(Origin {
            claimed: vec![path.into()],
            ..Origin::default()
        });
        assert!(
            error.contains("_metadata") && error.contains(path),
            "{error}"
        );
    }
}

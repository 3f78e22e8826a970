//! Raw streams: bytes that only the operator understands.

use std::io::{Read, Write};

use aquifer_state::StateError;
use aquifer_state::key_group::range_of;
use aquifer_state::operator::{OperatorStateStore, RAW_BYTES_MAX, RAW_PARTITIONS_MAX};

use crate::operators::Operators;

/// Groups 0..=15 with as many bytes as their number and one; group 3 is empty, group 5 is not started.
fn write(operators: &Operators, workers: u16) {
    for (worker, store) in operators.each() {
        let range = range_of(worker as u16, 16, workers);
        let mut out = store.raw_keyed_output();
        for group in (range.start..=range.end).filter(|group| *group != 5) {
            out.start_key_group(group).unwrap();
            if group != 3 {
                let bytes = vec![group as u8; usize::from(group) + 1];
                let (head, tail) = bytes.split_at(bytes.len() / 2);
                out.write_all(head).unwrap();
                out.put(tail).unwrap();
            }
        }
    }
}

#[test]
fn keyed_streams_follow_their_key_groups() {
    for workers in [1, 2, 3, 5] {
        let operators = Operators::of(16, 2);
        write(&operators, 2);
        let next = operators.rescaled(workers);
        for (worker, store) in next.each() {
            let range = range_of(worker as u16, 16, workers);
            let expected: Vec<u16> = (range.start..=range.end).filter(|g| *g != 5).collect();
            let inputs = store.raw_keyed_inputs();
            let groups: Vec<u16> = inputs.iter().map(|(group, _)| *group).collect();
            assert_eq!(groups, expected);
            for (group, mut input) in inputs {
                let mut bytes = Vec::new();
                input.read_to_end(&mut bytes).unwrap();
                let length = if group == 3 {
                    0
                } else {
                    usize::from(group) + 1
                };
                assert_eq!(bytes, vec![group as u8; length]);
            }
        }
        // It is written anew for every checkpoint: what was restored is not.
        let after = next.rescaled(workers);
        assert!(
            after
                .each()
                .all(|(_, store)| store.raw_keyed_inputs().is_empty())
        );
    }
}

#[test]
fn groups_must_ascend_and_be_the_workers_own() {
    let operators = Operators::of(16, 2);
    let (_, store) = operators.each().nth(1).unwrap();
    let mut out = store.raw_keyed_output();
    let usage = |result: Result<(), StateError>, parts: &[&str]| {
        let Err(StateError::Usage(text)) = result else {
            panic!("{result:?}")
        };
        for part in parts.iter().chain(&["8..=15", "`op`"]) {
            assert!(text.contains(part), "{text}");
        }
    };
    usage(out.put(b"x"), &["before a key group"]);
    usage(out.start_key_group(7), &["key group 7"]);
    usage(out.start_key_group(16), &["key group 16"]);
    out.start_key_group(10).unwrap();
    usage(
        out.start_key_group(10),
        &["key group 10", "10 was started before"],
    );
    usage(
        out.start_key_group(9),
        &["key group 9", "10 was started before"],
    );
    out.put(b"y").unwrap();
    let snapshot = store.freeze().unwrap();
    assert_eq!(snapshot.raw_keyed, [(10, b"y".to_vec().into())]);
    // The next checkpoint begins anew, also through the same output.
    out.start_key_group(8).unwrap();
    assert_eq!(store.freeze().unwrap().raw_keyed.len(), 1);
}

#[test]
fn partitions_are_dealt_out() {
    let dealt = |workers| -> Vec<Vec<Vec<u8>>> {
        let operators = Operators::of(16, 2);
        for (worker, store) in operators.each() {
            let mut out = store.raw_output();
            let early = out.put(b"x");
            assert!(
                matches!(early, Err(StateError::Usage(text)) if text.contains("first partition"))
            );
            for partition in [&[b"a", b"b", b"c"][..], &[b"d", b"e"]][worker] {
                out.start_partition().unwrap();
                out.write_all(*partition).unwrap();
            }
        }
        let next = operators.rescaled(workers);
        let inputs = next.each().map(|(_, store)| store.raw_inputs());
        inputs
            .map(|inputs| inputs.iter().map(|i| i.bytes().to_vec()).collect())
            .collect()
    };
    assert_eq!(dealt(2), [vec![b"a", b"b", b"c"], vec![b"d", b"e"]]);
    assert_eq!(dealt(3), [vec![b"a", b"b"], vec![b"c", b"d"], vec![b"e"]]);
}

/// Raw streams lie in the metadata, so there is an end to them.
#[test]
fn a_large_stream_is_refused_where_it_becomes_too_large() {
    let store = OperatorStateStore::empty("op");
    let mut out = store.raw_output();
    out.start_partition().unwrap();
    let piece = vec![1; 1 << 20];
    for _ in 0..RAW_BYTES_MAX >> 20 {
        out.put(&piece).unwrap();
    }
    let mut keyed = store.raw_keyed_output();
    keyed.start_key_group(0).unwrap();
    for result in [out.put(&[1]), keyed.put(&[1])] {
        let Err(StateError::Limit(text)) = result else {
            panic!("{result:?}")
        };
        assert!(text.contains("`op`") && text.contains("67108864"), "{text}");
    }
    let error = out.write(&[1]).unwrap_err();
    assert!(error.to_string().contains("`op`"), "{error}");
    assert_eq!(store.freeze().unwrap().raw[0].len(), RAW_BYTES_MAX);
    out.start_partition().unwrap();
    out.put(&piece).unwrap();
}

/// Empty partitions cost no bytes, and yet a place each.
#[test]
fn partitions_have_an_end_too() {
    let store = OperatorStateStore::empty("op");
    let mut out = store.raw_output();
    for _ in 0..RAW_PARTITIONS_MAX {
        out.start_partition().unwrap();
    }
    let Err(StateError::Limit(text)) = out.start_partition() else {
        panic!("one more than the limit");
    };
    assert!(text.contains("`op`") && text.contains("1048576"), "{text}");
    assert_eq!(store.freeze().unwrap().raw.len(), RAW_PARTITIONS_MAX);
}

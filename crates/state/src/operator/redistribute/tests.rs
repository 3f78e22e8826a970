//! Flink's vectors, and what holds for any input.

use aquifer_testkit::Rng;

use super::*;
use crate::serializer::SerializerSnapshot;

fn list(name: &str, mode: Redistribution, elements: &[&str]) -> NamedList {
    let bytes = |element: &&str| Bytes::copy_from_slice(element.as_bytes());
    NamedList {
        name: name.into(),
        mode,
        value: SerializerSnapshot::raw(),
        key: None,
        elements: Arc::new(elements.iter().map(bytes).collect()),
    }
}

/// A worker with split lists, one letter an element.
fn split(lists: &[(&str, &str)]) -> OperatorStateSnapshot {
    let lists = lists.iter().map(|(name, letters)| {
        let elements: Vec<&str> = letters.split_terminator("").skip(1).collect();
        list(name, Redistribution::Split, &elements)
    });
    OperatorStateSnapshot {
        lists: lists.collect(),
        ..OperatorStateSnapshot::default()
    }
}

/// What each worker has of a state, as one text.
fn dealt(shares: &[OperatorStateSnapshot], name: &str) -> Vec<String> {
    let of = |share: &OperatorStateSnapshot| {
        let list = share.lists.iter().find(|list| list.name == name).unwrap();
        let texts = list.elements.iter();
        texts
            .map(|e| String::from_utf8(e.to_vec()).unwrap())
            .collect()
    };
    shares.iter().map(of).collect()
}

#[test]
fn lists_are_split_evenly() {
    let parts = ["abc", "def", "gh", "ij"].map(|letters| split(&[("s1", letters)]));
    for (workers, expected) in [
        (1, "abcdefghij"),
        (2, "abcde fghij"),
        (3, "abcd efg hij"),
        (4, "abc def gh ij"),
        (5, "ab cd ef gh ij"),
        (8, "ab cd e f g h i j"),
        (12, "a b c d e f g h i j  "),
    ] {
        let shares = redistribute(&parts, 4, workers, 128).unwrap();
        let expected: Vec<&str> = expected.split(' ').collect();
        assert_eq!(dealt(&shares, "s1"), expected, "{workers} workers");
    }
    let parts = ["", "x"].map(|letters| split(&[("s1", letters)]));
    let shares = redistribute(&parts, 2, 3, 128).unwrap();
    assert_eq!(dealt(&shares, "s1"), ["x", "", ""]);
    // A name stays, also without elements.
    let shares = redistribute(&[split(&[("s1", "")])], 1, 3, 128).unwrap();
    assert_eq!(dealt(&shares, "s1"), ["", "", ""]);
}

#[test]
fn many_short_lists_do_not_all_go_to_the_first_worker() {
    let parts = [split(&[("s1", "a"), ("s2", "b"), ("s3", "c"), ("s4", "d")])];
    let shares = redistribute(&parts, 1, 3, 128).unwrap();
    let of = |name| dealt(&shares, name);
    assert_eq!(of("s1"), ["a", "", ""]);
    assert_eq!(of("s2"), ["", "b", ""]);
    assert_eq!(of("s3"), ["", "", "c"]);
    assert_eq!(of("s4"), ["d", "", ""]);

    let mut parts = ["abc", "def", "gh", "ij"].map(|letters| split(&[("s1", letters)]));
    parts[2]
        .lists
        .extend(split(&[("s2", "xy"), ("s3", "z")]).lists);
    let shares = redistribute(&parts, 4, 3, 128).unwrap();
    let of = |name| dealt(&shares, name);
    assert_eq!(of("s1"), ["abcd", "efg", "hij"]);
    assert_eq!(of("s2"), ["", "x", "y"]);
    assert_eq!(of("s3"), ["z", "", ""]);

    let shares = redistribute(&[split(&[("s1", "abcdef"), ("s2", "g")])], 1, 3, 128).unwrap();
    assert_eq!(dealt(&shares, "s2"), ["g", "", ""]);
}

#[test]
fn a_worker_that_reported_nothing_takes_part() {
    let mut parts = ["ab", "c"].map(|letters| split(&[("s1", letters)]));
    for part in &mut parts {
        let mut union = part.lists[0].clone();
        (union.name, union.mode) = ("u".into(), Redistribution::Union);
        part.lists.push(union);
    }
    let shares = redistribute(&parts, 3, 3, 128).unwrap();
    assert_eq!(dealt(&shares, "s1"), ["a", "b", "c"]);
    assert_eq!(dealt(&shares, "u"), ["abc", "abc", "abc"]);
}

#[test]
fn every_worker_gets_the_whole_union_and_a_copy_of_broadcast_state() {
    let parts: Vec<_> = ["12", "3", ""]
        .map(|letters| {
            let mut part = split(&[("u", letters)]);
            part.lists[0].mode = Redistribution::Union;
            part
        })
        .into();
    for workers in [1, 2, 3, 5] {
        let shares = redistribute(&parts, 3, workers, 128).unwrap();
        assert_eq!(dealt(&shares, "u"), vec!["123"; usize::from(workers)]);
        let [first, rest @ ..] = &shares[..] else {
            panic!()
        };
        for share in rest {
            assert!(
                Arc::ptr_eq(&first.lists[0].elements, &share.lists[0].elements),
                "one copy serves all workers"
            );
        }
    }
    let copies = |of: &[&str]| -> Vec<_> {
        let one = |who: &&str| OperatorStateSnapshot {
            lists: vec![list("b", Redistribution::Broadcast, &[who, "v"])],
            ..OperatorStateSnapshot::default()
        };
        of.iter().map(one).collect()
    };
    for (reported, before, now, expected) in [
        (&["0", "1"][..], 2, 5, "0v 1v 0v 1v 0v"),
        (&["0", "1", "2"], 3, 2, "0v 1v"),
        (&["0", "1"], 2, 2, "0v 1v"),
        // Of three only the first and the last have reported.
        (&["0", "2"], 3, 3, "0v 2v 0v"),
    ] {
        let shares = redistribute(&copies(reported), before, now, 128).unwrap();
        let expected: Vec<&str> = expected.split(' ').collect();
        assert_eq!(dealt(&shares, "b"), expected);
    }
}

#[test]
fn two_modes_of_one_state_are_an_error() {
    let mut parts = ["a", "b"].map(|letters| split(&[("s", letters)]));
    parts[1].lists[0].mode = Redistribution::Union;
    let error = redistribute(&parts, 2, 2, 128).unwrap_err().to_string();
    assert!(
        error.contains("`s`") && error.contains("split") && error.contains("union"),
        "{error}"
    );
}

/// Flink's arithmetic, word for word: one state after the other, one worker after the other.
fn literally(counts: &[usize], workers: usize) -> Vec<Vec<usize>> {
    let mut start = 0;
    let mut all = Vec::new();
    for total in counts {
        let base = total / workers;
        let mut remainder = (total % workers) as isize;
        let mut new_start = start;
        let mut sizes = vec![0; workers];
        for i in 0..workers {
            let worker = (i + start) % workers;
            let mut count = base;
            if remainder > 0 {
                count += 1;
                remainder -= 1;
            } else if remainder == 0 {
                new_start = worker;
                remainder -= 1;
            }
            sizes[worker] = count;
        }
        start = new_start;
        all.push(sizes);
    }
    all
}

#[test]
fn splits_are_flinks_at_every_parallelism() {
    let mut rng = Rng::new(17);
    for before in 1..=8u16 {
        for now in (1..=8u16).filter(|now| *now != before) {
            let states = 1 + rng.below(5) as usize;
            let names: Vec<String> = (0..states).map(|state| format!("s{state}")).collect();
            let mut counts = vec![0; states];
            let parts: Vec<_> = (0..before)
                .map(|_| {
                    let mut part = OperatorStateSnapshot::default();
                    for (name, count) in names.iter().zip(&mut counts) {
                        let own: Vec<String> = (0..rng.below(6))
                            .map(|i| format!("{name}-{}", *count + i as usize))
                            .collect();
                        *count += own.len();
                        let own: Vec<&str> = own.iter().map(String::as_str).collect();
                        part.lists.push(list(name, Redistribution::Split, &own));
                    }
                    part
                })
                .collect();
            let shares = redistribute(&parts, before, now, 128).unwrap();
            assert_eq!(shares, redistribute(&parts, before, now, 128).unwrap());
            let expected = literally(&counts, usize::from(now));
            let mut start = 0;
            for (state, (name, expected)) in names.iter().zip(expected).enumerate() {
                let of = |worker: usize| {
                    &shares[worker]
                        .lists
                        .iter()
                        .find(|l| &l.name == name)
                        .unwrap()
                        .elements
                };
                let sizes: Vec<usize> = (0..usize::from(now))
                    .map(|worker| of(worker).len())
                    .collect();
                assert_eq!(sizes, expected, "{name} from {before} to {now}");
                // From the worker at which the state starts and around, it is the old concatenation.
                let around =
                    (0..usize::from(now)).flat_map(|i| of((start + i) % usize::from(now)).iter());
                for (i, element) in around.enumerate() {
                    assert_eq!(element, format!("{name}-{i}").as_bytes());
                }
                start = (start + counts[state] % usize::from(now)) % usize::from(now);
            }
        }
    }
}

#[test]
fn raw_streams_are_dealt_out() {
    let raw = |partitions: &[&'static str], groups: &[u16]| OperatorStateSnapshot {
        raw: partitions
            .iter()
            .map(|p| Bytes::from_static(p.as_bytes()))
            .collect(),
        raw_keyed: groups
            .iter()
            .map(|g| (*g, Bytes::from(vec![*g as u8])))
            .collect(),
        ..OperatorStateSnapshot::default()
    };
    let parts = [
        raw(&["a", "b", "c"], &[0, 2, 7]),
        raw(&["d", "e"], &[8, 15]),
    ];
    let shares = redistribute(&parts, 2, 3, 16).unwrap();
    let partitions: Vec<Vec<&[u8]>> = shares
        .iter()
        .map(|s| s.raw.iter().map(|b| &b[..]).collect())
        .collect();
    assert_eq!(partitions, [vec![b"a", b"b"], vec![b"c", b"d"], vec![b"e"]]);
    let groups: Vec<Vec<u16>> = shares
        .iter()
        .map(|s| s.raw_keyed.iter().map(|(g, _)| *g).collect())
        .collect();
    assert_eq!(groups, [vec![0, 2], vec![7, 8], vec![15]]);
    assert_eq!(redistribute(&parts, 2, 2, 16).unwrap(), parts);
}

/// Bytes of a group that does not exist were dropped, and of a group that two workers report both came.
#[test]
fn raw_state_of_wrong_key_groups_is_corrupt() {
    let part = |groups: &[u16]| OperatorStateSnapshot {
        raw_keyed: groups
            .iter()
            .map(|g| (*g, Bytes::from_static(b"x")))
            .collect(),
        ..OperatorStateSnapshot::default()
    };
    for workers in [1, 2, 3] {
        let good = redistribute(&[part(&[0, 3]), part(&[15])], 2, workers, 16).unwrap();
        let groups: Vec<u16> = good
            .iter()
            .flat_map(|share| &share.raw_keyed)
            .map(|(group, _)| *group)
            .collect();
        assert_eq!(groups, [0, 3, 15]);
        for (parts, says) in [
            ([part(&[0]), part(&[16])], "key group 16"),
            ([part(&[0, 3]), part(&[3])], "key group 3"),
        ] {
            match redistribute(&parts, 2, workers, 16) {
                Err(StateError::Corrupt(text)) => assert!(text.contains(says), "{text}"),
                other => panic!("{other:?}"),
            }
        }
    }
}

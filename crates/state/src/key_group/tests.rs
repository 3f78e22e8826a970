//! Key groups against golden vectors that were taken from Flink 2.3.0's own classes.
use super::*;

const VECTORS: &str = include_str!("vectors.tsv");

fn rows(kind: &str) -> impl Iterator<Item = Vec<&'static str>> {
    VECTORS
        .lines()
        .map(|l| l.split('\t').collect::<Vec<_>>())
        .filter(move |r| r[0] == kind)
}

#[test]
fn murmur_hash_is_flinks() {
    let mut seen = 0;
    for row in rows("murmur") {
        let code: i32 = row[1].parse().unwrap();
        assert_eq!(
            murmur_hash(code),
            row[2].parse::<i32>().unwrap(),
            "murmur of {code}"
        );
        let group: u16 = row[3].strip_prefix("%128=").unwrap().parse().unwrap();
        assert_eq!(assign_to_key_group(code, 128), group, "group of {code}");
        seen += 1;
    }
    assert_eq!(seen, 15);
}

#[test]
fn keys_hash_and_land_as_in_flink() {
    let mut seen = 0;
    for row in rows("key") {
        let hash = match row[1] {
            "Integer" => row[2].parse::<i32>().unwrap().hash_code(),
            "Long" => row[2].parse::<i64>().unwrap().hash_code(),
            "Boolean" => row[2].parse::<bool>().unwrap().hash_code(),
            "Double" => row[2].parse::<f64>().unwrap().hash_code(),
            "String" => row[2].hash_code(),
            other => panic!("no such key type in the vectors: {other}"),
        };
        assert_eq!(
            hash,
            row[3].parse::<i32>().unwrap(),
            "hash of {} {}",
            row[1],
            row[2]
        );
        let group = assign_to_key_group(hash, 128);
        assert_eq!(group, row[4].parse::<u16>().unwrap(), "group of {}", row[2]);
        assert_eq!(
            operator_index(group, 128, 4),
            row[5].parse::<u16>().unwrap()
        );
        assert_eq!(
            operator_index(group, 128, 5),
            row[6].parse::<u16>().unwrap()
        );
        seen += 1;
    }
    assert_eq!(seen, 19);
}

#[test]
fn ranges_are_flinks_and_cover_every_group_once() {
    let mut seen = 0;
    for row in rows("range") {
        let (max, parallelism): (u16, u16) = (row[1].parse().unwrap(), row[2].parse().unwrap());
        for (index, text) in row[3].split_whitespace().enumerate() {
            let range = range_of(index as u16, max, parallelism);
            assert_eq!(
                format!("[{},{}]", range.start, range.end),
                text,
                "{max}/{parallelism}"
            );
            seen += 1;
        }
        let mut next = 0;
        for index in 0..parallelism {
            let range = range_of(index, max, parallelism);
            assert_eq!(range.start, next, "{max}/{parallelism} worker {index}");
            for group in range.start..=range.end {
                assert_eq!(operator_index(group, max, parallelism), index);
            }
            next = range.end + 1;
        }
        assert_eq!(next, max);
    }
    assert!(seen > 30);
}

#[test]
fn default_max_parallelism_is_flinks() {
    let mut seen = 0;
    for row in rows("defmax") {
        assert_eq!(
            default_max_parallelism(row[1].parse().unwrap()),
            row[2].parse::<u16>().unwrap(),
            "for parallelism {}",
            row[1]
        );
        seen += 1;
    }
    assert_eq!(seen, 12);
}

#[test]
fn composite_keys_hash_like_flinks_tuples_and_javas_arrays() {
    assert_eq!((1i32, 2i32).hash_code(), 33);
    assert_eq!(("a", 1i64).hash_code(), 3008);
    assert_eq!((7i32,).hash_code(), 7);
    // java.util.Arrays.hashCode(new byte[]{}) and of {1, -1}.
    assert_eq!([].as_slice().hash_code(), 1);
    assert_eq!([1u8, 0xff].as_slice().hash_code(), (31 + 1) * 31 - 1);
    // Outside the basic plane a character is two UTF-16 units: "😀".hashCode() in Java.
    assert_eq!("\u{1f600}".hash_code(), 0xd83d * 31 + 0xde00);
    assert_eq!(f64::NAN.hash_code(), (-f64::NAN).hash_code());
}

//! How the options of a table are written down in a checkpoint's metadata.
//!
//! A format version (u8), then flags (u16: bit 0 ordered, bit 1 expired rows are shown, bit 2 a TTL follows, bit 3 the time of rows
//! without one follows, bit 4 times are event times, bit 5 compactions keep what has expired, bit 6 full snapshots leave it out, bit 7 it
//! follows after how many rows a compaction asks the clock again, bit 8 it follows after how long files are rewritten), the TTL in
//! milliseconds (varint, if flagged), that time in milliseconds since the Unix epoch (i64, if flagged), those rows (varint, if flagged),
//! that age in milliseconds (varint, if flagged), the merge (u8: 0 none, 1 append, 2 fold with its name as varint length and bytes), and
//! the number of key parts (varint) with each part: 0 and a length (u16), 1, or 2 and the optional parts in the same form.
//! The decoder takes hostile bytes: every length, the nesting and the number of parts are bounded.
use xxhash_rust::xxh3::xxh3_64;

use super::{ExpiryCleanup, KeyPart, Merge, TableOptions};
use crate::encoding::{Reader, put_bytes, put_varint};
use crate::error::{Error, Result};

const FORMAT_VERSION: u8 = 1;
const ORDERED: u16 = 1;
const SHOW_EXPIRED: u16 = 2;
const TTL: u16 = 4;
const UNTIMED_AS: u16 = 8;
const EVENT_TIME: u16 = 16;
const COMPACTIONS_KEEP: u16 = 32;
const FULL_SNAPSHOTS_DROP: u16 = 64;
const QUERY_TIME_AFTER: u16 = 128;
const PERIODIC: u16 = 256;
const KNOWN_FLAGS: u16 = 511;
const MERGE_NONE: u8 = 0;
const MERGE_APPEND: u8 = 1;
const MERGE_FOLD: u8 = 2;
const PART_FIXED: u8 = 0;
const PART_TERMINATED: u8 = 1;
const PART_OPTIONAL: u8 = 2;
/// Optional parts within optional parts.
const NESTING_MAX: usize = 8;

impl TableOptions {
    /// Appends the options to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(FORMAT_VERSION);
        let cleanup = &self.cleanup;
        let mut flags = 0u16;
        for (is_set, flag) in [
            (self.ordered, ORDERED),
            (self.show_expired, SHOW_EXPIRED),
            (self.ttl_ms.is_some(), TTL),
            (self.untimed_as_ms.is_some(), UNTIMED_AS),
            (self.event_time, EVENT_TIME),
            (!cleanup.in_compactions, COMPACTIONS_KEEP),
            (cleanup.in_full_snapshots, FULL_SNAPSHOTS_DROP),
            (cleanup.query_time_after_rows.is_some(), QUERY_TIME_AFTER),
            (cleanup.periodic_ms.is_some(), PERIODIC),
        ] {
            flags |= if is_set { flag } else { 0 };
        }
        out.extend_from_slice(&flags.to_le_bytes());
        if let Some(ttl_ms) = self.ttl_ms {
            put_varint(out, ttl_ms);
        }
        if let Some(untimed_as_ms) = self.untimed_as_ms {
            out.extend_from_slice(&untimed_as_ms.to_le_bytes());
        }
        for number in [cleanup.query_time_after_rows, cleanup.periodic_ms] {
            number.inspect(|number| put_varint(out, *number));
        }
        match &self.merge {
            Merge::None => out.push(MERGE_NONE),
            Merge::Append => out.push(MERGE_APPEND),
            Merge::Fold(name) => {
                out.push(MERGE_FOLD);
                put_bytes(out, name.as_bytes());
            }
        }
        encode_parts(&self.prefix, out);
    }

    /// An identity of the shape of the key's prefix.
    pub(crate) fn prefix_shape(&self) -> u64 {
        let mut bytes = Vec::new();
        encode_parts(&self.prefix, &mut bytes);
        xxh3_64(&bytes)
    }

    /// Decodes what `encode` wrote; never panics, never allocates an unchecked length.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let mut reader = Reader::new("the options of a table", bytes);
        let version = reader.u8("format version")?;
        if version != FORMAT_VERSION {
            return Err(Error::corrupt(format!(
                "the options of a table have format version {version}, but this program reads version {FORMAT_VERSION}"
            )));
        }
        let flags = reader.u16("flags")?;
        if flags & !KNOWN_FLAGS != 0 {
            return Err(Error::corrupt(format!(
                "the options of a table have flags {flags:#06x}, of which some are unknown"
            )));
        }
        let ttl_ms = match flags & TTL {
            0 => None,
            _ => Some(reader.varint("TTL")?),
        };
        let untimed_as_ms = match flags & UNTIMED_AS {
            0 => None,
            _ => Some(reader.u64("time of rows without one")?.cast_signed()),
        };
        let query_time_after_rows = match flags & QUERY_TIME_AFTER {
            0 => None,
            _ => Some(reader.varint("rows between two looks at the clock")?),
        };
        let periodic_ms = match flags & PERIODIC {
            0 => None,
            _ => Some(reader.varint("age at which files are rewritten")?),
        };
        let merge = match reader.u8("merge")? {
            MERGE_NONE => Merge::None,
            MERGE_APPEND => Merge::Append,
            MERGE_FOLD => {
                let name = std::str::from_utf8(reader.bytes("name of the fold")?);
                let name = name.map_err(|_| {
                    Error::corrupt("the options of a table name a fold, but the name is not text")
                })?;
                Merge::Fold(name.to_string())
            }
            other => {
                return Err(Error::corrupt(format!(
                    "the options of a table have merge {other}, but 0 to 2 are known"
                )));
            }
        };
        let prefix = decode_parts(&mut reader, 0)?;
        reader.finish()?;
        Ok(Self {
            ordered: flags & ORDERED != 0,
            merge,
            ttl_ms,
            show_expired: flags & SHOW_EXPIRED != 0,
            untimed_as_ms,
            event_time: flags & EVENT_TIME != 0,
            cleanup: ExpiryCleanup {
                in_compactions: flags & COMPACTIONS_KEEP == 0,
                query_time_after_rows,
                periodic_ms,
                in_full_snapshots: flags & FULL_SNAPSHOTS_DROP != 0,
            },
            prefix,
        })
    }
}

fn encode_parts(parts: &[KeyPart], out: &mut Vec<u8>) {
    put_varint(out, parts.len() as u64);
    for part in parts {
        match part {
            KeyPart::Fixed(len) => {
                out.push(PART_FIXED);
                out.extend_from_slice(&len.to_le_bytes());
            }
            KeyPart::Terminated => out.push(PART_TERMINATED),
            KeyPart::Optional(parts) => {
                out.push(PART_OPTIONAL);
                encode_parts(parts, out);
            }
        }
    }
}

fn decode_parts(reader: &mut Reader<'_>, depth: usize) -> Result<Vec<KeyPart>> {
    if depth > NESTING_MAX {
        return Err(Error::corrupt(format!(
            "the options of a table nest key parts more than {NESTING_MAX} deep"
        )));
    }
    let count = reader.count(1, "number of key parts")?;
    let mut parts = Vec::new();
    for _ in 0..count {
        parts.push(match reader.u8("key part")? {
            PART_FIXED => KeyPart::Fixed(reader.u16("length of a key part")?),
            PART_TERMINATED => KeyPart::Terminated,
            PART_OPTIONAL => KeyPart::Optional(decode_parts(reader, depth + 1)?),
            other => {
                return Err(Error::corrupt(format!(
                    "the options of a table have a key part of kind {other}, but 0 to 2 are known"
                )));
            }
        });
    }
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples() -> Vec<TableOptions> {
        vec![
            TableOptions::default(),
            TableOptions {
                ordered: true,
                merge: Merge::Append,
                ttl_ms: Some(u64::MAX),
                show_expired: true,
                untimed_as_ms: Some(i64::MIN),
                event_time: true,
                cleanup: ExpiryCleanup {
                    in_compactions: false,
                    query_time_after_rows: Some(u64::MAX),
                    periodic_ms: Some(0),
                    in_full_snapshots: true,
                },
                prefix: vec![KeyPart::Fixed(8)],
            },
            TableOptions {
                untimed_as_ms: Some(1_700_000_000_000),
                ..Default::default()
            },
            TableOptions {
                merge: Merge::Fold("sum".into()),
                ttl_ms: Some(0),
                prefix: vec![
                    KeyPart::Terminated,
                    KeyPart::Optional(vec![KeyPart::Fixed(300), KeyPart::Terminated]),
                ],
                ..Default::default()
            },
        ]
    }

    #[test]
    fn options_come_back() {
        for options in samples() {
            let mut bytes = Vec::new();
            options.encode(&mut bytes);
            assert_eq!(TableOptions::decode(&bytes).unwrap(), options);
        }
    }

    #[test]
    fn hostile_bytes_are_errors_or_options_but_never_panics() {
        for options in samples() {
            let mut good = Vec::new();
            options.encode(&mut good);
            for len in 0..good.len() {
                assert!(TableOptions::decode(&good[..len]).is_err(), "cut at {len}");
            }
            for bit in 0..good.len() * 8 {
                let mut bad = good.clone();
                bad[bit / 8] ^= 1 << (bit % 8);
                assert_ne!(TableOptions::decode(&bad).ok(), Some(options.clone()));
            }
            good.push(0);
            assert!(TableOptions::decode(&good).is_err(), "bytes after the end");
        }
        let mut deep = vec![FORMAT_VERSION, 0, 0, MERGE_NONE];
        deep.extend([1, PART_OPTIONAL].repeat(10_000));
        deep.push(0);
        assert!(TableOptions::decode(&deep).is_err(), "nested too deep");
        let mut many = vec![FORMAT_VERSION, 0, 0, MERGE_NONE];
        put_varint(&mut many, u64::MAX);
        assert!(TableOptions::decode(&many).is_err());
    }
}

//! Bytes of `_metadata` (`docs/format/metadata.md`). The checksum is verified before anything is parsed, yet the parser trusts
//! nothing: a file can be forged with a right checksum.

use aquifer_store::{Checkpoint, KeyGroupRange, TableId, TableOptions};
use xxhash_rust::xxh3::xxh3_64;

use super::metadata::{CheckpointMetadata, MountPoint, OperatorSnapshot, Origin};
use crate::{KeyedSnapshot, StateDescription, StateError};

const MAGIC: &[u8; 8] = b"AQCHKPT\n";
const VERSION: u32 = 1;
const HEADER_BYTES: usize = MAGIC.len() + 4;
const CHECKSUM_BYTES: usize = 8;
/// Flink's bound on the number of key groups.
const MAX_PARALLELISM_LIMIT: u16 = 1 << 15;

const SECTION_JOB: u16 = 1;
const SECTION_TABLES: u16 = 2;
const SECTION_KEYED: u16 = 3;
const SECTION_OPERATORS: u16 = 4;
const SECTION_ORIGIN: u16 = 5;
/// Sections with this bit may be skipped by a reader that does not know them.
const SECTION_OPTIONAL: u16 = 0x8000;

pub(super) fn encode(metadata: &CheckpointMetadata) -> Vec<u8> {
    let mut out = Vec::with_capacity(1024);
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&VERSION.to_le_bytes());
    section(&mut out, SECTION_JOB, |out| {
        put_u64(out, metadata.checkpoint_id);
        put_u64(out, metadata.attempt);
        put_u64(out, metadata.created_unix_ms);
        put_u16(out, metadata.parallelism);
        put_u16(out, metadata.max_parallelism);
        out.push(u8::from(metadata.finished));
        put_bytes(out, metadata.job_name.as_bytes());
        put_bytes(out, metadata.plan.as_bytes());
    });
    section(&mut out, SECTION_TABLES, |out| {
        put_u64(out, metadata.tables.len() as u64);
        for (description, table) in &metadata.tables {
            put_u16(out, table.0);
            put_bytes(out, description.operator.as_bytes());
            put_bytes(out, description.state.as_bytes());
            put_bytes(out, description.layout.as_bytes());
            with_length(out, |out| description.options.encode(out));
        }
    });
    section(&mut out, SECTION_KEYED, |out| {
        put_u64(out, metadata.keyed.len() as u64);
        for (range, snapshot) in &metadata.keyed {
            put_u16(out, range.start);
            put_u16(out, range.end);
            with_length(out, |out| snapshot.files.encode(out));
        }
    });
    section(&mut out, SECTION_OPERATORS, |out| {
        put_u64(out, metadata.operators.len() as u64);
        for operator in &metadata.operators {
            put_bytes(out, operator.operator.as_bytes());
            for list in [&operator.elements, &operator.committables] {
                put_u64(out, list.len() as u64);
                list.iter().for_each(|element| put_bytes(out, element));
            }
        }
    });
    section(&mut out, SECTION_ORIGIN, |out| {
        put_u64(out, metadata.origin.mounts.len() as u64);
        for mount in &metadata.origin.mounts {
            put_bytes(out, mount.name.as_bytes());
            put_bytes(out, mount.uri.as_bytes());
        }
        let claimed = metadata.origin.claimed.as_deref();
        put_bytes(out, claimed.unwrap_or_default().as_bytes());
        put_u64(out, metadata.origin.claimed_files.len() as u64);
        for file in &metadata.origin.claimed_files {
            put_bytes(out, file.as_bytes());
        }
    });
    let checksum = xxh3_64(&out);
    put_u64(&mut out, checksum);
    out
}

fn section(out: &mut Vec<u8>, tag: u16, body: impl FnOnce(&mut Vec<u8>)) {
    put_u16(out, tag);
    with_length(out, body);
}

/// Writes the body after its length.
fn with_length(out: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>)) {
    let at = out.len();
    put_u64(out, 0);
    body(out);
    let length = (out.len() - at - 8) as u64;
    out[at..at + 8].copy_from_slice(&length.to_le_bytes());
}

fn put_u16(out: &mut Vec<u8>, value: u16) {
    out.extend_from_slice(&value.to_le_bytes());
}

fn put_u64(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(&value.to_le_bytes());
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_u64(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

pub(super) fn decode(bytes: &[u8]) -> Result<CheckpointMetadata, StateError> {
    let mut header = Reader {
        rest: bytes,
        place: "header",
    };
    if header.take(MAGIC.len())? != MAGIC {
        return Err(corrupt("it does not begin as checkpoint metadata does"));
    }
    let version = u32::from_le_bytes(header.array()?);
    if version != VERSION {
        return Err(StateError::Incompatible(format!(
            "checkpoint metadata has format version {version}, but this version of Aquifer reads version {VERSION}"
        )));
    }
    let Some((checked, stored)) = bytes
        .split_last_chunk::<CHECKSUM_BYTES>()
        .filter(|(checked, _)| checked.len() >= HEADER_BYTES)
    else {
        return Err(corrupt("it is shorter than header and checksum"));
    };
    let (stored, computed) = (u64::from_le_bytes(*stored), xxh3_64(checked));
    if stored != computed {
        return Err(corrupt(&format!(
            "its checksum is {computed:016x}, but {stored:016x} was written"
        )));
    }
    let mut body = Reader {
        rest: &checked[HEADER_BYTES..],
        place: "body",
    };
    let mut metadata = read_job(body.section(SECTION_JOB, "job section")?)?;
    metadata.tables = read_tables(body.section(SECTION_TABLES, "table section")?)?;
    let keyed = body.section(SECTION_KEYED, "keyed state section")?;
    metadata.keyed = read_keyed(keyed, metadata.max_parallelism)?;
    metadata.operators = read_operators(body.section(SECTION_OPERATORS, "operator section")?)?;
    metadata.origin = read_origin(body.section(SECTION_ORIGIN, "origin section")?)?;
    body.skip_optional_sections()?;
    body.end()?;
    Ok(metadata)
}

fn read_job(mut reader: Reader<'_>) -> Result<CheckpointMetadata, StateError> {
    let metadata = CheckpointMetadata {
        checkpoint_id: reader.u64()?,
        attempt: reader.u64()?,
        created_unix_ms: reader.u64()?,
        parallelism: reader.u16()?,
        max_parallelism: reader.u16()?,
        finished: match reader.u8()? {
            0 => false,
            1 => true,
            other => return Err(reader.wrong(&format!("a flag is {other} instead of 0 or 1"))),
        },
        job_name: reader.text()?,
        plan: reader.text()?,
        tables: Vec::new(),
        keyed: Vec::new(),
        operators: Vec::new(),
        origin: Origin::default(),
    };
    let (workers, groups) = (metadata.parallelism, metadata.max_parallelism);
    if workers == 0 || workers > groups || groups > MAX_PARALLELISM_LIMIT {
        return Err(reader.wrong(&format!(
            "parallelism {workers} with max parallelism {groups} is not between 1 and {MAX_PARALLELISM_LIMIT}"
        )));
    }
    reader.end()?;
    Ok(metadata)
}

fn read_tables(mut reader: Reader<'_>) -> Result<Vec<(StateDescription, TableId)>, StateError> {
    let mut tables = reader.list(2 + 4 * 8)?;
    for _ in 0..tables.count {
        let table = TableId(reader.u16()?);
        let (operator, state, layout) = (reader.text()?, reader.text()?, reader.text()?);
        let options = TableOptions::decode(reader.bytes()?)?;
        tables.items.push((
            StateDescription {
                operator,
                state,
                options,
                layout,
            },
            table,
        ));
    }
    reader.end()?;
    Ok(tables.items)
}

fn read_keyed(
    mut reader: Reader<'_>,
    max_parallelism: u16,
) -> Result<Vec<(KeyGroupRange, KeyedSnapshot)>, StateError> {
    let mut keyed = reader.list(2 + 2 + 8)?;
    for _ in 0..keyed.count {
        let range = KeyGroupRange {
            start: reader.u16()?,
            end: reader.u16()?,
        };
        if range.start > range.end || range.end >= max_parallelism {
            return Err(reader.wrong(&format!(
                "the key group range {} to {} does not lie within 0 to {}",
                range.start,
                range.end,
                max_parallelism - 1
            )));
        }
        let files = Checkpoint::decode(reader.bytes()?)?;
        keyed.items.push((range, KeyedSnapshot { files }));
    }
    reader.end()?;
    Ok(keyed.items)
}

fn read_operators(mut reader: Reader<'_>) -> Result<Vec<OperatorSnapshot>, StateError> {
    let mut operators = reader.list(3 * 8)?;
    for _ in 0..operators.count {
        let operator = reader.text()?;
        let elements = reader.byte_strings()?;
        let committables = reader.byte_strings()?;
        operators.items.push(OperatorSnapshot {
            operator,
            elements,
            committables,
        });
    }
    reader.end()?;
    Ok(operators.items)
}

fn read_origin(mut reader: Reader<'_>) -> Result<Origin, StateError> {
    let mut mounts = reader.list(2 * 8)?;
    for _ in 0..mounts.count {
        let (name, uri) = (reader.text()?, reader.text()?);
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        if name.is_empty() || !name.chars().all(plain) {
            return Err(reader.wrong("the name of a mount is not made of letters and digits"));
        }
        mounts.items.push(MountPoint { name, uri });
    }
    let claimed = Some(reader.text()?).filter(|path| !path.is_empty());
    let mut files = reader.list(8)?;
    for _ in 0..files.count {
        files.items.push(reader.text()?);
    }
    reader.end()?;
    Ok(Origin {
        mounts: mounts.items,
        claimed,
        claimed_files: files.items,
    })
}

fn corrupt(what: &str) -> StateError {
    StateError::Corrupt(format!("checkpoint metadata is damaged: {what}"))
}

/// Takes values off the front of a slice; every length is checked against what is there.
struct Reader<'a> {
    rest: &'a [u8],
    place: &'static str,
}

/// A list whose announced number of items the remaining bytes can hold.
struct List<T> {
    count: usize,
    items: Vec<T>,
}

impl<'a> Reader<'a> {
    fn wrong(&self, what: &str) -> StateError {
        corrupt(&format!("{}: {what}", self.place))
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], StateError> {
        let Some((taken, rest)) = self.rest.split_at_checked(count) else {
            return Err(self.wrong(&format!(
                "{count} bytes are expected, {} are left",
                self.rest.len()
            )));
        };
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], StateError> {
        let Some((taken, rest)) = self.rest.split_first_chunk::<N>() else {
            return Err(self.wrong(&format!(
                "{N} bytes are expected, {} are left",
                self.rest.len()
            )));
        };
        self.rest = rest;
        Ok(*taken)
    }

    fn u8(&mut self) -> Result<u8, StateError> {
        Ok(u8::from_le_bytes(self.array()?))
    }

    fn u16(&mut self) -> Result<u16, StateError> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    fn u64(&mut self) -> Result<u64, StateError> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    fn bytes(&mut self) -> Result<&'a [u8], StateError> {
        let length = self.u64()?;
        // A length beyond the address space is beyond the rest of the slice, too.
        self.take(usize::try_from(length).unwrap_or(usize::MAX))
    }

    fn text(&mut self) -> Result<String, StateError> {
        let bytes = self.bytes()?;
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(text.to_owned()),
            Err(_) => Err(self.wrong("a text is not UTF-8")),
        }
    }

    /// The head of a list of which each item takes at least `item_bytes_min` bytes.
    fn list<T>(&mut self, item_bytes_min: usize) -> Result<List<T>, StateError> {
        let announced = self.u64()?;
        let count = usize::try_from(announced).unwrap_or(usize::MAX);
        if count > self.rest.len() / item_bytes_min {
            return Err(self.wrong(&format!(
                "a list of {announced} items is announced, but {} bytes are left",
                self.rest.len()
            )));
        }
        // Items may be larger in memory than in the file: grow as they really come.
        Ok(List {
            count,
            items: Vec::new(),
        })
    }

    fn byte_strings(&mut self) -> Result<Vec<Vec<u8>>, StateError> {
        let mut list = self.list(8)?;
        for _ in 0..list.count {
            list.items.push(self.bytes()?.to_vec());
        }
        Ok(list.items)
    }

    fn section(&mut self, tag: u16, place: &'static str) -> Result<Reader<'a>, StateError> {
        loop {
            let found = self.u16()?;
            let rest = self.bytes()?;
            if found == tag {
                return Ok(Reader { rest, place });
            }
            if found & SECTION_OPTIONAL == 0 {
                return Err(self.wrong(&format!(
                    "section {tag} is expected, section {found} was found"
                )));
            }
        }
    }

    fn skip_optional_sections(&mut self) -> Result<(), StateError> {
        while !self.rest.is_empty() {
            let found = self.u16()?;
            self.bytes()?;
            if found & SECTION_OPTIONAL == 0 {
                return Err(self.wrong(&format!(
                    "section {found} is not expected after the last one"
                )));
            }
        }
        Ok(())
    }

    fn end(&self) -> Result<(), StateError> {
        match self.rest.len() {
            0 => Ok(()),
            left => Err(self.wrong(&format!("{left} bytes are left over"))),
        }
    }
}

#[cfg(test)]
mod tests;

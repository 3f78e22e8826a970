//! Bytes of `_metadata` (`docs/format/metadata.md`). The checksum is verified before anything is parsed, yet the parser trusts
//! nothing: a file can be forged with a right checksum.

mod databases;
mod inline;
mod keyed;
mod operators;

use std::collections::BTreeSet;

use aquifer_store::{KeyGroupRange, TableId, TableOptions};
use xxhash_rust::xxh3::xxh3_64;

use super::metadata::{CheckpointKind, CheckpointMetadata, MountPoint, Origin};
use crate::encoding::{Reader, put_bytes, put_u16, put_u64, with_length};
use crate::serializer::StateSchema;
use crate::{BackendKind, KeyedSnapshot, StateDescription, StateError};

const MAGIC: &[u8; 8] = b"AQCHKPT\n";
const VERSION: u32 = 2;
const HEADER_BYTES: usize = MAGIC.len() + 4;
const CHECKSUM_BYTES: usize = 8;
/// Flink's bound on the number of key groups.
const MAX_PARALLELISM_LIMIT: u16 = 1 << 15;

const SECTION_JOB: u16 = 1;
const SECTION_TABLES: u16 = 2;
const SECTION_KEYED: u16 = 3;
const SECTION_OPERATORS: u16 = 4;
const SECTION_ORIGIN: u16 = 5;
const SECTION_INLINE: u16 = 6;
const SECTION_DATABASES: u16 = 7;
/// Sections with this bit may be skipped by a reader that does not know them.
const SECTION_OPTIONAL: u16 = 0x8000;

const HEADER_PLACE: &str = "the header of checkpoint metadata";
const BODY_PLACE: &str = "checkpoint metadata";
const JOB_PLACE: &str = "the job section of checkpoint metadata";
const TABLES_PLACE: &str = "the table section of checkpoint metadata";
const KEYED_PLACE: &str = "the keyed state section of checkpoint metadata";
const OPERATORS_PLACE: &str = "the operator section of checkpoint metadata";
const ORIGIN_PLACE: &str = "the origin section of checkpoint metadata";
const INLINE_PLACE: &str = "the section of inline files of checkpoint metadata";
const DATABASES_PLACE: &str = "the section of databases of checkpoint metadata";

const KINDS: [(CheckpointKind, u8); 3] = [
    (CheckpointKind::Checkpoint, 0),
    (CheckpointKind::NativeSavepoint, 1),
    (CheckpointKind::CanonicalSavepoint, 2),
];
const BACKENDS: [(BackendKind, u8); 3] = [
    (BackendKind::Hashmap, 0),
    (BackendKind::Rocksdb, 1),
    (BackendKind::Forst, 2),
];

/// The code of a value that a table of codes has.
fn code_of<T: PartialEq>(codes: &[(T, u8)], value: T) -> u8 {
    let found = codes.iter().find(|(known, _)| *known == value);
    found.map_or(u8::MAX, |(_, code)| *code)
}

/// The value of a code, which an error calls `what`.
fn value_of<T: Copy>(
    codes: &[(T, u8)],
    reader: &mut Reader<'_>,
    what: &str,
) -> Result<T, StateError> {
    let code = reader.u8()?;
    let found = codes.iter().find(|(_, known)| *known == code);
    match found {
        Some((value, _)) => Ok(*value),
        None => Err(reader.wrong(&format!("{code} is not the code of a {what}"))),
    }
}

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
        out.push(code_of(&KINDS, metadata.kind));
        out.push(code_of(&BACKENDS, metadata.backend));
    });
    section(&mut out, SECTION_TABLES, |out| {
        put_u64(out, metadata.tables.len() as u64);
        for (description, table) in &metadata.tables {
            put_u16(out, table.0);
            put_bytes(out, description.operator.as_bytes());
            put_bytes(out, description.state.as_bytes());
            put_bytes(out, description.layout.as_bytes());
            with_length(out, |out| description.options.encode(out));
            with_length(out, |out| description.schema.encode(out));
        }
    });
    section(&mut out, SECTION_KEYED, |out| {
        put_u64(out, metadata.keyed.len() as u64);
        for (range, snapshot) in &metadata.keyed {
            put_u16(out, range.start);
            put_u16(out, range.end);
            keyed::encode(snapshot, out);
        }
    });
    section(&mut out, SECTION_OPERATORS, |out| {
        operators::encode(&metadata.operators, out);
    });
    section(&mut out, SECTION_ORIGIN, |out| {
        put_u64(out, metadata.origin.mounts.len() as u64);
        for mount in &metadata.origin.mounts {
            put_bytes(out, mount.name.as_bytes());
            put_bytes(out, mount.uri.as_bytes());
        }
        for paths in [&metadata.origin.claimed, &metadata.origin.claimed_files] {
            put_u64(out, paths.len() as u64);
            paths
                .iter()
                .for_each(|path| put_bytes(out, path.as_bytes()));
        }
    });
    if metadata
        .keyed
        .iter()
        .any(|(_, part)| !part.inline.is_empty())
    {
        section(&mut out, SECTION_INLINE, |out| {
            inline::encode(&metadata.keyed, out);
        });
    }
    if metadata
        .keyed
        .iter()
        .any(|(_, part)| !part.databases.is_empty())
    {
        section(&mut out, SECTION_DATABASES, |out| {
            databases::encode(&metadata.keyed, out);
        });
    }
    let checksum = xxh3_64(&out);
    put_u64(&mut out, checksum);
    out
}

fn section(out: &mut Vec<u8>, tag: u16, body: impl FnOnce(&mut Vec<u8>)) {
    put_u16(out, tag);
    with_length(out, body);
}

pub(super) fn decode(bytes: &[u8]) -> Result<CheckpointMetadata, StateError> {
    let mut header = Reader::new(HEADER_PLACE, bytes);
    if header.take(MAGIC.len())? != MAGIC {
        return Err(corrupt("it does not begin as checkpoint metadata does"));
    }
    let version = header.u32()?;
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
    let mut body = Reader::new(BODY_PLACE, &checked[HEADER_BYTES..]);
    let mut metadata = read_job(section_of(&mut body, SECTION_JOB, JOB_PLACE)?)?;
    metadata.tables = read_tables(section_of(&mut body, SECTION_TABLES, TABLES_PLACE)?)?;
    let keyed = section_of(&mut body, SECTION_KEYED, KEYED_PLACE)?;
    metadata.keyed = read_keyed(keyed, metadata.max_parallelism)?;
    let operators = section_of(&mut body, SECTION_OPERATORS, OPERATORS_PLACE)?;
    metadata.operators = operators::read(operators)?;
    metadata.origin = read_origin(section_of(&mut body, SECTION_ORIGIN, ORIGIN_PLACE)?)?;
    read_further(body, &mut metadata.keyed)?;
    Ok(metadata)
}

fn read_job(mut reader: Reader<'_>) -> Result<CheckpointMetadata, StateError> {
    let metadata = CheckpointMetadata {
        checkpoint_id: reader.u64()?,
        attempt: reader.u64()?,
        created_unix_ms: reader.u64()?,
        parallelism: reader.u16()?,
        max_parallelism: reader.u16()?,
        finished: reader.flag()?,
        job_name: reader.text()?,
        plan: reader.text()?,
        kind: value_of(&KINDS, &mut reader, "kind of checkpoint")?,
        backend: value_of(&BACKENDS, &mut reader, "state backend")?,
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
    let mut tables = reader.list(2 + 5 * 8)?;
    let (mut ids, mut names) = (BTreeSet::new(), BTreeSet::new());
    for _ in 0..tables.count {
        let table = TableId(reader.u16()?);
        let (operator, state, layout) = (reader.text()?, reader.text()?, reader.text()?);
        if !ids.insert(table) || !names.insert((operator.clone(), state.clone())) {
            return Err(reader.wrong(&format!(
                "table {} of state `{}` of operator `{}` has the number or the state of another one",
                table.0,
                state.escape_default(),
                operator.escape_default()
            )));
        }
        let options = TableOptions::decode(reader.bytes()?)?;
        let schema = StateSchema::decode(reader.bytes()?)?;
        tables.items.push((
            StateDescription {
                operator,
                state,
                options,
                layout,
                schema,
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
    let mut keyed = reader.list(2 + 2 + 2 * 8)?;
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
        keyed.items.push((range, keyed::read(&mut reader)?));
    }
    reader.end()?;
    Ok(keyed.items)
}

fn read_origin(mut reader: Reader<'_>) -> Result<Origin, StateError> {
    let mut mounts = reader.list(2 * 8)?;
    let mut names = BTreeSet::new();
    for _ in 0..mounts.count {
        let (name, uri) = (reader.text()?, reader.text()?);
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        if name.is_empty() || !name.chars().all(plain) {
            return Err(reader.wrong("the name of a mount is not made of letters and digits"));
        }
        if !names.insert(name.clone()) {
            return Err(reader.wrong(&format!("two stores are mounted as `{name}`")));
        }
        mounts.items.push(MountPoint { name, uri });
    }
    let mut texts = || {
        let mut texts = reader.list(8)?;
        for _ in 0..texts.count {
            texts.items.push(reader.text()?);
        }
        Ok::<_, StateError>(texts.items)
    };
    let (claimed, claimed_files) = (texts()?, texts()?);
    // It is overwritten when the claim is carried out.
    let is_metadata = |path: &&String| path.rsplit('/').next() == Some("_metadata");
    if let Some(other) = claimed.iter().find(|path| !is_metadata(path)) {
        return Err(reader.wrong(&format!(
            "the claimed checkpoint `{}` is not the path of a `_metadata`",
            other.escape_default()
        )));
    }
    reader.end()?;
    Ok(Origin {
        mounts: mounts.items,
        claimed,
        claimed_files,
    })
}

fn corrupt(what: &str) -> StateError {
    StateError::Corrupt(format!("checkpoint metadata is damaged: {what}"))
}

/// The next section, which must have this tag; optional ones before it are skipped.
fn section_of<'a>(
    body: &mut Reader<'a>,
    tag: u16,
    place: &'static str,
) -> Result<Reader<'a>, StateError> {
    loop {
        let found = body.u16()?;
        let rest = body.bytes()?;
        if found == tag {
            return Ok(Reader::new(place, rest));
        }
        if found & SECTION_OPTIONAL == 0 {
            return Err(body.wrong(&format!(
                "section {tag} is expected, section {found} was found"
            )));
        }
    }
}

/// What follows the sections that are always there: sections that are there if they are not empty, and optional ones.
fn read_further(
    mut body: Reader<'_>,
    keyed: &mut [(KeyGroupRange, KeyedSnapshot)],
) -> Result<(), StateError> {
    let mut last = SECTION_ORIGIN;
    while !body.rest.is_empty() {
        let found = body.u16()?;
        let rest = body.bytes()?;
        if found & SECTION_OPTIONAL != 0 {
            continue;
        }
        match found {
            _ if found <= last => {}
            SECTION_INLINE => {
                inline::read(Reader::new(INLINE_PLACE, rest), keyed)?;
                last = found;
                continue;
            }
            SECTION_DATABASES => {
                databases::read(Reader::new(DATABASES_PLACE, rest), keyed)?;
                last = found;
                continue;
            }
            _ => {}
        }
        return Err(body.wrong(&format!(
            "section {found} is not expected after section {last}"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests;

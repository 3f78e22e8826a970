//! Bytes of operator state, as they stand in section 4 of `_metadata` and travel to the coordinator (`docs/format/metadata.md`).
//!
//! Workers often hold the same list: copies of a broadcast map, a union that nobody has changed. Such a list is written once, and the others
//! refer to it. The decoder shares it, too, so that a short file cannot ask for much memory.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;

use super::{NamedList, OperatorStateSnapshot, Redistribution};
use crate::StateError;
use crate::encoding::{Reader, put_bytes, put_u16, put_u64};
use crate::serializer::SerializerSnapshot;

const MODES: [(Redistribution, u8); 3] = [
    (Redistribution::Split, 0),
    (Redistribution::Union, 1),
    (Redistribution::Broadcast, 2),
];
/// What follows a list's serializers: its elements, or the number of a list before it that is the same.
const OWN: u8 = 0;
const SAME_AS: u8 = 1;
/// Lists of at most so many bytes are written again: a reference would not be shorter.
const REFERENCE_BYTES: usize = 8;

/// Name, mode, flag, encoding, version, payload, place and elements.
const LIST_BYTES_MIN: usize = 8 + 1 + 1 + 8 + 4 + 8 + 1 + 8;

/// Numbers the lists that were written or read with their elements.
#[derive(Default)]
pub(crate) struct ListReferences {
    written: BTreeMap<Arc<Vec<Bytes>>, u64>,
    read: Vec<Arc<Vec<Bytes>>>,
}

/// Appends the snapshots of one operator's workers.
pub(crate) fn encode_states(
    states: &[OperatorStateSnapshot],
    references: &mut ListReferences,
    out: &mut Vec<u8>,
) {
    put_u64(out, states.len() as u64);
    for state in states {
        put_u64(out, state.lists.len() as u64);
        for list in &state.lists {
            encode_list(list, references, out);
        }
        put_u64(out, state.raw.len() as u64);
        state.raw.iter().for_each(|bytes| put_bytes(out, bytes));
        put_u64(out, state.raw_keyed.len() as u64);
        for (group, bytes) in &state.raw_keyed {
            put_u16(out, *group);
            put_bytes(out, bytes);
        }
    }
}

fn encode_list(list: &NamedList, references: &mut ListReferences, out: &mut Vec<u8>) {
    put_bytes(out, list.name.as_bytes());
    let mode = MODES.iter().find(|(mode, _)| *mode == list.mode);
    out.push(mode.map_or(u8::MAX, |(_, code)| *code));
    out.push(u8::from(list.key.is_some()));
    list.value.encode(out);
    if let Some(key) = &list.key {
        key.encode(out);
    }
    let bytes: usize = list.elements.iter().map(|element| 8 + element.len()).sum();
    if bytes > REFERENCE_BYTES
        && let Some(earlier) = references.written.get(&list.elements)
    {
        out.push(SAME_AS);
        put_u64(out, *earlier);
        return;
    }
    let number = references.read.len() as u64;
    references.read.push(Arc::clone(&list.elements));
    references
        .written
        .entry(Arc::clone(&list.elements))
        .or_insert(number);
    out.push(OWN);
    put_u64(out, list.elements.len() as u64);
    list.elements
        .iter()
        .for_each(|element| put_bytes(out, element));
}

/// Reads what `encode_states` wrote.
pub(crate) fn read_states(
    reader: &mut Reader<'_>,
    references: &mut ListReferences,
) -> Result<Vec<OperatorStateSnapshot>, StateError> {
    let mut states = reader.list(3 * 8)?;
    for _ in 0..states.count {
        let mut lists = reader.list(LIST_BYTES_MIN)?;
        let mut names = BTreeSet::new();
        for _ in 0..lists.count {
            let list = read_list(reader, references)?;
            if !names.insert(list.name.clone()) {
                return Err(reader.wrong(&format!(
                    "one worker has two states named `{}`",
                    list.name.escape_default()
                )));
            }
            lists.items.push(list);
        }
        let raw = reader.byte_strings()?;
        let mut raw_keyed = reader.list(2 + 8)?;
        for _ in 0..raw_keyed.count {
            let group = reader.u16()?;
            if let Some((last, _)) = raw_keyed.items.last()
                && *last >= group
            {
                return Err(reader.wrong(&format!(
                    "raw state of key group {group} comes after that of key group {last}, expected ascending groups"
                )));
            }
            let bytes = Bytes::copy_from_slice(reader.bytes()?);
            raw_keyed.items.push((group, bytes));
        }
        states.items.push(OperatorStateSnapshot {
            lists: lists.items,
            raw: raw.into_iter().map(Bytes::from).collect(),
            raw_keyed: raw_keyed.items,
        });
    }
    Ok(states.items)
}

fn read_list(
    reader: &mut Reader<'_>,
    references: &mut ListReferences,
) -> Result<NamedList, StateError> {
    let name = reader.text()?;
    let code = reader.u8()?;
    let Some((mode, _)) = MODES.iter().find(|(_, known)| *known == code) else {
        return Err(reader.wrong(&format!(
            "a state is redistributed by {code}, but 0 to 2 are known"
        )));
    };
    let has_key = reader.flag()?;
    let value = SerializerSnapshot::read(reader)?;
    let key = match has_key {
        true => Some(SerializerSnapshot::read(reader)?),
        false => None,
    };
    let elements = match reader.u8()? {
        OWN => {
            let elements = reader.byte_strings()?.into_iter().map(Bytes::from);
            let elements = Arc::new(elements.collect::<Vec<_>>());
            references.read.push(Arc::clone(&elements));
            elements
        }
        SAME_AS => {
            let number = reader.u64()?;
            let known = usize::try_from(number).ok();
            match known.and_then(|number| references.read.get(number)) {
                Some(earlier) => Arc::clone(earlier),
                None => {
                    return Err(reader.wrong(&format!(
                        "a list is the same as list {number}, but only {} come before it",
                        references.read.len()
                    )));
                }
            }
        }
        other => {
            return Err(reader.wrong(&format!(
                "elements of a list begin with {other} instead of {OWN} or {SAME_AS}"
            )));
        }
    };
    Ok(NamedList {
        name,
        mode: *mode,
        value,
        key,
        elements,
    })
}

impl OperatorStateSnapshot {
    /// Appends the snapshot to `out`, as it travels to the coordinator.
    pub fn encode(&self, out: &mut Vec<u8>) {
        encode_states(
            std::slice::from_ref(self),
            &mut ListReferences::default(),
            out,
        );
    }

    /// Reads what `encode` wrote; any other bytes are an error.
    pub fn decode(bytes: &[u8]) -> Result<Self, StateError> {
        let mut reader = Reader::new("a worker's operator state", bytes);
        let mut states = read_states(&mut reader, &mut ListReferences::default())?;
        reader.end()?;
        match states.pop() {
            Some(state) if states.is_empty() => Ok(state),
            _ => Err(reader.wrong("expected the state of one worker")),
        }
    }
}

//! State of operators that is not keyed: it lies in the metadata, a piece for each worker that reported.

use std::collections::BTreeMap;

use super::tables::{ReadableTable, TableKind, TableSource};
use crate::checkpoint::CheckpointMetadata;
use crate::dynamic::DynamicType;
use crate::operator::{NamedList, Redistribution};
use crate::serializer::SerializerSnapshot;

/// One worker's piece of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    /// The report's place among the operators of the metadata.
    pub(super) report: usize,
    pub(super) part: Part,
}

/// Which part of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// What a source keeps of its splits.
    Elements,
    /// What a sink has prepared.
    Committables,
    /// A list or a map: the worker's place among those with state, and its own there.
    Named { worker: usize, list: usize },
    /// The raw stream of this worker.
    Raw { worker: usize },
    /// Its raw keyed stream.
    RawKeyed { worker: usize },
}

/// One element.
#[derive(Clone, Copy, Debug)]
pub(super) struct Element<'a> {
    pub(super) key: Option<&'a [u8]>,
    pub(super) value: &'a [u8],
    pub(super) group: Option<u16>,
}

impl Piece {
    /// The element at a place, if there are so many.
    pub(super) fn get<'a>(
        &self,
        metadata: &'a CheckpointMetadata,
        at: usize,
    ) -> Option<Element<'a>> {
        let report = metadata.operators.get(self.report)?;
        let bare = |value: &'a [u8]| Element {
            key: None,
            value,
            group: None,
        };
        match self.part {
            Part::Elements => report.elements.get(at).map(|bytes| bare(bytes)),
            Part::Committables => report.committables.get(at).map(|bytes| bare(bytes)),
            Part::Named { worker, list } => {
                let list = report.states.get(worker)?.lists.get(list)?;
                if list.mode != Redistribution::Broadcast {
                    return list.elements.get(at).map(|bytes| bare(bytes));
                }
                // Key and value in turns; a key without a value has an empty one, which says so when it is decoded.
                let key = list.elements.get(at.checked_mul(2)?)?;
                let value = list.elements.get(at * 2 + 1);
                Some(Element {
                    key: Some(key),
                    ..bare(value.map_or(&[], |bytes| bytes))
                })
            }
            Part::Raw { worker } => {
                let raw = &report.states.get(worker)?.raw;
                raw.get(at).map(|bytes| bare(bytes))
            }
            Part::RawKeyed { worker } => {
                let (group, bytes) = report.states.get(worker)?.raw_keyed.get(at)?;
                Some(Element {
                    group: Some(*group),
                    ..bare(bytes)
                })
            }
        }
    }
}

/// Tables while their pieces are gathered, by operator and state.
type Gathered<'a> = BTreeMap<(&'a str, &'a str), ReadableTable>;

/// The tables of all reports, each once.
pub(super) fn tables(metadata: &CheckpointMetadata) -> Vec<ReadableTable> {
    let mut found = Gathered::new();
    for (place, report) in metadata.operators.iter().enumerate() {
        let mut own = |state, kind, part, layout| {
            let at = (report.operator.as_str(), state);
            let table = unkeyed(at, kind, DynamicType::bytes(layout), layout);
            add(&mut found, at, table, place, part);
        };
        if !report.elements.is_empty() {
            let kind = TableKind::OperatorList;
            own("_elements", kind, Part::Elements, "the operator's own");
        }
        if !report.committables.is_empty() {
            let kind = TableKind::Committables;
            own("_committables", kind, Part::Committables, "the sink's own");
        }
        for (worker, state) in report.states.iter().enumerate() {
            if !state.raw.is_empty() {
                let (kind, part) = (TableKind::Raw, Part::Raw { worker });
                own("_raw", kind, part, "the operator's raw stream");
            }
            if !state.raw_keyed.is_empty() {
                let (kind, part) = (TableKind::RawKeyed, Part::RawKeyed { worker });
                own("_raw_keyed", kind, part, "the operator's raw keyed stream");
            }
        }
        for (worker, state) in report.states.iter().enumerate() {
            for (list, named) in state.lists.iter().enumerate() {
                let at = (report.operator.as_str(), named.name.as_str());
                // Every worker has the same map.
                if named.mode == Redistribution::Broadcast && found.contains_key(&at) {
                    continue;
                }
                let part = Part::Named { worker, list };
                add(&mut found, at, of_list(at, named), place, part);
            }
        }
    }
    found.into_values().collect()
}

fn add<'a>(
    found: &mut Gathered<'a>,
    at: (&'a str, &'a str),
    table: ReadableTable,
    report: usize,
    part: Part,
) {
    let table = found.entry(at).or_insert(table);
    if let TableSource::Unkeyed(pieces) = &mut table.source {
        pieces.push(Piece { report, part });
    }
}

/// A list or broadcast map.
fn of_list(at: (&str, &str), list: &NamedList) -> ReadableTable {
    let kind = match list.mode {
        Redistribution::Split => TableKind::OperatorList,
        Redistribution::Union => TableKind::OperatorUnion,
        Redistribution::Broadcast => TableKind::Broadcast,
    };
    let value = DynamicType::parse(&list.value);
    let key = list.key.as_ref().map(DynamicType::parse_key);
    let table = unkeyed(at, kind, value, &list.value.describe());
    ReadableTable {
        key: key.unwrap_or(table.key),
        ..table
    }
}

/// A table without pieces and without keys.
fn unkeyed(
    (operator, state): (&str, &str),
    kind: TableKind,
    value: DynamicType,
    layout: &str,
) -> ReadableTable {
    ReadableTable {
        operator: operator.to_owned(),
        state: state.to_owned(),
        kind,
        key: DynamicType::parse_key(&SerializerSnapshot::void()),
        namespace: None,
        user_key: None,
        value,
        ttl_ms: None,
        event_time: false,
        untimed_as_ms: None,
        layout: layout.to_owned(),
        source: TableSource::Unkeyed(Vec::new()),
    }
}

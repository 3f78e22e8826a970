//! State of operators that is not keyed: it lies in the metadata, a piece for each worker that reported.

use std::collections::BTreeMap;

use super::tables::{ReadableTable, TableKind, TableSource};
use crate::checkpoint::CheckpointMetadata;
use crate::dynamic::DynamicType;
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
}

/// One element.
#[derive(Clone, Copy, Debug)]
pub(super) struct Element<'a> {
    pub(super) key: Option<&'a [u8]>,
    pub(super) value: &'a [u8],
    pub(super) group: Option<u16>,
}

impl Piece {
    /// Elements of the piece.
    pub(super) fn len(&self, metadata: &CheckpointMetadata) -> usize {
        metadata
            .operators
            .get(self.report)
            .map_or(0, |report| match self.part {
                Part::Elements => report.elements.len(),
                Part::Committables => report.committables.len(),
            })
    }

    /// The element at a place.
    pub(super) fn get<'a>(
        &self,
        metadata: &'a CheckpointMetadata,
        at: usize,
    ) -> Option<Element<'a>> {
        let report = metadata.operators.get(self.report)?;
        let bare = |value: &'a Vec<u8>| Element {
            key: None,
            value,
            group: None,
        };
        match self.part {
            Part::Elements => report.elements.get(at).map(bare),
            Part::Committables => report.committables.get(at).map(bare),
        }
    }
}

/// What is known of a table while its pieces are gathered.
struct Gathered {
    kind: TableKind,
    key: DynamicType,
    value: DynamicType,
    layout: String,
    pieces: Vec<Piece>,
}

/// The tables of all reports, each once.
pub(super) fn tables(metadata: &CheckpointMetadata) -> Vec<ReadableTable> {
    let mut found: BTreeMap<(&str, &str), Gathered> = BTreeMap::new();
    for (place, report) in metadata.operators.iter().enumerate() {
        let bare = [
            (
                "_elements",
                TableKind::OperatorList,
                Part::Elements,
                report.elements.is_empty(),
                "the operator's own",
            ),
            (
                "_committables",
                TableKind::Committables,
                Part::Committables,
                report.committables.is_empty(),
                "the sink's own",
            ),
        ];
        for (state, kind, part, _, layout) in bare.into_iter().filter(|bare| !bare.3) {
            let table = found
                .entry((&report.operator, state))
                .or_insert_with(|| Gathered {
                    kind,
                    key: DynamicType::parse_key(&SerializerSnapshot::void()),
                    value: DynamicType::bytes(layout),
                    layout: layout.to_owned(),
                    pieces: Vec::new(),
                });
            table.pieces.push(Piece {
                report: place,
                part,
            });
        }
    }
    let table = |((operator, state), found): ((&str, &str), Gathered)| ReadableTable {
        operator: operator.to_owned(),
        state: state.to_owned(),
        kind: found.kind,
        key: found.key,
        namespace: None,
        user_key: None,
        value: found.value,
        ttl_ms: None,
        event_time: false,
        untimed_as_ms: None,
        layout: found.layout,
        source: TableSource::Unkeyed(found.pieces),
    };
    found.into_iter().map(table).collect()
}

//! The states of a checkpoint as tables.

use aquifer_store::TableId;

use super::unkeyed::{self, Piece};
use crate::checkpoint::CheckpointMetadata;
use crate::dynamic::DynamicType;
use crate::serializer::StateKind;
use crate::{StateDescription, StateError};

/// What kind of table a state is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableKind {
    /// Keyed state.
    Keyed(StateKind),
    /// Elements of an operator that are split among its workers: positions of a source, for example.
    OperatorList,
    /// Elements of an operator of which each worker gets all.
    OperatorUnion,
    /// A map of which each worker has all.
    Broadcast,
    /// Partitions of an operator's raw stream.
    Raw,
    /// An operator's raw stream by key group.
    RawKeyed,
    /// What a sink has prepared and commits once the checkpoint is complete.
    Committables,
}

impl TableKind {
    /// For people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Keyed(kind) => kind.name(),
            Self::OperatorList => "operator list state",
            Self::OperatorUnion => "operator union list state",
            Self::Broadcast => "broadcast state",
            Self::Raw => "raw operator state",
            Self::RawKeyed => "raw keyed state",
            Self::Committables => "committables of a sink",
        }
    }

    /// In one word, for programs.
    pub fn word(self) -> &'static str {
        match self {
            Self::Keyed(StateKind::Value) => "value",
            Self::Keyed(StateKind::List) => "list",
            Self::Keyed(StateKind::Map) => "map",
            Self::Keyed(StateKind::Reducing) => "reducing",
            Self::Keyed(StateKind::Aggregating) => "aggregating",
            Self::Keyed(StateKind::Timers) => "timers",
            Self::Keyed(StateKind::Raw) => "raw",
            Self::OperatorList => "operator-list",
            Self::OperatorUnion => "operator-union",
            Self::Broadcast => "broadcast",
            Self::Raw => "raw-operator",
            Self::RawKeyed => "raw-keyed",
            Self::Committables => "committables",
        }
    }

    /// Whether each of its rows has a place in a list.
    pub fn has_index(self) -> bool {
        matches!(
            self,
            Self::Keyed(StateKind::List)
                | Self::OperatorList
                | Self::OperatorUnion
                | Self::Raw
                | Self::Committables
        )
    }

    /// Whether it is keyed state: its rows lie in key groups and files.
    pub fn is_keyed(self) -> bool {
        matches!(self, Self::Keyed(_))
    }
}

/// One state of one operator.
#[derive(Clone, Debug, PartialEq)]
pub struct ReadableTable {
    /// The operator.
    pub operator: String,
    /// The state's name, unique within the operator.
    pub state: String,
    /// What it holds.
    pub kind: TableKind,
    /// Of its keys. Of tables whose rows only their user understands, the key is all of a row's key; without a key, void.
    pub key: DynamicType,
    /// Of its namespaces, if it has any.
    pub namespace: Option<DynamicType>,
    /// Of the keys of a map.
    pub user_key: Option<DynamicType>,
    /// Of values, elements or accumulators; of a timer, its time.
    pub value: DynamicType,
    /// How long its entries live, if they expire.
    pub ttl_ms: Option<u64>,
    /// Whether that is counted in event time.
    pub event_time: bool,
    /// What entries without a time, or an earlier one, count as written at.
    pub untimed_as_ms: Option<i64>,
    /// How its writer calls the layout of its rows.
    pub layout: String,
    pub(super) source: TableSource,
}

/// Where the rows of a table are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum TableSource {
    /// In files: a table of the store.
    Keyed(TableId),
    /// In the metadata.
    Unkeyed(Vec<Piece>),
}

impl ReadableTable {
    /// Whether it is known where the keys of its rows end: otherwise rows of one key, with their namespaces and user keys, are not told from
    /// those of another.
    pub fn tells_keys(&self) -> bool {
        let is_all = self.namespace.is_none() && self.user_key.is_none();
        self.kind.is_keyed() && (is_all || self.key.ends_by_itself())
    }

    /// `operator/state`, unique in the checkpoint.
    pub fn full_name(&self) -> String {
        format!("{}/{}", self.operator, self.state)
    }
}

/// The tables of a checkpoint, ordered by operator and name.
pub(super) fn of(metadata: &CheckpointMetadata) -> Vec<ReadableTable> {
    let described = metadata.tables.iter();
    let mut tables: Vec<ReadableTable> = described
        .map(|(description, id)| keyed(description, *id))
        .collect();
    tables.extend(unkeyed::tables(metadata));
    tables.sort_by(|a, b| (&a.operator, &a.state).cmp(&(&b.operator, &b.state)));
    tables
}

/// One keyed state.
fn keyed(description: &StateDescription, id: TableId) -> ReadableTable {
    let schema = &description.schema;
    let namespace = match schema.kind {
        // The namespaces of timers are those of whoever registers them.
        StateKind::Timers => Some(DynamicType::bytes("namespaces of timers")),
        _ => Some(DynamicType::parse_key(&schema.namespace)),
    };
    let value = match schema.kind {
        StateKind::Timers => DynamicType::integer(),
        _ => DynamicType::parse(&schema.value),
    };
    ReadableTable {
        operator: description.operator.clone(),
        state: description.state.clone(),
        kind: TableKind::Keyed(schema.kind),
        key: DynamicType::parse_key(&schema.key),
        namespace: namespace.filter(|namespace| !namespace.is_void()),
        user_key: schema.user_key.as_ref().map(DynamicType::parse_key),
        value,
        ttl_ms: description.options.ttl_ms,
        event_time: description.options.event_time,
        untimed_as_ms: description.options.untimed_as_ms,
        layout: description.layout.clone(),
        source: TableSource::Keyed(id),
    }
}

/// See [`super::StateReader::table`].
pub(super) fn find<'a>(
    tables: &'a [ReadableTable],
    operator: Option<&str>,
    state: &str,
) -> Result<&'a ReadableTable, StateError> {
    let of_operator = |table: &&ReadableTable| operator.is_none_or(|name| table.operator == name);
    let mut found: Vec<&ReadableTable> = tables
        .iter()
        .filter(of_operator)
        .filter(|table| table.state == state)
        .collect();
    if found.is_empty() {
        let full = |table: &&ReadableTable| table.full_name() == state;
        found = tables.iter().filter(of_operator).filter(full).collect();
    }
    let names = |tables: &mut dyn Iterator<Item = &ReadableTable>| {
        let names: Vec<String> = tables
            .map(|table| format!("`{}`", table.full_name()))
            .collect();
        match names.is_empty() {
            true => "none".to_owned(),
            false => names.join(", "),
        }
    };
    match found.as_slice() {
        [table] => Ok(table),
        [] => {
            let at = operator.map_or(String::new(), |name| format!(" of operator `{name}`"));
            Err(StateError::Usage(format!(
                "the checkpoint has no state `{state}`{at}; its states are: {}",
                names(&mut tables.iter())
            )))
        }
        several => Err(StateError::Usage(format!(
            "more than one operator has a state `{state}`: {}; name the operator, too",
            names(&mut several.iter().copied())
        ))),
    }
}

#[cfg(test)]
mod tests {
    use aquifer_store::TableOptions;

    use super::*;
    use crate::serializer::{SerializerSnapshot, StateSchema};

    fn table(key: &str, user_key: Option<&str>, namespace: Option<&str>) -> ReadableTable {
        let options = TableOptions::default();
        let described = StateDescription {
            schema: StateSchema {
                kind: StateKind::Map,
                key: SerializerSnapshot::opaque(key),
                namespace: namespace.map_or(SerializerSnapshot::void(), SerializerSnapshot::opaque),
                user_key: user_key.map(SerializerSnapshot::opaque),
                ..StateSchema::raw("i64")
            },
            ..StateDescription::raw("op", "state", options, "i64")
        };
        keyed(&described, TableId(0))
    }

    /// Each entry of a map counted as a key where the end of keys is not known.
    #[test]
    fn keys_are_told_where_their_end_is_known() {
        assert!(table("i64", Some("String"), Some("i64")).tells_keys());
        // All of a row's key is the key, whatever is in it.
        assert!(table("Mine", None, None).tells_keys());
        assert!(!table("Mine", Some("String"), None).tells_keys());
        assert!(!table("Mine", None, Some("i64")).tells_keys());
    }
}

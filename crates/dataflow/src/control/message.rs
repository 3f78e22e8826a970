//! The messages of the control dataflow. They cross processes, so they are decoded with care.
//!
//! A worker's part of a checkpoint is all that the coordinator learns of the worker, and what it leaves out is not in the checkpoint. So
//! what other crates describe (file lists, options of tables) travels whole, in the encoding of those who own it.

use aquifer_state::checkpoint::OperatorSnapshot;
use aquifer_state::operator::OperatorStateSnapshot;
use aquifer_state::serializer::StateSchema;
use aquifer_state::{KeyedSnapshot, StateDescription, StateError};
use aquifer_store::{KeyGroupRange, TableId, TableOptions};
use serde::{Deserialize, Serialize};

use super::coordinator::{Acknowledgement, Event};

/// From a worker to the coordinator.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Up {
    /// The worker's part of a checkpoint is durable.
    Acknowledged(Box<Part>),
    /// All sources of this worker have reached their end.
    SourcesFinished(u64),
}

/// From the coordinator to a worker.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Down {
    /// End the epoch of this checkpoint.
    Trigger(u64),
    /// The same, and read nothing after it.
    TriggerAndStop(u64),
    /// Read on after all.
    GoOn,
    /// This checkpoint is complete.
    Complete(u64),
    /// The job is done.
    Finish,
}

/// Elements or committables: bytes that only their operator understands.
type Opaque = Vec<Vec<u8>>;

/// One worker's part of a checkpoint, in a form that travels.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Part {
    pub worker: u64,
    pub checkpoint_id: u64,
    pub range: (u16, u16),
    /// The state layer's own encoding of the keyed part.
    pub keyed: Vec<u8>,
    /// The tables the worker knows.
    pub tables: Vec<Table>,
    /// Operator, elements, committables, and its named states in the state layer's own encoding.
    pub operators: Vec<(String, Opaque, Opaque, Opaque)>,
}

/// One table of a worker.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Table {
    pub table: u16,
    pub operator: String,
    pub state: String,
    pub layout: String,
    /// The store's own encoding of the table's options.
    pub options: Vec<u8>,
    /// The state layer's own encoding of what it knows of the types.
    pub schema: Vec<u8>,
}

impl Table {
    fn new(description: StateDescription, table: TableId) -> Self {
        let mut options = Vec::new();
        description.options.encode(&mut options);
        let mut schema = Vec::new();
        description.schema.encode(&mut schema);
        Self {
            table: table.0,
            operator: description.operator,
            state: description.state,
            layout: description.layout,
            options,
            schema,
        }
    }

    fn described(self) -> Result<(StateDescription, TableId), StateError> {
        let description = StateDescription {
            options: TableOptions::decode(&self.options)?,
            operator: self.operator,
            state: self.state,
            layout: self.layout,
            schema: StateSchema::decode(&self.schema)?,
        };
        Ok((description, TableId(self.table)))
    }
}

impl Part {
    /// For the way to the coordinator.
    pub fn new(part: Acknowledgement) -> Self {
        let mut keyed = Vec::new();
        part.keyed.encode(&mut keyed);
        Self {
            worker: part.worker as u64,
            checkpoint_id: part.checkpoint_id,
            range: (part.range.start, part.range.end),
            keyed,
            tables: part
                .tables
                .into_iter()
                .map(|(description, table)| Table::new(description, table))
                .collect(),
            operators: part
                .operators
                .into_iter()
                .map(|o| {
                    let states = o.states.iter().map(|state| {
                        let mut bytes = Vec::new();
                        state.encode(&mut bytes);
                        bytes
                    });
                    let states = states.collect();
                    (o.operator, o.elements, o.committables, states)
                })
                .collect(),
        }
    }
}

impl Up {
    /// At the coordinator.
    pub fn into_event(self) -> Result<Event, StateError> {
        let part = match self {
            Up::SourcesFinished(worker) => return Ok(Event::SourcesFinished(index(worker)?)),
            Up::Acknowledged(part) => part,
        };
        Ok(Event::Acknowledged(Acknowledgement {
            worker: index(part.worker)?,
            checkpoint_id: part.checkpoint_id,
            range: KeyGroupRange {
                start: part.range.0,
                end: part.range.1,
            },
            keyed: KeyedSnapshot::decode(&part.keyed)?,
            tables: part
                .tables
                .into_iter()
                .map(Table::described)
                .collect::<Result<_, _>>()?,
            operators: part
                .operators
                .into_iter()
                .map(|(operator, elements, committables, states)| {
                    let states = states.iter();
                    Ok(OperatorSnapshot {
                        operator,
                        elements,
                        committables,
                        states: states
                            .map(|state| OperatorStateSnapshot::decode(state))
                            .collect::<Result<_, StateError>>()?,
                    })
                })
                .collect::<Result<_, StateError>>()?,
        }))
    }
}

fn index(worker: u64) -> Result<usize, StateError> {
    usize::try_from(worker)
        .map_err(|_| StateError::Corrupt(format!("expected the index of a worker, found {worker}")))
}

#[cfg(test)]
mod tests {
    use aquifer_state::serializer::StateKind;
    use aquifer_state::{ClosedChunks, InlineFile, TableMoment};
    use aquifer_store::{ExpiryCleanup, KeyPart, Merge};

    use super::*;

    fn part(options: Vec<TableOptions>) -> Acknowledgement {
        let tables = options.into_iter().enumerate().map(|(id, options)| {
            let state = format!("state {id}");
            let mut description = StateDescription::raw("3-sessions", state, options, "list-1");
            description.schema.kind = StateKind::List;
            description.schema.untimed_as_ms = description.options.untimed_as_ms;
            (description, TableId(id as u16))
        });
        Acknowledgement {
            worker: 2,
            checkpoint_id: 7,
            range: KeyGroupRange { start: 5, end: 9 },
            keyed: KeyedSnapshot {
                tables: vec![TableMoment {
                    table: TableId(1),
                    list_chunk: 4,
                    list_bytes: 5,
                    list_oldest: 3,
                    list_latest_ms: Some(8),
                    list_closed: vec![ClosedChunks {
                        last: 3,
                        latest_ms: Some(8),
                    }],
                    event_time_ms: Some(6),
                }],
                inline: vec![InlineFile {
                    name: "w2-1.sst".into(),
                    bytes: vec![7; 8].into(),
                }],
                ..KeyedSnapshot::default()
            },
            tables: tables.collect(),
            operators: vec![OperatorSnapshot {
                operator: "1-source".into(),
                elements: vec![vec![1, 2]],
                committables: vec![vec![3]],
                states: vec![OperatorStateSnapshot {
                    raw: vec![vec![8, 9].into()],
                    ..OperatorStateSnapshot::default()
                }],
            }],
        }
    }

    /// What the coordinator gets of a part.
    fn carried(part: Acknowledgement) -> Result<Acknowledgement, StateError> {
        match Up::Acknowledged(Box::new(Part::new(part))).into_event()? {
            Event::Acknowledged(part) => Ok(part),
            _ => panic!("a part of a checkpoint became something else"),
        }
    }

    /// Only `ordered` travelled, so the metadata of a checkpoint said of every other option that it was not set. A restored job that did
    /// not register a list again compacted its rows without the merge rule, and one with a TTL kept them for ever.
    #[test]
    fn every_option_of_a_table_reaches_the_coordinator() {
        let options = vec![
            TableOptions::default(),
            TableOptions {
                ordered: true,
                merge: Merge::Append,
                ttl_ms: Some(86_400_000),
                untimed_as_ms: Some(1_700_000_000_000),
                event_time: true,
                show_expired: true,
                cleanup: ExpiryCleanup {
                    in_compactions: false,
                    query_time_after_rows: Some(70_000),
                    periodic_ms: Some(0),
                    in_full_snapshots: true,
                },
                prefix: vec![
                    KeyPart::Terminated,
                    KeyPart::Optional(vec![KeyPart::Fixed(8)]),
                ],
            },
            TableOptions {
                merge: Merge::Fold("sum-i64".into()),
                ttl_ms: Some(u64::MAX),
                ..TableOptions::default()
            },
        ];
        let sent = part(options.clone());
        let come = carried(sent.clone()).unwrap();
        let come_options: Vec<_> = come.tables.iter().map(|(d, _)| d.options.clone()).collect();
        assert_eq!(come_options, options);
        assert_eq!(come.tables, sent.tables);
        assert_eq!(come.keyed, sent.keyed);
        assert_eq!(come.operators, sent.operators);
        assert_eq!(
            (come.worker, come.checkpoint_id, come.range),
            (sent.worker, sent.checkpoint_id, sent.range)
        );
    }

    #[test]
    fn options_that_are_none_are_an_error() {
        let mut part = Part::new(part(vec![TableOptions::default()]));
        part.tables[0].options = vec![250, 1, 2];
        let error = Up::Acknowledged(Box::new(part)).into_event().unwrap_err();
        assert!(error.to_string().contains("options of a table"), "{error}");
    }
}

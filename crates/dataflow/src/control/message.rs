//! The messages of the control dataflow. They cross processes, so they are decoded with care.

use aquifer_state::checkpoint::OperatorSnapshot;
use aquifer_state::{KeyedSnapshot, StateDescription, StateError};
use aquifer_store::{Checkpoint, KeyGroupRange, TableId, TableOptions};
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
    /// The store's own encoding of its file list.
    pub files: Vec<u8>,
    /// Operator, state, layout, ordered, table.
    pub tables: Vec<(String, String, String, bool, u16)>,
    /// Operator, elements, committables.
    pub operators: Vec<(String, Opaque, Opaque)>,
}

impl Part {
    /// For the way to the coordinator.
    pub fn new(part: Acknowledgement) -> Self {
        let mut files = Vec::new();
        part.keyed.files.encode(&mut files);
        Self {
            worker: part.worker as u64,
            checkpoint_id: part.checkpoint_id,
            range: (part.range.start, part.range.end),
            files,
            tables: part
                .tables
                .into_iter()
                .map(|(d, table)| (d.operator, d.state, d.layout, d.options.ordered, table.0))
                .collect(),
            operators: part
                .operators
                .into_iter()
                .map(|o| (o.operator, o.elements, o.committables))
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
            keyed: KeyedSnapshot {
                files: Checkpoint::decode(&part.files)?,
            },
            tables: part
                .tables
                .into_iter()
                .map(|(operator, state, layout, ordered, table)| {
                    let options = TableOptions {
                        ordered,
                        ..TableOptions::default()
                    };
                    (
                        StateDescription {
                            operator,
                            state,
                            options,
                            layout,
                        },
                        TableId(table),
                    )
                })
                .collect(),
            operators: part
                .operators
                .into_iter()
                .map(|(operator, elements, committables)| OperatorSnapshot {
                    operator,
                    elements,
                    committables,
                })
                .collect(),
        }))
    }
}

fn index(worker: u64) -> Result<usize, StateError> {
    usize::try_from(worker)
        .map_err(|_| StateError::Corrupt(format!("expected the index of a worker, found {worker}")))
}

//! State of operators that the job does not have.
//!
//! A checkpoint may hold state that no operator of the job asks for: an operator was removed, or its id has changed. To drop it must be said
//! (`execution.state-recovery.ignore-unclaimed-state`). Then keyed state stays in the files of later checkpoints, where nobody reads it, and
//! comes back if the operator does; lists, broadcast maps and raw streams of the operator are not in later checkpoints.

use std::collections::BTreeSet;

use aquifer_state::checkpoint::CheckpointMetadata;

use super::JobOptions;
use crate::JobError;

/// An error if the checkpoint has state of operators that are not in the graph.
pub(super) fn check(
    options: &JobOptions,
    restored: &CheckpointMetadata,
    operators: &BTreeSet<String>,
) -> Result<(), JobError> {
    let tables = restored.tables.iter();
    let keyed = tables.map(|(description, _)| description.operator.as_str());
    let others = restored.operators.iter().filter(|operator| {
        let lists = [&operator.elements, &operator.committables];
        lists.iter().any(|list| !list.is_empty()) || !operator.states.is_empty()
    });
    let others = others.map(|operator| operator.operator.as_str());
    let unclaimed: BTreeSet<&str> = keyed
        .chain(others)
        .filter(|operator| !operators.contains(*operator))
        .collect();
    if unclaimed.is_empty() {
        return Ok(());
    }
    let names: Vec<String> = unclaimed.iter().map(|name| format!("`{name}`")).collect();
    let names = names.join(", ");
    let id = restored.checkpoint_id;
    if options.ignore_unclaimed_state {
        options.observer.note(&format!(
            "state of {names} in checkpoint {id} is ignored: the job has no such operators"
        ));
        return Ok(());
    }
    Err(JobError::usage(format!(
        "checkpoint {id} has state of {names}, but job '{}' has no such operators: give the operators their ids back, or set execution.state-recovery.ignore-unclaimed-state to true to go on without that state",
        options.name
    )))
}

//! Dealing out the state of operators among another number of workers. Pure; the arithmetic is Flink's.
//!
//! * A split list stays as it is when as many workers go on as have reported it. Else the lists, one after the other in the order of the
//!   workers, are split evenly: each new worker gets `total / workers` elements and the first `total mod workers` one more, counted from a
//!   worker that moves on from state to state (in the order of their names), so that many short lists do not all go to the first worker.
//! * A union list is whole on every worker, also when their number has not changed.
//! * A broadcast map stays as it is when as many workers go on as have reported it; else worker `i` gets the copy of the `i mod n`-th of
//!   the `n` that have.
//! * Partitions of raw streams are dealt out as split lists are; raw keyed streams go where their key groups go. A key group that does not
//!   exist, or that two workers report, is an error (`Corrupt`): nobody could say whose bytes count.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::{NamedList, OperatorStateSnapshot, Redistribution};
use crate::StateError;
use crate::key_group::operator_index;

/// Elements of a union list that workers take.
const UNION_ELEMENTS_MAX: usize = 1 << 26;

/// What each of `parallelism` workers restores of an operator whose workers were `parallelism_before`. `parts` are the snapshots of those
/// that reported something, in the order of the workers.
pub fn redistribute(
    parts: &[OperatorStateSnapshot],
    parallelism_before: u16,
    parallelism: u16,
    max_parallelism: u16,
) -> Result<Vec<OperatorStateSnapshot>, StateError> {
    let workers = usize::from(parallelism.max(1));
    let mut shares = vec![OperatorStateSnapshot::default(); workers];
    let as_before = |reported: usize| {
        parallelism == parallelism_before && reported == usize::from(parallelism_before)
    };

    let mut states: BTreeMap<&str, Vec<&NamedList>> = BTreeMap::new();
    for list in parts.iter().flat_map(|part| &part.lists) {
        states.entry(&list.name).or_default().push(list);
    }
    let mut start = 0;
    for (name, lists) in states {
        let Some(first) = lists.first() else { continue };
        if let Some(other) = lists.iter().find(|list| list.mode != first.mode) {
            return Err(StateError::Corrupt(format!(
                "state `{name}` is redistributed by {} on one worker and by {} on another",
                first.mode.name(),
                other.mode.name()
            )));
        }
        match first.mode {
            _ if first.mode != Redistribution::Union && as_before(lists.len()) => {
                for (share, list) in shares.iter_mut().zip(lists) {
                    share.lists.push(list.clone());
                }
            }
            Redistribution::Split => {
                let all = lists.iter().flat_map(|list| list.elements.iter().cloned());
                let split = split_evenly(all.collect(), workers, &mut start);
                for (share, elements) in shares.iter_mut().zip(split) {
                    share.lists.push(NamedList {
                        elements: Arc::new(elements),
                        ..NamedList::clone(first)
                    });
                }
            }
            Redistribution::Union => {
                let union = union(name, &lists)?;
                for share in &mut shares {
                    share.lists.push(NamedList {
                        elements: Arc::clone(&union),
                        ..NamedList::clone(first)
                    });
                }
            }
            Redistribution::Broadcast => {
                for (share, copy) in shares.iter_mut().zip(lists.iter().cycle()) {
                    share.lists.push(NamedList::clone(copy));
                }
            }
        }
    }

    let raw = parts.iter().filter(|part| !part.raw.is_empty());
    if as_before(raw.clone().count()) {
        for (share, part) in shares.iter_mut().zip(raw) {
            share.raw.clone_from(&part.raw);
        }
    } else {
        let all = raw.flat_map(|part| part.raw.iter().cloned()).collect();
        for (share, raw) in shares.iter_mut().zip(split_evenly(all, workers, &mut 0)) {
            share.raw = raw;
        }
    }
    let mut raw_keyed = BTreeMap::new();
    for (group, bytes) in parts.iter().flat_map(|part| &part.raw_keyed) {
        if *group >= max_parallelism {
            return Err(StateError::Corrupt(format!(
                "there is raw keyed state of key group {group}, expected groups below the max parallelism {max_parallelism}"
            )));
        }
        if raw_keyed.insert(*group, bytes).is_some() {
            return Err(StateError::Corrupt(format!(
                "two workers have raw keyed state of key group {group}, expected one"
            )));
        }
    }
    for (group, bytes) in raw_keyed {
        let worker = operator_index(group, max_parallelism, parallelism);
        if let Some(share) = shares.get_mut(usize::from(worker)) {
            share.raw_keyed.push((group, bytes.clone()));
        }
    }
    Ok(shares)
}

/// The elements in as many pieces as there are workers; those that are one longer begin with worker `start`, which moves on behind them.
fn split_evenly(elements: Vec<Bytes>, workers: usize, start: &mut usize) -> Vec<Vec<Bytes>> {
    let (base, longer) = (elements.len() / workers, elements.len() % workers);
    let mut pieces = vec![Vec::new(); workers];
    let mut elements = elements.into_iter();
    for i in 0..workers {
        let count = base + usize::from(i < longer);
        if let Some(piece) = pieces.get_mut((*start + i) % workers) {
            piece.extend(elements.by_ref().take(count));
        }
    }
    *start = (*start + longer) % workers;
    pieces
}

/// All lists, one after the other.
fn union(name: &str, lists: &[&NamedList]) -> Result<Arc<Vec<Bytes>>, StateError> {
    if let [only] = lists {
        return Ok(Arc::clone(&only.elements));
    }
    let lengths = lists.iter().map(|list| list.elements.len());
    let total = lengths.fold(0, usize::saturating_add);
    if total > UNION_ELEMENTS_MAX {
        return Err(StateError::Limit(format!(
            "union list `{name}` has {total} elements, and a worker takes {UNION_ELEMENTS_MAX} at most: an operator should put its own part in the place of the union it has restored"
        )));
    }
    let all = lists.iter().flat_map(|list| list.elements.iter().cloned());
    Ok(Arc::new(all.collect()))
}

#[cfg(test)]
mod tests;

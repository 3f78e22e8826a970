//! One key in the files of a version: L0 from new to old, then one file of each deeper level. Filters are asked before
//! blocks. The first file that has a value or a tombstone for the key, or a range tombstone over it, decides; operands are
//! collected on the way there.
use std::sync::Arc;

use super::{Blocks, Needs, Value};
use crate::merge::HeldOperands;
use crate::planted::{self, Bug};
use crate::row::RowKind;
use crate::sst::lookup::FileRow;
use crate::version::{Sought, Version, VersionFile};

/// Files whose filters are asked together.
const FILTERS_AT_ONCE: usize = 8;

/// How far a search came.
pub(crate) enum Search {
    Found(Value<'static>),
    /// There is no value, but maybe operands.
    Gone,
    /// A part of a file is missing.
    Cold,
}

/// Files that may hold a key, newest first, without those of the flushes from `before` on.
fn candidates<'a>(
    version: &'a Version,
    key: &'a [u8],
    before: u64,
) -> impl Iterator<Item = &'a Arc<VersionFile>> {
    let sought = Sought::new(key);
    let [newest, deeper @ ..] = &version.levels;
    let newest = newest.iter().filter(move |file| file.may_hold(sought));
    let all =
        newest.chain((1..=deeper.len()).filter_map(move |level| version.file_for(level, sought)));
    all.filter(move |file| file.flush < before)
}

/// Ends a search at a row, unless it is one of operands that older rows may lie under.
#[inline]
pub(super) fn found(row: FileRow, operands: &mut Vec<HeldOperands>) -> Option<Search> {
    match row.kind {
        RowKind::Value => Some(Search::Found(Value::stored(row.value, row.time_ms))),
        RowKind::Tombstone => Some(Search::Gone),
        RowKind::Operands => {
            let held = HeldOperands {
                time_ms: row.time_ms,
                bytes: row.value.to_bytes(),
            };
            let is_rooted = held.is_rooted();
            operands.push(held);
            is_rooted.then_some(Search::Gone)
        }
    }
}

/// Searches what is in memory of the files that are not of the flushes from `before` on; stops at the first part that is not.
/// Operands come newest first.
#[inline]
pub(crate) fn search(
    version: &Version,
    before: u64,
    hash: u64,
    key: &[u8],
    blocks: &impl Blocks,
    operands: &mut Vec<HeldOperands>,
) -> Search {
    // The line of each filter that decides about the key lies somewhere else in memory: all are fetched at once, so that the key
    // waits for one of them and not for one after the other.
    let mut near = [None; FILTERS_AT_ONCE];
    let mut known = 0;
    let mut touched = 0;
    let mut rest = candidates(version, key, before);
    while let Some(place) = near.get_mut(known)
        && let Some(file) = rest.next()
    {
        touched ^= file.file.touch_filter(hash);
        *place = Some(file);
        known += 1;
    }
    std::hint::black_box(touched);
    let near = near.into_iter().map_while(|file| file);
    for file in near.chain(rest) {
        match file.file.look(hash, key, blocks) {
            Ok(None) => {}
            Ok(Some(row)) => {
                if let Some(end) = found(row, operands) {
                    return end;
                }
            }
            Err(_) => return Search::Cold,
        }
        match file.hides_older(key) {
            Ok(None) => {}
            Ok(Some(_)) => return Search::Gone,
            Err(_) => return Search::Cold,
        }
    }
    Search::Gone
}

/// Like [`search`], but notes what is missing. Index and filter of every candidate are asked for at once, because they
/// decide which block is worth a request. Where rows may be operands (`merges`), blocks of older files are asked for too.
#[allow(
    clippy::too_many_arguments,
    reason = "what a search is about, and what it brings"
)]
pub(crate) fn search_noting(
    version: &Version,
    before: u64,
    hash: u64,
    key: &[u8],
    blocks: &impl Blocks,
    merges: bool,
    needs: &mut Needs,
    operands: &mut Vec<HeldOperands>,
) -> Search {
    let mut cold = false;
    for file in candidates(version, key, before) {
        match file.file.look(hash, key, blocks) {
            Ok(None) => {}
            // Whether this row counts may depend on newer files that are not known yet; older ones do not matter.
            Ok(Some(row)) => {
                if let Some(end) = found(row, operands) {
                    let cold = cold && !planted::is(Bug::ColdNewerSkipped);
                    return if cold { Search::Cold } else { end };
                }
            }
            Err(missing) => {
                needs.missing(&file.file, missing);
                cold = true;
                if missing.decides() && !merges {
                    return Search::Cold;
                }
            }
        }
        match file.hides_older(key) {
            Ok(None) => {}
            Ok(Some(_)) => break,
            Err(part) => {
                needs.part(&file.file, part);
                cold = true;
            }
        }
    }
    if cold { Search::Cold } else { Search::Gone }
}

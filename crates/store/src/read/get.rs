//! One key in the files of a version: L0 from new to old, then one file of each deeper level. Filters are asked before
//! blocks; the first file that knows the key decides.
use std::ops::Range;
use std::sync::Arc;

use super::{Blocks, Needs};
use crate::row::RowKind;
use crate::sst::block::{BlockRow, DataBlock};
use crate::version::{Version, VersionFile};

/// How far a search came.
pub(crate) enum Search {
    Found(Arc<DataBlock>, Range<usize>),
    Absent,
    /// A part of a file is missing.
    Cold,
}

/// What one file says about a key.
pub(crate) enum Step {
    Row(Arc<DataBlock>, BlockRow),
    Unknown,
    NoMeta,
    NoBlock(u32, Range<u64>),
}

/// Files that may hold `key`, newest first.
fn candidates<'a>(
    version: &'a Version,
    key: &'a [u8],
) -> impl Iterator<Item = &'a Arc<VersionFile>> {
    let [newest, ..] = &version.levels;
    let newest = newest.iter().filter(move |file| file.may_hold(key));
    newest.chain((1..version.levels.len()).filter_map(move |level| version.file_for(level, key)))
}

#[inline]
fn step(file: &VersionFile, hash: u64, key: &[u8], blocks: &impl Blocks) -> Step {
    let Some(meta) = blocks.meta(&file.file) else {
        return Step::NoMeta;
    };
    if !meta.filter.may_contain(hash) {
        return Step::Unknown;
    }
    let Some(number) = meta.index.find(key) else {
        return Step::Unknown;
    };
    let Some(place) = meta.index.range(number) else {
        return Step::Unknown;
    };
    let number = number as u32;
    match blocks.block(&file.file, number) {
        None => Step::NoBlock(number, place),
        Some(block) => match block.get(key) {
            Some(row) => Step::Row(block, row),
            None => Step::Unknown,
        },
    }
}

fn found(block: Arc<DataBlock>, row: BlockRow) -> Search {
    match row.kind {
        RowKind::Tombstone => Search::Absent,
        RowKind::Value | RowKind::Operands => Search::Found(block, row.value),
    }
}

/// Searches what is in memory; stops at the first part that is not.
#[inline]
pub(crate) fn search(version: &Version, hash: u64, key: &[u8], blocks: &impl Blocks) -> Search {
    for file in candidates(version, key) {
        match step(file, hash, key, blocks) {
            Step::Row(block, row) => return found(block, row),
            Step::Unknown => {}
            Step::NoMeta | Step::NoBlock(..) => return Search::Cold,
        }
    }
    Search::Absent
}

/// Like [`search`], but notes what is missing. Index and filter of every candidate are asked for at once, because they
/// decide which block is worth a request.
pub(crate) fn search_noting(
    version: &Version,
    hash: u64,
    key: &[u8],
    blocks: &impl Blocks,
    needs: &mut Needs,
) -> Search {
    let mut cold = false;
    for file in candidates(version, key) {
        match step(file, hash, key, blocks) {
            Step::NoMeta => {
                needs.meta(&file.file);
                cold = true;
            }
            Step::Row(block, row) if !cold => return found(block, row),
            // Whether this row counts depends on newer files that are not known yet; older ones do not matter.
            Step::Row(..) => return Search::Cold,
            Step::NoBlock(number, place) => {
                needs.block(&file.file, number, place);
                return Search::Cold;
            }
            Step::Unknown => {}
        }
    }
    if cold { Search::Cold } else { Search::Absent }
}

//! A large flush is built in parts, each a range of keys and a file of its own, by several threads at once. The files of the parts do
//! not overlap and count as one run of L0.
use std::sync::Arc;

use super::{Bound, Frozen, Part, write_part};
use crate::context::Context;
use crate::error::Result;
use crate::executor::FLUSH;
use crate::sst::new_file::NewFile;
use crate::teamwork::in_parts;

/// Builds the files of a flush whose memtables are sorted. Of a flush that failed, no file is left.
pub(super) fn build(context: &Arc<Context>, sources: &[Frozen]) -> Result<Vec<NewFile>> {
    let cuts = cuts(sources, parts_of(context, sources));
    let (sources, parts) = (sources.to_vec(), cuts.len() + 1);
    let built = in_parts(context, FLUSH, parts, move |context, number| {
        let before = number.checked_sub(1);
        let part = Part {
            from: before.and_then(|before| cuts.get(before)),
            until: cuts.get(number),
            of: parts,
        };
        write_part(context, &sources, &part)
    });
    NewFile::all_or_none(built)
}

fn parts_of(context: &Context, sources: &[Frozen]) -> usize {
    let bytes: usize = sources.iter().map(|frozen| frozen.memtable.bytes()).sum();
    let threads = context.env.executor.threads().flush;
    (bytes / context.options.flush_part_bytes_min.max(1)).clamp(1, threads.max(1))
}

/// Keys that divide the largest memtable evenly.
fn cuts(sources: &[Frozen], parts: usize) -> Vec<Bound> {
    let Some(largest) = sources.iter().max_by_key(|frozen| frozen.memtable.rows()) else {
        return Vec::new();
    };
    let rows = largest.memtable.rows();
    let mut cuts: Vec<Bound> = (1..parts)
        .filter_map(|part| largest.memtable.sorted_row(rows * part / parts))
        .map(|row| Bound::at(largest.table, &row))
        .collect();
    cuts.dedup();
    cuts
}

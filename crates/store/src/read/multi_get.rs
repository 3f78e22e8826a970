//! Many keys in the files of a version: keys are sorted, and each file and block is visited once.
use std::sync::Arc;

use super::{Blocks, ColdRead, Lookup, Value};
use crate::row::RowKind;
use crate::sst::block::DataBlock;
use crate::version::{Version, VersionFile};

/// Keys the memtables know nothing of, in one allocation.
#[derive(Default)]
pub(crate) struct PendingKeys {
    bytes: Vec<u8>,
    keys: Vec<Pending>,
}

struct Pending {
    /// Position in the caller's list.
    index: usize,
    hash: u64,
    start: usize,
    end: usize,
    open: bool,
}

impl PendingKeys {
    pub(crate) fn push(&mut self, index: usize, hash: u64, header: &[u8], key: &[u8]) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(header);
        self.bytes.extend_from_slice(key);
        self.keys.push(Pending {
            index,
            hash,
            start,
            end: self.bytes.len(),
            open: true,
        });
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Answers every key from what is in memory.
    pub(crate) fn answer(
        mut self,
        version: &Arc<Version>,
        blocks: &impl Blocks,
        answer: &mut dyn FnMut(usize, Lookup<'_>),
    ) {
        if version.is_empty() {
            for pending in &self.keys {
                answer(pending.index, Lookup::Absent);
            }
            return;
        }
        let Self { bytes, keys } = &mut self;
        keys.sort_unstable_by(|a, b| bytes[a.start..a.end].cmp(&bytes[b.start..b.end]));
        let mut visit = Visit {
            version,
            blocks,
            bytes,
            answer,
        };
        let [newest, ..] = &version.levels;
        for file in newest {
            let start = keys.partition_point(|k| visit.key(k) < file.lower.as_ref());
            let end = keys.partition_point(|k| visit.key(k) < file.upper.as_ref());
            visit.file(file, keys.get_mut(start..end).unwrap_or_default());
        }
        for level in 1..version.levels.len() {
            let mut at = 0;
            while let Some(pending) = keys.get(at) {
                let rest = version.overlapping(level, visit.key(pending), None);
                let Some(file) = rest.first() else { break };
                let start = at + keys[at..].partition_point(|k| visit.key(k) < file.lower.as_ref());
                let end = at + keys[at..].partition_point(|k| visit.key(k) < file.upper.as_ref());
                visit.file(file, keys.get_mut(start..end).unwrap_or_default());
                at = end;
            }
        }
        for pending in keys.iter().filter(|k| k.open) {
            (visit.answer)(pending.index, Lookup::Absent);
        }
    }
}

struct Visit<'a, B> {
    version: &'a Arc<Version>,
    blocks: &'a B,
    bytes: &'a [u8],
    answer: &'a mut dyn FnMut(usize, Lookup<'_>),
}

impl<B: Blocks> Visit<'_, B> {
    fn key(&self, pending: &Pending) -> &[u8] {
        self.bytes
            .get(pending.start..pending.end)
            .unwrap_or_default()
    }

    fn cold(&mut self, pending: &mut Pending) {
        pending.open = false;
        let key = self.key(pending).into();
        let read = ColdRead {
            version: self.version.clone(),
            key,
            hash: pending.hash,
        };
        (self.answer)(pending.index, Lookup::Cold(read));
    }

    /// Asks one file for keys in its range.
    fn file(&mut self, file: &VersionFile, keys: &mut [Pending]) {
        if !keys.iter().any(|k| k.open) {
            return;
        }
        let Some(meta) = self.blocks.meta(&file.file) else {
            keys.iter_mut()
                .filter(|k| k.open)
                .for_each(|k| self.cold(k));
            return;
        };
        let mut current: Option<(u32, Option<Arc<DataBlock>>)> = None;
        for pending in keys
            .iter_mut()
            .filter(|k| k.open && meta.filter.may_contain(k.hash))
        {
            let Some(number) = meta.index.find(self.key(pending)) else {
                break;
            };
            let number = number as u32;
            let block = match &current {
                Some((known, block)) if *known == number => block.clone(),
                _ => {
                    let block = self.blocks.block(&file.file, number);
                    current = Some((number, block.clone()));
                    block
                }
            };
            let Some(block) = block else {
                self.cold(pending);
                continue;
            };
            let lookup = match block.get(self.key(pending)) {
                None => continue,
                Some(row) if row.kind == RowKind::Tombstone => Lookup::Absent,
                Some(row) => Lookup::Found(Value::in_block(block, row.value)),
            };
            pending.open = false;
            (self.answer)(pending.index, lookup);
        }
    }
}

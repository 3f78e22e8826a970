//! Many keys in the files of a version: keys are sorted, and each file and block is visited once.
use std::sync::Arc;

use super::answer::answer;
use super::get::{Search, found};
use super::{Blocks, ColdRead, Lookup, Value};
use crate::error::Result;
use crate::merge::HeldOperands;
use crate::row::SourceRow;
use crate::rules::Rules;
use crate::sst::block::DataBlock;
use crate::sst::file::SstFile;
use crate::sst::index::Place;
use crate::sst::lookup::Missing;
use crate::sst::part::PartPlace;
use crate::version::{Version, VersionFile};

/// What all keys of one call have in common.
pub(crate) struct Terms<'a> {
    pub(crate) version: &'a Arc<Version>,
    pub(crate) rules: &'a Arc<Rules>,
    pub(crate) now_ms: i64,
    pub(crate) installs: u64,
}

/// Keys of which the memtables know nothing but operands, in one allocation.
#[derive(Default)]
pub(crate) struct PendingKeys<'m> {
    bytes: Vec<u8>,
    keys: Vec<Pending<'m>>,
}

struct Pending<'m> {
    /// Position in the caller's list.
    index: usize,
    hash: u64,
    /// Files of the flushes from this one on know nothing of the key.
    before: u64,
    start: usize,
    end: usize,
    open: bool,
    /// Operands, newest first. No allocation as long as there are none.
    memory: Vec<SourceRow<'m>>,
    files: Vec<HeldOperands>,
}

impl Pending<'_> {
    /// Whether a file has to be asked for the key.
    fn asks(&self, file: &VersionFile) -> bool {
        self.open && file.flush < self.before
    }
}

impl<'m> PendingKeys<'m> {
    /// Adds a key of which files decide, but none of the flushes from `before` on.
    pub(crate) fn push(
        &mut self,
        index: usize,
        before: u64,
        hash: u64,
        header: &[u8],
        key: &[u8],
        memory: Vec<SourceRow<'m>>,
    ) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(header);
        self.bytes.extend_from_slice(key);
        self.keys.push(Pending {
            index,
            hash,
            before,
            start,
            end: self.bytes.len(),
            open: true,
            memory,
            files: Vec::new(),
        });
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Answers every key from what is in memory.
    pub(crate) fn answer(
        mut self,
        terms: &Terms<'_>,
        blocks: &impl Blocks,
        answer: &mut dyn FnMut(usize, Lookup<'_>),
    ) -> Result<()> {
        let version = terms.version;
        let Self { bytes, keys } = &mut self;
        let mut visit = Visit {
            terms,
            blocks,
            bytes,
            answer,
        };
        if !version.is_empty() {
            keys.sort_unstable_by(|a, b| bytes[a.start..a.end].cmp(&bytes[b.start..b.end]));
            let [newest, ..] = &version.levels;
            for file in newest {
                let start = keys.partition_point(|k| visit.key(k) < file.lower.as_ref());
                let end = keys.partition_point(|k| visit.key(k) < file.upper.as_ref());
                visit.file(file, keys.get_mut(start..end).unwrap_or_default())?;
            }
            for level in 1..version.levels.len() {
                let mut at = 0;
                while let Some(pending) = keys.get(at) {
                    let rest = version.overlapping(level, visit.key(pending), None);
                    let Some(file) = rest.first() else { break };
                    let start =
                        at + keys[at..].partition_point(|k| visit.key(k) < file.lower.as_ref());
                    let end =
                        at + keys[at..].partition_point(|k| visit.key(k) < file.upper.as_ref());
                    visit.file(file, keys.get_mut(start..end).unwrap_or_default())?;
                    at = end;
                }
            }
        }
        for pending in keys.iter_mut().filter(|k| k.open) {
            visit.end(pending, None)?;
        }
        Ok(())
    }
}

struct Visit<'a, B> {
    terms: &'a Terms<'a>,
    blocks: &'a B,
    bytes: &'a [u8],
    answer: &'a mut dyn FnMut(usize, Lookup<'_>),
}

impl<B: Blocks> Visit<'_, B> {
    fn key(&self, pending: &Pending<'_>) -> &[u8] {
        self.bytes
            .get(pending.start..pending.end)
            .unwrap_or_default()
    }

    fn cold(&mut self, pending: &mut Pending<'_>) {
        pending.open = false;
        let read = ColdRead {
            version: self.terms.version.clone(),
            before: pending.before,
            key: self.key(pending).into(),
            hash: pending.hash,
            rules: self.terms.rules.clone(),
            now_ms: self.terms.now_ms,
            operands: (pending.memory.iter())
                .filter_map(HeldOperands::copy_row)
                .collect(),
            installs: self.terms.installs,
        };
        (self.answer)(pending.index, Lookup::Cold(read));
    }

    /// Answers a key, given what lies below its operands.
    fn end(&mut self, pending: &mut Pending<'_>, below: Option<Value<'static>>) -> Result<()> {
        pending.open = false;
        let Terms { rules, now_ms, .. } = self.terms;
        let value = answer(below, &pending.files, &pending.memory, rules, *now_ms)?;
        (self.answer)(pending.index, value.map_or(Lookup::Absent, Lookup::Found));
        Ok(())
    }

    /// Asks one file for keys in its range.
    fn file(&mut self, file: &VersionFile, keys: &mut [Pending<'_>]) -> Result<()> {
        if !keys.iter().any(|k| k.asks(file)) {
            return Ok(());
        }
        let looked = self.look_ahead(file, keys);
        for (pending, looked) in keys.iter_mut().filter(|k| k.asks(file)).zip(looked) {
            let row = match looked {
                Ok(None) => continue,
                Ok(Some(block)) => {
                    let key = self.key(pending);
                    file.file.row_in(block, pending.hash, key, self.blocks)
                }
                Err(missing) => Err(missing),
            };
            let row = match row {
                Ok(None) => continue,
                Ok(Some(row)) => row,
                Err(_) => {
                    self.cold(pending);
                    continue;
                }
            };
            match found(row, &mut pending.files) {
                Some(Search::Found(value)) => self.end(pending, Some(value))?,
                Some(Search::Gone) => self.end(pending, None)?,
                Some(Search::Cold) | None => {}
            }
        }
        if file.file.range_tombstones == 0 {
            return Ok(());
        }
        for pending in keys.iter_mut().filter(|k| k.asks(file)) {
            match file.hides_older(self.key(pending)) {
                Ok(None) => {}
                Ok(Some(_)) => self.end(pending, None)?,
                Err(_) => self.cold(pending),
            }
        }
        Ok(())
    }

    /// The block in which each open key must lie, if it is in the file. What one key needs from memory next is touched for all keys
    /// before it is used for any: cache lines that are fetched together cost little more than one.
    fn look_ahead(&self, file: &VersionFile, keys: &[Pending<'_>]) -> Vec<Looked> {
        let open = || keys.iter().filter(|k| k.asks(file));
        let file: &SstFile = &file.file;
        let touched = open().fold(0, |sum, k| sum ^ file.touch_filter(k.hash));
        std::hint::black_box(touched);
        let mut current: Option<(Place, Option<Arc<DataBlock>>)> = None;
        let looked: Vec<Looked> = open()
            .map(|pending| {
                let key = self.key(pending);
                let Some(located) = file.locate(pending.hash, key, self.blocks)? else {
                    return Ok(None);
                };
                let place = located.place;
                let block = match &current {
                    Some((known, block)) if *known == place => block.clone(),
                    _ => {
                        let block = self.blocks.located(file, located);
                        current = Some((place, block.clone()));
                        block
                    }
                };
                match block {
                    Some(block) => Ok(Some(block)),
                    None => Err(PartPlace::block(place).into()),
                }
            })
            .collect();
        let hits = || {
            let pairs = open().zip(&looked);
            pairs.filter_map(|(k, looked)| Some((k.hash, looked.as_ref().ok()?.as_ref()?)))
        };
        let touched = hits().fold(0, |sum, (hash, block)| sum ^ block.touch_bucket(hash));
        std::hint::black_box(touched);
        let touched = hits().fold(0, |sum, (hash, block)| sum ^ block.touch_row(hash));
        std::hint::black_box(touched);
        looked
    }
}

/// The block that must hold a key if the file does; none if it does not.
type Looked = std::result::Result<Option<Arc<DataBlock>>, Missing>;

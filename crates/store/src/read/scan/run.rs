//! A sorted run of files under a scan: it stands at a row whose value is in memory, or says what is missing for that.
use std::sync::Arc;

use bytes::Bytes;

use super::Window;
use crate::TableId;
use crate::key;
use crate::read::{Blocks, Needs};
use crate::row::RowRef;
use crate::sst::block::{BlockCursor, DataBlock};
use crate::sst::file::SstFile;
use crate::sst::lookup::BlockAt;
use crate::sst::part::PartPlace;
use crate::version::VersionFile;

/// Blocks that are asked for together when a scan runs into a cold one.
const READ_AHEAD_BLOCKS_MIN: usize = 4;
/// The more blocks a scan has run into, the more are asked for together, up to this.
const READ_AHEAD_BLOCKS_MAX: usize = 32;

/// A sorted run of files: one file of L0, or a whole deeper level.
pub(super) struct FileRun<'a> {
    all: &'a [Arc<VersionFile>],
    /// Those that are not behind.
    files: &'a [Arc<VersionFile>],
    /// Rows below this are not wanted any more.
    from: Option<&'a [u8]>,
    /// Some of the files that are read have range tombstones.
    ranged: bool,
    /// Of the bounds of the window and of the first of `files`, the window's comes first.
    ends_in_file: bool,
    at: At,
    cursor: BlockCursor,
    /// The value of the row at the cursor, if it lies aside.
    aside: Option<Bytes>,
    read_ahead: usize,
}

enum At {
    /// Before the first row of the first of `files`, which lies after the start of the window: nothing was asked of it.
    Ahead,
    /// Before the first row of the window in the first of `files`.
    Start,
    /// After the last row of a block.
    After(BlockAt),
    Row(BlockAt, Arc<DataBlock>),
    End,
}

/// Up to where older rows are hidden, or what is missing to know.
type HidesOlder<'a> = std::result::Result<Option<&'a [u8]>, (&'a Arc<VersionFile>, PartPlace)>;

impl<'a> FileRun<'a> {
    /// A run under a window.
    pub(super) fn new(files: &'a [Arc<VersionFile>], window: &Window) -> Self {
        let is_ahead = files
            .first()
            .is_some_and(|file| window.lower.as_slice() < file.lower.as_ref());
        let has_ranges =
            |file: &Arc<VersionFile>| file.file.range_tombstones > 0 && window.reads(file);
        Self {
            all: files,
            files,
            from: None,
            ranged: files.iter().any(has_ranges),
            ends_in_file: false,
            at: if is_ahead { At::Ahead } else { At::Start },
            cursor: BlockCursor::default(),
            aside: None,
            read_ahead: READ_AHEAD_BLOCKS_MIN,
        }
    }

    /// Has the cache line fetched by which the filter of the first file will decide about a prefix.
    pub(super) fn touch_filter(&self, hash: u64) -> u64 {
        let first = self.files.first();
        first.map_or(0, |file| file.file.touch_filter(hash))
    }

    /// Whether the run has not been begun.
    pub(super) fn is_ahead(&self) -> bool {
        matches!(self.at, At::Ahead)
    }

    /// No row of the run comes before this.
    pub(super) fn begins_at(&self) -> &'a [u8] {
        self.all.first().map_or(&[], |file| file.lower.as_ref())
    }

    /// Makes a run that is ahead one that takes part.
    pub(super) fn begin(&mut self) {
        if self.is_ahead() {
            self.at = At::Start;
        }
    }

    /// Makes the run stand at a row whose value is in memory, or at its end; notes what is missing for that and returns false.
    pub(super) fn settle(
        &mut self,
        blocks: &impl Blocks,
        window: &Window,
        needs: &mut Needs,
    ) -> bool {
        if self.is_ahead() {
            return true;
        }
        loop {
            let files = self.files;
            let Some(file) = files.first() else {
                self.at = At::End;
                return true;
            };
            if matches!(self.at, At::Start) {
                let upper = window.upper.as_deref();
                self.ends_in_file = upper.is_some_and(|upper| upper <= file.upper.as_ref());
            }
            let lower = self.from.unwrap_or(&window.lower).max(file.lower.as_ref());
            if matches!(self.at, At::Start)
                && (lower >= file.upper.as_ref()
                    || !window.reads(file)
                    || !may_hold_prefix(file, blocks, window, needs))
            {
                self.leave_file();
                continue;
            }
            let next = match &self.at {
                At::Ahead | At::End => return true,
                At::Row(..) => return self.settle_value(&file.file, blocks, needs),
                At::Start => file.file.seek(lower, blocks),
                At::After(at) => file.file.block_after(*at, blocks),
            };
            let at = match next {
                Ok(Some(at)) => at,
                Ok(None) => {
                    self.leave_file();
                    continue;
                }
                Err(part) => {
                    needs.part(&file.file, part);
                    return false;
                }
            };
            let Some(block) = blocks.located(&file.file, file.file.located(at)) else {
                // The block in hand is asked for without a second look: another thread may have brought it in just now, and a
                // scan that stops must say what for.
                needs.part(&file.file, PartPlace::block(at.place));
                let mut ahead = at;
                let read_ahead = self.read_ahead;
                self.read_ahead = (2 * read_ahead).min(READ_AHEAD_BLOCKS_MAX);
                for _ in 1..read_ahead {
                    let Ok(Some(next)) = file.file.block_after(ahead, blocks) else {
                        break;
                    };
                    if blocks
                        .located(&file.file, file.file.located(next))
                        .is_none()
                    {
                        needs.part(&file.file, PartPlace::block(next.place));
                    }
                    ahead = next;
                }
                return false;
            };
            self.cursor.reset();
            let found = match self.at {
                At::Start => self.cursor.seek(&block, lower),
                _ => self.cursor.advance(&block),
            };
            self.at = if found {
                At::Row(at, block)
            } else {
                At::After(at)
            };
            self.aside = None;
            self.check_end(window);
        }
    }

    /// Brings the value of the row at the cursor into hand, if it lies aside.
    fn settle_value(
        &mut self,
        file: &Arc<SstFile>,
        blocks: &impl Blocks,
        needs: &mut Needs,
    ) -> bool {
        if self.aside.is_none()
            && let Some(aside) = self.cursor.aside()
        {
            self.aside = blocks.value(file, aside.place);
            if self.aside.is_none() {
                needs.missing(file, file.value_part(aside));
                return false;
            }
        }
        true
    }

    fn leave_file(&mut self) {
        self.files = self.files.get(1..).unwrap_or_default();
        self.at = At::Start;
    }

    /// Leaves the file when the row is past what counts of it.
    fn check_end(&mut self, window: &Window) {
        let (At::Row(..), Some(file)) = (&self.at, self.files.first()) else {
            return;
        };
        let key = self.cursor.key();
        match self.ends_in_file {
            true if !window.is_below_upper(key) => self.at = At::End,
            false if key >= file.upper.as_ref() => self.leave_file(),
            _ => {}
        }
    }

    pub(super) fn key(&self) -> Option<&[u8]> {
        matches!(self.at, At::Row(..)).then(|| self.cursor.key())
    }

    pub(super) fn row(&self) -> Option<RowRef<'_>> {
        let At::Row(_, block) = &self.at else {
            return None;
        };
        let row = self.cursor.row(block)?;
        let value = self.aside.as_deref().unwrap_or(row.value);
        Some(RowRef { value, ..row })
    }

    /// The row, if its value is in hand.
    pub(super) fn settled_row(&self) -> Option<RowRef<'_>> {
        let lacks_value = self.aside.is_none() && self.cursor.aside().is_some();
        self.row().filter(|_| !lacks_value)
    }

    /// Whether the run may hide rows of older ones.
    pub(super) fn is_ranged(&self) -> bool {
        self.ranged
    }

    /// Up to where the run's range tombstones hide older rows from a key on.
    pub(super) fn hides_older(&self, key: &[u8]) -> HidesOlder<'a> {
        let at = self.all.partition_point(|file| file.upper.as_ref() <= key);
        match self.all.get(at).filter(|_| self.ranged) {
            Some(file) => file.hides_older(key).map_err(|part| (file, part)),
            None => Ok(None),
        }
    }

    /// Moves to the first row that is not below `key`.
    pub(super) fn skip_to(&mut self, key: &'a [u8], window: &Window) {
        let At::Row(_, block) = &self.at else { return };
        self.aside = None;
        self.from = Some(key);
        if self.cursor.seek(block, key) {
            self.check_end(window);
        } else {
            // Not in this block: the index knows where.
            self.at = At::Start;
        }
    }

    pub(super) fn advance(&mut self, window: &Window) {
        if let At::Row(at, block) = &self.at {
            self.aside = None;
            if !self.cursor.advance(block) {
                self.at = At::After(*at);
            }
            self.check_end(window);
        }
    }
}

/// False only if the filter of a file knows that no row has the prefix that is scanned. What the filter lacks is noted, but
/// nothing waits for it alone.
fn may_hold_prefix(
    file: &VersionFile,
    blocks: &impl Blocks,
    window: &Window,
    needs: &mut Needs,
) -> bool {
    let Some(hash) = window.prefix_hash else {
        return true;
    };
    let table = key::table(&window.lower).unwrap_or(TableId(u16::MAX));
    if !file.file.has_prefixes(table, window.rules.prefix_shape) {
        return true;
    }
    match file.file.may_contain(hash, blocks) {
        Ok(may) => may,
        Err(part) => {
            needs.part(&file.file, part);
            true
        }
    }
}

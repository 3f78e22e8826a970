//! A version: which files make up the tree, and which part of each counts.
//!
//! Versions are immutable and shared; installing a flush or a compaction makes a new one. L0 is ordered newest first
//! and its files may overlap; the files of each deeper level are in key order and do not. Every file's key range is
//! narrowed by its clip, so rows of other key groups are never looked at.
use std::cmp::Ordering;
use std::sync::Arc;

use bytes::Bytes;

use crate::context::Context;
use crate::error::{Error, Result};
use crate::io::heat;
use crate::options::KeyGroupRange;
use crate::planted::{self, Bug};
use crate::sst::file::SstFile;
use crate::sst::part::PartPlace;
use crate::sst::ranges::RangeTombstones;
use crate::{Checkpoint, FileRef};

/// Levels of the tree.
pub(crate) const LEVELS: usize = 7;

/// A key that files are searched for.
#[derive(Clone, Copy)]
pub(crate) struct Sought<'a> {
    pub(crate) key: &'a [u8],
    head: u128,
}

impl<'a> Sought<'a> {
    #[inline]
    pub(crate) fn new(key: &'a [u8]) -> Self {
        let head = head(key);
        Self { key, head }
    }
}

/// The first sixteen bytes as a number that orders like them, except that it may tie.
#[inline]
fn head(key: &[u8]) -> u128 {
    match key.first_chunk::<16>() {
        Some(bytes) => u128::from_be_bytes(*bytes),
        None => {
            let mut bytes = [0; 16];
            for (to, from) in bytes.iter_mut().zip(key) {
                *to = *from;
            }
            u128::from_be_bytes(bytes)
        }
    }
}

/// Whether a bound of a file is at or below a key. Most comparisons need no more than heads, which lie beside the file.
#[inline]
fn reaches(bound_head: u128, bound: &[u8], sought: Sought<'_>) -> bool {
    match bound_head.cmp(&sought.head) {
        Ordering::Less => true,
        Ordering::Greater => false,
        Ordering::Equal => bound <= sought.key,
    }
}

/// A file at its place in the tree.
pub(crate) struct VersionFile {
    pub(crate) file: Arc<SstFile>,
    pub(crate) level: u8,
    pub(crate) clip: KeyGroupRange,
    /// The flush of this store that wrote the file; 0 if something else did.
    pub(crate) flush: u64,
    /// First key that may count.
    pub(crate) lower: Bytes,
    /// First key above all that may count.
    pub(crate) upper: Bytes,
    lower_head: u128,
    upper_head: u128,
}

impl VersionFile {
    /// `None` if the clip leaves nothing of the file.
    pub(crate) fn new(file: Arc<SstFile>, level: u8, clip: KeyGroupRange) -> Option<Arc<Self>> {
        let mut lower = file.smallest.clone();
        if lower.as_ref() < clip.start.to_be_bytes().as_slice() {
            lower = Bytes::copy_from_slice(&clip.start.to_be_bytes());
        }
        let mut upper = file.upper.clone();
        if let Some(end) = clip.end.checked_add(1)
            && end.to_be_bytes().as_slice() < upper.as_ref()
        {
            upper = Bytes::copy_from_slice(&end.to_be_bytes());
        }
        (lower < upper).then(|| Arc::new(Self::bounded(file, level, clip, lower, upper)))
    }

    /// The part of the file that lies in a range; `None` if there is none.
    pub(crate) fn narrowed(
        &self,
        from: Option<&Bytes>,
        until: Option<&Bytes>,
    ) -> Option<Arc<Self>> {
        let lower = from.map_or(&self.lower, |from| from.max(&self.lower));
        let upper = until.map_or(&self.upper, |until| until.min(&self.upper));
        (lower < upper).then(|| {
            Arc::new(Self::bounded(
                self.file.clone(),
                self.level,
                self.clip,
                lower.clone(),
                upper.clone(),
            ))
        })
    }

    fn bounded(
        file: Arc<SstFile>,
        level: u8,
        clip: KeyGroupRange,
        lower: Bytes,
        upper: Bytes,
    ) -> Self {
        Self {
            lower_head: head(&lower),
            upper_head: head(&upper),
            file,
            level,
            clip,
            flush: 0,
            lower,
            upper,
        }
    }

    /// What a flush of this store wrote: a file in L0 of which everything counts.
    pub(crate) fn flushed(file: Arc<SstFile>, flush: u64) -> Option<Arc<Self>> {
        let mut this = Self::whole(file, 0)?;
        Arc::get_mut(&mut this)?.flush = flush;
        Some(this)
    }

    /// The same file at another level.
    pub(crate) fn moved(&self, level: u8) -> Option<Arc<Self>> {
        let mut this = Self::new(self.file.clone(), level, self.clip)?;
        Arc::get_mut(&mut this)?.flush = self.flush;
        Some(this)
    }

    /// A file of which everything counts, clipped to the key groups it holds so that a later union never shows more.
    pub(crate) fn whole(file: Arc<SstFile>, level: u8) -> Option<Arc<Self>> {
        let clip = file.clip;
        Self::new(file, level, clip)
    }

    #[inline]
    pub(crate) fn may_hold(&self, sought: Sought<'_>) -> bool {
        self.begins_by(sought) && !self.ends_by(sought)
    }

    #[inline]
    pub(crate) fn begins_by(&self, sought: Sought<'_>) -> bool {
        reaches(self.lower_head, &self.lower, sought)
    }

    #[inline]
    pub(crate) fn ends_by(&self, sought: Sought<'_>) -> bool {
        reaches(self.upper_head, &self.upper, sought)
    }

    #[inline]
    fn begins_before(&self, sought: Sought<'_>) -> bool {
        match self.lower_head.cmp(&sought.head) {
            Ordering::Less => true,
            Ordering::Greater => false,
            Ordering::Equal => self.lower.as_ref() < sought.key,
        }
    }

    /// Whether any key in `lower..upper` may count (`None`: no upper end).
    pub(crate) fn overlaps(&self, lower: &[u8], upper: Option<&[u8]>) -> bool {
        let begins = || upper.is_none_or(|upper| self.begins_before(Sought::new(upper)));
        !self.ends_by(Sought::new(lower)) && begins()
    }

    /// Up to where a range tombstone of the file hides what older files hold from `key` on; `None` if it does not hide `key`. An
    /// error names the part that has to be in memory to know.
    #[inline]
    pub(crate) fn hides_older(&self, key: &[u8]) -> std::result::Result<Option<&[u8]>, PartPlace> {
        if self.file.range_tombstones == 0 || !self.may_hold(Sought::new(key)) {
            return Ok(None);
        }
        match self.file.range_tombstones() {
            Some(ranges) => {
                let covering = ranges.covering(key);
                Ok(covering.map(|(_, end)| end.as_ref().min(self.upper.as_ref())))
            }
            None => Err(self.file.end_part()),
        }
    }

    /// The range tombstones that count, if they are in memory.
    pub(crate) fn range_tombstones(&self) -> Option<RangeTombstones> {
        let ranges = self.file.range_tombstones()?;
        Some(ranges.clip(&self.lower, Some(&self.upper)))
    }

    /// Whether the clip hides rows of the file.
    pub(crate) fn is_clipped(&self) -> bool {
        self.lower != self.file.smallest || self.upper != self.file.upper
    }

    pub(crate) fn describe(&self) -> FileRef {
        FileRef {
            level: self.level,
            clip: self.clip,
            ..FileRef::clone(&self.file)
        }
    }
}

/// An immutable set of files.
#[derive(Default)]
pub(crate) struct Version {
    pub(crate) levels: [Vec<Arc<VersionFile>>; LEVELS],
}

impl Version {
    /// The union of checkpoints, each clipped to a range. Reads nothing.
    pub(crate) fn restore(
        context: &Arc<Context>,
        restored: &[(Checkpoint, KeyGroupRange)],
    ) -> Result<Self> {
        let mut version = Self::default();
        let mut warm = Vec::new();
        for (checkpoint, range) in restored {
            let chunks = heat::decode(&checkpoint.warm).unwrap_or_else(|error| {
                tracing::warn!(%error, "nothing is read ahead of time");
                Vec::new()
            });
            let mut files = Vec::with_capacity(checkpoint.files.len());
            for described in &checkpoint.files {
                let Some(level) = version.levels.get_mut(described.level as usize) else {
                    return Err(Error::corrupt(format!(
                        "the checkpoint puts {} into level {}, but there are {LEVELS} levels",
                        described.path, described.level
                    )));
                };
                let file = SstFile::restored(context, described)?;
                let mut clip = described.clip.intersection(*range);
                if planted::is(Bug::ClipIgnored) {
                    clip = clip.map(|_| described.clip);
                }
                files.push(clip.map(|_| file.clone()));
                if let Some(clip) = clip {
                    level.extend(VersionFile::new(file, described.level, clip));
                }
            }
            let chunks = chunks.into_iter().enumerate();
            warm.extend(chunks.filter_map(|(rank, warm)| {
                let file = files.get(warm.file as usize)?.clone()?;
                Some((rank, file, warm.chunk))
            }));
        }
        for level in &mut version.levels[1..] {
            sort_level(level);
            if let Some(pair) = level.windows(2).find(|pair| pair[0].upper > pair[1].lower) {
                return Err(Error::usage(format!(
                    "{} and {} hold the same keys in level {}: the restored checkpoints or their ranges overlap",
                    pair[0].file.path(),
                    pair[1].file.path(),
                    pair[0].level
                )));
            }
        }
        // What was hottest for any of them comes first.
        warm.sort_by_key(|(rank, _, _)| *rank);
        let warm = warm.iter().map(|(_, file, chunk)| (file.as_ref(), *chunk));
        context.files.warm(warm);
        Ok(version)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.levels.iter().all(Vec::is_empty)
    }

    pub(crate) fn files(&self) -> impl Iterator<Item = &Arc<VersionFile>> {
        self.levels.iter().flatten()
    }

    /// The files without the newest `ahead` of L0, which a checkpoint in progress does not contain.
    pub(crate) fn files_behind(&self, ahead: usize) -> impl Iterator<Item = &Arc<VersionFile>> {
        self.files().skip(ahead)
    }

    /// The list that a checkpoint records.
    pub(crate) fn describe(&self, ahead: usize) -> Checkpoint {
        Checkpoint {
            files: self
                .files_behind(ahead)
                .map(|file| file.describe())
                .collect(),
            warm: Bytes::new(),
        }
    }

    /// This version with the files of a newer flush in front, but behind the newest `ahead` files of L0.
    pub(crate) fn with_flushed(&self, files: Vec<Arc<VersionFile>>, ahead: usize) -> Self {
        let mut levels = self.levels.clone();
        let at = ahead.min(levels[0].len());
        levels[0].splice(at..at, files);
        Self { levels }
    }

    /// This version with some files replaced by others of one level. Outputs in L0 take the place of the newest input,
    /// behind what was flushed in the meantime.
    pub(crate) fn with_compacted(
        &self,
        inputs: &[Arc<VersionFile>],
        outputs: Vec<Arc<VersionFile>>,
    ) -> Self {
        let is_input =
            |file: &Arc<VersionFile>| inputs.iter().any(|input| Arc::ptr_eq(input, file));
        let mut levels = self.levels.clone();
        let place_in_l0 = levels[0]
            .iter()
            .position(is_input)
            .unwrap_or(levels[0].len());
        let place_in_l0 = match planted::is(Bug::CompactedInFront) {
            true => 0,
            false => place_in_l0,
        };
        for level in &mut levels {
            level.retain(|file| !is_input(file));
        }
        for output in outputs {
            match levels.get_mut(usize::from(output.level)) {
                Some(newest) if output.level == 0 => newest.insert(place_in_l0, output),
                Some(level) => level.push(output),
                None => {}
            }
        }
        levels[1..].iter_mut().for_each(|level| sort_level(level));
        Self { levels }
    }

    /// Files of a level below L0 that overlap a range, as a slice in key order.
    pub(crate) fn overlapping(
        &self,
        level: usize,
        lower: &[u8],
        upper: Option<&[u8]>,
    ) -> &[Arc<VersionFile>] {
        let (lower, upper) = (Sought::new(lower), upper.map(Sought::new));
        let files = self
            .levels
            .get(level)
            .map(Vec::as_slice)
            .unwrap_or_default();
        let start = files.partition_point(|file| file.ends_by(lower));
        let end = files.partition_point(|file| upper.is_none_or(|upper| file.begins_before(upper)));
        files.get(start..end).unwrap_or_default()
    }

    /// The one file of a level below L0 that may hold `key`.
    #[inline]
    pub(crate) fn file_for(&self, level: usize, sought: Sought<'_>) -> Option<&Arc<VersionFile>> {
        let files = self.levels.get(level)?;
        let at = files.partition_point(|file| file.ends_by(sought));
        files.get(at).filter(|file| file.begins_by(sought))
    }
}

fn sort_level(level: &mut [Arc<VersionFile>]) {
    level.sort_by(|a, b| a.lower.cmp(&b.lower));
}

//! The clean-up of a typed table while it is used: every access looks at a few entries, one after the other through all key groups, and
//! removes what has expired.
//!
//! It walks the buckets of the hash tables, so it needs no list of keys. Entries that move because a table grows may be passed over or
//! met twice; the next round meets them. Each call does a bounded amount of work, however empty the tables and however large the entries are.

use super::entry::{Expired, Part};
use super::layers::{Group, Swept};

/// Buckets that one call looks at for each entry that it was asked to look at: a table may be mostly empty.
const BUCKETS_PER_ENTRY: usize = 16;
/// And those it may look at anyhow.
const BUCKETS_MIN: usize = 64;

/// Where the clean-up of a table is.
#[derive(Default)]
pub(super) struct Sweep {
    group: usize,
    layer: usize,
    bucket: usize,
    /// Where it is in a large entry.
    resume: Option<Box<[u8]>>,
}

impl Sweep {
    /// Looks at so many entries; returns how many of them went away.
    pub(super) fn run<E: Part>(
        &mut self,
        groups: &mut [Group<E>],
        entries_max: usize,
        expired: Expired<'_>,
    ) -> usize {
        let mut steps = entries_max
            .saturating_mul(BUCKETS_PER_ENTRY)
            .saturating_add(BUCKETS_MIN);
        let (mut left, mut gone) = (entries_max, 0);
        while left > 0 && steps > 0 {
            steps -= 1;
            let Some(group) = groups.get_mut(self.group) else {
                if groups.is_empty() {
                    break;
                }
                *self = Self::default();
                continue;
            };
            match group.sweep(self.layer, self.bucket, expired, &mut self.resume) {
                Swept::Nothing => self.bucket += 1,
                Swept::Kept => {
                    left -= 1;
                    if self.resume.is_none() {
                        self.bucket += 1;
                    }
                }
                Swept::Removed => {
                    left -= 1;
                    gone += 1;
                    self.resume = None;
                    self.bucket += 1;
                }
                Swept::End if self.layer < group.layers_frozen() => {
                    self.layer += 1;
                    self.bucket = 0;
                }
                Swept::End => {
                    self.group += 1;
                    self.layer = 0;
                    self.bucket = 0;
                }
            }
        }
        gone
    }
}

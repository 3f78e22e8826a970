//! Lists of several namespaces become one. Loading them may wait; what is written because of it is written at one moment.

use super::{ChunkTable, Loaded};
use crate::StateError;
use crate::access::{Keys, Waiting};
use crate::state::chunks::Frames;
use crate::state::ttl::Ttl;

/// Times that a merge looks for its sources before it blocks.
const ATTEMPTS_MAX: usize = 4;

impl ChunkTable {
    /// Appends the lists of all keys but the first to that of the first, and removes them.
    pub(in crate::state::list) async fn merge(
        &self,
        keys: &Keys,
        waiting: Waiting,
    ) -> Result<(), StateError> {
        let (group, target) = keys.get(0);
        let mut attempts = 0;
        let lists = loop {
            attempts += 1;
            let waiting = if attempts > ATTEMPTS_MAX {
                Waiting::Blocking
            } else {
                waiting
            };
            let before = self.present_chunk(false)?.number;
            let lists = self.load_sources(keys, waiting).await?;
            // What came to a source meanwhile may lie in a chunk that was not there.
            if self.present_chunk(false)?.number == before {
                break lists;
            }
        };
        // From here on nothing waits.
        let mut scratch = self.scratch.take();
        let mut writer = scratch.writer(self.chunk_bytes_max, None);
        // Elements keep their times, which may be later than the present one; and a row is never older than what is in it.
        let ttl = self.rows.ttl.as_deref();
        let (mut latest_ms, now_ms) = (ttl.and_then(Ttl::stamp_ms), ttl.and_then(Ttl::now_ms));
        for chunk in lists.iter().flatten() {
            let mut frames = Frames::new(&chunk.frames);
            while let Some(frame) = frames.next()? {
                if ttl.is_none_or(|ttl| !ttl.expired(frame.time_ms, now_ms)) {
                    latest_ms = latest_ms.max(frame.time_ms);
                    writer.push_frame(frame);
                }
            }
        }
        for ((group, source), list) in keys.iter().skip(1).zip(&lists) {
            if !list.is_empty() {
                self.clear(group, source)?;
            }
        }
        let merged = self.merge_frames(group, target, &mut scratch, latest_ms);
        self.scratch.replace(scratch);
        merged
    }

    async fn load_sources(
        &self,
        keys: &Keys,
        waiting: Waiting,
    ) -> Result<Vec<Vec<Loaded>>, StateError> {
        if let Some(lists) = self.load_points(keys.iter().skip(1), waiting).await? {
            return Ok(lists);
        }
        let mut lists = Vec::new();
        for (group, source) in keys.iter().skip(1) {
            lists.push(self.load_all(group, source, waiting).await?);
        }
        Ok(lists)
    }

    async fn load_all(
        &self,
        group: u16,
        prefix: &[u8],
        waiting: Waiting,
    ) -> Result<Vec<Loaded>, StateError> {
        let (mut all, mut next) = (Vec::new(), Some(self.first_key(prefix)?));
        while let Some(from) = next {
            let piece = self.load_piece(group, prefix, &from, waiting).await?;
            all.extend(piece.chunks);
            next = piece.more;
        }
        Ok(all)
    }
}

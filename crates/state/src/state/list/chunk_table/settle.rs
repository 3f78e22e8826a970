//! What reading a chunk does to it when the state has a TTL.

use bytes::Bytes;

use super::{ChunkTable, Loaded, row_key};
use crate::StateError;
use crate::state::chunks::{Frames, push_frame};
use crate::state::ttl::{Life, Ttl};

impl ChunkTable {
    /// Settles a chunk that was just loaded: writes back what reading keeps alive, removes what has expired. Returns the frames that are
    /// to be handed out. If it is only looked whether there is something, what is shown once more is not used up.
    pub(in crate::state::list) fn settle(
        &self,
        group: u16,
        prefix: &[u8],
        chunk: Loaded,
        uses_up: bool,
    ) -> Result<Bytes, StateError> {
        let ttl = self.rows.ttl.as_deref();
        let Some(ttl) = ttl.filter(|ttl| uses_up || !ttl.shows_expired()) else {
            return Ok(chunk.frames);
        };
        let now_ms = ttl.now_ms();
        if !chunk.frames.is_empty() && all_live(ttl, &chunk.frames, now_ms)? {
            return Ok(chunk.frames);
        }
        let (mut shown, mut kept) = (Vec::new(), Vec::new());
        let (mut newest, mut extended, mut expired) = (None, false, false);
        let mut frames = Frames::new(&chunk.frames);
        while let Some(frame) = frames.next()? {
            let time_ms = match ttl.judge_at(frame.time_ms, now_ms) {
                Life::Live => frame.time_ms,
                Life::Extended(now_ms) => {
                    extended = true;
                    Some(now_ms)
                }
                Life::Expired => {
                    expired = true;
                    if ttl.shows_expired() {
                        push_frame(&mut shown, frame.time_ms, frame.bytes);
                    }
                    continue;
                }
            };
            push_frame(&mut shown, time_ms, frame.bytes);
            push_frame(&mut kept, time_ms, frame.bytes);
            newest = newest.max(time_ms);
        }
        let mut key = Vec::new();
        row_key(&mut key, prefix, chunk.number);
        if kept.is_empty() {
            self.rows.delete(group, &key)?;
        } else if extended || (expired && ttl.shows_expired()) {
            if extended {
                // An old chunk lives on.
                let access = &self.rows.access;
                self.times.lives_on(access, chunk.number, newest)?;
            }
            self.put_row(group, &key, &kept, newest)?;
        }
        if expired {
            return Ok(shown.into());
        }
        Ok(chunk.frames)
    }
}

/// Whether nothing of a chunk has expired or is kept alive by being read: as a rule.
fn all_live(ttl: &Ttl, chunk: &[u8], now_ms: Option<i64>) -> Result<bool, StateError> {
    let mut frames = Frames::new(chunk);
    while let Some(frame) = frames.next()? {
        if ttl.judge_at(frame.time_ms, now_ms) != Life::Live {
            return Ok(false);
        }
    }
    Ok(true)
}

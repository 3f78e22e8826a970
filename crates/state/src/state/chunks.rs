//! The bytes of a list: elements as frames, one after the other, oldest first.
//!
//! ```text
//! frame = varint(length * 2 + timed) │ time i64 BE, if timed │ length bytes
//! ```
//! A list is any number of rows, `key ‖ namespace ‖ chunk number (u64 BE)`, each of which holds whole frames. Adding an element appends a
//! frame to the row of the table's present chunk number, without reading anything. The decoder checks every length against what is there.

use crate::StateError;

/// Bytes of frames after which a writer that knows the whole list starts the next chunk.
pub(crate) const CHUNK_BYTES_TARGET: usize = 1 << 20;

/// Bytes of the longest header.
const HEADER_BYTES_MAX: usize = 10;

/// One element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Frame<'a> {
    pub(crate) time_ms: Option<i64>,
    pub(crate) bytes: &'a [u8],
}

/// Appends an element.
#[inline]
pub(crate) fn push_frame(out: &mut Vec<u8>, time_ms: Option<i64>, bytes: &[u8]) {
    let (header, len) = header_bytes(header(bytes.len(), time_ms));
    out.extend_from_slice(header.get(..len).unwrap_or_default());
    if let Some(time_ms) = time_ms {
        out.extend_from_slice(&time_ms.to_be_bytes());
    }
    out.extend_from_slice(bytes);
}

/// Appends a frame whose bytes `write` appends, where they stay; if it fails, nothing is appended.
#[inline]
pub(crate) fn write_frame(
    out: &mut Vec<u8>,
    time_ms: Option<i64>,
    write: impl FnOnce(&mut Vec<u8>) -> Result<(), StateError>,
) -> Result<(), StateError> {
    let start = out.len();
    // A short element has a header of one byte.
    out.push(0);
    if let Some(time_ms) = time_ms {
        out.extend_from_slice(&time_ms.to_be_bytes());
    }
    let body = out.len();
    if let Err(error) = write(out) {
        out.truncate(start);
        return Err(error);
    }
    let Some(len) = out.len().checked_sub(body) else {
        return Err(StateError::Usage(
            "a serializer of list elements has removed bytes that it did not write".into(),
        ));
    };
    let header = header(len, time_ms);
    match out.get_mut(start) {
        Some(first) if header < 0x80 => *first = header as u8,
        _ => lengthen_header(out, start, header),
    }
    Ok(())
}

/// Nothing in memory is so long that its length does not fit twice.
#[inline]
fn header(len: usize, time_ms: Option<i64>) -> u64 {
    (len as u64) << 1 | u64::from(time_ms.is_some())
}

/// The bytes of a header, and how many they are.
fn header_bytes(mut header: u64) -> ([u8; HEADER_BYTES_MAX], usize) {
    let (mut bytes, mut len) = ([0; HEADER_BYTES_MAX], 0);
    for byte in &mut bytes {
        *byte = header as u8 & 0x7f;
        len += 1;
        header >>= 7;
        if header == 0 {
            break;
        }
        *byte |= 0x80;
    }
    (bytes, len)
}

/// Puts a header of several bytes where one byte was left for it.
fn lengthen_header(out: &mut Vec<u8>, start: usize, header: u64) {
    let (bytes, len) = header_bytes(header);
    out.splice(start..start + 1, bytes.into_iter().take(len));
}

/// Walks the frames of a chunk.
#[derive(Clone, Debug)]
pub(crate) struct Frames<'a> {
    chunk: &'a [u8],
    at: usize,
}

impl<'a> Frames<'a> {
    /// From the first frame on.
    pub(crate) fn new(chunk: &'a [u8]) -> Self {
        Self::from(chunk, 0)
    }

    /// From the frame on that starts at a byte.
    pub(crate) fn from(chunk: &'a [u8], at: usize) -> Self {
        Self { chunk, at }
    }

    /// Where the next frame starts.
    pub(crate) fn at(&self) -> usize {
        self.at
    }

    /// The next frame.
    #[inline]
    pub(crate) fn next(&mut self) -> Result<Option<Frame<'a>>, StateError> {
        let rest = self.chunk.get(self.at..).unwrap_or_default();
        // Most elements are short and have no time.
        if let Some((&header, rest)) = rest.split_first()
            && header & 0x81 == 0
            && let Some(bytes) = rest.get(..usize::from(header >> 1))
        {
            self.at += 1 + bytes.len();
            return Ok(Some(Frame {
                time_ms: None,
                bytes,
            }));
        }
        self.next_of_any_kind()
    }

    fn next_of_any_kind(&mut self) -> Result<Option<Frame<'a>>, StateError> {
        let mut rest = self.chunk.get(self.at..).unwrap_or_default();
        if rest.is_empty() {
            return Ok(None);
        }
        let header = self.header(&mut rest)?;
        let mut time_ms = None;
        if header & 1 == 1 {
            let (time, tail) = rest.split_first_chunk().ok_or_else(|| self.cut_short())?;
            time_ms = Some(i64::from_be_bytes(*time));
            rest = tail;
        }
        let len = usize::try_from(header >> 1).map_err(|_| self.cut_short())?;
        let (bytes, tail) = rest.split_at_checked(len).ok_or_else(|| self.cut_short())?;
        self.at = self.chunk.len() - tail.len();
        Ok(Some(Frame { time_ms, bytes }))
    }

    fn header(&self, rest: &mut &[u8]) -> Result<u64, StateError> {
        let mut header = 0u64;
        for shift in (0..64).step_by(7) {
            let (byte, tail) = rest.split_first().ok_or_else(|| self.cut_short())?;
            *rest = tail;
            let part = u64::from(byte & 0x7f);
            if shift == 63 && part > 1 {
                break;
            }
            header |= part << shift;
            if byte & 0x80 == 0 {
                return Ok(header);
            }
        }
        Err(StateError::Corrupt(format!(
            "an element of a list starts with a length that is too long, at byte {} of a chunk of {}",
            self.at,
            self.chunk.len()
        )))
    }

    #[cold]
    fn cut_short(&self) -> StateError {
        StateError::Corrupt(format!(
            "a chunk of {} bytes ends in the middle of the element that starts at byte {}",
            self.chunk.len(),
            self.at
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_survive_and_cut_ones_are_refused() {
        let elements: [(Option<i64>, Vec<u8>); 5] = [
            (None, vec![]),
            (Some(-7), vec![1]),
            (Some(i64::MIN), vec![2; 63]),
            (None, vec![3; 64]),
            (Some(9), vec![4; 20_000]),
        ];
        let (mut chunk, mut written) = (Vec::new(), Vec::new());
        let mut starts = Vec::new();
        for (time_ms, bytes) in &elements {
            starts.push(chunk.len());
            push_frame(&mut chunk, *time_ms, bytes);
            write_frame(&mut written, *time_ms, |out| {
                out.extend_from_slice(bytes);
                Ok(())
            })
            .unwrap();
            assert_eq!(written, chunk);
            let failed = write_frame(&mut written, *time_ms, |out| {
                out.push(1);
                Err(StateError::User("no".into()))
            });
            assert!(failed.is_err() && written == chunk);
        }
        assert!(
            write_frame(&mut vec![7], None, |out| {
                out.clear();
                Ok(())
            })
            .is_err()
        );
        let mut frames = Frames::new(&chunk);
        for ((time_ms, bytes), start) in elements.iter().zip(&starts) {
            assert_eq!(frames.at(), *start);
            let frame = frames.next().unwrap().unwrap();
            assert_eq!((frame.time_ms, frame.bytes), (*time_ms, &bytes[..]));
        }
        assert_eq!(frames.next().unwrap(), None);
        for cut in 1..200 {
            let mut frames = Frames::new(&chunk[..cut]);
            let outcome = loop {
                match frames.next() {
                    Ok(Some(_)) => {}
                    other => break other,
                }
            };
            assert_eq!(outcome.is_ok(), starts.contains(&cut), "cut at {cut}");
        }
    }

    #[test]
    fn hostile_lengths_are_refused() {
        for hostile in [
            &[0x80][..],
            &[0xff; 10],
            &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02],
            &[
                0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01, 0,
            ],
            &[1, 2, 3],
        ] {
            assert!(Frames::new(hostile).next().is_err(), "{hostile:?}");
        }
    }
}

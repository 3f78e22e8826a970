//! A range of a file, and how far it has been read.
//!
//! A record belongs to the range in which it begins. A range that begins in the middle of a file first skips the record that
//! began before it; from then on its position is always the beginning of a record. Encoded splits come back from checkpoints:
//! decoding trusts nothing.
//!
//! ```text
//! byte 0     1          9        17              25           33        41             42
//!      | ver | start LE | end LE | file bytes LE | position LE | line LE | aligned 0/1 | name …
//! ```

const VERSION: u8 = 1;
const NAME_BYTES_MAX: usize = 4_096;

/// A range of a file with a position in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FileSplit {
    /// The file's name below the table's path.
    pub(super) name: String,
    /// Records that begin in `start..end` are read.
    pub(super) start: u64,
    pub(super) end: u64,
    pub(super) file_bytes: u64,
    /// Where the next record begins.
    pub(super) position: u64,
    /// Its line: 1 at `start`.
    pub(super) line: u64,
    /// Whether a record is known to begin at `position`.
    pub(super) aligned: bool,
}

impl FileSplit {
    /// A range at its start.
    pub(super) fn new(name: &str, start: u64, end: u64, file_bytes: u64) -> Self {
        let aligned = start == 0;
        Self {
            name: name.to_owned(),
            start,
            end,
            file_bytes,
            position: start,
            line: 1,
            aligned,
        }
    }

    /// Everything has been read.
    pub(super) fn finished(&self) -> bool {
        self.position >= self.end
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        for number in [
            self.start,
            self.end,
            self.file_bytes,
            self.position,
            self.line,
        ] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.push(u8::from(self.aligned));
        out.extend_from_slice(self.name.as_bytes());
        out
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (&version, mut rest) = bytes.split_first()?;
        let mut number = || {
            let (head, tail) = rest.split_first_chunk::<8>()?;
            rest = tail;
            Some(u64::from_le_bytes(*head))
        };
        let (start, end, file_bytes) = (number()?, number()?, number()?);
        let (position, line) = (number()?, number()?);
        let (&aligned, name) = rest.split_first()?;
        let split = Self {
            name: std::str::from_utf8(name).ok()?.to_owned(),
            start,
            end,
            file_bytes,
            position,
            line,
            aligned: aligned == 1,
        };
        let sound = version == VERSION
            && aligned <= 1
            && start <= end
            && end <= file_bytes
            && (start..=file_bytes).contains(&position)
            && line >= 1
            && name.len() <= NAME_BYTES_MAX;
        sound.then_some(split)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_survive_and_hostile_ones_do_not() {
        let mut split = FileSplit::new("dt=1/a.json", 100, 200, 300);
        split.position = 150;
        split.line = 7;
        split.aligned = true;
        let bytes = split.encode();
        assert_eq!(FileSplit::decode(&bytes), Some(split.clone()));
        for cut in 0..42 {
            assert_eq!(FileSplit::decode(&bytes[..cut]), None);
        }
        for (position, end) in [(99, 200), (301, 200), (150, 301), (150, 99)] {
            let broken = FileSplit {
                position,
                end,
                ..split.clone()
            };
            assert_eq!(FileSplit::decode(&broken.encode()), None);
        }
        let mut not_utf8 = bytes;
        not_utf8.push(0xFF);
        assert_eq!(FileSplit::decode(&not_utf8), None);
    }
}

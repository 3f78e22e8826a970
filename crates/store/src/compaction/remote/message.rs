//! The objects of the protocol in bytes: magic, kind, format version, content, xxh3. `docs/format/remote-compaction.md` has the diagram.
use xxhash_rust::xxh3::xxh3_64;

use crate::FileRef;
use crate::checkpoint::Checkpoint;
use crate::compaction::task::{CompactionTask, text};
use crate::encoding::{Reader, put_bytes, put_varint};
use crate::error::{Error, Result};

const MAGIC: [u8; 4] = *b"AQRC";
const FORMAT_VERSION: u8 = 2;
const HEADER_BYTES: usize = 6;
const CHECKSUM_BYTES: usize = 8;
/// No message is larger; checked before one is read.
pub(crate) const MESSAGE_BYTES_MAX: u64 = 64 << 20;

const JOB: u8 = 1;
const SIGN: u8 = 2;
const RESULT: u8 = 3;

/// What is to be done, and what the worker expects of who does it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct JobMessage {
    /// The directory of the job as the worker sees it, by which a compactor knows how its own paths differ.
    pub(crate) place: String,
    pub(crate) lease_ms: u64,
    pub(crate) task: CompactionTask,
}

/// A claim or a beat: who gives it, and when by its own clock. The time is for people; nobody reckons with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sign {
    pub(crate) by: String,
    pub(crate) at_ms: i64,
}

/// How a job ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// A compactor has written these files.
    Done(Vec<FileRef>),
    /// A compactor could not do it; the text says why.
    Failed(String),
    /// The worker has taken it back.
    TakenBack,
}

/// The object that ends a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ResultMessage {
    pub(crate) by: String,
    pub(crate) claim: u32,
    pub(crate) outcome: Outcome,
}

fn seal(kind: u8, content: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::from(MAGIC);
    out.extend([kind, FORMAT_VERSION]);
    content(&mut out);
    let checksum = xxh3_64(&out);
    out.extend_from_slice(&checksum.to_le_bytes());
    out
}

/// A message with any content, for fuzzing what reads it.
pub(crate) fn resealed(job: bool, content: &[u8]) -> Vec<u8> {
    let kind = if job { JOB } else { RESULT };
    seal(kind, |out| out.extend_from_slice(content))
}

/// Checks everything around the content of a message, and returns the content.
fn open<'a>(what: &str, kind: u8, bytes: &'a [u8]) -> Result<&'a [u8]> {
    let damaged = |why: &str| Err(Error::corrupt(format!("{what} is damaged: {why}")));
    let Some(end) = bytes.len().checked_sub(CHECKSUM_BYTES) else {
        return damaged("it is too short");
    };
    let (rest, checksum) = bytes.split_at(end);
    if xxh3_64(rest).to_le_bytes() != checksum {
        return damaged("its checksum is wrong");
    }
    let Some((header, content)) = rest.split_at_checked(HEADER_BYTES) else {
        return damaged("it is too short");
    };
    if !header.starts_with(&MAGIC) || header.get(4) != Some(&kind) {
        return damaged("it is a message of another kind");
    }
    match header.get(5) {
        Some(&FORMAT_VERSION) => Ok(content),
        other => Err(Error::corrupt(format!(
            "{what} has format version {other:?}, but this program reads version {FORMAT_VERSION}"
        ))),
    }
}

impl JobMessage {
    pub(crate) fn encode(&self) -> Vec<u8> {
        seal(JOB, |out| {
            put_bytes(out, self.place.as_bytes());
            put_varint(out, self.lease_ms);
            self.task.encode(out);
        })
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self> {
        let what = "a compaction job";
        let mut reader = Reader::new(what, open(what, JOB, bytes)?);
        let message = Self {
            place: text(&mut reader, "place")?,
            lease_ms: reader.varint("lease")?,
            task: CompactionTask::decode(&mut reader)?,
        };
        reader.finish()?;
        Ok(message)
    }
}

impl Sign {
    pub(crate) fn encode(&self) -> Vec<u8> {
        seal(SIGN, |out| {
            put_bytes(out, self.by.as_bytes());
            out.extend_from_slice(&self.at_ms.to_le_bytes());
        })
    }
}

impl ResultMessage {
    pub(crate) fn encode(&self) -> Vec<u8> {
        seal(RESULT, |out| {
            put_bytes(out, self.by.as_bytes());
            out.extend_from_slice(&self.claim.to_le_bytes());
            match &self.outcome {
                Outcome::Done(files) => {
                    out.push(0);
                    let mut bytes = Vec::new();
                    let files = files.clone();
                    Checkpoint {
                        files,
                        ..Checkpoint::default()
                    }
                    .encode(&mut bytes);
                    put_bytes(out, &bytes);
                }
                Outcome::Failed(why) => {
                    out.push(1);
                    put_bytes(out, why.as_bytes());
                }
                Outcome::TakenBack => out.push(2),
            }
        })
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self> {
        let what = "the result of a compaction";
        let mut reader = Reader::new(what, open(what, RESULT, bytes)?);
        let by = text(&mut reader, "author")?;
        let claim = reader.u32("claim")?;
        let outcome = match reader.u8("outcome")? {
            0 => Outcome::Done(Checkpoint::decode(reader.bytes("output files")?)?.files),
            1 => Outcome::Failed(text(&mut reader, "reason")?),
            2 => Outcome::TakenBack,
            other => {
                return Err(Error::corrupt(format!(
                    "{what} has outcome {other}, but 0 to 2 are known"
                )));
            }
        };
        reader.finish()?;
        Ok(Self { by, claim, outcome })
    }
}

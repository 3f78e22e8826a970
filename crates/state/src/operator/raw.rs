//! Raw streams: bytes that only the operator understands, written anew for every checkpoint.
//!
//! A raw operator stream is made of partitions, which are dealt out like the elements of a split list; a raw keyed stream has a part
//! per key group, which goes where the key group goes. Both lie in the checkpoint's metadata, so they are bounded ([`RAW_BYTES_MAX`],
//! [`RAW_PARTITIONS_MAX`]); the metadata of a whole job has 256 MiB at most.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;

use aquifer_store::KeyGroupRange;
use bytes::{Buf, Bytes};

use crate::StateError;

/// Bytes that the raw streams of one operator on one worker may have in one checkpoint: 64 MiB.
pub const RAW_BYTES_MAX: usize = 64 << 20;
/// Partitions that the raw stream of one operator on one worker may have in one checkpoint, however short they are.
pub const RAW_PARTITIONS_MAX: usize = 1 << 20;

/// What is written for the checkpoint under way.
#[derive(Debug, Default)]
pub(super) struct Written {
    partitions: Vec<Vec<u8>>,
    groups: Vec<(u16, Vec<u8>)>,
    bytes: usize,
}

impl Written {
    /// Partitions and key groups, which are not there afterwards.
    pub(super) fn take(&mut self) -> (Vec<Bytes>, Vec<(u16, Bytes)>) {
        let taken = std::mem::take(self);
        let partitions = taken.partitions.into_iter().map(Bytes::from).collect();
        let groups = taken.groups.into_iter();
        (
            partitions,
            groups.map(|(group, bytes)| (group, bytes.into())).collect(),
        )
    }

    fn add(&mut self, operator: &str, more: usize) -> Result<(), StateError> {
        let bytes = self.bytes.saturating_add(more);
        if bytes > RAW_BYTES_MAX {
            return Err(StateError::Limit(format!(
                "the raw state of operator `{operator}` has more than {RAW_BYTES_MAX} bytes, which is all that a worker may put into one checkpoint: keep it in keyed state"
            )));
        }
        self.bytes = bytes;
        Ok(())
    }
}

/// The raw operator stream of the checkpoint under way.
#[derive(Debug)]
pub struct RawOperatorOutput {
    pub(super) operator: Rc<str>,
    pub(super) written: Rc<RefCell<Written>>,
}

impl RawOperatorOutput {
    /// Begins a partition: what is written from now on stays together.
    pub fn start_partition(&mut self) -> Result<(), StateError> {
        let mut written = self.written.borrow_mut();
        if written.partitions.len() >= RAW_PARTITIONS_MAX {
            return Err(StateError::Limit(format!(
                "the raw state of operator `{}` has more than {RAW_PARTITIONS_MAX} partitions, which is all that a worker may put into one checkpoint",
                self.operator
            )));
        }
        written.partitions.push(Vec::new());
        Ok(())
    }

    /// Appends to the partition.
    pub fn put(&mut self, bytes: &[u8]) -> Result<(), StateError> {
        let mut written = self.written.borrow_mut();
        if written.partitions.is_empty() {
            return Err(StateError::Usage(format!(
                "raw state of operator `{}` was written before its first partition was started",
                self.operator
            )));
        }
        written.add(&self.operator, bytes.len())?;
        if let Some(partition) = written.partitions.last_mut() {
            partition.extend_from_slice(bytes);
        }
        Ok(())
    }
}

impl io::Write for RawOperatorOutput {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.put(bytes).map_err(io::Error::other)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The raw keyed stream of the checkpoint under way.
#[derive(Debug)]
pub struct RawKeyedOutput {
    pub(super) operator: Rc<str>,
    pub(super) range: KeyGroupRange,
    pub(super) written: Rc<RefCell<Written>>,
}

impl RawKeyedOutput {
    /// Begins a key group, which must be the worker's own and above all begun before.
    pub fn start_key_group(&mut self, group: u16) -> Result<(), StateError> {
        let mut written = self.written.borrow_mut();
        let (range, last) = (self.range, written.groups.last().map(|(group, _)| *group));
        let wrong = |why: String| {
            StateError::Usage(format!(
                "key group {group} of the raw keyed state of operator `{}` cannot be started: {why}",
                self.operator
            ))
        };
        if group < range.start || group > range.end {
            return Err(wrong(format!(
                "this worker owns {}..={}",
                range.start, range.end
            )));
        }
        if let Some(last) = last.filter(|last| *last >= group) {
            return Err(wrong(format!(
                "key groups of {}..={} ascend, and {last} was started before",
                range.start, range.end
            )));
        }
        written.groups.push((group, Vec::new()));
        Ok(())
    }

    /// Appends to the key group.
    pub fn put(&mut self, bytes: &[u8]) -> Result<(), StateError> {
        let mut written = self.written.borrow_mut();
        if written.groups.is_empty() {
            return Err(StateError::Usage(format!(
                "raw keyed state of operator `{}` was written before a key group of {}..={} was started",
                self.operator, self.range.start, self.range.end
            )));
        }
        written.add(&self.operator, bytes.len())?;
        if let Some((_, group)) = written.groups.last_mut() {
            group.extend_from_slice(bytes);
        }
        Ok(())
    }
}

impl io::Write for RawKeyedOutput {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.put(bytes).map_err(io::Error::other)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A restored partition or key group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawInput {
    rest: Bytes,
}

impl RawInput {
    pub(super) fn new(bytes: Bytes) -> Self {
        Self { rest: bytes }
    }

    /// What has not been read yet.
    pub fn bytes(&self) -> &Bytes {
        &self.rest
    }
}

impl io::Read for RawInput {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let count = out.len().min(self.rest.len());
        let (out, _) = out.split_at_mut(count);
        self.rest.copy_to_slice(out);
        Ok(count)
    }
}

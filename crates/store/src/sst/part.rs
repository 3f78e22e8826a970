//! The parts a file is read in: each is loaded, checked and cached by itself, under the offset at which it lies.
use std::sync::Arc;

use bytes::Bytes;

use super::block::DataBlock;
use super::filter::FilterPage;
use super::index::{IndexBlock, Place};

/// What lies at a place of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum PartKind {
    /// Rows.
    Block,
    /// A value that lies aside.
    Value,
    /// All pages of the filter.
    Filter,
    FilterPage,
    /// A partition of the index.
    Partition,
    /// Directory, range tombstones, properties and footer, with the index partitions before them if that is little.
    End,
}

/// A part that a reader wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PartPlace {
    pub(crate) place: Place,
    pub(crate) kind: PartKind,
}

impl PartPlace {
    pub(crate) fn block(place: Place) -> Self {
        let kind = PartKind::Block;
        Self { place, kind }
    }

    pub(crate) fn value(place: Place) -> Self {
        let kind = PartKind::Value;
        Self { place, kind }
    }
}

/// A part in memory.
#[derive(Clone, Debug)]
pub(crate) enum Part {
    Block(Arc<DataBlock>),
    Value(Bytes),
    Filter(Arc<FilterPage>),
    Partition(Arc<IndexBlock>),
}

impl Part {
    /// Bytes of memory held.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Block(block) => block.bytes(),
            Self::Value(value) => value.len(),
            Self::Filter(page) => page.bytes(),
            Self::Partition(partition) => partition.bytes(),
        }
    }
}

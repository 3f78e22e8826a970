//! The first bytes of values, and varints.

use std::fmt::{self, Display};

/// Integers 0..=63 are their own tag.
pub(super) const SMALL_MAX: u8 = 0x3f;
pub(super) const TEXT: u8 = 0x40;
pub(super) const TEXT_LAST: u8 = 0x5f;
pub(super) const STRUCT: u8 = 0x60;
pub(super) const LIST: u8 = 0x70;
pub(super) const MAP: u8 = 0x80;
/// Of the three above: elements in the tag at most.
pub(super) const COUNT_MAX: u8 = 0x0f;
pub(super) const VARIANT: u8 = 0x90;
pub(super) const VARIANT_LAST: u8 = 0xa7;
pub(super) const VARIANT_OF: u8 = 0xa8;
pub(super) const VARIANT_OF_LAST: u8 = 0xbf;
/// Of the two above: numbers of names in the tag.
pub(super) const VARIANTS: u32 = 24;
/// -1..=-16
pub(super) const NEGATIVE: u8 = 0xc0;
pub(super) const NEGATIVE_LAST: u8 = 0xcf;
pub(super) const NONE: u8 = 0xd0;
pub(super) const SOME: u8 = 0xd1;
pub(super) const UNIT: u8 = 0xd2;
pub(super) const FALSE: u8 = 0xd3;
pub(super) const TRUE: u8 = 0xd4;
pub(super) const BYTE: u8 = 0xd5;
pub(super) const WIDE: u8 = 0xd6;
pub(super) const WIDE_NEGATIVE: u8 = 0xd7;
pub(super) const F32: u8 = 0xd8;
pub(super) const F64: u8 = 0xd9;
pub(super) const CHAR: u8 = 0xda;
pub(super) const WIDE_TEXT: u8 = 0xdb;
pub(super) const BYTES: u8 = 0xdc;
pub(super) const WIDE_STRUCT: u8 = 0xdd;
pub(super) const WIDE_LIST: u8 = 0xde;
pub(super) const WIDE_MAP: u8 = 0xdf;
pub(super) const WIDE_VARIANT: u8 = 0xe0;
pub(super) const WIDE_VARIANT_OF: u8 = 0xe1;

/// Values within values at most.
pub(super) const DEPTH_MAX: u32 = 128;

/// Why a value cannot be written or read.
#[derive(Debug)]
pub(super) struct Failure(pub(super) String);

impl Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Failure {}

impl serde::de::Error for Failure {
    fn custom<M: Display>(message: M) -> Self {
        Self(message.to_string())
    }
}

impl serde::ser::Error for Failure {
    fn custom<M: Display>(message: M) -> Self {
        Self(message.to_string())
    }
}

pub(super) fn put_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

pub(super) fn put_long_varint(mut value: u128, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

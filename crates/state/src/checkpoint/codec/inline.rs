//! Files that the metadata holds itself: section 6.
//!
//! Names are unique in the whole checkpoint, because all of them are read from one place when the state is restored.

use std::collections::BTreeSet;

use aquifer_store::KeyGroupRange;
use bytes::Bytes;

use crate::encoding::{Reader, put_bytes, put_u64};
use crate::{InlineFile, KeyedSnapshot, StateError};

/// Bytes of a name at most.
const NAME_BYTES_MAX: usize = 256;

/// Parts that have inline files, each with its place in the list of parts.
pub(super) fn encode(keyed: &[(KeyGroupRange, KeyedSnapshot)], out: &mut Vec<u8>) {
    let parts = keyed.iter().enumerate();
    let parts: Vec<_> = parts
        .filter(|(_, (_, part))| !part.inline.is_empty())
        .collect();
    put_u64(out, parts.len() as u64);
    for (index, (_, part)) in parts {
        put_u64(out, index as u64);
        encode_part(&part.inline, out);
    }
}

pub(super) fn encode_part(files: &[InlineFile], out: &mut Vec<u8>) {
    put_u64(out, files.len() as u64);
    for file in files {
        put_bytes(out, file.name.as_bytes());
        put_bytes(out, &file.bytes);
    }
}

/// Gives the parts their files.
pub(super) fn read(
    mut reader: Reader<'_>,
    keyed: &mut [(KeyGroupRange, KeyedSnapshot)],
) -> Result<(), StateError> {
    let parts = reader.list::<()>(2 * 8)?;
    let mut names = BTreeSet::new();
    for _ in 0..parts.count {
        let index = reader.u64()?;
        let files = read_part(&mut reader)?;
        if let Some(twice) = files.iter().find(|file| !names.insert(file.name.clone())) {
            return Err(reader.wrong(&format!("two files are named `{}`", twice.name)));
        }
        let part = usize::try_from(index).ok().and_then(|i| keyed.get_mut(i));
        match part {
            Some((_, part)) if part.inline.is_empty() && !files.is_empty() => part.inline = files,
            _ => {
                return Err(reader.wrong(&format!(
                    "files are given to part {index}, which has some already, gets none, or does not exist"
                )));
            }
        }
    }
    reader.end()
}

pub(super) fn read_part(reader: &mut Reader<'_>) -> Result<Vec<InlineFile>, StateError> {
    let mut files = reader.list(2 * 8)?;
    for _ in 0..files.count {
        let name = reader.text_at_most(NAME_BYTES_MAX, "the name of an inline file")?;
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if name.is_empty() || !name.chars().all(plain) || name.starts_with('.') {
            return Err(reader.wrong(
                "the name of an inline file is not made of letters, digits, `-`, `_` and `.`",
            ));
        }
        files.items.push(InlineFile {
            name,
            bytes: Bytes::copy_from_slice(reader.bytes()?),
        });
    }
    Ok(files.items)
}

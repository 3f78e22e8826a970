//! Files of embedded databases: section 7.

use std::collections::BTreeSet;

use aquifer_store::{KeyGroupRange, TableId};

use crate::encoding::{Reader, put_bytes, put_u16, put_u64};
use crate::{DbFile, DbSnapshot, KeyedSnapshot, StateError};

/// Operator, range, families and files.
const DATABASE_BYTES_MIN: usize = 8 + 2 + 2 + 2 * 8;
/// Name and table.
const FAMILY_BYTES_MIN: usize = 8 + 2;
/// Name, path, length, checksum and whether it is shared.
const FILE_BYTES_MIN: usize = 4 * 8 + 1;

/// Parts that have databases, each with its place in the list of parts.
pub(super) fn encode(keyed: &[(KeyGroupRange, KeyedSnapshot)], out: &mut Vec<u8>) {
    let parts = keyed.iter().enumerate();
    let parts: Vec<_> = parts
        .filter(|(_, (_, part))| !part.databases.is_empty())
        .collect();
    put_u64(out, parts.len() as u64);
    for (index, (_, part)) in parts {
        put_u64(out, index as u64);
        encode_part(&part.databases, out);
    }
}

pub(super) fn encode_part(databases: &[DbSnapshot], out: &mut Vec<u8>) {
    put_u64(out, databases.len() as u64);
    for database in databases {
        put_bytes(out, database.operator.as_bytes());
        put_u16(out, database.range.start);
        put_u16(out, database.range.end);
        put_u64(out, database.families.len() as u64);
        for (name, table) in &database.families {
            put_bytes(out, name.as_bytes());
            put_u16(out, table.0);
        }
        put_u64(out, database.files.len() as u64);
        for file in &database.files {
            put_bytes(out, file.name.as_bytes());
            put_bytes(out, file.path.as_bytes());
            put_u64(out, file.size_bytes);
            put_u64(out, file.checksum);
            out.push(u8::from(file.shared));
        }
    }
}

/// Gives the parts their databases.
pub(super) fn read(
    mut reader: Reader<'_>,
    keyed: &mut [(KeyGroupRange, KeyedSnapshot)],
) -> Result<(), StateError> {
    let parts = reader.list::<()>(2 * 8)?;
    for _ in 0..parts.count {
        let index = reader.u64()?;
        let databases = read_part(&mut reader)?;
        let part = usize::try_from(index).ok().and_then(|i| keyed.get_mut(i));
        match part {
            Some((_, part)) if part.databases.is_empty() && !databases.is_empty() => {
                part.databases = databases;
            }
            _ => {
                return Err(reader.wrong(&format!(
                    "databases are given to part {index}, which has some already, gets none, or does not exist"
                )));
            }
        }
    }
    reader.end()
}

pub(super) fn read_part(reader: &mut Reader<'_>) -> Result<Vec<DbSnapshot>, StateError> {
    let mut databases = reader.list(DATABASE_BYTES_MIN)?;
    for _ in 0..databases.count {
        let operator = reader.text()?;
        let range = KeyGroupRange {
            start: reader.u16()?,
            end: reader.u16()?,
        };
        if range.start > range.end {
            return Err(reader.wrong(&format!(
                "the key groups of a database run from {} to {}, which is backwards",
                range.start, range.end
            )));
        }
        let mut families = reader.list(FAMILY_BYTES_MIN)?;
        for _ in 0..families.count {
            families
                .items
                .push((reader.text()?, TableId(reader.u16()?)));
        }
        let mut files = reader.list(FILE_BYTES_MIN)?;
        let mut names = BTreeSet::new();
        for _ in 0..files.count {
            let name = file_name(reader)?;
            if !names.insert(name.clone()) {
                // One would be written over the other.
                return Err(reader.wrong(&format!(
                    "a database has two files named `{}`",
                    name.escape_default()
                )));
            }
            files.items.push(DbFile {
                name,
                path: reader.text()?,
                size_bytes: reader.u64()?,
                checksum: reader.u64()?,
                shared: reader.flag()?,
            });
        }
        databases.items.push(DbSnapshot {
            operator,
            range,
            families: families.items,
            files: files.items,
        });
    }
    Ok(databases.items)
}

/// A name under which the file is written into a local directory: it must lead nowhere else.
fn file_name(reader: &mut Reader<'_>) -> Result<String, StateError> {
    let name = reader.text()?;
    let leads_away =
        name.is_empty() || name == "." || name == ".." || name.contains(['/', '\\', ':', '\0']);
    if leads_away {
        return Err(reader.wrong(&format!(
            "`{}` is not the name of a file of a database",
            name.escape_default()
        )));
    }
    Ok(name)
}

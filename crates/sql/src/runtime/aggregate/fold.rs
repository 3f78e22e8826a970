//! Folding a batch per key: which rows belong to the same group, so that state is read and written once per key and batch.

use aquifer_dataflow::JobError;
use aquifer_state::access::Keys;
use arrow::array::ArrayRef;
use hashbrown::HashTable;

use crate::runtime::row_key::{self, KeyEncoder, Ordered};

/// The groups of one batch, in the order in which they first appear.
pub struct KeyFold {
    /// State key of each group.
    pub keys: Keys,
    /// Group of each row; `u32::MAX` for a row that is left out.
    pub group_of_row: Vec<u32>,
    /// A row of each group.
    pub first_row: Vec<u32>,
}

impl KeyFold {
    /// Folds by `key_columns`. With `prefixes` (columns of one number per row, e.g. the end of the row's window) a state key is those numbers in
    /// order-preserving 8 bytes each, followed by the key; the key group never depends on them.
    pub fn new(
        key_columns: &[ArrayRef],
        rows: usize,
        prefixes: &[&[i64]],
        max_parallelism: u16,
    ) -> Result<Self, JobError> {
        let encoder = KeyEncoder::new(key_columns)?;
        let mut fold = Self {
            keys: Keys::default(),
            group_of_row: Vec::with_capacity(rows),
            first_row: Vec::new(),
        };
        let mut hashes: Vec<u64> = Vec::new();
        let mut table: HashTable<u32> = HashTable::with_capacity(rows);
        let mut scratch = Vec::with_capacity(64);
        for row in 0..rows {
            scratch.clear();
            for prefix in prefixes {
                prefix[row].write(&mut scratch);
            }
            let key_start = scratch.len();
            encoder.encode(row, &mut scratch);
            let hash = row_key::hash(&scratch);
            let found = table.find(hash, |group| fold.keys.get(*group as usize).1 == scratch);
            let group = match found {
                Some(group) => *group,
                None => {
                    let key_hash = if key_start == 0 {
                        hash
                    } else {
                        row_key::hash(&scratch[key_start..])
                    };
                    let key_group = row_key::key_group(key_hash, max_parallelism);
                    let group = fold.first_row.len() as u32;
                    fold.keys.push(key_group, &scratch);
                    fold.first_row.push(row as u32);
                    hashes.push(hash);
                    table.insert_unique(hash, group, |group| hashes[*group as usize]);
                    group
                }
            };
            fold.group_of_row.push(group);
        }
        Ok(fold)
    }

    /// Number of groups.
    pub fn groups(&self) -> usize {
        self.first_row.len()
    }
}

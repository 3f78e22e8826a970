//! A file that has been written and is not part of a version yet.
use std::sync::Arc;

use super::file::SstFile;
use super::part::Part;
use crate::context::Context;
use crate::error::Result;

/// A file that is durable, with what of it should be in memory.
pub(crate) struct NewFile {
    pub(crate) file: Arc<SstFile>,
    pub(super) parts: Vec<(u64, Part)>,
}

impl NewFile {
    /// A file that another process wrote for this store.
    pub(crate) fn adopted(file: Arc<SstFile>) -> Self {
        Self {
            file,
            parts: Vec::new(),
        }
    }

    /// All files, if everything that was to make some has succeeded. If not, none is left.
    pub(crate) fn all_or_none<F: IntoIterator<Item = Self>>(
        made: Vec<Result<F>>,
    ) -> Result<Vec<Self>> {
        let mut files = Vec::with_capacity(made.len());
        let mut failure = None;
        for made in made {
            match made {
                Ok(made) => files.extend(made),
                Err(error) => failure = Some(error),
            }
        }
        match failure {
            None => Ok(files),
            Some(error) => {
                files.iter().for_each(|made| made.file.retire());
                Err(error)
            }
        }
    }

    /// Bytes of the parts that are kept for the cache.
    pub(crate) fn kept_bytes(&self) -> usize {
        self.parts.iter().map(|(_, part)| part.bytes()).sum()
    }

    /// Puts the kept parts into the cache and returns the file.
    pub(crate) fn warm(self, context: &Context) -> Arc<SstFile> {
        for (offset, part) in self.parts {
            context.env.block_cache.insert(&self.file, offset, part);
        }
        self.file
    }
}

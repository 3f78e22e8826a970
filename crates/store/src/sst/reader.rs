//! Loads parts of a file.
//!
//! Every part is checked before it is handed on. An answer that fails its check is asked for again: networks flip bits and
//! cut bodies. What still fails then is reported.
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::block::DataBlock;
use super::file::{FileMeta, SstFile};
use crate::context::Context;
use crate::error::{Error, ErrorKind, Result};
use crate::io::ReadClass;

/// Answers that did not pass their check, after which a read is given up.
const DAMAGES_MAX: u32 = 1;

/// Loads index and filter and keeps them in memory.
pub(crate) async fn load_meta(
    context: &Context,
    file: &SstFile,
    class: ReadClass,
) -> Result<Arc<FileMeta>> {
    let start = file.size_bytes.saturating_sub(u64::from(file.tail_bytes));
    let meta = read_checked(context, file, start..file.size_bytes, class, |tail| {
        let (meta, footer, checksum) = FileMeta::decode(file.path().as_ref(), &tail, file.size_bytes)?;
        if checksum != file.checksum || footer.entries != file.entries {
            return Err(Error::corrupt(format!(
                "{} is not the file the checkpoint names: its checksum is {checksum:016x}, expected {:016x}",
                file.path(),
                file.checksum
            )));
        }
        Ok(Arc::new(meta))
    })
    .await?;
    file.keep_meta(meta.clone());
    Ok(meta)
}

/// Loads blocks that lie in one piece of the file; `blocks` are their numbers and places in ascending order, with gaps
/// allowed.
pub(crate) async fn load_blocks(
    context: &Context,
    file: &SstFile,
    blocks: &[(u32, Range<u64>)],
    class: ReadClass,
) -> Result<Vec<(u32, Arc<DataBlock>)>> {
    let (Some((_, first)), Some((_, last))) = (blocks.first(), blocks.last()) else {
        return Ok(Vec::new());
    };
    let base = first.start;
    read_checked(context, file, base..last.end, class, |bytes| {
        blocks
            .iter()
            .map(|(number, range)| {
                let what = || format!("block {number} of {}", file.path());
                let sealed = (range.start - base) as usize..(range.end - base) as usize;
                let sealed = bytes.get(sealed).unwrap_or_default();
                Ok((*number, Arc::new(DataBlock::decode(&what, sealed)?)))
            })
            .collect()
    })
    .await
}

async fn read_checked<T>(
    context: &Context,
    file: &SstFile,
    range: Range<u64>,
    class: ReadClass,
    check: impl Fn(Bytes) -> Result<T>,
) -> Result<T> {
    let mut damages = 0;
    loop {
        let files = &context.files;
        let bytes = files.read(file, range.clone(), class);
        match bytes.await.and_then(&check) {
            // If the bytes were damaged on their way, they will come whole the next time.
            Err(error) if error.kind == ErrorKind::Corrupt && damages < DAMAGES_MAX => {
                tracing::warn!(%error, "reading again");
                files.distrust(file, &range);
                damages += 1;
            }
            answer => return answer,
        }
    }
}

//! Writes one worker's rows to hidden parts, one open part per partition directory.
//!
//! A part is kept in memory until it is worth an upload of its own piece, then streamed; what is in memory is bounded by the
//! pieces of the open parts, of which there are at most [`PARTS_MAX`].

use std::collections::BTreeMap;
use std::sync::Arc;

use aquifer_dataflow::connector::{ConnectorContext, SinkWriter};
use aquifer_dataflow::{ChangeBatch, JobError};
use object_store::{MultipartUpload, ObjectStoreExt, PutPayload};

use super::commit::Part;
use super::location::{Opened, failed};
use super::{Files, part_name, partition};
use crate::cells::Cells;

/// A piece of a multipart upload; S3 wants at least 5 MiB.
const PIECE_BYTES: usize = 8 << 20;
/// Partitions that may be open at a time; the largest is closed for the next one.
const PARTS_MAX: usize = 64;

pub(super) struct FileWriter {
    files: Arc<Files>,
    opened: Opened,
    file_bytes: u64,
    context: ConnectorContext,
    stem: String,
    /// Number of the next part.
    next: u64,
    /// By partition directory.
    open: BTreeMap<String, OpenPart>,
    /// Closed since the last barrier.
    closed: Vec<Vec<u8>>,
}

struct OpenPart {
    /// Visible name below the table's path.
    name: String,
    text: String,
    upload: Option<Box<dyn MultipartUpload>>,
    uploaded_bytes: u64,
}

impl OpenPart {
    fn bytes(&self) -> u64 {
        self.uploaded_bytes + self.text.len() as u64
    }
}

impl FileWriter {
    pub(super) fn new(
        files: Arc<Files>,
        opened: Opened,
        file_bytes: u64,
        context: ConnectorContext,
    ) -> Self {
        let stem = part_name::stem(&context.run_id, &context.operator);
        Self {
            files,
            opened,
            file_bytes,
            context,
            stem,
            next: 0,
            open: BTreeMap::new(),
            closed: Vec::new(),
        }
    }

    /// The name of a new part in this directory.
    fn name(&mut self, directory: &str) -> String {
        let number = self.next;
        self.next += 1;
        let extension = self.files.format.extension();
        let attempt = self.context.attempt;
        let name = part_name::visible(&self.stem, attempt, self.context.worker, number, extension);
        if directory.is_empty() {
            name
        } else {
            format!("{directory}/{name}")
        }
    }

    /// Opens a part in this directory if none is, and closes another if that makes too many.
    fn open(&mut self, directory: &str) -> Result<(), JobError> {
        if self.open.contains_key(directory) {
            return Ok(());
        }
        if self.open.len() >= PARTS_MAX {
            let largest = self.open.iter().max_by_key(|(_, part)| part.bytes());
            if let Some(largest) = largest.map(|(directory, _)| directory.clone()) {
                self.close(&largest)?;
            }
        }
        let name = self.name(directory);
        let part = OpenPart {
            name,
            text: String::new(),
            upload: None,
            uploaded_bytes: 0,
        };
        self.open.insert(directory.to_owned(), part);
        Ok(())
    }

    /// Uploads a piece of the part if it has grown enough, and closes it if it is full.
    fn grow(&mut self, directory: &str) -> Result<(), JobError> {
        let Some(part) = self.open.get_mut(directory) else {
            return Ok(());
        };
        if part.bytes() >= self.file_bytes {
            return self.close(directory);
        }
        if part.text.len() < PIECE_BYTES {
            return Ok(());
        }
        let hidden = self.opened.path(&part_name::hidden(&part.name))?;
        let wrong = |error| failed("write", &hidden, error);
        let runtime = &self.context.runtime;
        let upload = match &mut part.upload {
            Some(upload) => upload,
            none => {
                let started = runtime.block_on(self.opened.objects.put_multipart(&hidden));
                none.insert(started.map_err(wrong)?)
            }
        };
        let piece = std::mem::take(&mut part.text);
        part.uploaded_bytes += piece.len() as u64;
        runtime
            .block_on(upload.put_part(PutPayload::from(piece.into_bytes())))
            .map_err(wrong)
    }

    /// Makes the part of this directory durable.
    fn close(&mut self, directory: &str) -> Result<(), JobError> {
        let Some(mut part) = self.open.remove(directory) else {
            return Ok(());
        };
        let hidden = self.opened.path(&part_name::hidden(&part.name))?;
        let rest = PutPayload::from(std::mem::take(&mut part.text).into_bytes());
        let objects = &self.opened.objects;
        let written = self.context.runtime.block_on(async {
            match &mut part.upload {
                None => objects.put(&hidden, rest).await.map(|_| ()),
                Some(upload) => {
                    if rest.content_length() > 0 {
                        upload.put_part(rest).await?;
                    }
                    upload.complete().await.map(|_| ())
                }
            }
        });
        written.map_err(|error| failed("write", &hidden, error))?;
        self.closed.push(Part { name: part.name }.encode());
        Ok(())
    }

    fn close_all(&mut self) -> Result<(), JobError> {
        let directories: Vec<String> = self.open.keys().cloned().collect();
        directories
            .iter()
            .try_for_each(|directory| self.close(directory))
    }
}

impl SinkWriter for FileWriter {
    fn write(&mut self, batch: &ChangeBatch) -> Result<(), JobError> {
        if !batch.insert_only() {
            return Err(JobError::failed(format!(
                "table '{}': connector 'filesystem' takes new rows only, found updates or deletions",
                self.files.table
            )));
        }
        let files = Arc::clone(&self.files);
        let mut data: Vec<(&str, Cells<'_>)> = Vec::new();
        let mut partitions: Vec<(&str, Cells<'_>)> = Vec::new();
        for (field, column) in files.schema.fields().iter().zip(batch.rows.columns()) {
            if !files.partitioned_by.contains(field.name()) {
                data.push((field.name(), Cells::new(column.as_ref())));
            }
        }
        for name in &files.partitioned_by {
            if let Some((index, _)) = files.schema.column_with_name(name)
                && let Some(column) = batch.rows.columns().get(index)
            {
                partitions.push((name, Cells::new(column.as_ref())));
            }
        }
        let mut directory = String::new();
        for row in 0..batch.rows.num_rows() {
            partition::directory(&partitions, row, &files.default_partition, &mut directory);
            self.open(&directory)?;
            let Some(part) = self.open.get_mut(&directory) else {
                continue;
            };
            files
                .format
                .encode(&data, row, &mut part.text)
                .map_err(|what| JobError::failed(format!("table '{}': {what}", files.table)))?;
            let full = part.text.len() >= PIECE_BYTES || part.bytes() >= self.file_bytes;
            if full {
                self.grow(&directory)?;
            }
        }
        Ok(())
    }

    fn prepare_commit(&mut self, _checkpoint_id: u64) -> Result<Vec<Vec<u8>>, JobError> {
        self.close_all()?;
        Ok(std::mem::take(&mut self.closed))
    }
}

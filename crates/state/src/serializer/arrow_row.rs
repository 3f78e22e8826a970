//! Rows of Arrow tables (feature `arrow`).
//!
//! A row is written column by column, without names, and begins with the number of the schema it was written by; the checkpoint keeps all
//! schemas by number. So columns may come and go while old rows stay as they are. The bytes are in `docs/format/serializers.md`.

mod cells;
mod columns;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};

pub use self::cells::Cell;
use self::columns::{Column, Columns};
use super::{Compatibility, Serializer, SerializerSnapshot};
use crate::StateError;
use crate::encoding::{Reader, put_u64};

const ENCODING: &str = "arrow-row-1";
/// Schemas that one state has had at most.
const SCHEMAS_MAX: usize = 1024;

/// Rows of one schema, each a [`Cell`] per column.
///
/// A restored state goes on if columns are new and nullable, are gone, stand in another order, are nullable now, or have a wider type: longer integers,
/// floats that hold the old ones exactly, decimals with more digits before the point, `LargeUtf8` for `Utf8`. Old rows stay as they are.
///
/// ```
/// use std::sync::Arc;
/// use aquifer_state::serializer::{ArrowRow, Cell, Serializer};
/// use arrow::datatypes::{DataType, Field, Schema};
///
/// # fn main() -> Result<(), aquifer_state::StateError> {
/// let schema = Arc::new(Schema::new(vec![
///     Field::new("id", DataType::Int64, false),
///     Field::new("name", DataType::Utf8, true),
/// ]));
/// let rows = ArrowRow::new(schema)?;
/// let mut bytes = Vec::new();
/// rows.serialize(&vec![Cell::Int(7), Cell::Null], &mut bytes)?;
/// assert_eq!(rows.deserialize(&bytes)?, [Cell::Int(7), Cell::Null]);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct ArrowRow {
    form: Arc<Form>,
}

struct Form {
    schema: SchemaRef,
    /// All that rows may have been written by; the last is that of `schema`.
    known: Vec<Known>,
}

struct Known {
    columns: Columns,
    /// For each column, where it is now.
    places: Vec<Option<usize>>,
}

impl Form {
    fn new(schema: SchemaRef, old: Vec<Columns>, new: Columns) -> Self {
        let all = old.into_iter().chain([new.clone()]);
        let known = all.map(|columns| Known {
            places: columns
                .0
                .iter()
                .map(|column| new.position(&column.name))
                .collect(),
            columns,
        });
        Self {
            schema,
            known: known.collect(),
        }
    }

    /// The schema that is written now, with its number.
    fn current(&self) -> Result<(u64, &Columns), StateError> {
        match self.known.split_last() {
            Some((last, before)) => Ok((before.len() as u64, &last.columns)),
            None => Err(StateError::Usage("rows have no schema".into())),
        }
    }
}

impl ArrowRow {
    /// Rows of this schema. An error if a column has a type that is not written, or the name of another.
    pub fn new(schema: SchemaRef) -> Result<Self, StateError> {
        let columns = Columns::of(&schema)?;
        Ok(Self {
            form: Arc::new(Form::new(schema, Vec::new(), columns)),
        })
    }

    /// The schema that rows have now.
    pub fn schema(&self) -> &SchemaRef {
        &self.form.schema
    }

    /// The cells of one row of a batch, whose columns must have the types of the schema in its order.
    pub fn cells(&self, batch: &RecordBatch, row: usize) -> Result<Vec<Cell>, StateError> {
        let (_, columns) = self.form.current()?;
        if batch.num_columns() != columns.0.len() || row >= batch.num_rows() {
            return Err(StateError::Usage(format!(
                "row {row} of a batch with {} rows and {} columns is asked for, expected {} columns",
                batch.num_rows(),
                batch.num_columns(),
                columns.0.len()
            )));
        }
        let arrays = columns.0.iter().zip(batch.columns());
        arrays
            .map(|(column, array)| cells::cell_of(column, array, row))
            .collect()
    }

    /// A batch of rows.
    pub fn batch<'a>(
        &self,
        rows: impl IntoIterator<Item = &'a [Cell]>,
    ) -> Result<RecordBatch, StateError> {
        let (_, columns) = self.form.current()?;
        let rows: Vec<&[Cell]> = rows.into_iter().collect();
        cells::batch_of(&self.form.schema, columns, &rows)
    }
}

/// The schemas that a snapshot of this encoding tells; `None` if it is of another.
fn said(snapshot: &SerializerSnapshot) -> Result<Option<Vec<Columns>>, StateError> {
    if snapshot.encoding != ENCODING || snapshot.version != 1 {
        return Ok(None);
    }
    let mut reader = Reader::new("snapshot of Arrow rows", &snapshot.payload);
    let mut schemas = reader.list(size_of::<u64>())?;
    if schemas.count == 0 || schemas.count > SCHEMAS_MAX {
        return Err(reader.wrong(&format!(
            "it has {} schemas, expected 1 to {SCHEMAS_MAX}",
            schemas.count
        )));
    }
    for _ in 0..schemas.count {
        schemas.items.push(Columns::read(&mut reader)?);
    }
    reader.end()?;
    Ok(Some(schemas.items))
}

impl Serializer<Vec<Cell>> for ArrowRow {
    fn serialize(&self, value: &Vec<Cell>, out: &mut Vec<u8>) -> Result<(), StateError> {
        let (number, columns) = self.form.current()?;
        let from = out.len();
        cells::write_row(number, columns, value, out).inspect_err(|_| out.truncate(from))
    }

    fn deserialize(&self, bytes: &[u8]) -> Result<Vec<Cell>, StateError> {
        let mut rest = bytes;
        let number = cells::take_varint(&mut rest)?;
        let known = usize::try_from(number).ok();
        let known = known.and_then(|number| self.form.known.get(number));
        let known = known.ok_or_else(|| {
            StateError::Corrupt(format!(
                "a row was written by schema {number}, but {} are known",
                self.form.known.len()
            ))
        })?;
        let (_, columns) = self.form.current()?;
        let mut row = vec![Cell::Null; columns.0.len()];
        cells::read_row(&known.columns, rest, |at, cell| {
            let place = known.places.get(at).copied().flatten();
            let column = |place: usize| Some((columns.0.get(place)?, place));
            if let Some((column, place)) = place.and_then(column)
                && let Some(slot) = row.get_mut(place)
            {
                *slot = cells::widened(cell, &column.kind);
            }
        })?;
        Ok(row)
    }

    fn layout(&self) -> String {
        let columns = self.form.known.last().map(|last| last.columns.to_string());
        format!("{ENCODING}:{}", columns.unwrap_or_default())
    }

    fn snapshot(&self) -> SerializerSnapshot {
        let mut payload = Vec::new();
        put_u64(&mut payload, self.form.known.len() as u64);
        for known in &self.form.known {
            known.columns.write(&mut payload);
        }
        SerializerSnapshot {
            encoding: ENCODING.into(),
            version: 1,
            payload,
        }
    }

    fn compatibility(&self, old: &SerializerSnapshot) -> Compatibility {
        let schemas = match said(old) {
            Ok(Some(schemas)) => schemas,
            Ok(None) => return self.snapshot().compatibility(old),
            Err(error) => return Compatibility::Incompatible(error.to_string()),
        };
        let new = match self.form.current() {
            Ok((_, new)) => new,
            Err(error) => return Compatibility::Incompatible(error.to_string()),
        };
        // Rows of any of them may be left.
        for schema in &schemas {
            if let Err(what) = schema.readable_as(new) {
                return Compatibility::Incompatible(format!(
                    "it was written as `{schema}` and the program now expects `{new}`: {what}"
                ));
            }
        }
        let mut added = Vec::new();
        new.write(&mut added);
        let (bytes, bytes_max) = (
            old.payload.len() + added.len(),
            SerializerSnapshot::PAYLOAD_BYTES_MAX,
        );
        match schemas.last() == Some(new) {
            true => Compatibility::AsIs,
            false if bytes > bytes_max => Compatibility::Incompatible(format!(
                "its schemas, with the new one, have {bytes} bytes, expected at most {bytes_max}"
            )),
            false if schemas.len() >= SCHEMAS_MAX => Compatibility::Incompatible(format!(
                "it has had {SCHEMAS_MAX} schemas, which is the most there can be"
            )),
            false => Compatibility::Reconfigured,
        }
    }

    fn restored(self, old: &SerializerSnapshot) -> Result<Self, StateError> {
        let Some(mut schemas) = said(old)? else {
            return Ok(self);
        };
        let (_, new) = self.form.current()?;
        if schemas.last() == Some(new) {
            schemas.pop();
        }
        let schema: &Schema = &self.form.schema;
        Ok(Self {
            form: Arc::new(Form::new(Arc::new(schema.clone()), schemas, new.clone())),
        })
    }
}

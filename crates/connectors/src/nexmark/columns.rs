//! From event numbers to Arrow batches, one column at a time.
//!
//! Only the columns and ROW fields that the table declares are made, in the declared order; each finds its maker by name. Rows
//! of another kind are null in a ROW column and in all of its fields.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Array, PrimitiveArray, RecordBatch, StringArray, StructArray};
use arrow::buffer::{BooleanBuffer, Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{
    DataType, Fields, Int64Type, SchemaRef, TimeUnit, TimestampMillisecondType,
};

use aquifer_dataflow::JobError;
use aquifer_dataflow::connector::TableSpec;

use super::generator::{Generator, Kind};
use crate::options::nearest;
use crate::types::sql_name;

#[derive(Clone, Copy)]
enum Maker {
    Long(fn(&Generator, u64) -> i64),
    Time(fn(&Generator, u64) -> i64),
    Text(fn(&Generator, u64, &mut Vec<u8>)),
}

impl Maker {
    fn data_type(self) -> DataType {
        match self {
            Maker::Long(_) => DataType::Int64,
            Maker::Time(_) => DataType::Timestamp(TimeUnit::Millisecond, None),
            Maker::Text(_) => DataType::Utf8,
        }
    }
}

const PERSON: &[(&str, Maker)] = &[
    ("id", Maker::Long(Generator::person_id)),
    ("name", Maker::Text(Generator::person_name)),
    ("emailAddress", Maker::Text(Generator::person_email)),
    ("creditCard", Maker::Text(Generator::person_card)),
    ("city", Maker::Text(Generator::person_city)),
    ("state", Maker::Text(Generator::person_state)),
    ("dateTime", Maker::Time(Generator::event_ms)),
    ("extra", Maker::Text(Generator::person_extra)),
];
const AUCTION: &[(&str, Maker)] = &[
    ("id", Maker::Long(Generator::auction_id)),
    ("itemName", Maker::Text(Generator::auction_item)),
    ("description", Maker::Text(Generator::auction_description)),
    ("initialBid", Maker::Long(Generator::auction_initial_bid)),
    ("reserve", Maker::Long(Generator::auction_reserve)),
    ("dateTime", Maker::Time(Generator::event_ms)),
    ("expires", Maker::Time(Generator::auction_expires)),
    ("seller", Maker::Long(Generator::auction_seller)),
    ("category", Maker::Long(Generator::auction_category)),
    ("extra", Maker::Text(Generator::auction_extra)),
];
const BID: &[(&str, Maker)] = &[
    ("auction", Maker::Long(Generator::bid_auction)),
    ("bidder", Maker::Long(Generator::bid_bidder)),
    ("price", Maker::Long(Generator::bid_price)),
    ("channel", Maker::Text(Generator::bid_channel)),
    ("url", Maker::Text(Generator::bid_url)),
    ("dateTime", Maker::Time(Generator::event_ms)),
    ("extra", Maker::Text(Generator::bid_extra)),
];

enum Column {
    EventType,
    Entity {
        kind: Kind,
        fields: Fields,
        makers: Vec<Maker>,
    },
}

/// Makes the batches of one table.
pub(super) struct Columns {
    schema: SchemaRef,
    columns: Vec<Column>,
}

impl Columns {
    /// Checks the table's columns against what the generator makes.
    pub(super) fn new(table: &TableSpec) -> Result<Self, JobError> {
        let wrong = |column: &str, expected: String, found: &str| {
            JobError::usage(format!(
                "table '{}': column '{column}' must be {expected}, found {found}",
                table.name
            ))
        };
        let mut columns = Vec::with_capacity(table.schema.fields().len());
        for field in table.schema.fields() {
            let name = field.name().as_str();
            let (kind, known) = match name {
                "event_type" if field.data_type() == &DataType::Int32 => {
                    columns.push(Column::EventType);
                    continue;
                }
                "event_type" => {
                    return Err(wrong(name, "INT".to_owned(), &sql_name(field.data_type())));
                }
                "person" => (Kind::Person, PERSON),
                "auction" => (Kind::Auction, AUCTION),
                "bid" => (Kind::Bid, BID),
                _ => {
                    return Err(JobError::usage(format!(
                        "table '{}': connector 'nexmark' makes the columns event_type, person, auction and bid, found '{name}'",
                        table.name
                    )));
                }
            };
            let DataType::Struct(fields) = field.data_type() else {
                return Err(wrong(
                    name,
                    "a ROW".to_owned(),
                    &sql_name(field.data_type()),
                ));
            };
            if !field.is_nullable() {
                return Err(wrong(name, "nullable".to_owned(), "NOT NULL"));
            }
            let mut makers = Vec::with_capacity(fields.len());
            for part in fields {
                let path = format!("{name}.{}", part.name());
                let Some((_, maker)) = known.iter().find(|(known, _)| known == part.name()) else {
                    let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
                    let near = nearest(part.name(), &names).unwrap_or("");
                    return Err(JobError::usage(format!(
                        "table '{}': connector 'nexmark' makes no field '{path}'; the nearest one is '{name}.{near}'",
                        table.name
                    )));
                };
                if part.data_type() != &maker.data_type() {
                    let expected = sql_name(&maker.data_type());
                    return Err(wrong(&path, expected, &sql_name(part.data_type())));
                }
                makers.push(*maker);
            }
            columns.push(Column::Entity {
                kind,
                fields: fields.clone(),
                makers,
            });
        }
        Ok(Self {
            schema: Arc::clone(&table.schema),
            columns,
        })
    }

    /// The events of these numbers.
    pub(super) fn batch(
        &self,
        generator: &Generator,
        numbers: &[u64],
    ) -> Result<RecordBatch, JobError> {
        let kinds: Vec<Kind> = numbers.iter().map(|n| generator.kind(*n)).collect();
        let mut arrays: Vec<ArrayRef> = Vec::with_capacity(self.columns.len());
        for column in &self.columns {
            arrays.push(match column {
                Column::EventType => Arc::new(Int32Array::from_iter_values(
                    kinds.iter().map(|kind| *kind as i32),
                )),
                Column::Entity {
                    kind,
                    fields,
                    makers,
                } => {
                    let rows = EntityRows::new(*kind, &kinds);
                    let parts = makers
                        .iter()
                        .map(|maker| rows.make(*maker, generator, numbers))
                        .collect();
                    Arc::new(StructArray::try_new(fields.clone(), parts, rows.nulls)?)
                }
            });
        }
        let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(numbers.len()));
        Ok(RecordBatch::try_new_with_options(
            Arc::clone(&self.schema),
            arrays,
            &options,
        )?)
    }
}

/// Which rows of a batch are of one kind.
struct EntityRows {
    rows: Vec<usize>,
    rows_all: usize,
    nulls: Option<NullBuffer>,
}

impl EntityRows {
    fn new(kind: Kind, kinds: &[Kind]) -> Self {
        let rows: Vec<usize> = kinds
            .iter()
            .enumerate()
            .filter(|(_, k)| **k == kind)
            .map(|(row, _)| row)
            .collect();
        let nulls = (rows.len() < kinds.len()).then(|| {
            let mut valid = vec![false; kinds.len()];
            for row in &rows {
                valid[*row] = true;
            }
            NullBuffer::new(BooleanBuffer::from(valid))
        });
        Self {
            rows,
            rows_all: kinds.len(),
            nulls,
        }
    }

    fn make(&self, maker: Maker, generator: &Generator, numbers: &[u64]) -> ArrayRef {
        match maker {
            Maker::Long(make) => {
                let values = self.longs(make, generator, numbers);
                Arc::new(PrimitiveArray::<Int64Type>::new(values, self.nulls.clone()))
            }
            Maker::Time(make) => {
                let values = self.longs(make, generator, numbers);
                Arc::new(PrimitiveArray::<TimestampMillisecondType>::new(
                    values,
                    self.nulls.clone(),
                ))
            }
            Maker::Text(make) => {
                let mut offsets: Vec<i32> = Vec::with_capacity(self.rows_all + 1);
                let mut bytes: Vec<u8> = Vec::with_capacity(self.rows.len() * 64);
                for row in &self.rows {
                    // Rows in between are null and empty. The reader bounds a batch far below 2 GiB.
                    offsets.resize(row + 1, bytes.len() as i32);
                    make(generator, numbers[*row], &mut bytes);
                }
                offsets.resize(self.rows_all + 1, bytes.len() as i32);
                Arc::new(StringArray::new(
                    OffsetBuffer::new(ScalarBuffer::from(offsets)),
                    Buffer::from_vec(bytes),
                    self.nulls.clone(),
                ))
            }
        }
    }

    fn longs(
        &self,
        make: fn(&Generator, u64) -> i64,
        generator: &Generator,
        numbers: &[u64],
    ) -> ScalarBuffer<i64> {
        let mut values = vec![0_i64; self.rows_all];
        for row in &self.rows {
            values[*row] = make(generator, numbers[*row]);
        }
        ScalarBuffer::from(values)
    }
}

//! Rows whose operator lays them out itself, column by column (`columns-1`): keys and accumulators of SQL, for example.
//!
//! The operator says what it writes as a list of [`RowColumn`]s, which goes into the checkpoint as a snapshot; whoever has the snapshot can
//! read the bytes, and find a row by its key. Byte diagrams are in `docs/format/serializers.md`. Nothing here decides whether a restored
//! state fits its program: that is the layout's text (`StateDescription::layout`), in which names of columns do not count.

use std::sync::Arc;

use super::budget::Budget;
use super::positional::{byte, length, varint, zigzag};
use super::{DynamicValue, Field, LogicalType, key};
use crate::StateError;
use crate::encoding::{Reader, put_bytes, put_u64};
use crate::serializer::SerializerSnapshot;

/// Rows within rows.
const DEPTH_MAX: usize = 32;
/// Columns of a row at most.
const COLUMNS_MAX: usize = 1 << 14;
/// What a row within a row is called among the types.
const ROW: &str = "Row";
/// After a zero byte of a text: the zero byte is its own.
const ESCAPED: u8 = 0xff;

/// One column of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowColumn {
    /// Its name. A row of one column without a name is that column's value.
    pub name: Arc<str>,
    /// What its values mean: numbers, text, bytes, truth values, times, decimals, and structs of these.
    pub kind: LogicalType,
    /// How they lie in bytes.
    pub form: ColumnForm,
}

/// How a value of a column lies in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColumnForm {
    /// Bytes that sort like the values. In a key: it does not decide about the key group.
    Sorted,
    /// A byte that says whether a value follows; then as `Sorted`. The fields of a struct are such.
    Nullable,
    /// As `Nullable`, each bit turned round, so that the largest comes first.
    NullableReversed,
    /// A varint.
    Unsigned,
    /// A zigzag varint.
    Signed,
    /// A number of values as `Signed` and, unless it is zero, their sum as `Sorted`.
    Total,
    /// As `Nullable` after its length in bytes as a varint; nothing after a length of 0.
    Sized,
    /// As `NullableReversed` after its length in bytes as a varint; nothing after a length of 0.
    SizedReversed,
}

impl ColumnForm {
    const CODES: [Self; 8] = [
        Self::Sorted,
        Self::Nullable,
        Self::NullableReversed,
        Self::Unsigned,
        Self::Signed,
        Self::Total,
        Self::Sized,
        Self::SizedReversed,
    ];

    fn code(self) -> u8 {
        let place = Self::CODES.iter().position(|form| *form == self);
        place.unwrap_or_default() as u8
    }

    /// The meaning of what a column of this form holds.
    fn logical(self, kind: &LogicalType) -> LogicalType {
        let option = || LogicalType::Option(Box::new(with_nullable_fields(kind)));
        match self {
            Self::Sorted => with_nullable_fields(kind),
            Self::Unsigned => LogicalType::U64,
            Self::Signed => LogicalType::I64,
            Self::Total => LogicalType::Struct {
                name: "".into(),
                fields: vec![
                    Field {
                        name: "sum".into(),
                        kind: option(),
                    },
                    Field {
                        name: "count".into(),
                        kind: LogicalType::I64,
                    },
                ],
            },
            Self::Nullable | Self::NullableReversed | Self::Sized | Self::SizedReversed => option(),
        }
    }
}

/// Fields of structs may be null, each.
fn with_nullable_fields(kind: &LogicalType) -> LogicalType {
    let LogicalType::Struct { name, fields } = kind else {
        return kind.clone();
    };
    LogicalType::Struct {
        name: Arc::clone(name),
        fields: fields
            .iter()
            .map(|field| Field {
                name: Arc::clone(&field.name),
                kind: LogicalType::Option(Box::new(with_nullable_fields(&field.kind))),
            })
            .collect(),
    }
}

impl RowColumn {
    /// A column.
    pub fn new(name: &str, kind: LogicalType, form: ColumnForm) -> Self {
        Self {
            name: name.into(),
            kind,
            form,
        }
    }

    /// What a checkpoint keeps of rows of these columns; `None` if a type is not one that columns have, or if it is too long. Names that come
    /// twice get a number.
    pub fn snapshot(columns: &[Self]) -> Option<SerializerSnapshot> {
        let mut named = columns.to_vec();
        for at in 1..named.len() {
            let (before, rest) = named.split_at_mut(at);
            let Some(column) = rest.first_mut() else {
                continue;
            };
            let taken = |name: &str| before.iter().any(|known| &*known.name == name);
            let numbered = (2..).map(|number| format!("{}_{number}", column.name));
            if taken(&column.name) {
                let free = numbered.into_iter().find(|name| !taken(name));
                column.name = free.unwrap_or_default().into();
            }
        }
        let mut payload = Vec::new();
        encode(&named, &mut payload, 0)?;
        (payload.len() <= SerializerSnapshot::PAYLOAD_BYTES_MAX).then(|| SerializerSnapshot {
            encoding: "columns-1".into(),
            version: 1,
            payload,
        })
    }
}

fn encode(columns: &[RowColumn], out: &mut Vec<u8>, depth: usize) -> Option<()> {
    (depth <= DEPTH_MAX && columns.len() <= COLUMNS_MAX).then_some(())?;
    put_u64(out, columns.len() as u64);
    for column in columns {
        put_bytes(out, column.name.as_bytes());
        let fields = match &column.kind {
            LogicalType::Struct { fields, .. } => Some(fields),
            _ => None,
        };
        let kind = match fields {
            Some(_) => ROW.to_owned(),
            None => column.kind.column_name()?,
        };
        put_bytes(out, kind.as_bytes());
        out.push(column.form.code());
        if let Some(fields) = fields {
            let nested = fields.iter().map(|field| RowColumn {
                name: Arc::clone(&field.name),
                kind: field.kind.clone(),
                form: ColumnForm::Nullable,
            });
            encode(&nested.collect::<Vec<_>>(), out, depth + 1)?;
        }
    }
    Some(())
}

/// What was said of rows, and their type; `None` if it is not understood.
pub(super) fn parse(snapshot: &SerializerSnapshot) -> Option<(Vec<RowColumn>, LogicalType)> {
    (snapshot.version == 1).then_some(())?;
    let mut reader = Reader::new("columns of rows", &snapshot.payload);
    let columns = decode(&mut reader, 0).ok()?;
    reader.end().ok()?;
    let logical = match columns.as_slice() {
        [] => LogicalType::Unit,
        [only] if only.name.is_empty() => only.form.logical(&only.kind),
        columns => LogicalType::Struct {
            name: "".into(),
            fields: columns
                .iter()
                .map(|column| Field {
                    name: Arc::clone(&column.name),
                    kind: column.form.logical(&column.kind),
                })
                .collect(),
        },
    };
    Some((columns, logical))
}

fn decode(reader: &mut Reader<'_>, depth: usize) -> Result<Vec<RowColumn>, StateError> {
    if depth > DEPTH_MAX {
        return Err(reader.wrong("rows lie within rows too deep"));
    }
    let mut columns = reader.list::<RowColumn>(17)?;
    if columns.count > COLUMNS_MAX {
        return Err(reader.wrong("a row has too many columns"));
    }
    for _ in 0..columns.count {
        let name: Arc<str> = reader.text()?.into();
        let kind = reader.text()?;
        let code = usize::from(reader.u8()?);
        let form = ColumnForm::CODES.get(code).copied();
        let form = form.ok_or_else(|| reader.wrong("a form is not known"))?;
        let kind = match kind.as_str() {
            ROW => LogicalType::Struct {
                name: "".into(),
                fields: decode(reader, depth + 1)?
                    .into_iter()
                    .map(|column| Field {
                        name: column.name,
                        kind: column.kind,
                    })
                    .collect(),
            },
            plain => {
                LogicalType::of_column(plain).ok_or_else(|| reader.wrong("a type is not known"))?
            }
        };
        columns.items.push(RowColumn { name, kind, form });
    }
    Ok(columns.items)
}

/// Takes a row off the front of `input`.
pub(super) fn take(
    columns: &[RowColumn],
    input: &mut &[u8],
    budget: &mut Budget,
) -> Result<DynamicValue, StateError> {
    if let [only] = columns
        && only.name.is_empty()
    {
        return cell(only, input, budget);
    }
    if columns.is_empty() {
        return Ok(DynamicValue::Null);
    }
    let mut fields = Vec::with_capacity(columns.len());
    for column in columns {
        let value = cell(column, input, budget);
        let value = value.map_err(|error| of_column(column, error))?;
        fields.push((Arc::clone(&column.name), value));
    }
    Ok(DynamicValue::Struct(fields))
}

fn of_column(column: &RowColumn, error: StateError) -> StateError {
    match error {
        StateError::Corrupt(what) => {
            StateError::Corrupt(format!("in column `{}`: {what}", column.name))
        }
        error => error,
    }
}

fn cell(
    column: &RowColumn,
    input: &mut &[u8],
    budget: &mut Budget,
) -> Result<DynamicValue, StateError> {
    budget.pay()?;
    let kind = &column.kind;
    Ok(match column.form {
        ColumnForm::Sorted => sorted(kind, input, budget)?,
        ColumnForm::Nullable => nullable(kind, input, budget)?,
        ColumnForm::NullableReversed => {
            let turned: Vec<u8> = input.iter().map(|byte| !byte).collect();
            let mut rest = turned.as_slice();
            let value = nullable(kind, &mut rest, budget)?;
            *input = input.get(input.len() - rest.len()..).unwrap_or_default();
            value
        }
        ColumnForm::Unsigned => DynamicValue::UInt(varint(input, 64)? as u64),
        ColumnForm::Signed => DynamicValue::Int(signed(input)?),
        ColumnForm::Total => {
            let count = signed(input)?;
            let sum = match count {
                0 => DynamicValue::Null,
                _ => sorted(kind, input, budget)?,
            };
            DynamicValue::Struct(vec![
                ("sum".into(), sum),
                ("count".into(), DynamicValue::Int(count)),
            ])
        }
        form @ (ColumnForm::Sized | ColumnForm::SizedReversed) => {
            let length = length(input)?;
            let cut = input.split_at_checked(length);
            let (head, tail) = cut.ok_or_else(|| wrong("it ends too early"))?;
            *input = tail;
            let turned: Vec<u8>;
            let mut rest = match form {
                ColumnForm::SizedReversed => {
                    turned = head.iter().map(|byte| !byte).collect();
                    turned.as_slice()
                }
                _ => head,
            };
            if rest.is_empty() {
                return Ok(DynamicValue::Null);
            }
            let value = nullable(kind, &mut rest, budget)?;
            if !rest.is_empty() {
                return Err(wrong("it is longer than its type says"));
            }
            value
        }
    })
}

fn wrong(what: &str) -> StateError {
    StateError::Corrupt(format!("a value of a row is damaged: {what}"))
}

fn signed(input: &mut &[u8]) -> Result<i64, StateError> {
    // Of at most 64 bits, as the varint is.
    Ok(zigzag(varint(input, 64)?) as i64)
}

fn nullable(
    kind: &LogicalType,
    input: &mut &[u8],
    budget: &mut Budget,
) -> Result<DynamicValue, StateError> {
    match byte(input)? {
        0 => Ok(DynamicValue::Null),
        1 => sorted(kind, input, budget),
        other => Err(wrong(&format!(
            "it begins with {other}, expected 0 for null or 1"
        ))),
    }
}

fn sorted(
    kind: &LogicalType,
    input: &mut &[u8],
    budget: &mut Budget,
) -> Result<DynamicValue, StateError> {
    match kind {
        LogicalType::String => {
            let text = String::from_utf8(unescaped(input)?);
            let text = text.map_err(|_| wrong("a text is not UTF-8"))?;
            Ok(DynamicValue::String(text))
        }
        LogicalType::Bytes => Ok(DynamicValue::Bytes(unescaped(input)?)),
        LogicalType::Struct { fields, .. } => budget.within(|budget| {
            let mut values = Vec::with_capacity(fields.len());
            for field in fields {
                let value = nullable(&field.kind, input, budget)?;
                values.push((Arc::clone(&field.name), value));
            }
            Ok(DynamicValue::Struct(values))
        }),
        kind => key::take(kind, input, budget),
    }
}

/// Text or bytes: `00` is written as `00 FF`, and `00 00` is the end.
fn unescaped(input: &mut &[u8]) -> Result<Vec<u8>, StateError> {
    let mut out = Vec::new();
    loop {
        let zero = input.iter().position(|byte| *byte == 0);
        let zero = zero.ok_or_else(|| wrong("it ends too early"))?;
        let (head, tail) = input.split_at(zero);
        out.extend_from_slice(head);
        match tail {
            [_, 0, rest @ ..] => {
                *input = rest;
                return Ok(out);
            }
            [_, ESCAPED, rest @ ..] => {
                out.push(0);
                *input = rest;
            }
            _ => return Err(wrong("a zero byte is followed by neither 00 nor FF")),
        }
    }
}

/// The bytes of a key or user key.
pub(super) fn encode_key(
    columns: &[RowColumn],
    value: &DynamicValue,
    out: &mut Vec<u8>,
) -> Result<(), StateError> {
    for (column, value) in columns_of(columns, value)? {
        encode_cell(column, value, out)?;
    }
    Ok(())
}

/// The bytes of a key that decide about its key group.
pub(super) fn encode_hashed(columns: &[RowColumn], value: &DynamicValue) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    for (column, value) in columns_of(columns, value).ok()? {
        if column.form != ColumnForm::Sorted {
            encode_cell(column, value, &mut out).ok()?;
        }
    }
    Some(out)
}

/// Each column with its value.
fn columns_of<'a>(
    columns: &'a [RowColumn],
    value: &'a DynamicValue,
) -> Result<Vec<(&'a RowColumn, &'a DynamicValue)>, StateError> {
    match (columns, value) {
        ([], DynamicValue::Null) => Ok(Vec::new()),
        ([only], value) if only.name.is_empty() => Ok(vec![(only, value)]),
        (columns, DynamicValue::Struct(fields)) if fields.len() == columns.len() => {
            let values = fields.iter().map(|(_, value)| value);
            Ok(columns.iter().zip(values).collect())
        }
        _ => Err(StateError::Usage(format!(
            "a key of {} columns is expected, found {}",
            columns.len(),
            value.what()
        ))),
    }
}

fn encode_cell(
    column: &RowColumn,
    value: &DynamicValue,
    out: &mut Vec<u8>,
) -> Result<(), StateError> {
    let start = out.len();
    match column.form {
        ColumnForm::Sorted => encode_sorted(&column.kind, value, out)?,
        ColumnForm::Nullable | ColumnForm::NullableReversed => {
            encode_nullable(&column.kind, value, out)?;
        }
        _ => {
            return Err(StateError::Usage(format!(
                "column `{}` is laid out as in values and cannot be part of a key",
                column.name
            )));
        }
    }
    if column.form == ColumnForm::NullableReversed {
        out.iter_mut().skip(start).for_each(|byte| *byte = !*byte);
    }
    Ok(())
}

fn encode_nullable(
    kind: &LogicalType,
    value: &DynamicValue,
    out: &mut Vec<u8>,
) -> Result<(), StateError> {
    if *value == DynamicValue::Null {
        out.push(0);
        return Ok(());
    }
    out.push(1);
    encode_sorted(kind, value, out)
}

fn encode_sorted(
    kind: &LogicalType,
    value: &DynamicValue,
    out: &mut Vec<u8>,
) -> Result<(), StateError> {
    let text = match (kind, value) {
        (LogicalType::String, DynamicValue::String(text)) => text.as_bytes(),
        (LogicalType::Bytes, DynamicValue::Bytes(bytes)) => bytes,
        (LogicalType::Struct { fields, .. }, DynamicValue::Struct(values))
            if fields.len() == values.len() =>
        {
            for (field, (_, value)) in fields.iter().zip(values) {
                encode_nullable(&field.kind, value, out)?;
            }
            return Ok(());
        }
        _ => return key::encode(kind, value, out),
    };
    for byte in text {
        out.push(*byte);
        if *byte == 0 {
            out.push(ESCAPED);
        }
    }
    out.extend_from_slice(&[0, 0]);
    Ok(())
}

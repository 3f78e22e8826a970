//! What fills one column of a generated table: a sequence, random values within bounds, or a ROW of such fields.

use arrow::datatypes::{DataType, Field};

use aquifer_dataflow::JobError;

use crate::calendar::NANOS_PER_SECOND;
use crate::column::Column;
use crate::draws::Draws;
use crate::numbers;
use crate::options::Options;
use crate::scalar::{self, Scalar, units_per_second};
use crate::types::sql_name;

/// The options that a field may have, after `fields.<name>.`.
pub(super) const PROPERTIES: [&str; 9] = [
    "kind",
    "min",
    "max",
    "length",
    "start",
    "end",
    "max-past",
    "null-rate",
    "var-len",
];

/// Longest generated text or bytes.
const LENGTH_MAX: i64 = 1 << 20;
const LENGTH_DEFAULT: i64 = 100;

// What a draw is for.
const NULL: u64 = 1;
const VALUE: u64 = 2;
const LENGTH: u64 = 3;
/// The fields of a ROW draw below this and their index.
const FIELDS: u64 = 16;

/// Fills one column.
pub(super) struct Filler {
    kind: Kind,
    /// A value is null if a draw of 53 bits is below this.
    null_below: u64,
    not_null: bool,
}

enum Kind {
    /// `start + row number`.
    Sequence {
        start: i64,
    },
    Boolean,
    Whole {
        min: i64,
        max: i64,
    },
    Double {
        min: f64,
        max: f64,
    },
    Decimal {
        min: i128,
        max: i128,
    },
    /// Hexadecimal digits, or bytes.
    Text {
        length: u64,
        variable: bool,
    },
    Bytes {
        length: u64,
        variable: bool,
    },
    /// The row's time, moved back by up to this many milliseconds.
    Time {
        past_ms_max: u64,
    },
    Row(Vec<Filler>),
}

/// Adds the names of all options of `field`, which lies at `path`.
pub(super) fn known_options(path: &str, field: &Field, known: &mut Vec<String>) {
    known.extend(
        PROPERTIES
            .iter()
            .map(|property| format!("fields.{path}.{property}")),
    );
    if let DataType::Struct(parts) = field.data_type() {
        for part in parts {
            known_options(&format!("{path}.{}", part.name()), part, known);
        }
    }
}

impl Filler {
    /// Reads the options of `field` at `path`. Rows end where the shortest sequence does: `rows` is lowered to that.
    pub(super) fn read(
        options: &Options<'_>,
        path: &str,
        field: &Field,
        rows: &mut Option<u64>,
    ) -> Result<Self, JobError> {
        let key = |property: &str| format!("fields.{path}.{property}");
        let data_type = field.data_type();
        let random = options.choice(&key("kind"), &["random", "sequence"], 0)? == 0;
        let kind = if random {
            Self::read_random(options, path, data_type, rows)?
        } else {
            Self::read_sequence(options, path, data_type, rows)?
        };
        let null_rate = match options.text(&key("null-rate")) {
            None => 0.0,
            Some(text) => text
                .parse::<f64>()
                .ok()
                .filter(|rate| (0.0..=1.0).contains(rate))
                .ok_or_else(|| {
                    options.malformed(&key("null-rate"), "a number from 0 to 1", text)
                })?,
        };
        if null_rate > 0.0 && !field.is_nullable() {
            let found = options.text(&key("null-rate")).unwrap_or("");
            return Err(options.malformed(&key("null-rate"), "0 for a NOT NULL column", found));
        }
        let null_below = (null_rate * (1_u64 << 53) as f64) as u64;
        Ok(Self {
            kind,
            null_below,
            not_null: !field.is_nullable(),
        })
    }

    fn read_sequence(
        options: &Options<'_>,
        path: &str,
        data_type: &DataType,
        rows: &mut Option<u64>,
    ) -> Result<Kind, JobError> {
        let (start_key, end_key) = (format!("fields.{path}.start"), format!("fields.{path}.end"));
        let (smallest, largest) = match data_type {
            DataType::Float32 | DataType::Float64 | DataType::Utf8 => (i64::MIN, i64::MAX),
            DataType::Decimal128(precision, scale) => {
                let digits = (i16::from(*precision) - i16::from(*scale)).clamp(0, 18) as u32;
                let most = 10_i64.pow(digits) - 1;
                (-most, most)
            }
            other => scalar::whole_range(other).ok_or_else(|| {
                let expected = format!("random for a column of type {}", sql_name(data_type));
                options.malformed(&format!("fields.{path}.kind"), &expected, "sequence")
            })?,
        };
        for key in [&start_key, &end_key] {
            if options.text(key).is_none() {
                return Err(options.missing(key, "a whole number, for a sequence"));
            }
        }
        let start = options.whole(&start_key, 0, smallest..=largest)?;
        let end = options.whole(&end_key, 0, start..=largest)?;
        let length = (i128::from(end) - i128::from(start) + 1).min(i64::MAX.into()) as u64;
        *rows = Some(rows.map_or(length, |rows| rows.min(length)));
        Ok(Kind::Sequence { start })
    }

    fn read_random(
        options: &Options<'_>,
        path: &str,
        data_type: &DataType,
        rows: &mut Option<u64>,
    ) -> Result<Kind, JobError> {
        let key = |property: &str| format!("fields.{path}.{property}");
        if let Some((smallest, largest)) = scalar::whole_range(data_type) {
            let min = options.whole(&key("min"), smallest, smallest..=largest)?;
            let max = options.whole(&key("max"), largest, min..=largest)?;
            return Ok(Kind::Whole { min, max });
        }
        Ok(match data_type {
            DataType::Boolean => Kind::Boolean,
            DataType::Float32 | DataType::Float64 => {
                let largest = if data_type == &DataType::Float32 {
                    f64::from(f32::MAX)
                } else {
                    f64::MAX
                };
                let bound = |key: &str, default: f64, least: f64| match options.text(key) {
                    None => Ok(default),
                    Some(text) => text
                        .parse::<f64>()
                        .ok()
                        .filter(|value| (least..=largest).contains(value))
                        .ok_or_else(|| {
                            let expected = format!("a number from {least:e} to {largest:e}");
                            options.malformed(key, &expected, text)
                        }),
                };
                let min = bound(&key("min"), -largest, -largest)?;
                Kind::Double {
                    min,
                    max: bound(&key("max"), largest, min)?,
                }
            }
            DataType::Decimal128(precision, scale) => {
                let largest = 10_i128
                    .checked_pow((*precision).into())
                    .unwrap_or(i128::MAX)
                    - 1;
                let bound = |key: &str, default: i128, least: i128| match options.text(key) {
                    None => Ok(default),
                    Some(text) => numbers::parse_decimal(text, *precision, *scale)
                        .filter(|value| *value >= least)
                        .ok_or_else(|| {
                            let name = sql_name(data_type);
                            let expected = format!("a {name} not below the minimum");
                            options.malformed(key, &expected, text)
                        }),
                };
                let min = bound(&key("min"), -largest, -largest)?;
                Kind::Decimal {
                    min,
                    max: bound(&key("max"), largest, min)?,
                }
            }
            DataType::Utf8 | DataType::Binary => {
                let length = options.whole(&key("length"), LENGTH_DEFAULT, 1..=LENGTH_MAX)?;
                let length = length.unsigned_abs();
                let variable = options.flag(&key("var-len"), false)?;
                if data_type == &DataType::Utf8 {
                    Kind::Text { length, variable }
                } else {
                    Kind::Bytes { length, variable }
                }
            }
            DataType::FixedSizeBinary(length) => Kind::Bytes {
                length: length.unsigned_abs().into(),
                variable: false,
            },
            DataType::Date32
            | DataType::Time32(_)
            | DataType::Time64(_)
            | DataType::Timestamp(_, _) => {
                let past_ms_max = options.duration_ms(&key("max-past"), 0)?.unsigned_abs();
                Kind::Time { past_ms_max }
            }
            DataType::Struct(parts) if !parts.is_empty() => Kind::Row(
                parts
                    .iter()
                    .map(|part| Self::read(options, &format!("{path}.{}", part.name()), part, rows))
                    .collect::<Result<_, _>>()?,
            ),
            other => {
                return Err(JobError::usage(format!(
                    "connector 'datagen' makes scalars and ROWs of scalars, but column '{path}' is of type {}",
                    sql_name(other)
                )));
            }
        })
    }

    /// Most bytes that a value can have.
    pub(super) fn bytes_max(&self) -> u64 {
        match &self.kind {
            Kind::Text { length, .. } | Kind::Bytes { length, .. } => *length,
            Kind::Row(fillers) => fillers.iter().map(Self::bytes_max).sum(),
            _ => 32,
        }
    }

    /// Adds the value of row `number`, whose time is `row_ms`.
    pub(super) fn fill(
        &self,
        column: &mut Column,
        number: u64,
        row_ms: i64,
        draws: Draws,
        text: &mut String,
    ) {
        if self.null_below > 0 && !self.not_null && draws.bits(NULL) >> 11 < self.null_below {
            return column.push_null();
        }
        let scalar = match &self.kind {
            Kind::Row(fillers) => {
                let filled: Result<(), std::convert::Infallible> = column.push_row(|_, columns| {
                    for (i, (filler, column)) in
                        (0_u64..).zip(fillers.iter().zip(columns.iter_mut()))
                    {
                        let draws = draws.within(FIELDS + i);
                        filler.fill(column, number, row_ms, draws, text);
                    }
                    Ok(())
                });
                return filled.unwrap_or(());
            }
            Kind::Sequence { start } => {
                let value = start.saturating_add_unsigned(number);
                match column.data_type() {
                    DataType::Float32 | DataType::Float64 => Scalar::Double(value as f64),
                    DataType::Decimal128(_, scale) => {
                        let power = 10_i128.pow(u32::from(scale.unsigned_abs().min(38)));
                        Scalar::Decimal(if *scale < 0 {
                            i128::from(value) / power
                        } else {
                            i128::from(value).saturating_mul(power)
                        })
                    }
                    DataType::Utf8 => {
                        text.clear();
                        text.push_str(&value.to_string());
                        Scalar::Text(text)
                    }
                    _ => Scalar::Whole(value),
                }
            }
            Kind::Boolean => Scalar::Boolean(draws.bits(VALUE) & 1 == 1),
            Kind::Whole { min, max } => {
                // The width is 2^64 at most, and then every bit pattern is a value.
                let width = max.wrapping_sub(*min) as u64;
                let offset = match width.checked_add(1) {
                    Some(values) => draws.below(VALUE, values),
                    None => draws.bits(VALUE),
                };
                Scalar::Whole(min.wrapping_add_unsigned(offset))
            }
            Kind::Double { min, max } => {
                let unit = draws.unit(VALUE);
                Scalar::Double((min * (1.0 - unit) + max * unit).clamp(*min, *max))
            }
            Kind::Decimal { min, max } => {
                let bits = u128::from(draws.bits(VALUE)) << 64 | u128::from(draws.bits(LENGTH));
                let width = max.wrapping_sub(*min) as u128;
                let offset = width.checked_add(1).map_or(bits, |values| bits % values);
                Scalar::Decimal(min.wrapping_add_unsigned(offset))
            }
            Kind::Text { length, variable } => {
                text.clear();
                let length = drawn_length(draws, *length, *variable);
                let inner = draws.within(VALUE);
                for block in 0..length.div_ceil(16) {
                    let digits = 16.min(length - block * 16) as usize;
                    let hexadecimal = format!("{:016x}", inner.bits(block));
                    text.push_str(&hexadecimal[..digits]);
                }
                Scalar::Text(text)
            }
            Kind::Bytes { length, variable } => {
                let length = drawn_length(draws, *length, *variable) as usize;
                let inner = draws.within(VALUE);
                let mut bytes: Vec<u8> = (0..length.div_ceil(8) as u64)
                    .flat_map(|block| inner.bits(block).to_le_bytes())
                    .collect();
                bytes.truncate(length);
                Scalar::Bytes(bytes)
            }
            Kind::Time { past_ms_max } => {
                let past = draws.below(VALUE, past_ms_max.saturating_add(1));
                time_scalar(column.data_type(), row_ms.saturating_sub_unsigned(past))
            }
        };
        column.push(scalar);
    }
}

fn drawn_length(draws: Draws, length: u64, variable: bool) -> u64 {
    if variable {
        1 + draws.below(LENGTH, length)
    } else {
        length
    }
}

fn time_scalar(data_type: &DataType, ms: i64) -> Scalar<'static> {
    let nano_of_day = ms.rem_euclid(86_400_000) * 1_000_000;
    match data_type {
        DataType::Date32 => Scalar::Whole(ms.div_euclid(86_400_000)),
        DataType::Time32(unit) | DataType::Time64(unit) => {
            Scalar::Whole(nano_of_day / (NANOS_PER_SECOND / units_per_second(unit)))
        }
        DataType::Timestamp(unit, _) => {
            let per_second = units_per_second(unit);
            Scalar::Whole(if per_second >= 1_000 {
                ms.saturating_mul(per_second / 1_000)
            } else {
                ms.div_euclid(1_000)
            })
        }
        _ => Scalar::Null,
    }
}

//! Functions of dates and times that need no clock.

use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::{DataType, TimeUnit, TimestampMillisecondType};
use datafusion_common::{Result, exec_datafusion_err, exec_err, internal_datafusion_err};
use datafusion_expr::expr::ScalarFunction;
use datafusion_expr::{Expr, lit};

use super::BUILT_IN;
use super::arguments::Kind::{Instant, Number, Text, Time, TimeOrText, Whole};
use super::arguments::{
    self, Call, Parameters, Values, build_int, build_text, build_time, build_whole,
};
use super::conversion::{Civil, MS_PER_DAY, MS_PER_SECOND, add_months, parse_timestamp_micros};
use super::definition::{Definition, Returns, always};
use super::pattern::Pattern;
use super::time_unit::{Unit, ceil, extract_part, floor};

const BIGINT: Returns = always!(DataType::Int64);
const INT: Returns = always!(DataType::Int32);
const STRING: Returns = always!(DataType::Utf8);
const TIMESTAMP: Returns = always!(DataType::Timestamp(TimeUnit::Millisecond, None));
const TIMESTAMP_LTZ: Returns = always!(DataType::Timestamp(
    TimeUnit::Millisecond,
    Some("UTC".into())
));
const DATE: Returns = always!(DataType::Date32);

/// Adds milliseconds to a timestamp: what `ts + INTERVAL` becomes.
const PLUS: &str = "timestamp_plus_ms";
const DEFAULT_PATTERN: &str = "yyyy-MM-dd HH:mm:ss";

/// The type of the first argument.
fn first(types: &[DataType], _: &[Option<&datafusion_common::ScalarValue>]) -> Result<DataType> {
    types
        .first()
        .cloned()
        .ok_or_else(|| internal_datafusion_err!("a function of time has no argument"))
}

/// The type of the last argument.
fn last(types: &[DataType], _: &[Option<&datafusion_common::ScalarValue>]) -> Result<DataType> {
    types
        .last()
        .cloned()
        .ok_or_else(|| internal_datafusion_err!("a function of time has no argument"))
}

macro_rules! part {
    ($name:literal, $unit:expr) => {
        Definition {
            names: &[$name],
            parameters: Parameters::exact(&[Time]),
            returns: BIGINT,
            evaluate: |call| {
                let time = call.time(0)?;
                Ok(build_whole(call.rows, |i| {
                    time.get(i).map(|ms| extract_part($unit, ms))
                }))
            },
        }
    };
}

pub(super) const FUNCTIONS: &[Definition] = &[
    define(
        &["extract"],
        Parameters::exact(&[Text, Time]),
        BIGINT,
        extract,
    ),
    part!("year", Unit::Year),
    part!("quarter", Unit::Quarter),
    part!("month", Unit::Month),
    part!("week", Unit::Week),
    part!("dayofyear", Unit::DayOfYear),
    part!("dayofmonth", Unit::Day),
    part!("dayofweek", Unit::DayOfWeek),
    part!("hour", Unit::Hour),
    part!("minute", Unit::Minute),
    part!("second", Unit::Second),
    define(
        &["floor_to"],
        Parameters::exact(&[Instant, Text]),
        first,
        floor_to,
    ),
    define(
        &["ceil_to"],
        Parameters::exact(&[Instant, Text]),
        first,
        ceil_to,
    ),
    define(
        &["date_format"],
        Parameters::exact(&[TimeOrText, Text]),
        STRING,
        date_format,
    ),
    define(
        &["to_timestamp"],
        Parameters::with_optional(&[Text], &[Text]),
        TIMESTAMP,
        to_timestamp,
    ),
    define(
        &["to_timestamp_ltz"],
        Parameters::with_optional(&[Number], &[Whole]),
        TIMESTAMP_LTZ,
        to_timestamp_ltz,
    ),
    define(
        &["to_date"],
        Parameters::with_optional(&[Text], &[Text]),
        DATE,
        to_date,
    ),
    define(
        &["from_unixtime"],
        Parameters::with_optional(&[Whole], &[Text]),
        STRING,
        from_unixtime,
    ),
    define(
        &["timestampadd"],
        Parameters::exact(&[Text, Whole, Instant]),
        last,
        timestampadd,
    ),
    define(
        &["timestampdiff"],
        Parameters::exact(&[Text, Time, Time]),
        INT,
        timestampdiff,
    ),
    define(&[PLUS], Parameters::exact(&[Instant, Whole]), first, plus),
];

const fn define(
    names: &'static [&'static str],
    parameters: Parameters,
    returns: Returns,
    evaluate: fn(&Call) -> Result<ArrayRef>,
) -> Definition {
    Definition {
        names,
        parameters,
        returns,
        evaluate,
    }
}

/// `time + ms` milliseconds, without DataFusion's detour over calendar intervals.
pub(crate) fn add_milliseconds(time: Expr, ms: i64) -> Option<Expr> {
    let udf = BUILT_IN.get(PLUS)?;
    Some(Expr::ScalarFunction(ScalarFunction::new_udf(
        Arc::clone(udf),
        vec![time, lit(ms)],
    )))
}

fn plus(call: &Call) -> Result<ArrayRef> {
    let (time, ms) = (call.time(0)?, call.whole(1)?);
    if let (Values::Many(times), Values::One(Some(ms))) = (&time, &ms) {
        let shifted = times.unary::<_, TimestampMillisecondType>(|time| time.saturating_add(*ms));
        return Ok(Arc::new(shifted.with_data_type(call.return_type.clone())));
    }
    Ok(build_time(call.rows, call.return_type, |i| {
        time.get(i)?.checked_add(ms.get(i)?)
    }))
}

/// The unit that all rows of a call share.
fn unit(call: &Call, i: usize) -> Result<Unit> {
    match call.text(i)?.constant() {
        Some(Some(text)) => Unit::parse(text),
        _ => exec_err!("a time unit is a constant"),
    }
}

fn extract(call: &Call) -> Result<ArrayRef> {
    let (unit, time) = (unit(call, 0)?, call.time(1)?);
    Ok(build_whole(call.rows, |i| {
        time.get(i).map(|ms| extract_part(unit, ms))
    }))
}

fn floor_to(call: &Call) -> Result<ArrayRef> {
    let (time, unit) = (call.time(0)?, unit(call, 1)?);
    Ok(build_time(call.rows, call.return_type, |i| {
        floor(unit, time.get(i)?)
    }))
}

fn ceil_to(call: &Call) -> Result<ArrayRef> {
    let (time, unit) = (call.time(0)?, unit(call, 1)?);
    Ok(build_time(call.rows, call.return_type, |i| {
        ceil(unit, time.get(i)?)
    }))
}

/// The pattern of all rows; `None` if it is null.
fn pattern(text: Option<&arguments::Text<'_>>) -> Result<Option<Pattern>> {
    match text.map(arguments::Text::constant) {
        None => Pattern::compile(DEFAULT_PATTERN).map(Some),
        Some(Some(Some(text))) => Pattern::compile(text).map(Some),
        Some(Some(None)) => Ok(None),
        Some(None) => Err(exec_datafusion_err!("a date pattern is a constant")),
    }
}

/// Writes moments by a pattern; one that reads like the one before is copied.
fn write_all(
    call: &Call,
    pattern: Option<Pattern>,
    mut ms: impl FnMut(usize) -> Option<i64>,
) -> ArrayRef {
    let mut last: Option<(i64, String)> = None;
    build_text(call.rows, |i, out| {
        let pattern = pattern.as_ref()?;
        let ms = ms(i)?;
        let span = ms.div_euclid(pattern.granularity_ms());
        match &last {
            Some((known, text)) if *known == span => out.push_str(text),
            _ => {
                pattern.write(ms, out);
                last = Some((span, out.clone()));
            }
        }
        Some(())
    })
}

fn date_format(call: &Call) -> Result<ArrayRef> {
    let pattern = pattern(Some(&call.text(1)?))?;
    if call.is_text(0) {
        let text = call.text(0)?;
        return Ok(write_all(call, pattern, |i| {
            parse_timestamp_micros(text.get(i)?).map(|us| us.div_euclid(1000))
        }));
    }
    let time = call.time(0)?;
    Ok(write_all(call, pattern, |i| time.get(i)))
}

fn to_timestamp(call: &Call) -> Result<ArrayRef> {
    let (text, format) = (call.text(0)?, call.optional_text(1)?);
    if format.is_none() {
        return Ok(build_time(call.rows, call.return_type, |i| {
            parse_timestamp_micros(text.get(i)?).map(|us| us.div_euclid(1000))
        }));
    }
    let pattern = pattern(format.as_ref())?;
    Ok(build_time(call.rows, call.return_type, |i| {
        pattern.as_ref()?.read(text.get(i)?)
    }))
}

/// Seconds (precision 0) or milliseconds (precision 3, the default) since 1970.
fn to_timestamp_ltz(call: &Call) -> Result<ArrayRef> {
    let value = arrow::compute::cast(&call.array(0)?, &DataType::Int64)?;
    let value =
        arrow::array::AsArray::as_primitive::<arrow::datatypes::Int64Type>(value.as_ref()).clone();
    let value = Values::<arrow::datatypes::Int64Type>::Many(value);
    let precision = if call.len() > 1 {
        Some(call.whole(1)?)
    } else {
        None
    };
    let mut wrong = None;
    let array = build_time(call.rows, call.return_type, |i| {
        let value = value.get(i)?;
        let precision = match &precision {
            Some(precision) => precision.get(i)?,
            None => 3,
        };
        match precision {
            0 => value.checked_mul(MS_PER_SECOND),
            3 => Some(value),
            other => {
                wrong = Some(other);
                None
            }
        }
    });
    match wrong {
        Some(other) => exec_err!("TO_TIMESTAMP_LTZ takes the precision 0 or 3, found {other}"),
        None => Ok(array),
    }
}

fn to_date(call: &Call) -> Result<ArrayRef> {
    let (text, format) = (call.text(0)?, call.optional_text(1)?);
    let pattern = match &format {
        Some(format) => pattern(Some(format))?,
        None => None,
    };
    let days = (0..call.rows).map(|i| {
        let text = text.get(i)?;
        let ms = match (&format, &pattern) {
            (None, _) => parse_timestamp_micros(text)?.div_euclid(1000),
            (Some(_), pattern) => pattern.as_ref()?.read(text)?,
        };
        i32::try_from(ms.div_euclid(MS_PER_DAY)).ok()
    });
    Ok(Arc::new(days.collect::<arrow::array::Date32Array>()))
}

fn from_unixtime(call: &Call) -> Result<ArrayRef> {
    let (seconds, format) = (call.whole(0)?, call.optional_text(1)?);
    let pattern = pattern(format.as_ref())?;
    Ok(write_all(call, pattern, |i| {
        seconds.get(i)?.checked_mul(MS_PER_SECOND)
    }))
}

/// Seconds since 1970 of a text; Java's smallest long for what is not a time, as Flink gives it.
pub(super) fn unix_timestamp_of_text(call: &Call) -> Result<ArrayRef> {
    let (text, format) = (call.text(0)?, call.optional_text(1)?);
    let pattern = pattern(format.as_ref())?;
    Ok(build_whole(call.rows, |i| {
        let text = text.get(i)?;
        Some(
            pattern
                .as_ref()?
                .read(text)
                .map_or(i64::MIN, |ms| ms.div_euclid(MS_PER_SECOND)),
        )
    }))
}

fn timestampadd(call: &Call) -> Result<ArrayRef> {
    let (unit, n, time) = (unit(call, 0)?, call.whole(1)?, call.time(2)?);
    Ok(build_time(call.rows, call.return_type, |i| {
        let (n, time) = (n.get(i)?, time.get(i)?);
        match (unit.ms(), unit.months()) {
            (Some(length), _) => time.checked_add(n.checked_mul(length)?),
            (None, Some(months)) => add_months(time, n.checked_mul(months)?),
            (None, None) => None,
        }
    }))
}

/// Whole units from the first time to the second.
fn timestampdiff(call: &Call) -> Result<ArrayRef> {
    let (unit, from, to) = (unit(call, 0)?, call.time(1)?, call.time(2)?);
    Ok(build_int(call.rows, |i| {
        let (from, to) = (from.get(i)?, to.get(i)?);
        let count = match (unit.ms(), unit.months()) {
            (Some(length), _) => to.checked_sub(from)? / length,
            (None, Some(months)) => {
                let (a, b) = (Civil::from_ms(from), Civil::from_ms(to));
                let mut count = (b.year - a.year) * 12 + b.month - a.month;
                // A month that has begun and not ended does not count.
                if count > 0 && add_months(from, count)? > to {
                    count -= 1;
                } else if count < 0 && add_months(from, count)? < to {
                    count += 1;
                }
                count / months
            }
            (None, None) => return None,
        };
        i32::try_from(count).ok()
    }))
}

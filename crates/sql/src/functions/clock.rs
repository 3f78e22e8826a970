//! Functions of the present, which ask the session's clock.
//!
//! In a stream each batch asks anew, so these functions are volatile: the optimiser neither folds nor merges them.

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, TimeUnit};
use datafusion_common::{Result, ScalarValue, internal_err};
use datafusion_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};

use super::arguments::Kind::Text;
use super::arguments::{Call, Parameters};
use super::conversion::{MS_PER_DAY, MS_PER_SECOND};
use super::datetime::unix_timestamp_of_text;
use crate::logical::{PROCTIME, mark_time_attribute};
use crate::parser::LTZ_ZONE;

/// The clock of a session: milliseconds since 1970. The front door passes the real one, tests pass theirs.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> i64 + Send + Sync>);

impl Clock {
    /// A clock that asks `now_ms`.
    pub fn new(now_ms: impl Fn() -> i64 + Send + Sync + 'static) -> Self {
        Self(Arc::new(now_ms))
    }

    /// Milliseconds since 1970.
    pub fn now_ms(&self) -> i64 {
        (self.0)()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}

/// What a function of the present gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gives {
    /// TIMESTAMP_LTZ(3).
    Instant,
    /// TIMESTAMP_LTZ(3), a processing-time attribute.
    Proctime,
    /// TIMESTAMP(3).
    LocalTimestamp,
    /// DATE.
    Date,
    /// TIME.
    Time,
    /// BIGINT seconds, or the seconds of a text.
    UnixSeconds,
}

/// The functions, by lower-case name.
pub(super) fn functions(clock: &Clock) -> BTreeMap<&'static str, Arc<ScalarUDF>> {
    [
        ("current_timestamp", Gives::Instant),
        ("now", Gives::Instant),
        ("current_row_timestamp", Gives::Instant),
        ("proctime", Gives::Proctime),
        ("localtimestamp", Gives::LocalTimestamp),
        ("current_date", Gives::Date),
        ("current_time", Gives::Time),
        ("localtime", Gives::Time),
        ("unix_timestamp", Gives::UnixSeconds),
    ]
    .into_iter()
    .map(|(name, gives)| {
        let signature = Signature::user_defined(Volatility::Volatile);
        let function = ClockFunction {
            name,
            gives,
            clock: clock.clone(),
            signature,
        };
        (name, Arc::new(ScalarUDF::new_from_impl(function)))
    })
    .collect()
}

#[derive(Debug)]
struct ClockFunction {
    name: &'static str,
    gives: Gives,
    clock: Clock,
    signature: Signature,
}

impl PartialEq for ClockFunction {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for ClockFunction {}

impl Hash for ClockFunction {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl ScalarUDFImpl for ClockFunction {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        let parameters = match self.gives {
            Gives::UnixSeconds => Parameters::with_optional(&[], &[Text, Text]),
            _ => Parameters::exact(&[]),
        };
        parameters.coerce(self.name, arg_types)
    }

    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        internal_err!("the type of {} is told with its field", self.name)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let ms =
            |zone: Option<&str>| DataType::Timestamp(TimeUnit::Millisecond, zone.map(Into::into));
        let (data_type, nullable) = match self.gives {
            Gives::Instant | Gives::Proctime => (ms(Some(LTZ_ZONE)), false),
            Gives::LocalTimestamp => (ms(None), false),
            Gives::Date => (DataType::Date32, false),
            Gives::Time => (DataType::Time32(TimeUnit::Millisecond), false),
            Gives::UnixSeconds => (DataType::Int64, !args.arg_fields.is_empty()),
        };
        let field = Field::new(self.name, data_type, nullable);
        Ok(Arc::new(if self.gives == Gives::Proctime {
            mark_time_attribute(&field, PROCTIME)
        } else {
            field
        }))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        if !args.args.is_empty() {
            let call = Call {
                args: &args.args,
                rows: args.number_rows,
                return_type: args.return_field.data_type(),
            };
            return Ok(ColumnarValue::Array(unix_timestamp_of_text(&call)?));
        }
        let now = self.clock.now_ms();
        let days = i32::try_from(now.div_euclid(MS_PER_DAY)).unwrap_or(i32::MAX);
        let time = i32::try_from(now.rem_euclid(MS_PER_DAY)).unwrap_or(0);
        Ok(ColumnarValue::Scalar(match self.gives {
            Gives::Instant | Gives::Proctime => {
                ScalarValue::TimestampMillisecond(Some(now), Some(LTZ_ZONE.into()))
            }
            Gives::LocalTimestamp => ScalarValue::TimestampMillisecond(Some(now), None),
            Gives::Date => ScalarValue::Date32(Some(days)),
            Gives::Time => ScalarValue::Time32Millisecond(Some(time)),
            Gives::UnixSeconds => ScalarValue::Int64(Some(now.div_euclid(MS_PER_SECOND))),
        }))
    }
}

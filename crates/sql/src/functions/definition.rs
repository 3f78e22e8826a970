//! A scalar function as a row of a table: names, parameters, type, evaluation.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion_common::{Result, ScalarValue, internal_err};
use datafusion_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};

use super::arguments::{Call, Parameters};

/// The type of a result, from the types of the (coerced) arguments and those that are constants.
pub(super) type Returns = fn(&[DataType], &[Option<&ScalarValue>]) -> Result<DataType>;

/// A function.
#[derive(Debug)]
pub(super) struct Definition {
    /// Its names, the first one for display.
    pub names: &'static [&'static str],
    /// What it takes.
    pub parameters: Parameters,
    /// What it gives.
    pub returns: Returns,
    /// Evaluates it: one value per row.
    pub evaluate: fn(&Call) -> Result<ArrayRef>,
}

impl Definition {
    pub fn udf(&'static self) -> ScalarUDF {
        ScalarUDF::new_from_impl(FlinkFunction {
            definition: self,
            signature: Signature::user_defined(Volatility::Immutable),
        })
    }

    fn name(&self) -> &'static str {
        self.names.first().copied().unwrap_or_default()
    }
}

/// A [`Definition`] as DataFusion sees it.
#[derive(Debug)]
struct FlinkFunction {
    definition: &'static Definition,
    signature: Signature,
}

impl PartialEq for FlinkFunction {
    fn eq(&self, other: &Self) -> bool {
        self.definition.name() == other.definition.name()
    }
}

impl Eq for FlinkFunction {}

impl Hash for FlinkFunction {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.definition.name().hash(state);
    }
}

impl ScalarUDFImpl for FlinkFunction {
    fn name(&self) -> &str {
        self.definition.name()
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        self.definition
            .parameters
            .coerce(self.definition.name(), arg_types)
    }

    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        internal_err!(
            "the type of {} depends on its arguments",
            self.definition.name()
        )
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let found: Vec<DataType> = args
            .arg_fields
            .iter()
            .map(|f| f.data_type().clone())
            .collect();
        let types = self
            .definition
            .parameters
            .coerce(self.definition.name(), &found)?;
        let data_type = (self.definition.returns)(&types, args.scalar_arguments)?;
        Ok(Arc::new(Field::new(
            self.definition.name(),
            data_type,
            true,
        )))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let return_type = args.return_field.data_type();
        let call = Call {
            args: &args.args,
            rows: args.number_rows,
            return_type,
        };
        Ok(ColumnarValue::Array((self.definition.evaluate)(&call)?))
    }
}

/// Always this type.
macro_rules! always {
    ($data_type:expr) => {
        |_, _| Ok($data_type)
    };
}
pub(super) use always;

//! Flink's built-in functions, by name.
//!
//! Scalar functions are DataFusion UDFs with Flink's names, types and results; names are looked up in any case. Functions of time take the session's
//! clock. Functions that other expressions can say (`IF`, `IFNULL`, `MOD`, …) are rewritten in the parsed query and never get here.

mod aggregates;
mod arguments;
mod cast;
mod clock;
mod conversion;
mod datetime;
mod decimal;
mod definition;
mod math;
mod pattern;
mod ranking;
mod regex;
mod strings;
mod text_search;
mod time_unit;

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use datafusion_common::{Result, ScalarValue, plan_datafusion_err};
use datafusion_expr::expr::ScalarFunction;
use datafusion_expr::{AggregateUDF, Expr, ScalarUDF, WindowUDF};

pub use aggregates::{average_type, sum_type};
pub(crate) use cast::FlinkCast;
pub use clock::Clock;
pub(crate) use conversion::parse_timestamp_micros;
pub(crate) use datetime::add_milliseconds;
pub(crate) use decimal::decimal_divide;

/// `EXTRACT(unit FROM x)`: arguments are the unit's name and `x`.
pub(crate) const EXTRACT: &str = "extract";
/// `FLOOR(x TO unit)`: arguments are `x` and the unit's name.
pub(crate) const FLOOR_TO: &str = "floor_to";
/// `CEIL(x TO unit)`: arguments are `x` and the unit's name.
pub(crate) const CEIL_TO: &str = "ceil_to";

/// Functions that need no clock, by lower-case name.
static BUILT_IN: LazyLock<BTreeMap<&'static str, Arc<ScalarUDF>>> = LazyLock::new(|| {
    let mut all = BTreeMap::new();
    let tables = [
        strings::FUNCTIONS,
        text_search::FUNCTIONS,
        regex::FUNCTIONS,
        datetime::FUNCTIONS,
        math::FUNCTIONS,
        decimal::FUNCTIONS,
    ];
    for definition in tables.into_iter().flatten() {
        let udf = Arc::new(definition.udf());
        for name in definition.names {
            all.insert(*name, Arc::clone(&udf));
        }
    }
    for udf in [
        datafusion_functions::core::coalesce(),
        datafusion_functions::core::nullif(),
        datafusion_functions::core::greatest(),
        datafusion_functions::core::least(),
        datafusion_functions::core::named_struct(),
        datafusion_functions::math::abs(),
    ] {
        let name: &'static str = match udf.name() {
            "coalesce" => "coalesce",
            "nullif" => "nullif",
            "greatest" => "greatest",
            "least" => "least",
            "named_struct" => "named_struct",
            _ => "abs",
        };
        all.insert(name, udf);
    }
    all
});

/// Names of Flink's functions that are not built yet: an error about one of them says so.
const NOT_YET: &[&str] = &[
    "acosd",
    "approx_count_distinct",
    "array",
    "array_agg",
    "array_append",
    "array_concat",
    "array_contains",
    "array_distinct",
    "array_except",
    "array_intersect",
    "array_join",
    "array_max",
    "array_min",
    "array_position",
    "array_prepend",
    "array_remove",
    "array_reverse",
    "array_slice",
    "array_sort",
    "array_union",
    "bin",
    "bround",
    "cardinality",
    "collect",
    "convert_tz",
    "cume_dist",
    "current_database",
    "current_watermark",
    "decode",
    "element",
    "elt",
    "encode",
    "first_value",
    "from_base64",
    "hex",
    "json_array",
    "json_arrayagg",
    "json_exists",
    "json_object",
    "json_objectagg",
    "json_query",
    "json_quote",
    "json_string",
    "json_unquote",
    "json_value",
    "lag",
    "last_value",
    "lead",
    "listagg",
    "map_entries",
    "map_from_arrays",
    "map_keys",
    "map_union",
    "map_values",
    "md5",
    "ntile",
    "object_of",
    "object_update",
    "parse_json",
    "parse_url",
    "percent_rank",
    "percentile",
    "printf",
    "rand",
    "rand_integer",
    "regexp_count",
    "regexp_extract_all",
    "regexp_instr",
    "regexp_substr",
    "sha1",
    "sha2",
    "sha224",
    "sha256",
    "sha384",
    "sha512",
    "similar",
    "source_watermark",
    "split",
    "stddev_pop",
    "stddev_samp",
    "str_to_map",
    "to_base64",
    "try_parse_json",
    "typeof",
    "unhex",
    "unnest",
    "url_decode",
    "url_encode",
    "uuid",
    "var_pop",
    "var_samp",
    "variance",
];

/// Whether Flink has a function of this name.
pub(crate) fn is_known_to_flink(name: &str) -> bool {
    NOT_YET.contains(&name.to_ascii_lowercase().as_str())
}

/// A call of a built-in function by its lower-case name.
pub(crate) fn call(name: &str, args: Vec<Expr>) -> Result<Expr> {
    let udf = BUILT_IN
        .get(name)
        .ok_or_else(|| plan_datafusion_err!("the function {name} is not known"))?;
    Ok(Expr::ScalarFunction(ScalarFunction::new_udf(
        Arc::clone(udf),
        args,
    )))
}

/// A field of a ROW.
pub(crate) fn field_of(row: Expr, name: &str) -> Expr {
    let name = Expr::Literal(ScalarValue::Utf8(Some(name.to_string())), None);
    Expr::ScalarFunction(ScalarFunction::new_udf(
        datafusion_functions::core::get_field(),
        vec![row, name],
    ))
}

/// A ROW of names and values, in turn.
pub(crate) fn row(names_and_values: Vec<Expr>) -> Expr {
    Expr::ScalarFunction(ScalarFunction::new_udf(
        datafusion_functions::core::named_struct(),
        names_and_values,
    ))
}

/// The functions of a session.
pub(crate) struct FunctionRegistry {
    clock_functions: BTreeMap<&'static str, Arc<ScalarUDF>>,
    aggregates: BTreeMap<&'static str, Arc<AggregateUDF>>,
    windows: BTreeMap<&'static str, Arc<WindowUDF>>,
    /// Names that `CREATE FUNCTION` gave to built-in functions.
    adopted: BTreeMap<String, Arc<ScalarUDF>>,
}

/// How `CREATE FUNCTION` was satisfied.
pub(crate) enum Adopted {
    /// By the built-in function of this name.
    BuiltIn(String),
}

impl FunctionRegistry {
    /// The built-in functions; those of time ask `clock`.
    pub fn new(clock: &Clock) -> Self {
        let aggregates = aggregates::all();
        Self {
            clock_functions: clock::functions(clock),
            aggregates,
            windows: ranking::all(),
            adopted: BTreeMap::new(),
        }
    }

    /// Takes the built-in function that `CREATE FUNCTION name AS 'package.Class'` must mean: the one named like the function, or like the class.
    pub fn adopt(&mut self, name: &str, class: &str) -> Option<Adopted> {
        let simple = class.rsplit(['.', '$']).next().unwrap_or(class);
        let mut snake = String::with_capacity(simple.len() + 4);
        for (i, c) in simple.chars().enumerate() {
            if c.is_uppercase() && i > 0 {
                snake.push('_');
            }
            snake.extend(c.to_lowercase());
        }
        let lower = name.to_ascii_lowercase();
        let found = [lower.as_str(), snake.as_str()]
            .into_iter()
            .find(|known| self.scalar(known).is_some())?
            .to_string();
        let udf = self.scalar(&found)?;
        self.adopted.insert(lower, udf);
        Some(Adopted::BuiltIn(found))
    }

    /// Undoes [`FunctionRegistry::adopt`]; false if there was nothing to undo.
    pub fn forget(&mut self, name: &str) -> bool {
        self.adopted.remove(&name.to_ascii_lowercase()).is_some()
    }

    pub fn scalar(&self, name: &str) -> Option<Arc<ScalarUDF>> {
        let name = name.trim_matches('`').to_ascii_lowercase();
        self.clock_functions
            .get(name.as_str())
            .or_else(|| BUILT_IN.get(name.as_str()))
            .or_else(|| self.adopted.get(&name))
            .cloned()
    }

    pub fn aggregate(&self, name: &str) -> Option<Arc<AggregateUDF>> {
        self.aggregates
            .get(name.to_ascii_lowercase().as_str())
            .cloned()
    }

    pub fn window(&self, name: &str) -> Option<Arc<WindowUDF>> {
        self.windows
            .get(name.to_ascii_lowercase().as_str())
            .cloned()
    }

    /// Names of the scalar functions, for messages and `SHOW FUNCTIONS`.
    pub fn names(&self) -> Vec<String> {
        BUILT_IN
            .keys()
            .chain(self.clock_functions.keys())
            .map(|name| (*name).to_string())
            .collect()
    }

    /// Names of the aggregate functions.
    pub fn aggregate_names(&self) -> Vec<String> {
        self.aggregates
            .keys()
            .map(|name| (*name).to_string())
            .collect()
    }
}

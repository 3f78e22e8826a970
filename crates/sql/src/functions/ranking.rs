//! Ranking functions as the planner sees them: names and types.
//!
//! Ranks are BIGINT. The runtime ranks by itself; the planner's definitions never evaluate.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion_common::{Result, internal_err};
use datafusion_expr::function::{PartitionEvaluatorArgs, WindowUDFFieldArgs};
use datafusion_expr::{PartitionEvaluator, Signature, Volatility, WindowUDF, WindowUDFImpl};

/// The ranking functions, by lower-case name.
pub(super) fn all() -> BTreeMap<&'static str, Arc<WindowUDF>> {
    ["row_number", "rank", "dense_rank"]
        .into_iter()
        .map(|name| {
            let signature = Signature::nullary(Volatility::Immutable);
            (
                name,
                Arc::new(WindowUDF::new_from_impl(Ranking { name, signature })),
            )
        })
        .collect()
}

#[derive(Debug)]
struct Ranking {
    name: &'static str,
    signature: Signature,
}

impl PartialEq for Ranking {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Ranking {}

impl Hash for Ranking {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl WindowUDFImpl for Ranking {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn partition_evaluator(
        &self,
        _args: PartitionEvaluatorArgs,
    ) -> Result<Box<dyn PartitionEvaluator>> {
        internal_err!("{} runs as a streaming operator", self.name)
    }

    fn field(&self, args: WindowUDFFieldArgs) -> Result<FieldRef> {
        Ok(Arc::new(Field::new(args.name(), DataType::Int64, false)))
    }
}

//! What several sinks of a job compute alike is computed once: Flink's reuse of sub-plans.
//!
//! Two operators do the same if they are described alike (a description says all that an operator computes), make the same columns and
//! have the same inputs. The later one takes the name of the first, and a name is built once per worker.

use std::collections::BTreeMap;

use crate::runtime::stream::{StreamNode, StreamOperator, StreamSink};

/// What an operator computes, told apart by its inputs' names.
type Computation = (String, String, Vec<String>);

/// Gives operators that compute the same the same name.
pub(super) fn share(sinks: &mut [StreamSink]) {
    let mut names = BTreeMap::new();
    for sink in sinks {
        name(&mut sink.input, &mut names);
    }
}

fn name(node: &mut StreamNode, names: &mut BTreeMap<Computation, String>) {
    let inputs = match &mut node.operator {
        // Sources of one table have one name from the start.
        StreamOperator::Source(_) => return,
        StreamOperator::Calc(input, _)
        | StreamOperator::Watermark(input, _)
        | StreamOperator::WindowAssign(input, _)
        | StreamOperator::GroupAggregate(input, _)
        | StreamOperator::WindowAggregate(input, _) => std::slice::from_mut(&mut **input),
        StreamOperator::Union(inputs) => inputs.as_mut_slice(),
    };
    let mut below = Vec::with_capacity(inputs.len());
    for input in inputs {
        name(input, names);
        below.push(input.uid.clone());
    }
    let computation = (
        node.description.clone(),
        format!("{:?}", node.schema),
        below,
    );
    node.uid = names
        .entry(computation)
        .or_insert_with(|| node.uid.clone())
        .clone();
}

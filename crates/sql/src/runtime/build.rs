//! Puts a job's operators into a dataflow; runs once on every worker and must make the same graph on each.

use std::collections::BTreeMap;
use std::sync::Arc;

use aquifer_dataflow::connector::ConnectorRegistry;
use aquifer_dataflow::graph::{DataStream, Env};
use aquifer_dataflow::{ChangeBatch, JobError};

use super::aggregate::GroupAggregate;
use super::calc::Calc;
use super::row_key::KeyRouter;
use super::stream::{StreamJob, StreamNode, StreamOperator, StreamOptions};
use super::watermark::WatermarkAssign;
use super::window::{WindowAggregate, WindowAssign};
use crate::session::JobPlan;

/// Translates a plan with default options and builds it in one go. A front door translates once, so that mistakes show before any worker starts, and
/// then calls [`StreamJob::build`] on each worker.
pub fn build_job(
    plan: &JobPlan,
    registry: &ConnectorRegistry,
    env: &mut Env<'_>,
) -> Result<(), JobError> {
    StreamJob::translate(plan, registry, &StreamOptions::default())?.build(env)
}

/// Streams that are there, by the name of their operator.
type Built<'scope> = BTreeMap<String, DataStream<'scope, ChangeBatch>>;

impl StreamJob {
    /// Builds the job's graph on this worker.
    pub fn build(&self, env: &mut Env<'_>) -> Result<(), JobError> {
        let mut built = BTreeMap::new();
        for sink in &self.sinks {
            let rows = self.node(&sink.input, env, &mut built)?;
            rows.sink(&sink.uid, Arc::clone(&sink.sink))?;
        }
        Ok(())
    }

    fn node<'scope>(
        &self,
        node: &StreamNode,
        env: &mut Env<'scope>,
        built: &mut Built<'scope>,
    ) -> Result<DataStream<'scope, ChangeBatch>, JobError> {
        let uid = node.uid.as_str();
        // Built for another sink: both read one stream.
        if let Some(stream) = built.get(uid) {
            return Ok(stream.clone());
        }
        let stream = match &node.operator {
            StreamOperator::Source(source) => env.source(uid, Arc::clone(source))?,
            StreamOperator::Calc(input, steps) => self
                .node(input, env, built)?
                .stateless(uid, Calc::new(Arc::clone(steps))),
            StreamOperator::Watermark(input, spec) => self
                .node(input, env, built)?
                .stateless(uid, WatermarkAssign::new(spec.clone())),
            StreamOperator::WindowAssign(input, spec) => self
                .node(input, env, built)?
                .stateless(uid, WindowAssign::new(spec.clone())),
            StreamOperator::GroupAggregate(input, spec) => {
                let rows = self.exchanged(input, spec.key_columns, uid, env, built)?;
                rows.keyed(uid, GroupAggregate::new(spec.clone())?)?
            }
            StreamOperator::WindowAggregate(input, spec) => {
                let rows = self.exchanged(input, spec.key_types.len(), uid, env, built)?;
                let late_rows = Arc::clone(&self.late_rows);
                rows.keyed(uid, WindowAggregate::new(spec.clone(), late_rows)?)?
            }
            StreamOperator::Union(inputs) => {
                let mut streams = Vec::with_capacity(inputs.len());
                for input in inputs {
                    streams.push(self.node(input, env, built)?);
                }
                streams
                    .into_iter()
                    .reduce(DataStream::union)
                    .ok_or_else(|| JobError::usage("a UNION needs at least one input"))?
            }
        };
        built.insert(node.uid.clone(), stream.clone());
        Ok(stream)
    }

    fn exchanged<'scope>(
        &self,
        input: &StreamNode,
        key_columns: usize,
        uid: &str,
        env: &mut Env<'scope>,
        built: &mut Built<'scope>,
    ) -> Result<DataStream<'scope, ChangeBatch>, JobError> {
        let max_parallelism = env.max_parallelism();
        let rows = self.node(input, env, built)?;
        Ok(rows.exchange(
            &format!("{uid}-exchange"),
            KeyRouter::new(key_columns, max_parallelism),
        ))
    }
}

//! Building a job graph: INTERFACE STUB, the runners are being written.
//!
//! A job is a function that builds the same graph on every worker: `Fn(&mut Env<'_>) -> Result<(), JobError> + Send + Sync`.

use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::connector::{Sink, Source};
use crate::operator::{KeyedOperator, Router, StatelessOperator};
use crate::{ChangeBatch, JobError};

/// What flows: batches of rows that can cross threads and processes.
pub trait Payload: Clone + Send + Serialize + DeserializeOwned + 'static {
    /// Rows in the batch.
    fn rows(&self) -> usize;
}

/// The graph under construction on one worker.
pub struct Env<'scope> {
    _scope: std::marker::PhantomData<&'scope ()>,
}

/// The output of an operator.
pub struct DataStream<'scope, D> {
    _scope: std::marker::PhantomData<(&'scope (), D)>,
}

#[allow(unused_variables)]
impl<'scope> Env<'scope> {
    /// Number of workers.
    pub fn parallelism(&self) -> u16 { todo!() }
    /// Number of key groups.
    pub fn max_parallelism(&self) -> u16 { todo!() }
    /// Adds a source. Operator ids (`uid`) must be unique in the graph and the same on every run.
    pub fn source(&mut self, uid: &str, source: Arc<dyn Source>) -> Result<DataStream<'scope, ChangeBatch>, JobError> { todo!() }
}

#[allow(unused_variables)]
impl<'scope, D: Payload> DataStream<'scope, D> {
    /// A stateless operator on the same worker.
    pub fn stateless<E: Payload>(self, uid: &str, operator: impl StatelessOperator<D, E>) -> DataStream<'scope, E> { todo!() }
    /// Sends each row to the worker that the router says.
    pub fn exchange(self, uid: &str, router: impl Router<D>) -> DataStream<'scope, D> { todo!() }
    /// A keyed operator over state; its input must have been exchanged by key group.
    pub fn keyed<E: Payload, O: KeyedOperator<D, E>>(self, uid: &str, operator: O) -> Result<DataStream<'scope, E>, JobError> { todo!() }
    /// All rows of both.
    pub fn union(self, other: DataStream<'scope, D>) -> DataStream<'scope, D> { todo!() }
}

#[allow(unused_variables)]
impl<'scope> DataStream<'scope, ChangeBatch> {
    /// Ends in a sink.
    pub fn sink(self, uid: &str, sink: Arc<dyn Sink>) -> Result<(), JobError> { todo!() }
}

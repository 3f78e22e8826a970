//! Building a job graph.
//!
//! A job is a function that builds the same graph on every worker. Operator ids (`uid`) name the state of an operator in
//! checkpoints: they must be unique in the graph and the same on every run.

use std::sync::Arc;

use aquifer_state::key_group::{KeyHash, assign_to_key_group, operator_index};
use serde::Serialize;
use serde::de::DeserializeOwned;
use timely::dataflow::Scope;

use crate::connector::{Sink, Source};
use crate::operator::{KeyedOperator, Router, StatelessOperator};
use crate::process::KeyedProcess;
use crate::runner::{self, Link};
use crate::time::Time;
use crate::worker::Shared;
use crate::{ChangeBatch, JobError};

/// What flows: batches of rows that can cross threads and processes.
pub trait Payload: Clone + Send + Serialize + DeserializeOwned + 'static {
    /// Rows in the batch.
    fn rows(&self) -> usize;
}

/// A row of a DataStream job: anything that can cross threads and processes.
pub trait Record: Clone + Send + Serialize + DeserializeOwned + 'static {}

impl<T: Clone + Send + Serialize + DeserializeOwned + 'static> Record for T {}

impl<T: Record> Payload for Vec<T> {
    fn rows(&self) -> usize {
        self.len()
    }
}

/// The graph under construction on one worker.
pub struct Env<'scope> {
    pub(crate) scope: Scope<'scope, Time>,
    pub(crate) shared: Shared,
}

/// The output of an operator. A clone is the same stream: every operator that takes one gets all of its rows.
pub struct DataStream<'scope, D> {
    link: Link<'scope, D>,
    shared: Shared,
}

impl<D: Payload> Clone for DataStream<'_, D> {
    fn clone(&self) -> Self {
        Self {
            link: self.link.clone(),
            shared: self.shared.clone(),
        }
    }
}

impl<'scope> Env<'scope> {
    /// Number of workers.
    pub fn parallelism(&self) -> u16 {
        u16::try_from(self.shared.peers).unwrap_or(u16::MAX)
    }

    /// Number of key groups.
    pub fn max_parallelism(&self) -> u16 {
        self.shared.max_parallelism
    }

    /// Index of the worker this graph is built on.
    pub fn worker(&self) -> usize {
        self.shared.index
    }

    /// Adds a source.
    pub fn source(
        &mut self,
        uid: &str,
        source: Arc<dyn Source>,
    ) -> Result<DataStream<'scope, ChangeBatch>, JobError> {
        self.shared.has_operator(uid);
        let link = runner::source(self.scope, &self.shared, uid, &source)?;
        Ok(DataStream {
            link,
            shared: self.shared.clone(),
        })
    }
}

impl<'scope, D: Payload> DataStream<'scope, D> {
    /// A stateless operator on the same worker.
    pub fn stateless<E: Payload>(
        self,
        uid: &str,
        operator: impl StatelessOperator<D, E>,
    ) -> DataStream<'scope, E> {
        self.shared.has_operator(uid);
        let link = runner::stateless(self.link, &self.shared, uid, operator);
        DataStream {
            link,
            shared: self.shared,
        }
    }

    /// Sends each row to the worker that the router says.
    pub fn exchange(self, uid: &str, router: impl Router<D>) -> DataStream<'scope, D> {
        let link = runner::exchange(self.link, &self.shared, uid, router);
        DataStream {
            link,
            shared: self.shared,
        }
    }

    /// A keyed operator over state; its input must have been exchanged by key group.
    pub fn keyed<E: Payload, O: KeyedOperator<D, E>>(
        self,
        uid: &str,
        operator: O,
    ) -> Result<DataStream<'scope, E>, JobError> {
        self.shared.has_operator(uid);
        let link = runner::keyed(self.link, &self.shared, uid, operator)?;
        Ok(DataStream {
            link,
            shared: self.shared,
        })
    }

    /// All rows of both.
    pub fn union(self, other: DataStream<'scope, D>) -> DataStream<'scope, D> {
        let link = runner::union(vec![self.link, other.link], &self.shared, "union");
        DataStream {
            link,
            shared: self.shared,
        }
    }
}

impl<'scope, R: Record> DataStream<'scope, Vec<R>> {
    /// Sends each record to the worker of its key group.
    pub fn key_by<K: KeyHash>(self, uid: &str, key: impl Fn(&R) -> K + 'static) -> Self {
        let max_parallelism = self.shared.max_parallelism;
        self.exchange(
            uid,
            ByHash {
                key,
                max_parallelism,
            },
        )
    }

    /// A function over the records of each key, with asynchronous state; the stream must have been keyed by the same key.
    pub fn process<P: KeyedProcess<In = R>>(
        self,
        uid: &str,
        function: P,
    ) -> Result<DataStream<'scope, Vec<P::Out>>, JobError> {
        self.shared.has_operator(uid);
        let link = runner::process(self.link, &self.shared, uid, function)?;
        Ok(DataStream {
            link,
            shared: self.shared,
        })
    }
}

/// Routes records by the hash code of their key.
struct ByHash<F> {
    key: F,
    max_parallelism: u16,
}

impl<R: 'static, K: KeyHash, F: Fn(&R) -> K + 'static> Router<Vec<R>> for ByHash<F> {
    fn route(
        &mut self,
        batch: Vec<R>,
        workers: usize,
        give: &mut dyn FnMut(usize, Vec<R>),
    ) -> Result<(), JobError> {
        let parallelism = u16::try_from(workers).unwrap_or(u16::MAX);
        let mut parts: Vec<Vec<R>> = (0..workers).map(|_| Vec::new()).collect();
        for record in batch {
            let group = assign_to_key_group((self.key)(&record).hash_code(), self.max_parallelism);
            let worker = operator_index(group, self.max_parallelism, parallelism);
            parts[usize::from(worker)].push(record);
        }
        for (worker, part) in parts
            .into_iter()
            .enumerate()
            .filter(|(_, part)| !part.is_empty())
        {
            give(worker, part);
        }
        Ok(())
    }
}

impl DataStream<'_, ChangeBatch> {
    /// Ends in a sink.
    pub fn sink(self, uid: &str, sink: Arc<dyn Sink>) -> Result<(), JobError> {
        self.shared.has_operator(uid);
        runner::sink(self.link, &self.shared, uid, sink)
    }
}

//! `'connector' = 'blackhole'`: a sink that takes every row and keeps none, for measuring everything before it.

use std::sync::Arc;

use aquifer_dataflow::connector::{
    ConnectorContext, ConnectorFactory, Sink, SinkWriter, Source, TableSpec,
};
use aquifer_dataflow::{ChangeBatch, JobError};

use crate::options::Options;

const NAME: &str = "blackhole";

/// Makes blackhole sinks.
pub struct BlackholeFactory;

impl ConnectorFactory for BlackholeFactory {
    fn name(&self) -> &'static str {
        NAME
    }

    fn source(&self, table: &TableSpec) -> Result<Arc<dyn Source>, JobError> {
        Err(crate::not_readable(table, NAME))
    }

    fn sink(&self, table: &TableSpec) -> Result<Arc<dyn Sink>, JobError> {
        Options::new(table, NAME).check_known([crate::SINK_PARALLELISM])?;
        crate::check_sink_parallelism(table, NAME)?;
        Ok(Arc::new(BlackholeSink))
    }
}

struct BlackholeSink;

impl Sink for BlackholeSink {
    fn writer(&self, _context: ConnectorContext) -> Result<Box<dyn SinkWriter>, JobError> {
        Ok(Box::new(BlackholeWriter))
    }

    fn commit(&self, _committables: Vec<Vec<u8>>, _: &ConnectorContext) -> Result<(), JobError> {
        Ok(())
    }

    fn accepts_updates(&self) -> bool {
        true
    }
}

struct BlackholeWriter;

impl SinkWriter for BlackholeWriter {
    fn write(&mut self, _batch: &ChangeBatch) -> Result<(), JobError> {
        Ok(())
    }

    fn prepare_commit(&mut self, _checkpoint_id: u64) -> Result<Vec<Vec<u8>>, JobError> {
        Ok(Vec::new())
    }
}

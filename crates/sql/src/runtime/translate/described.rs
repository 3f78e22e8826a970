//! Stands for connectors where a job is only described: it takes everything and runs nothing.

use aquifer_dataflow::JobError;
use aquifer_dataflow::connector::{ConnectorContext, Sink, SinkWriter, Source, SourceReader};

pub(super) struct Described;

fn not_to_run() -> JobError {
    JobError::usage("this job was only described; it cannot run")
}

impl Source for Described {
    fn splits(&self, _workers: usize) -> Result<Vec<Vec<u8>>, JobError> {
        Err(not_to_run())
    }

    fn reader(
        &self,
        _splits: Vec<Vec<u8>>,
        _context: ConnectorContext,
    ) -> Result<Box<dyn SourceReader>, JobError> {
        Err(not_to_run())
    }

    fn bounded(&self) -> bool {
        false
    }
}

impl Sink for Described {
    fn writer(&self, _context: ConnectorContext) -> Result<Box<dyn SinkWriter>, JobError> {
        Err(not_to_run())
    }

    fn commit(
        &self,
        _committables: Vec<Vec<u8>>,
        _context: &ConnectorContext,
    ) -> Result<(), JobError> {
        Err(not_to_run())
    }

    fn accepts_updates(&self) -> bool {
        true
    }
}

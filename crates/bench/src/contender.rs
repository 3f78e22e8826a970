//! An engine in its own directory, behind a dynamic call per round (not per operation).
use std::path::PathBuf;
use std::time::Duration;

use crate::engine::{Engine, Result, Setup};
use crate::measure::Stretch;
use crate::work::{Outcome, Work, run};

/// An engine that takes its turns.
pub trait Contender {
    fn name(&self) -> &'static str;
    fn setup(&mut self) -> &mut Setup;
    fn open(&mut self) -> Result<()>;
    /// Does the work until it is done or the time is up; `drain` waits for the background afterwards, and measures that too.
    fn work(&mut self, work: Work, ids: &[u64], budget: Duration, drain: Drain) -> Result<Outcome>;
    fn warm(&mut self) -> Result<()>;
    fn close(&mut self) -> Result<()>;
}

/// What happens after the last operation of a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drain {
    /// Nothing: reads leave nothing behind.
    No,
    /// Background work that has begun is waited for.
    Settle,
    /// Memtables are flushed, and background work is waited for.
    Flush,
}

struct Seat<E> {
    name: &'static str,
    setup: Setup,
    engine: Option<E>,
}

/// Gives an engine a seat. Nothing is opened yet.
pub fn seat<E: Engine + 'static>(name: &'static str, directory: PathBuf) -> Box<dyn Contender> {
    let setup = Setup::new(directory);
    Box::new(Seat::<E> {
        name,
        setup,
        engine: None,
    })
}

impl<E> Seat<E> {
    fn engine(&mut self) -> Result<&mut E> {
        self.engine
            .as_mut()
            .ok_or_else(|| format!("{} is not open", self.name).into())
    }
}

impl<E: Engine> Contender for Seat<E> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn setup(&mut self) -> &mut Setup {
        &mut self.setup
    }

    fn open(&mut self) -> Result<()> {
        std::fs::create_dir_all(&self.setup.directory)?;
        self.engine = Some(E::open(&self.setup)?);
        Ok(())
    }

    fn work(&mut self, work: Work, ids: &[u64], budget: Duration, drain: Drain) -> Result<Outcome> {
        let engine = self.engine()?;
        let mut outcome = run(engine, work, ids, budget)?;
        let stretch = Stretch::start();
        match drain {
            Drain::No => return Ok(outcome),
            Drain::Settle => {}
            Drain::Flush => engine.flush()?,
        }
        engine.settle()?;
        outcome.drain = stretch.spent();
        Ok(outcome)
    }

    fn warm(&mut self) -> Result<()> {
        self.engine()?.warm()
    }

    fn close(&mut self) -> Result<()> {
        self.engine.take().map_or(Ok(()), Engine::close)
    }
}

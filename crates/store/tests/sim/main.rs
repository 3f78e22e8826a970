//! The store in a simulated world: seeds become operations and faults, one thread runs them, a model says what is right.
mod crashes;
mod found;
mod hostile;
#[cfg(feature = "planted-bugs")]
mod planted;
mod seeds;
mod simulation;

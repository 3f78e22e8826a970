//! The simulation: cases made from seeds, run on one thread in virtual time, and made small when they fail.
pub mod case;
pub mod commits;
pub mod disk;
pub mod executor;
pub mod model;
pub mod op;
pub mod run;
pub mod shrink;

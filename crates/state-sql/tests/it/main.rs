//! SQL over checkpoints that real backends wrote, compared with what the reader says of them.

mod errors;
mod memory;
mod names;
mod pushdown;
mod queries;
mod tables;
mod typed;
mod world;

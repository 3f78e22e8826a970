//! SQL over checkpoints that real backends wrote, compared with what the reader says of them.

mod columns;
mod errors;
mod memory;
mod names;
mod operators;
mod pushdown;
mod queries;
mod savepoints;
mod tables;
mod typed;
mod world;

//! Whole jobs on real workers: barriers, recovery, rescaling, and the pitfalls of timely.

mod fixtures;
mod functions;
mod pitfalls;
mod places;
mod recovery;

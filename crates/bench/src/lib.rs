//! Benchmarks of Aquifer beside its peers.
//!
//! Nothing is here yet: until the store is measured beside RocksDB, SlateDB, Cobble and fjall, the figures in the README come from the jobs
//! in `examples/`, which anyone can run. Not a default member of the workspace, because it will compile those peers.

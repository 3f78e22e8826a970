//! The cases that tests run in: each backend, through either API.
//!
//! A test is a function `fn(&World)`, so a case costs a shim and nothing else. `ask!`, `try_ask!` and `all!` are the only places where it matters
//! which API a test goes through.

/// Runs test functions, `fn(&World)`, on every backend through both APIs.
macro_rules! conformance {
    ($($test:ident),* $(,)?) => {
        mod hashmap_v2 { $(#[test] fn $test() { super::$test(&crate::world::World::hashmap(true)); })* }
        mod hashmap_v1 { $(#[test] fn $test() { super::$test(&crate::world::World::hashmap(false)); })* }
        mod forst_v2 { $(#[test] fn $test() { super::$test(&crate::world::World::forst(true)); })* }
        mod forst_v1 { $(#[test] fn $test() { super::$test(&crate::world::World::forst(false)); })* }
    };
}
pub(crate) use conformance;

/// The answer of a method that both APIs have: awaited, or of `sync()`.
macro_rules! try_ask {
    ($worker:expr, $handle:ident . $method:ident ( $($argument:expr),* $(,)? )) => {
        if $worker.is_v2() {
            $worker.run($handle.$method($($argument),*))
        } else {
            $handle.sync().$method($($argument),*)
        }
    };
}
pub(crate) use try_ask;

/// The same, which must not be an error.
macro_rules! ask {
    ($($call:tt)*) => { crate::cases::try_ask!($($call)*).unwrap() };
}
pub(crate) use ask;

/// All items of a method that is a stream in one API and an iterator in the other.
macro_rules! all {
    ($worker:expr, $handle:ident . $method:ident ( $($argument:expr),* $(,)? )) => {
        if $worker.is_v2() {
            $worker.collect($handle.$method($($argument),*))
        } else {
            $handle.sync().$method($($argument),*).collect::<Result<Vec<_>, _>>().unwrap()
        }
    };
}
pub(crate) use all;

//! Waiting on a worker thread for something that runs on the background runtime.
//!
//! Worker threads are not threads of the runtime, and the future runs there, not here: so this also works where `Handle::block_on`
//! would panic, and a caller that is itself a future cannot starve the one it waits for (given a runtime with threads of its own).

use std::future::Future;
use std::sync::mpsc;

use tokio::runtime::Handle;

use crate::StateError;

/// Runs `future` on the runtime and blocks this thread until it is done. `what` names it in the error when the runtime goes away.
pub(crate) fn wait<T: Send + 'static>(
    runtime: &Handle,
    what: &str,
    future: impl Future<Output = T> + Send + 'static,
) -> Result<T, StateError> {
    let (give, take) = mpsc::sync_channel(1);
    runtime.spawn(async move {
        // The receiver is gone only if the waiting thread is.
        let _ = give.send(future.await);
    });
    take.recv().map_err(|_| StateError::runtime_gone(what))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shut_down_runtime_is_an_error_and_not_a_hang() {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .build()
            .unwrap();
        let handle = runtime.handle().clone();
        assert_eq!(wait(&handle, "a sum", async { 1 + 1 }).unwrap(), 2);
        drop(runtime);
        let error = wait(&handle, "a sum", async { 1 + 1 }).unwrap_err();
        assert!(error.to_string().contains("a sum"), "{error}");
    }
}

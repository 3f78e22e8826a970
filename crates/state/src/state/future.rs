//! The answer of an asynchronous state method: there already, or to be awaited.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::future::LocalBoxFuture;

use crate::StateError;

/// What an asynchronous state method returns. When memory could answer, it holds the answer and nothing was allocated.
#[must_use = "a cold read does nothing until it is awaited"]
pub struct StateFuture<T>(Repr<T>);

enum Repr<T> {
    Ready(Result<T, StateError>),
    Waiting(LocalBoxFuture<'static, Result<T, StateError>>),
    Taken,
}

impl<T> StateFuture<T> {
    /// An answer that is there.
    pub(crate) fn ready(answer: Result<T, StateError>) -> Self {
        Self(Repr::Ready(answer))
    }

    /// An answer to be awaited.
    pub(crate) fn waiting(future: impl Future<Output = Result<T, StateError>> + 'static) -> Self {
        Self(Repr::Waiting(Box::pin(future)))
    }

    /// True if awaiting it will not wait.
    pub fn is_ready(&self) -> bool {
        matches!(self.0, Repr::Ready(_))
    }
}

// Nothing here is pinned in place: the boxed future is pinned by its box.
impl<T> Unpin for StateFuture<T> {}

impl<T> Future for StateFuture<T> {
    type Output = Result<T, StateError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match std::mem::replace(&mut self.0, Repr::Taken) {
            Repr::Ready(answer) => Poll::Ready(answer),
            Repr::Waiting(mut future) => {
                let polled = future.as_mut().poll(context);
                if polled.is_pending() {
                    self.0 = Repr::Waiting(future);
                }
                polled
            }
            Repr::Taken => Poll::Ready(Err(StateError::Usage(
                "the answer of a state read was awaited twice".into(),
            ))),
        }
    }
}

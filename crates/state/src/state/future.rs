//! The answer of an asynchronous state method: there already, or to be awaited.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use futures_util::future::LocalBoxFuture;

use crate::StateError;
use crate::access::{Waiting, ready};

/// What an asynchronous state method returns. When memory could answer, it holds the answer and nothing was allocated.
#[must_use = "a cold read does nothing until it is awaited"]
pub struct StateFuture<T>(Repr<T>);

/// Small, because it is moved a few times between the state and who awaits it: an error, which is rare, lies aside.
enum Repr<T> {
    Ready(T),
    Failed(Box<StateError>),
    Waiting(LocalBoxFuture<'static, Result<T, StateError>>),
    Taken,
}

impl<T> StateFuture<T> {
    /// An answer that is there.
    #[inline]
    pub(crate) fn ready(answer: Result<T, StateError>) -> Self {
        match answer {
            Ok(answer) => Self(Repr::Ready(answer)),
            Err(error) => Self::failed(error),
        }
    }

    #[cold]
    fn failed(error: StateError) -> Self {
        Self(Repr::Failed(Box::new(error)))
    }

    /// An answer to be awaited.
    pub(crate) fn waiting(future: impl Future<Output = Result<T, StateError>> + 'static) -> Self {
        Self(Repr::Waiting(Box::pin(future)))
    }

    /// Runs `future` as far as it goes without waiting: it is ready if memory could answer.
    pub(crate) fn started(future: impl Future<Output = Result<T, StateError>> + 'static) -> Self {
        let mut future: LocalBoxFuture<'static, _> = Box::pin(future);
        match future
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()))
        {
            Poll::Ready(answer) => Self::ready(answer),
            // It is polled again, with the waker of its record, when it is awaited.
            Poll::Pending => Self(Repr::Waiting(future)),
        }
    }

    /// The rest of a read that memory could not answer. One that blocks is done at once: what it was planned on must not be written to before.
    pub(crate) fn cold(
        waiting: Waiting,
        future: impl Future<Output = Result<T, StateError>> + 'static,
    ) -> Self {
        match waiting {
            Waiting::Asynchronous => Self::waiting(future),
            Waiting::Blocking => Self::started(future),
        }
    }

    /// The answer of a read that never waits.
    #[inline]
    pub(crate) fn now(self) -> Result<T, StateError> {
        match self.0 {
            Repr::Ready(answer) => Ok(answer),
            other => ready(Self(other)),
        }
    }

    /// The same with another answer.
    #[inline]
    pub(crate) fn map<U>(self, change: impl FnOnce(T) -> U + 'static) -> StateFuture<U>
    where
        T: 'static,
    {
        StateFuture(match self.0 {
            Repr::Ready(answer) => Repr::Ready(change(answer)),
            Repr::Failed(error) => Repr::Failed(error),
            Repr::Waiting(future) => {
                Repr::Waiting(Box::pin(async move { future.await.map(change) }))
            }
            Repr::Taken => Repr::Taken,
        })
    }

    /// True if awaiting it will not wait.
    pub fn is_ready(&self) -> bool {
        matches!(self.0, Repr::Ready(_) | Repr::Failed(_))
    }
}

// Nothing here is pinned in place: the boxed future is pinned by its box.
impl<T> Unpin for StateFuture<T> {}

impl<T> Future for StateFuture<T> {
    type Output = Result<T, StateError>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match std::mem::replace(&mut self.0, Repr::Taken) {
            Repr::Ready(answer) => Poll::Ready(Ok(answer)),
            other => self.poll_other(other, context),
        }
    }
}

impl<T> StateFuture<T> {
    #[cold]
    fn poll_other(
        &mut self,
        taken: Repr<T>,
        context: &mut Context<'_>,
    ) -> Poll<Result<T, StateError>> {
        match taken {
            Repr::Ready(answer) => Poll::Ready(Ok(answer)),
            Repr::Failed(error) => Poll::Ready(Err(*error)),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_is_there_is_hardly_larger_than_what_it_answers() {
        assert!(size_of::<StateFuture<Option<u64>>>() <= size_of::<Option<u64>>() + 8);
        assert!(size_of::<StateFuture<()>>() <= 24);
    }

    #[test]
    fn answers_and_errors_are_handed_out_once() {
        let mut context = Context::from_waker(Waker::noop());
        let failing = || Err(StateError::Usage("wrong".into()));
        for (mut future, ready) in [
            (StateFuture::ready(Ok(1)).map(|n| n + 1), true),
            (StateFuture::waiting(async { Ok(1) }).map(|n| n + 1), false),
            (StateFuture::started(async { Ok(2) }), true),
        ] {
            assert_eq!(future.is_ready(), ready);
            let answer = Pin::new(&mut future).poll(&mut context);
            assert!(matches!(answer, Poll::Ready(Ok(2))));
            assert!(matches!(
                Pin::new(&mut future).poll(&mut context),
                Poll::Ready(Err(StateError::Usage(_)))
            ));
        }
        for (mut future, ready) in [
            (StateFuture::<u8>::ready(failing()).map(|n| n), true),
            (StateFuture::waiting(async move { failing() }), false),
        ] {
            assert_eq!(future.is_ready(), ready);
            let answer = Pin::new(&mut future).poll(&mut context);
            let Poll::Ready(Err(error)) = answer else {
                panic!("an error was expected");
            };
            assert_eq!(error.to_string(), "wrong");
        }
    }
}

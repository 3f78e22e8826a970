//! The answer of a state method that has many items: those in hand, and how to get more.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::vec;

use futures_util::stream::{FusedStream, LocalBoxStream, Stream};

use crate::StateError;

/// Elements, entries, keys or values of a state as they are loaded. Ends after an error.
///
/// What is in hand is handed out without asking anybody, so that an item that memory has costs about what it costs an iterator.
#[must_use = "a stream loads nothing until it is polled"]
pub struct StateStream<T> {
    items: vec::IntoIter<T>,
    rest: Option<Rest<T>>,
}

enum Rest<T> {
    Walk(Box<dyn Walk<T>>),
    Failed(StateError),
}

/// Where the items of a stream come from.
pub(crate) trait Walk<T> {
    /// The next item, or `None` if there are no more; what comes with it is put into `items`.
    fn poll_more(
        &mut self,
        context: &mut Context<'_>,
        items: &mut Vec<T>,
    ) -> Poll<Result<Option<T>, StateError>>;
}

impl<T> StateStream<T> {
    /// Nothing but these.
    pub(crate) fn of(items: Vec<T>) -> Self {
        Self {
            items: items.into_iter(),
            rest: None,
        }
    }

    /// Nothing but an error.
    pub(crate) fn failed(error: StateError) -> Self {
        Self {
            items: Vec::new().into_iter(),
            rest: Some(Rest::Failed(error)),
        }
    }

    /// What a walk comes to.
    pub(crate) fn walking(walk: impl Walk<T> + 'static) -> Self {
        Self {
            items: Vec::new().into_iter(),
            rest: Some(Rest::Walk(Box::new(walk))),
        }
    }

    fn poll_rest(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<T, StateError>>> {
        let mut items = Vec::new();
        let next = match &mut self.rest {
            None => return Poll::Ready(None),
            Some(Rest::Walk(walk)) => ready!(walk.poll_more(context, &mut items)),
            Some(Rest::Failed(_)) => Ok(None),
        };
        self.items = items.into_iter();
        let failed = match next {
            Ok(Some(item)) => return Poll::Ready(Some(Ok(item))),
            Ok(None) => None,
            Err(error) => Some(error),
        };
        let failed = match self.rest.take() {
            Some(Rest::Failed(error)) => Some(error),
            _ => failed,
        };
        Poll::Ready(failed.map(Err))
    }
}

// Nothing here is pinned in place: what waits is pinned by its box.
impl<T> Unpin for StateStream<T> {}

impl<T> Stream for StateStream<T> {
    type Item = Result<T, StateError>;

    #[inline]
    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match self.items.next() {
            Some(item) => Poll::Ready(Some(Ok(item))),
            None => self.poll_rest(context),
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let in_hand = self.items.len();
        (in_hand, self.rest.is_none().then_some(in_hand))
    }
}

impl<T> FusedStream for StateStream<T> {
    fn is_terminated(&self) -> bool {
        self.items.as_slice().is_empty() && self.rest.is_none()
    }
}

impl<T: 'static> From<LocalBoxStream<'static, Result<T, StateError>>> for StateStream<T> {
    fn from(stream: LocalBoxStream<'static, Result<T, StateError>>) -> Self {
        Self::walking(stream)
    }
}

impl<T> Walk<T> for LocalBoxStream<'static, Result<T, StateError>> {
    fn poll_more(
        &mut self,
        context: &mut Context<'_>,
        _items: &mut Vec<T>,
    ) -> Poll<Result<Option<T>, StateError>> {
        Poll::Ready(ready!(self.as_mut().poll_next(context)).transpose())
    }
}

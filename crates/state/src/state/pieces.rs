//! Walks that load pieces: what is loaded is handed out without a future, and only loading a piece that memory cannot give at once is one.

use std::future::Future;
use std::task::{Context, Poll, ready};

use futures_util::future::LocalBoxFuture;

use crate::StateError;
use crate::access::ready as ready_now;
use crate::state::stream::{StateStream, Walk};

/// Items that are decoded at once at the most. The first one is alone: many walks end there.
const DECODED_AT_ONCE_MAX: usize = 64;

/// A walk over something that is loaded piece by piece.
pub(crate) trait Pieces: Sized + 'static {
    /// What is walked over.
    type Item;
    /// The next item of what is loaded.
    fn pop(&mut self) -> Result<Option<Self::Item>, StateError>;
    /// Whether nothing is left to be loaded.
    fn is_done(&self) -> bool;
    /// Loads the next piece if that cannot wait; false if nothing was loaded because it may.
    fn load_now(&mut self) -> Result<bool, StateError>;
    /// Loads the next piece.
    fn load(&mut self) -> impl Future<Output = Result<(), StateError>>;

    /// Hands the next items of what is loaded to `take`, so many at the most. Says how many that were.
    #[inline]
    fn pop_some(
        &mut self,
        count_max: usize,
        mut take: impl FnMut(Self::Item) -> Result<(), StateError>,
    ) -> (usize, Result<(), StateError>) {
        for count in 0..count_max {
            match self.pop().and_then(|item| item.map(&mut take).transpose()) {
                Ok(Some(())) => {}
                Ok(None) => return (count, Ok(())),
                Err(error) => return (count, Err(error)),
            }
        }
        (count_max, Ok(()))
    }

    /// The next item of a walk whose loading blocks.
    #[inline]
    fn next_blocking(&mut self) -> Result<Option<Self::Item>, StateError> {
        loop {
            if let Some(item) = self.pop()? {
                return Ok(Some(item));
            }
            if self.is_done() {
                return Ok(None);
            }
            if !self.load_now()? {
                ready_now(self.load())?;
            }
        }
    }
}

/// The items of a walk. Ends after an error.
pub(crate) fn stream<P: Pieces, T: 'static>(
    pieces: Result<P, StateError>,
    decode: impl FnMut(P::Item) -> Result<T, StateError> + 'static,
) -> StateStream<T> {
    match pieces {
        Ok(pieces) => StateStream::walking(Decoded {
            at: At::Here(pieces),
            decode,
            failed: None,
            at_once: 1,
        }),
        Err(error) => StateStream::failed(error),
    }
}

struct Decoded<P, D> {
    at: At<P>,
    decode: D,
    /// What ends the walk after the items that were decoded before it.
    failed: Option<StateError>,
    /// Items that are decoded together.
    at_once: usize,
}

enum At<P> {
    Here(P),
    Loading(LocalBoxFuture<'static, (P, Result<(), StateError>)>),
    Done,
}

impl<P: Pieces, T, D: FnMut(P::Item) -> Result<T, StateError>> Walk<T> for Decoded<P, D> {
    fn poll_more(
        &mut self,
        context: &mut Context<'_>,
        items: &mut Vec<T>,
    ) -> Poll<Result<Option<T>, StateError>> {
        if let Some(error) = self.failed.take() {
            return Poll::Ready(Err(error));
        }
        loop {
            match &mut self.at {
                At::Here(pieces) => {
                    let (at_once, mut first) = (self.at_once, None);
                    let (count, outcome) = pieces.pop_some(at_once, |item| {
                        let item = (self.decode)(item)?;
                        match first {
                            Some(_) => items.push(item),
                            None => {
                                first = Some(item);
                                items.reserve(at_once - 1);
                            }
                        }
                        Ok(())
                    });
                    let ended = outcome.is_err() || (count < at_once && pieces.is_done());
                    if ended || first.is_some() {
                        self.at_once = (at_once * 2).min(DECODED_AT_ONCE_MAX);
                        if ended {
                            self.at = At::Done;
                        }
                        return Poll::Ready(match outcome {
                            Err(error) if first.is_none() => Err(error),
                            outcome => {
                                self.failed = outcome.err();
                                Ok(first)
                            }
                        });
                    }
                    match pieces.load_now() {
                        Ok(true) => {}
                        Ok(false) => {
                            if let At::Here(mut pieces) = std::mem::replace(&mut self.at, At::Done)
                            {
                                self.at = At::Loading(Box::pin(async move {
                                    let loaded = pieces.load().await;
                                    (pieces, loaded)
                                }));
                            }
                        }
                        Err(error) => {
                            self.at = At::Done;
                            return Poll::Ready(Err(error));
                        }
                    }
                }
                At::Loading(loading) => {
                    let (pieces, loaded) = ready!(loading.as_mut().poll(context));
                    if let Err(error) = loaded {
                        self.at = At::Done;
                        return Poll::Ready(Err(error));
                    }
                    self.at = At::Here(pieces);
                }
                At::Done => return Poll::Ready(Ok(None)),
            }
        }
    }
}

#[cfg(test)]
mod tests;

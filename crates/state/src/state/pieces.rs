//! Walks that load pieces, as streams: what is loaded is handed out without a future, and only loading the next piece is one.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_util::StreamExt;
use futures_util::future::LocalBoxFuture;
use futures_util::stream::Stream;

use crate::StateError;
use crate::state::StateStream;

/// A walk over something that is loaded piece by piece.
pub(crate) trait Pieces: Sized + 'static {
    /// What is walked over.
    type Item;
    /// The next item of what is loaded.
    fn pop(&mut self) -> Result<Option<Self::Item>, StateError>;
    /// Whether nothing is left to be loaded.
    fn is_done(&self) -> bool;
    /// Loads the next piece if that cannot wait.
    fn load_now(&mut self) -> Result<bool, StateError>;
    /// Loads the next piece.
    fn load(&mut self) -> impl Future<Output = Result<(), StateError>>;

    /// The next item.
    async fn next(&mut self) -> Result<Option<Self::Item>, StateError> {
        loop {
            if let Some(item) = self.pop()? {
                return Ok(Some(item));
            }
            if self.is_done() {
                return Ok(None);
            }
            if !self.load_now()? {
                self.load().await?;
            }
        }
    }
}

/// The items of a walk. Ends after an error.
pub(crate) fn stream<P: Pieces, T: 'static>(
    pieces: Result<P, StateError>,
    decode: impl FnMut(P::Item) -> Result<T, StateError> + 'static,
) -> StateStream<T> {
    let at = match pieces {
        Ok(pieces) => At::Here(pieces),
        Err(error) => At::Failed(error),
    };
    PieceStream { at, decode }.boxed_local()
}

struct PieceStream<P, D> {
    at: At<P>,
    decode: D,
}

enum At<P> {
    Here(P),
    Loading(LocalBoxFuture<'static, (P, Result<(), StateError>)>),
    Failed(StateError),
    Done,
}

// Nothing here is pinned in place: the future is pinned by its box.
impl<P, D> Unpin for PieceStream<P, D> {}

impl<P: Pieces, T, D: FnMut(P::Item) -> Result<T, StateError>> Stream for PieceStream<P, D> {
    type Item = Result<T, StateError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        let error = loop {
            match &mut this.at {
                At::Here(pieces) => match pieces.pop() {
                    Ok(Some(item)) => match (this.decode)(item) {
                        Ok(item) => return Poll::Ready(Some(Ok(item))),
                        Err(error) => break error,
                    },
                    Ok(None) if pieces.is_done() => {
                        this.at = At::Done;
                        return Poll::Ready(None);
                    }
                    Ok(None) => match pieces.load_now() {
                        Ok(true) => {}
                        Ok(false) => {
                            if let At::Here(mut pieces) = std::mem::replace(&mut this.at, At::Done)
                            {
                                this.at = At::Loading(Box::pin(async move {
                                    let loaded = pieces.load().await;
                                    (pieces, loaded)
                                }));
                            }
                        }
                        Err(error) => break error,
                    },
                    Err(error) => break error,
                },
                At::Loading(loading) => {
                    let (pieces, loaded) = ready!(loading.as_mut().poll(context));
                    this.at = At::Here(pieces);
                    if let Err(error) = loaded {
                        break error;
                    }
                }
                At::Failed(_) => {
                    if let At::Failed(error) = std::mem::replace(&mut this.at, At::Done) {
                        break error;
                    }
                }
                At::Done => return Poll::Ready(None),
            }
        };
        this.at = At::Done;
        Poll::Ready(Some(Err(error)))
    }
}

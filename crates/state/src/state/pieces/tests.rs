//! Streams and iterators over walks that load now, load later, and fail.
use std::collections::VecDeque;
use std::pin::Pin;

use futures_util::{FutureExt, Stream, StreamExt, TryStreamExt};

use super::*;

/// Numbers in pieces. An `Err` in a piece is an item that cannot be read.
struct Numbers {
    loaded: VecDeque<Result<u32, StateError>>,
    pieces: VecDeque<Piece>,
}

enum Piece {
    Now(Vec<Result<u32, StateError>>),
    Later(Vec<Result<u32, StateError>>),
    Failing,
}

fn corrupt() -> StateError {
    StateError::Corrupt("broken".into())
}

fn numbers(pieces: impl IntoIterator<Item = Piece>) -> Numbers {
    Numbers {
        loaded: VecDeque::new(),
        pieces: pieces.into_iter().collect(),
    }
}

impl Pieces for Numbers {
    type Item = u32;

    fn pop(&mut self) -> Result<Option<u32>, StateError> {
        self.loaded.pop_front().transpose()
    }

    fn is_done(&self) -> bool {
        self.pieces.is_empty()
    }

    fn load_now(&mut self) -> Result<bool, StateError> {
        match self.pieces.pop_front() {
            Some(Piece::Now(items)) => self.loaded.extend(items),
            Some(later) => {
                self.pieces.push_front(later);
                return Ok(false);
            }
            None => {}
        }
        Ok(true)
    }

    async fn load(&mut self) -> Result<(), StateError> {
        match self.pieces.pop_front() {
            Some(Piece::Now(items) | Piece::Later(items)) => self.loaded.extend(items),
            Some(Piece::Failing) => return Err(corrupt()),
            None => {}
        }
        Ok(())
    }
}

fn all(range: std::ops::Range<u32>) -> Vec<Result<u32, StateError>> {
    range.map(Ok).collect()
}

fn streamed(numbers: Numbers) -> (Vec<u32>, bool) {
    let mut stream = stream(Ok(numbers), |n| Ok(n * 2));
    let (mut seen, mut failed) = (Vec::new(), false);
    while let Some(item) = stream.next().now_or_never().unwrap() {
        match item {
            Ok(item) => seen.push(item),
            Err(_) => failed = true,
        }
    }
    assert!(
        stream.next().now_or_never().unwrap().is_none(),
        "it is over"
    );
    (seen, failed)
}

#[test]
fn every_item_of_every_piece_is_seen_once_and_in_order() {
    let pieces = || {
        numbers([
            Piece::Now(all(0..300)),
            Piece::Later(all(300..301)),
            Piece::Now(Vec::new()),
            Piece::Later(all(301..500)),
        ])
    };
    let expected: Vec<u32> = (0..500).collect();
    let doubled: Vec<u32> = expected.iter().map(|n| n * 2).collect();
    assert_eq!(streamed(pieces()), (doubled, false));
    let mut walk = pieces();
    let blocking = std::iter::from_fn(|| walk.next_blocking().unwrap());
    assert_eq!(blocking.collect::<Vec<_>>(), expected);
}

#[test]
fn what_comes_before_an_error_is_seen_and_nothing_after_it() {
    let broken = |good: u32| {
        let mut items = all(0..good);
        items.extend([Err(corrupt()), Ok(99)]);
        items
    };
    for good in [0, 1, 2, 7] {
        let seen: Vec<u32> = (0..good).map(|n| n * 2).collect();
        let now = numbers([Piece::Now(broken(good)), Piece::Now(all(0..3))]);
        assert_eq!(streamed(now), (seen.clone(), true));
        let later = numbers([
            Piece::Later(all(0..good)),
            Piece::Failing,
            Piece::Now(all(0..3)),
        ]);
        assert_eq!(streamed(later), (seen, true));
    }
    let mut failed = stream::<Numbers, u32>(Err(corrupt()), Ok);
    assert!(failed.next().now_or_never().unwrap().unwrap().is_err());
    assert!(failed.next().now_or_never().unwrap().is_none());
}

#[test]
fn the_first_item_is_decoded_alone() {
    let mut decoded = 0;
    let counted = std::rc::Rc::new(std::cell::Cell::new(0));
    let count = std::rc::Rc::clone(&counted);
    let mut stream = stream(Ok(numbers([Piece::Now(all(0..1000))])), move |n| {
        count.set(count.get() + 1);
        Ok(n)
    });
    for n in 0..200 {
        assert_eq!(stream.try_next().now_or_never().unwrap().unwrap(), Some(n));
        decoded += 1;
        let ahead = counted.get() - decoded;
        assert!(
            ahead < decoded.min(DECODED_AT_ONCE_MAX),
            "{ahead} of {decoded}"
        );
    }
}

#[test]
fn what_is_in_hand_is_known_in_number() {
    let stream = StateStream::of(vec![1, 2, 3]);
    assert_eq!(Pin::new(&stream).size_hint(), (3, Some(3)));
    assert_eq!(
        stream
            .try_collect::<Vec<_>>()
            .now_or_never()
            .unwrap()
            .unwrap(),
        [1, 2, 3]
    );
}

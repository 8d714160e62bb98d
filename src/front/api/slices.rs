//! A list of any length as a body that is made while its client reads it.
//!
//! Each slice is asked for when the one before is written. So a list takes the memory of a slice, delays no sale, and
//! goes as fast as its reader.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::{mem, vec};

use crate::front::http::body::{BodyStream, PIECE_BYTES_MAX, Piece};

/// The next slice; `None` if the list cannot go on.
pub(super) type NextSlice<S> = Pin<Box<dyn Future<Output = Option<Slice<S>>>>>;

/// Where the slices of a list come from.
pub(super) trait Slices: Sized {
    type Item;
    /// Where the rest of the list begins.
    type Place;
    /// The most bytes of an item's line.
    const LINE_BYTES_MAX: usize;

    /// Asks for the next slice, and whether the client may still see it.
    fn ask(&self, from: Self::Place) -> NextSlice<Self>;

    fn append_line(&self, item: &Self::Item, output: &mut Vec<u8>);
}

pub(super) struct Slice<S: Slices> {
    pub(super) items: Vec<S::Item>,
    /// `None` at the end of the list.
    pub(super) next: Option<S::Place>,
}

/// The body.
pub(super) struct Sliced<S: Slices> {
    source: S,
    /// What is left of the slice.
    items: vec::IntoIter<S::Item>,
    next: Next<S>,
    /// Bytes before the next line.
    header: &'static [u8],
}

/// What follows the slice.
enum Next<S: Slices> {
    /// More, from this place on.
    From(S::Place),
    Asked(NextSlice<S>),
    Nothing,
    /// The server drains, or the list cannot go on.
    BrokenOff,
}

impl<S: Slices> Sliced<S> {
    pub(super) fn new(source: S, first: Slice<S>, header: &'static [u8]) -> Sliced<S> {
        let mut sliced = Sliced { source, items: Vec::new().into_iter(), next: Next::Nothing, header };
        sliced.take(first);
        sliced
    }

    fn take(&mut self, slice: Slice<S>) {
        self.items = slice.items.into_iter();
        self.next = slice.next.map_or(Next::Nothing, Next::From);
    }

    /// Appends as many lines as a piece has room for.
    fn append_lines(&mut self, output: &mut Vec<u8>) {
        let end = output.len() + PIECE_BYTES_MAX - S::LINE_BYTES_MAX;
        output.extend_from_slice(mem::take(&mut self.header));
        while output.len() <= end
            && let Some(item) = self.items.next()
        {
            self.source.append_line(&item, output);
        }
    }
}

impl<S: Slices> BodyStream for Sliced<S>
where
    Sliced<S>: Unpin,
{
    fn length(&self) -> Option<u64> {
        None
    }

    fn poll_piece(&mut self, context: &mut Context<'_>, output: &mut Vec<u8>) -> Poll<Piece> {
        loop {
            let start = output.len();
            self.append_lines(output);
            let is_written = self.items.len() == 0;
            match mem::replace(&mut self.next, Next::BrokenOff) {
                Next::BrokenOff => return Poll::Ready(Piece::Failed),
                Next::Nothing if is_written => return Poll::Ready(Piece::Last),
                Next::From(place) if is_written => self.next = Next::Asked(self.source.ask(place)),
                next @ (Next::Nothing | Next::From(_) | Next::Asked(_)) => self.next = next,
            }
            if output.len() > start {
                return Poll::Ready(Piece::More);
            }
            if let Next::Asked(slice) = &mut self.next {
                match ready!(slice.as_mut().poll(context)) {
                    Some(slice) => self.take(slice),
                    None => self.next = Next::BrokenOff,
                }
            }
        }
    }

    /// Breaks the list off: the rest of a long one takes longer than a drain waits.
    fn drain(&mut self) {
        self.next = Next::BrokenOff;
    }
}

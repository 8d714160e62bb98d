//! A list in chunks, which grows and shrinks at its end.
//!
//! A `Vec` may copy all its items when it grows. With ten million reservations that is a quarter of a
//! gigabyte, and all clients of the core would wait for it.

use std::ops::{Index, IndexMut};

/// The number of items of a chunk: 12 KiB at 24 bytes an item. Copying a chunk takes less than a microsecond,
/// and a list reserves at most one chunk that it does not use.
const CHUNK_ITEMS: usize = 512;

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Chunks<T> {
    /// All full except the last, which is not empty.
    chunks: Vec<Vec<T>>,
}

impl<T> Chunks<T> {
    pub(super) fn new() -> Chunks<T> {
        Chunks { chunks: Vec::new() }
    }

    pub(super) fn len(&self) -> usize {
        match self.chunks.split_last() {
            Some((last, full)) => full.len() * CHUNK_ITEMS + last.len(),
            None => 0,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    pub(super) fn get(&self, index: usize) -> Option<&T> {
        self.chunks.get(index / CHUNK_ITEMS)?.get(index % CHUNK_ITEMS)
    }

    pub(super) fn push(&mut self, item: T) {
        match self.chunks.last_mut() {
            Some(last) if last.len() < CHUNK_ITEMS => last.push(item),
            Some(_) => {
                let mut chunk = Vec::with_capacity(CHUNK_ITEMS);
                chunk.push(item);
                self.chunks.push(chunk);
            }
            // The first chunk grows with its items: most lists are short.
            None => self.chunks.push(vec![item]),
        }
    }

    pub(super) fn pop(&mut self) -> Option<T> {
        let last = self.chunks.last_mut()?;
        let item = last.pop();
        if last.is_empty() {
            self.chunks.pop();
        }
        item
    }
}

impl<T> Default for Chunks<T> {
    fn default() -> Chunks<T> {
        Chunks::new()
    }
}

impl<T> Index<usize> for Chunks<T> {
    type Output = T;

    fn index(&self, index: usize) -> &T {
        &self.chunks[index / CHUNK_ITEMS][index % CHUNK_ITEMS]
    }
}

impl<T> IndexMut<usize> for Chunks<T> {
    fn index_mut(&mut self, index: usize) -> &mut T {
        &mut self.chunks[index / CHUNK_ITEMS][index % CHUNK_ITEMS]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_a_list_across_chunk_boundaries() {
        let mut chunks = Chunks::new();
        let count = 2 * CHUNK_ITEMS + 1;
        for item in 0..count {
            assert_eq!((chunks.len(), chunks.get(item), chunks.is_empty()), (item, None, item == 0));
            chunks.push(item);
            assert_eq!(chunks[item], item);
        }
        chunks[CHUNK_ITEMS] = 7;
        assert_eq!(chunks.get(CHUNK_ITEMS), Some(&7));
        chunks[CHUNK_ITEMS] = CHUNK_ITEMS;
        for item in (0..count).rev() {
            assert_eq!(chunks.pop(), Some(item));
            assert_eq!(chunks.len(), item);
        }
        assert_eq!(chunks.pop(), None);
        assert_eq!(chunks, Chunks::new());
    }
}

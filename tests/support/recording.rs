//! What reached a block device, and the images that a power cut could have left.

use std::ops::Range;
use std::path::PathBuf;

use crate::device::{Action, Content, Entry};
use crate::support::crowd::Crowd;
use crate::support::random::Random;

/// What a disk has of the writes after its last flush.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Unflushed {
    Dropped,
    Kept,
    /// Each write, or not.
    Subset,
    /// The same, and only a part of one of them.
    Torn,
}

/// The most entries between a place and a cut near it.
const NEAR: u64 = 30;

/// The end of the superblock of ext4, which has a checksum and is two sectors long: with only one of them, the
/// file system cannot be mounted.
const SUPERBLOCK_END: u64 = 2048;

/// All writes and flushes, and what clients knew meanwhile.
pub(crate) struct Recording {
    pub(crate) base: Content,
    pub(crate) entries: Vec<Entry>,
    pub(crate) ledger: PathBuf,
    /// `None` before the first request.
    pub(crate) crowd: Option<Crowd>,
    /// Accounts that existed before, each with the number of entries when it was known.
    pub(crate) accounts: Vec<(&'static str, usize)>,
}

impl Recording {
    /// The entry of this flush, counted back from a cut: 0 is the last one.
    pub(crate) fn flush_before(&self, cut: usize, back: usize) -> usize {
        (0..cut).rev().filter(|index| self.entries[*index].is_flush()).nth(back).unwrap_or(0)
    }

    /// A cut of any moment.
    pub(crate) fn any_cut(&self, random: &mut Random) -> usize {
        random.within(0, self.entries.len() as u64 - 1) as usize
    }

    /// A cut near this entry, and often as late as possible before the next flush.
    pub(crate) fn cut_near(&self, entry: usize, random: &mut Random) -> usize {
        let cut = (entry + random.within(0, 2 * NEAR) as usize).saturating_sub(NEAR as usize);
        let last = self.entries.len() - 1;
        let flush = (cut..last).find(|index| self.entries[*index].is_flush());
        random.pick(&[cut.min(last), flush.unwrap_or(last)])
    }

    /// The writes among these entries with the beginning of a database or of a journal.
    pub(crate) fn headers(&self, among: Range<usize>) -> Vec<usize> {
        among.filter(|index| self.entries[*index].has_header()).collect()
    }

    /// The number of writes between two entries.
    pub(crate) fn writes(&self, from: usize, to: usize) -> usize {
        self.entries[from..to].iter().filter(|entry| !entry.is_flush()).count()
    }

    /// What the disk has after a power cut before the entry `cut`, if the flush `flushed` is the last one that
    /// it has done.
    pub(crate) fn image(
        &self,
        flushed: usize,
        cut: usize,
        unflushed: Unflushed,
        random: &mut Random,
    ) -> Content {
        let mut content = self.base.clone();
        // The first write from here on is torn.
        let from = flushed + random.within(0, (cut - flushed) as u64) as usize;
        let mut torn = (unflushed == Unflushed::Torn).then_some(from);
        for (index, entry) in self.entries[..cut].iter().enumerate() {
            let Action::Write { at, data } = &entry.action else { continue };
            let length = data.len();
            let kept = if index < flushed {
                0..length
            } else if torn.is_some_and(|torn| torn <= index) && *at >= SUPERBLOCK_END {
                torn = None;
                let sector = random.pick(&[512, 4096]);
                let middle = sector * random.within(0, (length / sector) as u64) as usize;
                let [start, end] = random.pick(&[[0, middle], [middle, length]]);
                start..end
            } else {
                let share = match unflushed {
                    Unflushed::Dropped => 0,
                    Unflushed::Kept => 1,
                    Unflushed::Subset | Unflushed::Torn => random.within(0, 1) as usize,
                };
                0..length * share
            };
            content.write(at + kept.start as u64, &data[kept]);
        }
        content
    }
}

//! A record in its place, and the chain of checksums through a slot.

use twox_hash::XxHash3_64;

use super::{Columns, Record};
use crate::ids::{Epoch, Lsn, Slot, Timestamp};

/// A record in its place: which slot, which position, when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub slot: Slot,
    pub epoch: Epoch,
    pub lsn: Lsn,
    pub at: Timestamp,
    /// The position of the event's record before this one; 0 for its first, and for a record of no event.
    pub previous: Lsn,
    /// The command that made this record made the slot's next one too.
    pub continues: bool,
    pub record: Record,
    /// See [`SlotHead::chain`].
    pub chain: u64,
}

impl Entry {
    pub fn stamp(&self) -> Stamp {
        let &Entry { slot, epoch, lsn, at, previous, continues, record: _, chain: _ } = self;
        Stamp { slot, epoch, lsn, at, previous, continues }
    }
}

/// What a record's place adds to it: the members of an [`Entry`] beside the record and its checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    pub slot: Slot,
    pub epoch: Epoch,
    pub lsn: Lsn,
    pub at: Timestamp,
    pub previous: Lsn,
    pub continues: bool,
}

/// Where a slot's records end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlotHead {
    pub lsn: Lsn,
    /// Checksum over every record of the slot so far: each is hashed with the
    /// one before as seed, so that none can be changed, lost or moved unseen.
    pub chain: u64,
    pub at: Timestamp,
}

impl SlotHead {
    /// A slot without records. The cluster's id is the seed of every chain, so
    /// that a file of another cluster cannot fit.
    pub fn empty(cluster: u64) -> SlotHead {
        SlotHead { lsn: Lsn(0), chain: cluster, at: Timestamp(0) }
    }

    /// The checksum of the record that follows this head.
    pub fn chain_next(&self, stamp: &Stamp, columns: &Columns<'_>) -> u64 {
        let &Stamp { slot, epoch, lsn, at, previous, continues } = stamp;
        let mut bytes = [0; 51];
        bytes[0] = slot.0;
        bytes[1] = columns.kind;
        bytes[2..10].copy_from_slice(&epoch.0.to_le_bytes());
        bytes[10..18].copy_from_slice(&lsn.0.to_le_bytes());
        bytes[18..26].copy_from_slice(&at.0.to_le_bytes());
        bytes[26..30].copy_from_slice(&columns.event.to_le_bytes());
        bytes[30..34].copy_from_slice(&columns.number.to_le_bytes());
        bytes[34..38].copy_from_slice(&columns.user.to_le_bytes());
        bytes[38..42].copy_from_slice(&columns.quantity.to_le_bytes());
        bytes[42..50].copy_from_slice(&previous.0.to_le_bytes());
        bytes[50] = continues.into();
        let chain = XxHash3_64::oneshot_with_seed(self.chain, &bytes);
        if columns.body.is_empty() {
            return chain;
        }
        XxHash3_64::oneshot_with_seed(chain, &columns.body)
    }
}

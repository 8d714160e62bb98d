//! Entries, which are records with their place in a slot, and the chain of checksums through a slot.

use twox_hash::XxHash3_64;

use super::{Columns, Record};
use crate::ids::{Epoch, Lsn, Slot, Timestamp};

/// A record with its place: its slot, epoch, lsn and time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub slot: Slot,
    pub epoch: Epoch,
    pub lsn: Lsn,
    pub at: Timestamp,
    /// The lsn of the event's previous record; 0 for an event's first record, and for a record of no event.
    pub previous: Lsn,
    /// Whether the same command also made the slot's next record.
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

/// The place of a record: the members of an [`Entry`] without the record and its checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    pub slot: Slot,
    pub epoch: Epoch,
    pub lsn: Lsn,
    pub at: Timestamp,
    pub previous: Lsn,
    pub continues: bool,
}

/// The end of a slot's records: the lsn, checksum and time of the last one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlotHead {
    pub lsn: Lsn,
    /// Checksum over every record of the slot so far. Each record is hashed with the checksum of the
    /// previous one as seed, so that a changed, lost or moved record is noticed.
    pub chain: u64,
    pub at: Timestamp,
}

impl SlotHead {
    /// The head of a slot without records. The id of the data directory seeds every chain, so a file of
    /// another directory does not fit.
    pub fn empty(cluster: u64) -> SlotHead {
        SlotHead { lsn: Lsn(0), chain: cluster, at: Timestamp(0) }
    }

    /// Whether a record may follow this head at this time: time goes back within a slot by a record that says
    /// so, and by no other.
    pub fn takes_time(&self, at: Timestamp, record: &Record) -> bool {
        (at < self.at) == matches!(record, Record::TimeSetBack)
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

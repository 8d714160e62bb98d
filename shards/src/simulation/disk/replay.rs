//! Recovery from simulated files.

use super::{Disk, SimulatedFile, mark_of};
use crate::command::Buyer;
use crate::record::{Held, PartStep, Record, SlotHead, Stamp, TransferredPart};
use crate::replay::{Extent, Mark, RangeCheck, ReplayError, Row, check_ranges, left_over};
use crate::shard::SlotHeads;
use crate::simulation::plant::Plant;
use crate::simulation::workload::customer_ref;
use crate::slots::{Owners, shard_of_slot};
use crate::state::ShardState;

/// The result of a recovery.
#[derive(Debug)]
pub(in crate::simulation) struct Replayed {
    pub(in crate::simulation) states: Vec<ShardState>,
    pub(in crate::simulation) heads: SlotHeads,
    /// The last row of each file.
    pub(in crate::simulation) ends: Vec<Mark>,
}

/// Why recovery refuses a disk.
#[derive(Debug, thiserror::Error)]
#[error("{file}: {error}")]
pub(in crate::simulation) struct Refusal {
    pub(super) file: String,
    pub(super) error: ReplayError,
}

impl Disk {
    /// Recovers the state of `shard_count` shards.
    pub(in crate::simulation) fn replay(
        &mut self,
        shard_count: usize,
        plant: Option<Plant>,
    ) -> Result<Replayed, Refusal> {
        for file in &mut self.files {
            file.extent = Extent::new(file.mark);
            match file.extent.check_row_count(file.last_position()) {
                Err(ReplayError::Lost { .. }) if plant == Some(Plant::IgnoreMarks) => {}
                checked => checked.map_err(in_file(&file.name))?,
            }
        }
        let mut records: Vec<Recovered> = Vec::new();
        let heads = check_ranges(
            self.cluster,
            &self.epochs,
            &mut self.files,
            |file| &file.name,
            |mut readings| {
                for (file, check) in &mut readings {
                    let SimulatedFile { name, rows, extent, .. } = &mut **file;
                    while let Some(row) = next_row(rows, extent) {
                        let taken = take(check, extent, row, plant).map_err(in_file(name))?;
                        let Some(record) = taken else { break };
                        records.push(Recovered { file_index: check.file_index, stamp: row.stamp(), record });
                    }
                }
                Ok(readings.into_iter().map(|(_, check)| check).collect())
            },
        )?;
        for file in &self.files {
            if let Some(row) = next_row(&file.rows, &file.extent) {
                return Err(in_file(&file.name)(left_over(&self.epochs, row)));
            }
        }
        let mut owners = shard_count;
        match plant {
            Some(Plant::ReplayByFile) => records.sort_by_key(|row| row.file_index),
            Some(Plant::ForgetCancels) => {
                records.retain(|row| !matches!(row.record, Record::Cancelled { .. }));
            }
            Some(Plant::ForgetReductions) => {
                records.retain(|row| !matches!(row.record, Record::Reduced { .. }));
            }
            Some(Plant::ForgetExpiries) => {
                records.retain(|row| !matches!(row.record, Record::HoldsExpired { .. }));
            }
            Some(Plant::ForgetExtensions) => {
                records.retain(|row| !matches!(row.record, Record::HoldsExtended { .. }));
            }
            Some(Plant::HoldsBecomeReservations) => records.iter_mut().for_each(|row| {
                if let Record::Held(held) = &row.record {
                    let Held { id, by, buyer, quantity, deadline: _ } = (**held).clone();
                    row.record = Record::Reserved { id, by, buyer, quantity };
                }
            }),
            Some(Plant::MixUpRefs) => records.iter_mut().for_each(|row| {
                if let Record::Reserved { buyer: buyer @ Buyer::Ref(_), .. } = &mut row.record {
                    *buyer = Buyer::Ref(customer_ref(1));
                }
            }),
            Some(Plant::ForgetTransfers) => records.retain(
                |row| !matches!(&row.record, Record::Transferred(transferred) if transferred.part.is_none()),
            ),
            Some(Plant::LoseTransferredPart | Plant::DoubleTransferredPart) => {
                let is_lost = plant == Some(Plant::LoseTransferredPart);
                records.iter_mut().for_each(|row| plant_in_transfer(&mut row.record, is_lost));
            }
            Some(Plant::ForgetEndsOfTokens) => {
                records.retain(|row| !matches!(row.record, Record::TokensEnded(_)));
            }
            Some(Plant::ForgetApiKeys) => {
                records
                    .retain(|row| !matches!(row.record, Record::ApiKeyMade(_) | Record::ApiKeyEnded { .. }));
            }
            Some(Plant::ForgetEndsOfApiKeys) => {
                records.retain(|row| !matches!(row.record, Record::ApiKeyEnded { .. }));
            }
            Some(Plant::ForgetKeys) => {
                records.retain(|row| !matches!(row.record, Record::KeyKept(_)));
            }
            Some(Plant::ForgetGenerations) => {
                records.retain(|row| !matches!(row.record, Record::KeysAged { .. }));
            }
            Some(Plant::ForgetHandOvers) => records.iter_mut().for_each(|row| {
                if let Record::EventEdited(edited) = &mut row.record {
                    edited.organizer = None;
                }
            }),
            Some(Plant::ForgetRules) => records.iter_mut().for_each(|row| match &mut row.record {
                Record::EventCreated(created) => created.details.rules = None,
                Record::EventEdited(edited) => edited.details.rules = None,
                _ => {}
            }),
            Some(Plant::ForgetLocks) => records.retain(|row| {
                !matches!(&row.record, Record::PartSettled(part) if matches!(part.step, PartStep::Locked(_)))
            }),
            Some(Plant::ForgetPartEnds) => records.retain(|row| {
                let ends = |step| matches!(step, PartStep::Cancelled | PartStep::Expired);
                !matches!(&row.record, Record::PartSettled(part) if ends(part.step))
            }),
            Some(Plant::ForgetPrepared) => {
                records.retain(|row| !matches!(row.record, Record::PartPrepared(_) | Record::PartSettled(_)));
            }
            Some(Plant::ForgetOrderExpiries) => {
                records.retain(|row| !matches!(row.record, Record::OrderExpired { .. }));
            }
            Some(Plant::ForgetOrderDebts) => {
                let settled = |row: &Recovered| match &row.record {
                    Record::OrderPlaced(placed) => Some(Recovered {
                        file_index: row.file_index,
                        stamp: row.stamp,
                        record: Record::OrderSettled { id: placed.id },
                    }),
                    _ => None,
                };
                let settled: Vec<_> = records.iter().filter_map(settled).collect();
                records.extend(settled);
            }
            Some(Plant::RouteByOldCount) => {
                owners = self.last_shard_count().unwrap_or(owners).min(owners);
            }
            _ => {}
        }
        let table = Owners::by_modulo(shard_count);
        let owning = |shard| ShardState::owning(table.slots_of(shard));
        let mut states: Vec<_> = (0..shard_count).map(owning).collect();
        for Recovered { stamp, record, .. } in &records {
            let state = &mut states[shard_of_slot(stamp.slot, owners)];
            let previous = state.apply(stamp.slot, stamp.at, stamp.lsn, record);
            match (record, plant) {
                (Record::HoldsExpired { .. }, Some(Plant::ExpireTwice))
                | (Record::Released { .. }, Some(Plant::ReleaseTwice)) => {
                    state.apply(stamp.slot, stamp.at, stamp.lsn, record);
                }
                _ => {}
            }
            assert!(
                plant.is_some() || previous == stamp.previous,
                "{stamp:?}, but the event's last record is {previous}"
            );
        }
        let ends = self.files.iter().map(|file| file.extent.end).collect();
        Ok(Replayed { states, heads, ends })
    }
}

/// Makes a transfer of a part a reduction alone, or the receiver's reservation alone.
fn plant_in_transfer(record: &mut Record, is_lost: bool) {
    let Record::Transferred(transferred) = &record else { return };
    let Some(TransferredPart { number: _, quantity }) = transferred.part else { return };
    let (id, by) = (transferred.id, transferred.by);
    *record = if is_lost {
        Record::Reduced { id, by, quantity }
    } else {
        Record::Reserved { id: transferred.received(), by, buyer: transferred.to.clone(), quantity }
    };
}

/// A record that recovery accepted, and the index of its file.
struct Recovered {
    file_index: usize,
    stamp: Stamp,
    record: Record,
}

/// The next row that recovery reads.
fn next_row<'a>(rows: &'a [Row<'static>], extent: &Extent) -> Option<&'a Row<'static>> {
    rows.get(rows.partition_point(|row| row.position <= extent.end.row))
}

fn take(
    check: &mut RangeCheck<'_>,
    extent: &mut Extent,
    row: &Row<'_>,
    plant: Option<Plant>,
) -> Result<Option<Record>, ReplayError> {
    let taken = check.take(extent, row);
    let goes_on = match taken {
        Err(ReplayError::Gap { .. } | ReplayError::Position { .. }) => plant == Some(Plant::IgnoreGaps),
        Err(ReplayError::Checksum { .. }) => plant == Some(Plant::IgnoreChecksums),
        Err(ReplayError::Time { .. }) => plant == Some(Plant::IgnoreTimes),
        _ => false,
    };
    if !goes_on {
        return taken;
    }
    let Row { slot, lsn, at, ref columns, chain, .. } = *row;
    check.heads[slot.index()] = SlotHead { lsn, chain, at };
    extent.end = mark_of(row);
    Ok(Record::decode(columns).ok())
}

fn in_file(file: &str) -> impl Fn(ReplayError) -> Refusal + use<'_> {
    move |error| Refusal { file: file.to_owned(), error }
}

//! Damage to a disk, and the error that recovery must report for it.

use super::replay::Refusal;
use super::{Disk, SimulatedFile};
use crate::ids::{Epoch, Lsn, Slot, Timestamp};
use crate::record::SlotHead;
use crate::replay::{ReplayError, Row};
use crate::simulation::random::Random;

/// What is wrong with a disk.
#[derive(Debug)]
pub(in crate::simulation) enum Damage {
    None,
    /// The last records are gone, which cannot be detected.
    LostTail,
    /// Recovery must report one of these.
    Lost(Vec<Loss>),
    Checksum(Slot, Lsn),
    /// This record has an earlier time than the one before, with correct checksums.
    Time(Slot, Lsn),
    /// The marked row of this file was replaced by another one, with correct checksums.
    Rewritten(String),
    /// Recovery must refuse the disk. Which check fails first depends on the other rows.
    Refused,
}

/// A sign of missing rows.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::simulation) enum Loss {
    /// A slot has later records, but not this one.
    Lsn(Slot, Lsn),
    /// A file has later rows, but not this one.
    Row(String, u64),
    /// A file ends before its mark.
    End(String),
}

impl Damage {
    /// Whether `result` is the right result of a recovery with this damage.
    pub(in crate::simulation) fn fits<T>(&self, result: &Result<T, Refusal>) -> bool {
        match (self, result) {
            (Damage::None | Damage::LostTail, Ok(_)) | (Damage::Refused, Err(_)) => true,
            (Damage::Lost(losses), Err(Refusal { file, error })) => {
                let loss = match error {
                    ReplayError::Gap { slot, expected, .. } => Loss::Lsn(*slot, *expected),
                    ReplayError::Position { expected, .. } => Loss::Row(file.clone(), *expected),
                    ReplayError::Lost { .. } => Loss::End(file.clone()),
                    _ => return false,
                };
                losses.contains(&loss)
            }
            (Damage::Checksum(slot, lsn), Err(Refusal { error, .. })) => {
                matches!(error, ReplayError::Checksum { slot: found, lsn: at } if (slot, lsn) == (found, at))
            }
            (Damage::Time(slot, lsn), Err(Refusal { error, .. })) => {
                matches!(error, ReplayError::Time { slot: found, lsn: at, .. } if (slot, lsn) == (found, at))
            }
            (Damage::Rewritten(file), Err(Refusal { file: found, error })) => {
                file == found && matches!(error, ReplayError::Rewritten { .. })
            }
            (_, Ok(_) | Err(_)) => false,
        }
    }
}

impl Disk {
    /// Loses some of the rows that were not synced, sometimes with all later ones, and some marks.
    pub(in crate::simulation) fn lose_power(&mut self, random: &mut Random) -> Damage {
        let mut lost = Vec::new();
        for file in &mut self.files {
            if random.within(0, 1) == 0 {
                file.mark = file.synced_mark;
            }
            for lie in std::mem::take(&mut file.lies) {
                let lie = match random.within(0, 3) {
                    0 | 1 => lie,
                    2 => *lie.start()..=u64::MAX,
                    _ => continue,
                };
                lost.extend(file.rows.extract_if(.., |row| lie.contains(&row.position)));
            }
        }
        self.damage_of_losing(&lost)
    }

    fn damage_of_losing(&self, lost: &[Row<'_>]) -> Damage {
        if lost.is_empty() {
            return Damage::None;
        }
        let mut losses = Vec::new();
        for slot in lost.iter().map(|row| row.slot) {
            let first = lost.iter().filter(|row| row.slot == slot).map(|row| row.lsn).min();
            let first = first.expect("the slot is that of a lost row");
            if self.files.iter().flat_map(|file| &file.rows).any(|row| row.slot == slot && row.lsn > first) {
                losses.push(Loss::Lsn(slot, first));
            }
        }
        for file in &self.files {
            if file.last_position() < file.mark.row {
                losses.push(Loss::End(file.name.clone()));
            }
            let numbered = (1..).zip(&file.rows).find(|(position, row)| row.position != *position);
            losses.extend(numbered.map(|(position, _)| Loss::Row(file.name.clone(), position)));
        }
        if losses.is_empty() { Damage::LostTail } else { Damage::Lost(losses) }
    }

    /// Damages a file as a disk or an operator could.
    pub(in crate::simulation) fn edit(&mut self, random: &mut Random) -> Damage {
        let all = self.files.iter().enumerate();
        let all: Vec<_> = all.flat_map(|(file, of)| (0..of.rows.len()).map(move |row| (file, row))).collect();
        if all.is_empty() {
            return Damage::None;
        }
        let (file_index, index) = all[random.within(0, all.len() as u64 - 1) as usize];
        let other_index = random.within(0, self.files.len() as u64 - 1) as usize;
        if random.within(0, 12) == 0 {
            return self.rewrite_last(file_index, random);
        }
        let rows = &mut self.files[file_index].rows;
        let row = &mut rows[index];
        match random.within(0, 12) {
            0 | 1 => {
                let lost = rows.remove(index);
                return self.damage_of_losing(&[lost]);
            }
            2 => {
                // The rows after it are renumbered.
                let lost = rows.remove(index);
                rows[index..].iter_mut().for_each(|row| row.position -= 1);
                return self.damage_of_losing(&[lost]);
            }
            3 => {
                // All rows from here on.
                let lost: Vec<_> = rows.drain(index..).collect();
                return self.damage_of_losing(&lost);
            }
            4 => {
                let copy = row.clone();
                rows[index..].iter_mut().for_each(|row| row.position += 1);
                rows.insert(index, copy);
                return Damage::Refused;
            }
            5 => {
                let mut moved = rows.remove(index);
                let other = &mut self.files[other_index];
                if file_index != other_index {
                    moved.position = other.last_position() + 1;
                    other.rows.push(moved);
                    return Damage::Refused;
                }
                return self.damage_of_losing(&[moved]);
            }
            6 => {
                row.epoch = Epoch(row.epoch.0 ^ (1 << random.within(0, 40)));
                return Damage::Refused;
            }
            7 => row.at = Timestamp(row.at.0 ^ (1 << random.within(0, 40))),
            8 => row.chain ^= 1 << random.within(0, 63),
            9 => row.columns.quantity ^= 1 << random.within(0, 31),
            10 => row.columns.user ^= 1 << random.within(0, 31),
            11 => row.columns.number ^= 1 << random.within(0, 31),
            _ => row.columns.body.to_mut().push(0),
        }
        Damage::Checksum(row.slot, row.lsn)
    }

    /// Replaces a file's last row by one with correct checksums.
    fn rewrite_last(&mut self, file_index: usize, random: &mut Random) -> Damage {
        let last = self.files[file_index].rows.last().expect("the file has rows");
        let (slot, lsn) = (last.slot, last.lsn);
        let mut rows = self.files.iter().flat_map(|file| &file.rows);
        let before = rows.find(|row| row.slot == slot && row.lsn.next() == lsn);
        let mut head = SlotHead::empty(self.cluster);
        let before = before.map(|before| (before.chain, before.at));
        head.chain = before.map_or(head.chain, |(chain, _)| chain);
        let SimulatedFile { rows, name, .. } = &mut self.files[file_index];
        let last = rows.last_mut().expect("it was found above");
        let earlier = before.map(|(_, at)| at.0 - 1).filter(|_| random.within(0, 1) == 0);
        last.at = Timestamp(earlier.unwrap_or(last.at.0 + 1));
        last.chain = head.chain_next(&last.stamp(), &last.columns);
        match earlier {
            Some(_) => Damage::Time(slot, lsn),
            None => Damage::Rewritten(name.clone()),
        }
    }
}

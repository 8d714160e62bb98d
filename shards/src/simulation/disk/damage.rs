//! What goes wrong with a disk, and what recovery has to say to it.

use super::replay::Refusal;
use super::{Disk, SimulatedFile};
use crate::ids::{Epoch, Lsn, Slot, Timestamp};
use crate::record::SlotHead;
use crate::replay::{ReplayError, Row};
use crate::simulation::random::Random;

/// What is wrong with a disk, and so what recovery has to say.
#[derive(Debug)]
pub(in crate::simulation) enum Damage {
    None,
    /// The last records are gone, which nobody can tell.
    LostTail,
    /// One of these has to be found.
    Lost(Vec<Loss>),
    Checksum(Slot, Lsn),
    /// Of a file, the row that was marked is another one, and all its checksums are right.
    Rewritten(String),
    /// It depends on what else is on the disk which of the checks sees it first.
    Refused,
}

/// How missing rows show.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::simulation) enum Loss {
    /// A slot goes on behind this lsn, which is not there.
    Lsn(Slot, Lsn),
    /// A file goes on behind this row, which is not there.
    Row(String, u64),
    /// A file ends before its mark.
    End(String),
}

impl Damage {
    /// Whether `result` is what this damage has to lead to.
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
            (Damage::Rewritten(file), Err(Refusal { file: found, error })) => {
                file == found && matches!(error, ReplayError::Rewritten { .. })
            }
            (_, Ok(_) | Err(_)) => false,
        }
    }
}

impl Disk {
    /// Of the lies some turn out, and sometimes take along all that followed. Marks may be old.
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
            let first = first.expect("one was lost");
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

    /// Somebody edits a file, in one of the ways that a disk or an operator has.
    pub(in crate::simulation) fn edit(&mut self, random: &mut Random) -> Damage {
        let all = self.files.iter().enumerate();
        let all: Vec<_> = all.flat_map(|(file, of)| (0..of.rows.len()).map(move |row| (file, row))).collect();
        if all.is_empty() {
            return Damage::None;
        }
        let (file_index, index) = all[random.within(0, all.len() as u64 - 1) as usize];
        let other_index = random.within(0, self.files.len() as u64 - 1) as usize;
        if random.within(0, 12) == 0 {
            return self.rewrite_last(file_index);
        }
        let rows = &mut self.files[file_index].rows;
        let row = &mut rows[index];
        match random.within(0, 12) {
            0 | 1 => {
                let lost = rows.remove(index);
                return self.damage_of_losing(&[lost]);
            }
            2 => {
                // And closes the gap.
                let lost = rows.remove(index);
                rows[index..].iter_mut().for_each(|row| row.position -= 1);
                return self.damage_of_losing(&[lost]);
            }
            3 => {
                // The newest rows, with their journal.
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

    /// Somebody who can make checksums writes a file's last row anew.
    fn rewrite_last(&mut self, file_index: usize) -> Damage {
        let last = self.files[file_index].rows.last().expect("the file has rows");
        let (slot, lsn) = (last.slot, last.lsn);
        let mut rows = self.files.iter().flat_map(|file| &file.rows);
        let before = rows.find(|row| row.slot == slot && row.lsn.next() == lsn);
        let mut head = SlotHead::empty(self.cluster);
        head.chain = before.map_or(head.chain, |before| before.chain);
        let SimulatedFile { rows, name, .. } = &mut self.files[file_index];
        let last = rows.last_mut().expect("looked at above");
        last.at = Timestamp(last.at.0 + 1);
        last.chain = head.chain_next(&last.stamp(), &last.columns);
        Damage::Rewritten(name.clone())
    }
}

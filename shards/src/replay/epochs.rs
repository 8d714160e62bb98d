//! The epochs of a data directory, and the files that hold the records of each.

use serde::{Deserialize, Serialize};

use crate::ids::Epoch;
use crate::limits::SHARD_COUNT_MAX;

/// All epochs of a directory: ranges in order, without gaps, from epoch 1.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Epochs {
    ranges: Vec<EpochRange>,
}

/// Consecutive epochs with the same files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EpochRange {
    pub first: Epoch,
    pub last: Epoch,
    /// File i holds the slots of shard i; their count is the shard count.
    pub files: Vec<String>,
}

impl EpochRange {
    /// The index of the file that a slot was written to.
    pub fn file_of_slot(&self, slot: usize) -> usize {
        slot % self.files.len()
    }
}

impl Epochs {
    /// # Errors
    ///
    /// If starts of a server cannot have written these ranges: what is wrong with them.
    pub fn check(&self) -> Result<(), String> {
        let mut due = Epoch(1);
        for range in &self.ranges {
            if range.first != due || range.last < range.first {
                return Err(format!("epochs are not in order at {}", range.first.0));
            }
            if range.files.is_empty() || range.files.len() > SHARD_COUNT_MAX {
                return Err(format!("epoch {} has {} files", range.first.0, range.files.len()));
            }
            if let Some(name) = range.files.iter().find(|name| name.contains(['/', '\0'])) {
                return Err(format!("{name:?} is no file name"));
            }
            if (1..range.files.len()).any(|index| range.files[..index].contains(&range.files[index])) {
                return Err(format!("epoch {} names a file twice", range.first.0));
            }
            due = range.last.0.checked_add(1).map(Epoch).ok_or("its epochs never end")?;
        }
        if self.ranges.is_empty() {
            return Err("it has no epochs".to_owned());
        }
        Ok(())
    }

    /// Adds one epoch, which is written to `files`.
    pub fn add(&mut self, files: Vec<String>) {
        let next = Epoch(self.last().0 + 1);
        match self.ranges.last_mut() {
            Some(range) if range.files == files => range.last = next,
            Some(_) | None => self.ranges.push(EpochRange { first: next, last: next, files }),
        }
    }

    pub fn ranges(&self) -> &[EpochRange] {
        &self.ranges
    }

    /// The last epoch; 0 before the first.
    pub fn last(&self) -> Epoch {
        self.ranges.last().map_or(Epoch(0), |range| range.last)
    }

    pub fn last_shard_count(&self) -> Option<usize> {
        self.ranges.last().map(|range| range.files.len())
    }

    /// The names of all files, each once.
    pub fn file_names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.ranges.iter().flat_map(|range| range.files.clone()).collect();
        names.sort();
        names.dedup();
        names
    }
}

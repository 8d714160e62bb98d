//! The manifest: which epochs there were, and which files hold each.
//!
//! Written whole and renamed into place, so that it is always the old one or
//! the new one. Everything else in the directory is judged by it.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{RecoveryError, io_error, sync_directory};
use crate::ids::Epoch;
use crate::limits::SHARD_COUNT_MAX;

const FILE_NAME: &str = "manifest.json";
/// Of this file, and of what it says about the others. 1 had no marks beside its log files.
const FORMAT: u32 = 2;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Manifest {
    format: u32,
    #[serde(with = "hex")]
    pub(crate) cluster: u64,
    /// In order, without gaps, from epoch 1.
    pub(crate) epochs: Vec<EpochRange>,
}

/// Consecutive epochs with the same files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct EpochRange {
    pub(crate) first: Epoch,
    pub(crate) last: Epoch,
    /// File i holds the slots of shard i; their count is the shard count.
    pub(crate) files: Vec<String>,
}

impl EpochRange {
    /// The index of the file that a slot was written to.
    pub(crate) fn file_of_slot(&self, slot: usize) -> usize {
        slot % self.files.len()
    }
}

impl Manifest {
    pub(crate) fn new(cluster: u64) -> Manifest {
        Manifest { format: FORMAT, cluster, epochs: Vec::new() }
    }

    /// `None` when there is none: nothing was ever written here.
    pub(super) fn read(directory: &Path) -> Result<Option<Manifest>, RecoveryError> {
        let path = directory.join(FILE_NAME);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io_error("read", &path)(error)),
        };
        let parsed = serde_json::from_slice(&text).map_err(|error| error.to_string());
        match parsed.and_then(Manifest::checked) {
            Ok(manifest) => Ok(Some(manifest)),
            Err(reason) => Err(RecoveryError::Manifest { path, reason }),
        }
    }

    fn checked(self) -> Result<Manifest, String> {
        if self.format != FORMAT {
            return Err(format!("its format is {}, this version knows {FORMAT}", self.format));
        }
        let mut due = Epoch(1);
        for range in &self.epochs {
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
        if self.epochs.is_empty() {
            return Err("it has no epochs".to_owned());
        }
        Ok(self)
    }

    pub(crate) fn with_next_epoch(mut self, files: Vec<String>) -> Manifest {
        let next = Epoch(self.last_epoch().0 + 1);
        match self.epochs.last_mut() {
            Some(range) if range.files == files => range.last = next,
            Some(_) | None => self.epochs.push(EpochRange { first: next, last: next, files }),
        }
        self
    }

    pub(super) fn write(&self, directory: &Path) -> Result<(), RecoveryError> {
        let path = directory.join(FILE_NAME);
        let temporary = directory.join("manifest.json.new");
        let write = || {
            let mut file = File::create(&temporary)?;
            file.write_all(&serde_json::to_vec_pretty(self)?)?;
            file.sync_all()?;
            fs::rename(&temporary, &path)
        };
        write().map_err(io_error("write", &path))?;
        sync_directory(directory)
    }

    /// 0 before the first.
    pub(crate) fn last_epoch(&self) -> Epoch {
        self.epochs.last().map_or(Epoch(0), |range| range.last)
    }

    pub(crate) fn last_shard_count(&self) -> Option<usize> {
        self.epochs.last().map(|range| range.files.len())
    }

    /// Each file once.
    pub(super) fn file_names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.epochs.iter().flat_map(|range| range.files.clone()).collect();
        names.sort();
        names.dedup();
        names
    }
}

/// A cluster id as text, since JSON's numbers are not safe above 2^53.
mod hex {
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(cluster: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{cluster:016x}"))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        let text = String::deserialize(deserializer)?;
        u64::from_str_radix(&text, 16).map_err(serde::de::Error::custom)
    }
}

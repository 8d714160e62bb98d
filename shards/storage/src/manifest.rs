//! The manifest: the epochs so far, and the files of each.
//!
//! It is written to a new file, which is renamed into place, so it is always either the old manifest or
//! the new one. Everything else in the directory is checked against it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use shards::ids::Epoch;
use shards::replay::{EpochRange, Epochs};

use crate::directory::replace_file;
use crate::error::{RecoveryError, io_error};
use crate::schema::FORMAT;

pub(crate) const FILE_NAME: &str = "manifest.json";

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Manifest {
    format: i32,
    #[serde(with = "hex")]
    pub(crate) cluster: u64,
    pub(crate) epochs: Epochs,
    /// The last epoch for which all files were claimed. A file that was claimed last in an earlier one is an
    /// older copy.
    #[serde(default)]
    pub(crate) claimed: Epoch,
}

/// The member that a manifest of any format has.
#[derive(Deserialize)]
struct AnyFormat {
    format: i64,
}

impl Manifest {
    pub(crate) fn new(cluster: u64) -> Manifest {
        Manifest { format: FORMAT, cluster, epochs: Epochs::default(), claimed: Epoch(0) }
    }

    /// Reads the manifest; `None` if there is none, as in a new directory.
    pub(crate) fn read(directory: &Path) -> Result<Option<Manifest>, RecoveryError> {
        let path = directory.join(FILE_NAME);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io_error("read", &path)(error)),
        };
        Manifest::parse(&text, path).map(Some)
    }

    /// Reads the content of a manifest. `path` is where it was found.
    pub(crate) fn parse(text: &[u8], path: PathBuf) -> Result<Manifest, RecoveryError> {
        // The format is read first, since a manifest of another format may have other members.
        if let Ok(AnyFormat { format }) = serde_json::from_slice(text)
            && format != i64::from(FORMAT)
        {
            return Err(RecoveryError::of_format(path, format));
        }
        let parsed = serde_json::from_slice(text).map_err(|error| error.to_string());
        parsed.and_then(Manifest::checked).map_err(|reason| RecoveryError::Manifest { path, reason })
    }

    fn checked(self) -> Result<Manifest, String> {
        self.epochs.check()?;
        if self.claimed > self.epochs.last() {
            return Err(format!("epoch {} was claimed and never started", self.claimed.0));
        }
        Ok(self)
    }

    /// The error of a manifest that does not know the epoch in which a file was last claimed. The next epoch
    /// would then be one that a process may already use.
    fn is_older(&self, directory: &Path, file: &str, epoch: Epoch) -> RecoveryError {
        let (known, used) = (self.epochs.last().0, epoch.0);
        let reason =
            format!("it ends with epoch {known}, and {file} was used in epoch {used}: an older copy");
        RecoveryError::Manifest { path: directory.join(FILE_NAME), reason }
    }

    /// Checks the epoch in which a file was last claimed.
    pub(crate) fn check_claim(
        &self,
        directory: &Path,
        file: &str,
        epoch: Epoch,
    ) -> Result<(), RecoveryError> {
        if epoch > self.epochs.last() {
            return Err(self.is_older(directory, file, epoch));
        }
        // A crash may leave a file that was made for an epoch and never claimed.
        let is_claimed =
            |range: &EpochRange| range.first <= self.claimed && range.files.iter().any(|name| name == file);
        if epoch < self.claimed && self.epochs.ranges().iter().any(is_claimed) {
            return Err(RecoveryError::OlderCopy {
                path: directory.join(file),
                epoch,
                claimed: self.claimed,
            });
        }
        Ok(())
    }

    /// The content of the manifest's file.
    pub(crate) fn text(&self) -> String {
        serde_json::to_string_pretty(self).expect("text and numbers")
    }

    pub(crate) fn write(&self, directory: &Path) -> Result<(), RecoveryError> {
        replace_file(directory, FILE_NAME, self.text().as_bytes())
            .map_err(io_error("write", &directory.join(FILE_NAME)))
    }
}

/// A cluster id as text, since JSON's numbers are not safe above 2^53.
mod hex {
    use serde::{Deserialize, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(cluster: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{cluster:016x}"))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        let text = String::deserialize(deserializer)?;
        u64::from_str_radix(&text, 16).map_err(serde::de::Error::custom)
    }
}

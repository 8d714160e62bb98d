//! Secrets that whoever starts the program gives it: in a variable, in a file that a variable names, or as a
//! credential of systemd.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// A secret that may be given.
pub(crate) struct Given {
    /// The variable that has the secret.
    pub(crate) variable: &'static str,
    /// The variable that names a file with it.
    pub(crate) file_variable: &'static str,
    /// The name of systemd's credential (systemd.exec(5), `LoadCredential=`).
    pub(crate) credential: &'static str,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum GivenError {
    #[error("set {0} or {1}, not both")]
    Twice(&'static str, &'static str),
    #[error("read {}, which {variable} names: {source}", path.display())]
    Unreadable { path: PathBuf, variable: &'static str, source: io::Error },
}

impl Given {
    /// The secret, and where it comes from; `None` if none is given. Of a file, without the spaces around it.
    ///
    /// # Errors
    ///
    /// When it is given twice, or its file cannot be read.
    pub(crate) fn read(&self) -> Result<Option<(String, Vec<u8>)>, GivenError> {
        match (env::var_os(self.variable), env::var_os(self.file_variable)) {
            (Some(_), Some(_)) => Err(GivenError::Twice(self.variable, self.file_variable)),
            (Some(secret), None) => Ok(Some((self.variable.to_owned(), secret.into_vec()))),
            (None, Some(path)) => self.read_file(Path::new(&path), self.file_variable).map(Some),
            (None, None) => {
                match env::var_os("CREDENTIALS_DIRECTORY").map(|folder| self.credential(folder)) {
                    Some(path) if path.exists() => self.read_file(&path, "CREDENTIALS_DIRECTORY").map(Some),
                    _ => Ok(None),
                }
            }
        }
    }

    fn credential(&self, folder: OsString) -> PathBuf {
        Path::new(&folder).join(self.credential)
    }

    fn read_file(&self, path: &Path, variable: &'static str) -> Result<(String, Vec<u8>), GivenError> {
        let read = fs::read(path);
        let secret =
            read.map_err(|source| GivenError::Unreadable { path: path.to_owned(), variable, source })?;
        Ok((path.display().to_string(), secret.trim_ascii().to_vec()))
    }
}

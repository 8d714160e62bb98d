//! The secret that signs tokens: given at the start, or created once in the data directory.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::given_secret::{Given, GivenError};
use crate::random;

/// The minimum key size of HMAC-SHA-256 (RFC 7518 section 3.2).
const SECRET_BYTES_MIN: usize = 32;

pub(crate) const FILE_NAME: &str = "token-secret";

/// What takes precedence over the file of the data directory.
pub(crate) const GIVEN: Given = Given {
    variable: "BOXOFFICE_TOKEN_SECRET",
    file_variable: "BOXOFFICE_TOKEN_SECRET_FILE",
    credential: "token-secret",
};

#[derive(Debug, thiserror::Error)]
pub(crate) enum SecretError {
    #[error(
        "{place} has {found} bytes, but a token secret needs at least {SECRET_BYTES_MIN}; \
         create one with: openssl rand -hex 32"
    )]
    ShortGiven { place: String, found: usize },
    #[error(transparent)]
    Given(#[from] GivenError),
    #[error(
        "{} has {found} bytes, but a token secret needs at least {SECRET_BYTES_MIN}; \
         remove the file, and the server creates a new one (all tokens become invalid)",
        path.display()
    )]
    ShortFile { path: PathBuf, found: usize },
    #[error("{} is accessible to other users (mode {mode:03o}); run: chmod 600 {}", path.display(), path.display())]
    Exposed { path: PathBuf, mode: u32 },
    #[error("{action} {}: {source}", path.display())]
    Io { action: &'static str, path: PathBuf, source: io::Error },
}

impl SecretError {
    /// Whether there was no room for the file.
    pub(crate) fn is_no_room(&self) -> bool {
        matches!(self, SecretError::Io { source, .. } if storage::is_no_room(source))
    }
}

/// Creates a secret that is valid until the server exits.
pub(crate) fn ephemeral() -> Vec<u8> {
    random::bytes::<32>().to_vec()
}

/// The secret that whoever starts the server gives it, if there is one.
///
/// # Errors
///
/// When it cannot be read, or is too short.
pub(crate) fn given() -> Result<Option<Vec<u8>>, SecretError> {
    match GIVEN.read()? {
        Some((place, secret)) if secret.len() < SECRET_BYTES_MIN => {
            Err(SecretError::ShortGiven { place, found: secret.len() })
        }
        given => Ok(given.map(|(_, secret)| secret)),
    }
}

/// Reads the secret of the data directory, and creates it first if there is none.
///
/// # Errors
///
/// When the secret cannot be read or created, is too short, or other users can access it.
pub(crate) fn from_directory(directory: &Path) -> Result<Vec<u8>, SecretError> {
    let path = directory.join(FILE_NAME);
    match fs::read(&path) {
        Ok(text) => {
            let metadata = fs::metadata(&path).map_err(failed("read", &path))?;
            let mode = metadata.permissions().mode() & 0o777;
            if mode & 0o077 != 0 {
                return Err(SecretError::Exposed { path, mode });
            }
            let secret = text.trim_ascii().to_vec();
            if secret.len() < SECRET_BYTES_MIN {
                return Err(SecretError::ShortFile { path, found: secret.len() });
            }
            Ok(secret)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => create(directory, &path),
        Err(error) => Err(failed("read", &path)(error)),
    }
}

fn create(directory: &Path, path: &Path) -> Result<Vec<u8>, SecretError> {
    let secret: String = random::bytes::<32>().iter().map(|byte| format!("{byte:02x}")).collect();
    storage::replace_file(directory, FILE_NAME, secret.as_bytes()).map_err(failed("write", path))?;
    Ok(secret.into_bytes())
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> SecretError {
    let path = path.to_owned();
    move |source| SecretError::Io { action, path, source }
}

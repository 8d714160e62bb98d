//! The secret that signs tokens: given from outside, or made once and kept.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::random;

/// What HMAC-SHA-256 makes use of (RFC 7518 section 3.2).
const SECRET_BYTES_MIN: usize = 32;

const FILE_NAME: &str = "token-secret";

/// The variable that has precedence over the file.
pub(crate) const VARIABLE: &str = "BOXOFFICE_TOKEN_SECRET";

#[derive(Debug, thiserror::Error)]
pub(crate) enum SecretError {
    #[error(
        "{VARIABLE} has {0} bytes, a token secret needs at least {SECRET_BYTES_MIN}; try: openssl rand -hex 32"
    )]
    ShortVariable(usize),
    #[error(
        "{} has {found} bytes, a token secret needs at least {SECRET_BYTES_MIN}; \
         remove the file to have a new one made (every token ends then)",
        path.display()
    )]
    ShortFile { path: PathBuf, found: usize },
    #[error("{} can be read by others (mode {mode:03o}); run: chmod 600 {}", path.display(), path.display())]
    Exposed { path: PathBuf, mode: u32 },
    #[error("{action} {}: {source}", path.display())]
    Io { action: &'static str, path: PathBuf, source: io::Error },
}

/// A secret for one life of the server.
pub(crate) fn ephemeral() -> Vec<u8> {
    random::bytes::<32>().to_vec()
}

/// The secret from the environment, when it is there.
///
/// # Errors
///
/// When it is too short to be one.
pub(crate) fn from_environment() -> Result<Option<Vec<u8>>, SecretError> {
    match std::env::var_os(VARIABLE).map(std::os::unix::ffi::OsStringExt::into_vec) {
        Some(secret) if secret.len() < SECRET_BYTES_MIN => Err(SecretError::ShortVariable(secret.len())),
        secret => Ok(secret),
    }
}

/// The data directory's own secret, made at the first call.
///
/// # Errors
///
/// When it cannot be read or made, is too short, or others can read it.
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
    // Renamed into place whole: a crash never leaves half a secret.
    let temporary = directory.join("token-secret.new");
    let write = || -> io::Result<()> {
        let mut file =
            File::options().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        file.write_all(secret.as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        File::open(directory)?.sync_all()
    };
    write().map_err(failed("write", path))?;
    Ok(secret.into_bytes())
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> SecretError {
    let path = path.to_owned();
    move |source| SecretError::Io { action, path, source }
}

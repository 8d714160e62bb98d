//! What this program is.

use std::sync::LazyLock;

pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The commit that it was built from, as the packages' build says it.
pub(crate) const COMMIT: Option<&str> = option_env!("BOXOFFICE_COMMIT");

/// Version, commit, and the version of the SQLite in it.
pub(crate) static LONG: LazyLock<String> = LazyLock::new(|| {
    let commit = COMMIT.map(|commit| format!("commit {commit}, ")).unwrap_or_default();
    format!("{VERSION} ({commit}SQLite {})", storage::sqlite_version())
});

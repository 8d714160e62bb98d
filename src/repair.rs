//! `boxoffice repair`: brings up a data directory whose logs are whole, but which lost something beside them.

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use jiff::Timestamp;
use storage::{Finding, RecoveryError, Repair};

use crate::server::{keep_secrets, recovery_hint};

/// What scripts can rely on.
pub(crate) const EXIT_CODES: &str = "\
Exit codes:
  0  nothing is to be done, or it was done
  1  it failed, or something is damaged that cannot be repaired; restore a backup
  3  something is to be done: run it again with --write
  4  something is to be done of which nothing proves that no record is missing: restore a newer
     backup, or run it again with --write --accept-unproven";

#[derive(Debug, thiserror::Error)]
#[error("{0}{hint}", hint = hint(.0))]
pub(crate) struct RepairError(#[from] RecoveryError);

/// The repair's own advice is not to repair.
fn hint(error: &RecoveryError) -> String {
    if error.may_be_repaired().is_some() {
        "\n  nothing was changed, and this cannot be repaired without losing records: restore a backup"
            .to_owned()
    } else {
        recovery_hint(error).into_owned()
    }
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Done,
    NeedsWrite,
    NeedsConsent,
}

impl From<Outcome> for ExitCode {
    fn from(outcome: Outcome) -> ExitCode {
        match outcome {
            Outcome::Done => ExitCode::SUCCESS,
            Outcome::NeedsWrite => ExitCode::from(3),
            Outcome::NeedsConsent => ExitCode::from(4),
        }
    }
}

/// Prints what is to be repaired, and repairs it if `write` is set, and if everything is proved or accepted.
///
/// # Errors
///
/// When the directory is in use, or something cannot be read or repaired.
pub(crate) fn run(directory: &Path, write: bool, accept_unproven: bool) -> Result<Outcome, RepairError> {
    keep_secrets();
    let repair = Repair::plan(directory)?;
    let findings = repair.findings();
    for finding in findings {
        say(&in_words(finding));
    }
    let data = directory.display();
    let is_accepted = accept_unproven || findings.iter().all(Finding::is_proven);
    if findings.is_empty() {
        say(&format!("{data}: nothing to repair"));
        return Ok(Outcome::Done);
    }
    if !is_accepted {
        say(&format!(
            "Nothing was changed. If there is a backup that is newer, restore it. Otherwise, this accepts that records \
             may be missing:\n  boxoffice repair --data {data} --write --accept-unproven"
        ));
        return Ok(Outcome::NeedsConsent);
    }
    if !write {
        let accept = if accept_unproven { " --accept-unproven" } else { "" };
        say(&format!("Nothing was changed. To do this:\n  boxoffice repair --data {data} --write{accept}"));
        return Ok(Outcome::NeedsWrite);
    }
    for (name, kept) in repair.run()? {
        say(&format!("kept {} as {}", name.display(), kept.display()));
    }
    say("Done: the server can be started");
    Ok(Outcome::Done)
}

fn in_words(finding: &Finding) -> String {
    match finding {
        Finding::Manifest { path, reason, epoch } => format!(
            "{}: {reason}\n  The log files have a copy of the last start, of epoch {}, and each file is there that it \
             names. It becomes the manifest.",
            path.display(),
            epoch.0
        ),
        Finding::Mark { path, reason, records, last, is_proven } => {
            let mark = path.display();
            let whole = match last.and_then(|last| Timestamp::from_millisecond(last.0.cast_signed()).ok()) {
                Some(last) => {
                    format!("The {records} records of its log are whole, the last one is of {last:.3}.")
                }
                None => "Its log has no records.".to_owned(),
            };
            let end = if *is_proven {
                "The log was closed in order after that, so none is missing. It gets a new mark."
            } else {
                "NOT PROVED: that this is the end of the log. It was not closed in order, as after a kill or a power \
                 cut, or the manifest is lost, too. If nothing but the mark was lost, all records are there. If its journal (-wal) or the log itself \
                 was removed, cut or replaced too, later records are missing, and what they sold would be sold again."
            };
            format!("{mark}: {reason}\n  {whole}\n  {end}")
        }
        Finding::Journal { path } => format!(
            "{}: its header is damaged\n  The log goes as far as its mark without it, so it had no records that are not \
             in the log. It is renamed.",
            path.display()
        ),
        Finding::Stranger { path } => format!(
            "{}: not a log of this directory under its own name, and the manifest does not name it\n  It is renamed, \
             with the files that belong to it.",
            path.display()
        ),
    }
}

/// Prints lines. They can be lost, but not end the repair.
fn say(lines: &str) {
    let _ = writeln!(io::stdout(), "{lines}");
}

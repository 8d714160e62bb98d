//! Checks every row of the log files of a directory: epoch by epoch, with the files of an epoch in parallel.

use std::thread;

use shards::ids::EventId;
use shards::log::Replay;
use shards::replay::{RangeCheck, Row, check_ranges, left_over};
use shards::shard::SlotHeads;

use crate::error::{RecoveryError, in_file};
use crate::manifest::Manifest;
use crate::named_file::NamedLog;
use crate::replay::{join_thread, start_thread};

/// Checks every row of every file, and gives the records to `replay`. Returns the head of every slot.
///
/// # Errors
///
/// When a file cannot be read, or a row is not as it was written.
pub(crate) fn check_rows(
    manifest: &Manifest,
    logs: &mut [&mut NamedLog],
    replay: &dyn Replay,
) -> Result<SlotHeads, RecoveryError> {
    let heads = check_ranges(
        manifest.cluster,
        &manifest.epochs,
        logs,
        |log| &log.name,
        |readings| {
            thread::scope(|scope| {
                let threads: Result<Vec<_>, _> = readings
                    .into_iter()
                    .map(|(log, check)| start_thread(scope, || read_log(log, check, replay)))
                    .collect();
                // Waits for all threads, even if the first one fails.
                let checks: Vec<_> = threads?.into_iter().map(join_thread).collect();
                checks.into_iter().collect()
            })
        },
    )?;
    for log in logs {
        let path = log.file.path();
        let refuse = |row: &Row<'_>| Err(in_file(path)(left_over(&manifest.epochs, row)));
        log.file.rows_after(log.extent.end.row, refuse)?;
    }
    Ok(heads)
}

/// Checks the log's rows of one range, and gives their records to `replay`.
fn read_log<'a>(
    log: &mut NamedLog,
    mut check: RangeCheck<'a>,
    replay: &dyn Replay,
) -> Result<RangeCheck<'a>, RecoveryError> {
    let mut receive = replay.receiver();
    let NamedLog { file, extent, .. } = log;
    let mut index = file.index().lock();
    file.rows_after(extent.end.row, |row| -> Result<bool, RecoveryError> {
        let Some(record) = check.take(extent, row).map_err(in_file(file.path()))? else { return Ok(false) };
        index.add(row.position, row.slot, row.lsn, EventId(row.columns.event));
        receive(row.slot, row.lsn, row.at, record);
        Ok(true)
    })?;
    Ok(check)
}

//! A start without room: it reads and writes nothing, and claims its files later, if nobody wrote them meanwhile.

#![allow(clippy::unwrap_used, reason = "a test's unwrap is an assertion, in its helpers too")]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use rusqlite::Connection;
use shards::clock::Now;
use shards::command::{Ask, Buyer, Command};
use shards::ids::{EventId, Quantity, Timestamp, UserId};
use shards::log::{AppendError, Log, RollbackCause};
use shards::shard::Shard;
use storage::{Progress, Recovered, WaitingLog};
use support::{ADMIN, Office, copy_directory};

const EVENTS: &str = "event 1 quota 100 | event 2 quota 100 | reserve 1 for 1 2";

/// Makes a directory as a killed process leaves it, with records in the journal, or as one that ended in order.
fn left(directory: &Path, killed: bool) {
    let mut office = Office::open(directory, 1);
    office.run(EVENTS);
    if killed {
        let kept = tempfile::tempdir().unwrap();
        copy_directory(directory, kept.path());
        drop(office);
        copy_directory(kept.path(), directory);
        fs::remove_file(directory.join("shard-00.sqlite-shm")).unwrap();
    }
}

fn contents(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(directory).unwrap().map(Result::unwrap);
    entries.map(|entry| (format!("{:?}", entry.file_name()), fs::read(entry.path()).unwrap())).collect()
}

fn wait(directory: &Path, shard_count: usize) -> Recovered<WaitingLog> {
    storage::open_without_room(directory, shard_count, &Progress::default()).unwrap()
}

#[test]
fn a_start_without_room_writes_nothing_and_claims_later() {
    for killed in [true, false] {
        let data = tempfile::tempdir().unwrap();
        left(data.path(), killed);
        let before = contents(data.path());
        let mut recovered = wait(data.path(), 1);
        assert!(contents(data.path()) == before, "killed: {killed}: something was written");
        recovered.files.check().unwrap();
        let (state, mut log) = recovered.shards.remove(0);
        let mut shard: Shard<()> =
            Shard::new(state, &recovered.heads, recovered.epoch).refusing(RollbackCause::NoRoom);
        log.probe().unwrap();
        recovered.files.check().unwrap();
        shard.resume();
        let reserve = Command::Reserve {
            event: EventId(1),
            actor: ADMIN,
            buyer: Buyer::Account(UserId(2)),
            quantity: Quantity::new(3).unwrap(),
        };
        shard.take_in(Now::at(Timestamp(1_700_000_009_000)), Ask::Command(reserve), ());
        let batch = shard.begin_commit().unwrap();
        log.append(&batch.entries, Duration::ZERO).unwrap();
        drop((log, recovered));
        let epoch = Office::open(data.path(), 1).recovered.epoch;
        assert_eq!(epoch.0, 3, "the claim started the epoch that was named");
        assert_eq!(Office::open(data.path(), 1).recovered.record_count, 4);
    }
}

/// As a `sqlite3` shell does with a log that no process has open: it writes the journal back and removes it.
#[test]
fn a_start_without_room_survives_a_shell_that_writes_the_journal_back() {
    let data = tempfile::tempdir().unwrap();
    left(data.path(), true);
    let mut recovered = wait(data.path(), 1);
    let shell = Connection::open(data.path().join("shard-00.sqlite")).unwrap();
    let rows = shell.query_row("SELECT count(*) FROM record", [], |row| row.get::<_, u32>(0)).unwrap();
    assert_eq!(rows, 3);
    shell.close().unwrap();
    assert!(!data.path().join("shard-00.sqlite-wal").exists());
    recovered.files.check().unwrap();
    recovered.shards[0].1.probe().unwrap();
    recovered.files.check().unwrap();
    drop(recovered);
    assert_eq!(Office::open(data.path(), 1).recovered.record_count, 3);
}

/// The shard count changes, so the claim makes files.
#[test]
fn a_late_claim_makes_the_files_of_new_shards() {
    let data = tempfile::tempdir().unwrap();
    left(data.path(), true);
    let mut recovered = wait(data.path(), 3);
    for (_, log) in &mut recovered.shards {
        log.probe().unwrap();
    }
    drop(recovered);
    let office = Office::open(data.path(), 2);
    assert_eq!((office.recovered.epoch.0, office.recovered.record_count), (3, 3));
}

/// A directory with links to the same files has a lock of its own.
#[test]
fn files_that_another_process_wrote_meanwhile_are_not_claimed() {
    let data = tempfile::tempdir().unwrap();
    left(data.path(), false);
    let mut recovered = wait(data.path(), 1);
    let other = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(data.path()).unwrap() {
        let entry = entry.unwrap();
        fs::hard_link(entry.path(), other.path().join(entry.file_name())).unwrap();
    }
    let mut office = Office::open(other.path(), 1);
    office.run("reserve 1 for 3 1");
    drop(office);
    let probed = recovered.shards[0].1.probe();
    let Err(AppendError::Unknown(error)) = probed else { panic!("{probed:?}") };
    assert!(error.to_string().contains("another process has written it"), "{error}");
    drop(recovered);
    assert_eq!(Office::open(other.path(), 1).recovered.record_count, 4);
}

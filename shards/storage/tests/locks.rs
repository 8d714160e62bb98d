//! Other programs at a log file: a writer, a checkpoint, a reader that outlives the server, a second server.

#![allow(clippy::unwrap_used, reason = "a test's unwrap is an assertion, in its helpers too")]

mod support;

use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

use rusqlite::Connection;
use shards::log::{AppendError, Log, RollbackCause};
use shards::record::Entry;
use support::{Office, assert_same, copy_directory};

const LOG: &str = "shard-00.sqlite";
const JOURNAL: &str = "shard-00.sqlite-wal";
const EVENTS: &str = "event 1 quota 100 | event 2 quota 100 | event 3 quota 100 | event 4 quota 100";
/// A wait that ends because the lock is released.
const LONG: Duration = Duration::from_secs(60);

/// A connection as another program has one. Statements wait for locks for up to [`LONG`].
fn another_program(directory: &Path) -> Connection {
    let connection = Connection::open(directory.join(LOG)).unwrap();
    connection.busy_timeout(LONG).unwrap();
    connection
}

/// An office of one shard with some events, and a batch that is not yet appended.
fn office_with_batch(directory: &Path) -> (Office, Vec<Entry>) {
    let mut office = Office::open(directory, 1);
    office.run(EVENTS);
    office.apply("reserve 1 for 1 2 | reserve 4 for 1 1");
    let batch = office.shards[0].0.begin_commit().unwrap();
    (office, batch.entries)
}

fn is_locked<T>(result: &Result<T, AppendError>) -> bool {
    matches!(result, Err(AppendError::RolledBack { cause: RollbackCause::Locked, .. }))
}

fn reserved(directory: &Path) -> u32 {
    Office::open(directory, 1).totals().reserved.try_into().unwrap()
}

#[test]
fn a_locked_log_stores_nothing_and_goes_on_when_it_is_unlocked() {
    let directory = tempfile::tempdir().unwrap();
    let (mut office, batch) = office_with_batch(directory.path());
    let log = &mut office.shards[0].1;
    let other = another_program(directory.path());
    for wait in [Duration::ZERO, Duration::from_millis(100)] {
        other.execute_batch("BEGIN IMMEDIATE").unwrap();
        let refused = log.append(&batch, wait);
        assert!(is_locked(&refused), "{refused:?}");
        assert!(refused.unwrap_err().to_string().contains(LOG), "the error names the file");
        assert!(is_locked(&log.probe()));
        log.maintain().unwrap();
        other.execute_batch("ROLLBACK").unwrap();
        log.probe().unwrap();
    }
    log.append(&batch, Duration::ZERO).unwrap();
    drop(office);
    assert_eq!(reserved(directory.path()), 3);
}

#[test]
fn a_commit_waits_for_a_lock() {
    let directory = tempfile::tempdir().unwrap();
    let (mut office, batch) = office_with_batch(directory.path());
    let other = another_program(directory.path());
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    thread::scope(|scope| {
        scope.spawn(move || {
            thread::sleep(Duration::from_millis(200));
            other.execute_batch("ROLLBACK").unwrap();
        });
        office.shards[0].1.append(&batch, LONG).unwrap();
    });
    drop(office);
    assert_eq!(reserved(directory.path()), 3);
}

/// A truncating checkpoint has the write lock until all readers have ended.
#[test]
fn a_checkpoint_that_waits_for_a_reader_locks_the_log() {
    let directory = tempfile::tempdir().unwrap();
    let (mut office, batch) = office_with_batch(directory.path());
    let reader = another_program(directory.path());
    reader.execute_batch("BEGIN; SELECT count(*) FROM record").unwrap();
    let log = &mut office.shards[0].1;
    log.append(&batch, Duration::ZERO).unwrap();
    thread::scope(|scope| {
        let checkpoint = scope.spawn(|| {
            let other = another_program(directory.path());
            other.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, i64>(0)).unwrap()
        });
        let watcher = another_program(directory.path());
        watcher.busy_timeout(Duration::ZERO).unwrap();
        while watcher.execute_batch("BEGIN IMMEDIATE; ROLLBACK").is_ok() {
            thread::sleep(Duration::from_millis(1));
        }
        assert!(is_locked(&log.probe()));
        log.maintain().unwrap();
        reader.execute_batch("COMMIT").unwrap();
        assert_eq!(checkpoint.join().unwrap(), 0, "it is done");
    });
    log.probe().unwrap();
    drop(office);
    assert_eq!(reserved(directory.path()), 3);
}

/// Directories whose files are the same, so that the lock of one does not keep a process out of the other.
fn linked(directory: &Path) -> tempfile::TempDir {
    let other = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        fs::hard_link(entry.path(), other.path().join(entry.file_name())).unwrap();
    }
    other
}

#[test]
fn a_process_whose_files_were_claimed_appends_nothing_more() {
    for shard_count in [1, 2] {
        let first = tempfile::tempdir().unwrap();
        let (mut office, batch) = office_with_batch(first.path());
        let second = linked(first.path());
        let watch = office.recovered.files.clone();
        watch.check().unwrap();
        let mut other = Office::open(second.path(), shard_count);
        // Without a commit, too.
        let noticed = watch.check().unwrap_err().to_string();
        for append in [true, false] {
            let log = &mut office.shards[0].1;
            let refused = if append { log.append(&batch, LONG).map(drop) } else { log.probe() };
            assert!(matches!(&refused, Err(AppendError::Fenced(_))), "{refused:?}");
            let message = refused.unwrap_err().to_string();
            assert!(message.contains("claimed it in epoch 2") && message.contains(LOG), "{message}");
            assert_eq!(message, noticed);
        }
        other.run("reserve 1 for 1 100 | reserve 2 for 1 7");
        drop((office, other));
        assert_eq!(reserved(second.path()), 107);
    }
}

/// It waits for the lock of the one that starts, and then it is too late.
#[test]
fn a_process_appends_nothing_while_another_one_starts() {
    let first = tempfile::tempdir().unwrap();
    let (mut office, batch) = office_with_batch(first.path());
    let starting = another_program(first.path());
    starting.execute_batch("BEGIN IMMEDIATE; UPDATE header SET epoch = 2").unwrap();
    let log = &mut office.shards[0].1;
    assert!(is_locked(&log.append(&batch, Duration::ZERO)));
    starting.execute_batch("COMMIT").unwrap();
    assert!(matches!(log.append(&batch, Duration::ZERO), Err(AppendError::Fenced(_))));
}

#[test]
fn rows_that_another_program_wrote_or_deleted_are_noticed() {
    for change in [
        "INSERT INTO record SELECT position + 1, slot, epoch, lsn, at, kind, event, number, user, quantity, body, \
         chain FROM record ORDER BY position DESC LIMIT 1",
        "DELETE FROM record WHERE position = (SELECT max(position) FROM record)",
    ] {
        let directory = tempfile::tempdir().unwrap();
        let (mut office, batch) = office_with_batch(directory.path());
        let other = another_program(directory.path());
        let rows = || other.query_row("SELECT count(*) FROM record", [], |row| row.get::<_, i64>(0)).unwrap();
        assert_eq!(other.execute(change, []), Ok(1));
        let before = rows();
        let refused = office.shards[0].1.append(&batch, Duration::ZERO);
        assert!(matches!(refused, Err(AppendError::Unknown(_))), "{refused:?}");
        drop(office);
        assert_eq!(rows(), before, "nothing of the batch is there");
    }
}

/// An older manifest would lead to an epoch that is in use.
#[test]
fn a_manifest_that_is_older_than_its_files_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    drop(Office::open(directory.path(), 1));
    let older = fs::read(directory.path().join("manifest.json")).unwrap();
    drop(Office::open(directory.path(), 1));
    fs::write(directory.path().join("manifest.json"), older).unwrap();
    let refused = Office::try_open(directory.path(), 1).err().unwrap().to_string();
    assert!(refused.contains("ends with epoch 1, and shard-00.sqlite was used in epoch 2"), "{refused}");
}

/// A directory that was moved away, and one in its place with a process of its own: the journal there is not
/// cut, in which a commit may be half written.
#[test]
fn the_journal_of_a_file_that_took_the_name_is_left_alone() {
    let parent = tempfile::tempdir().unwrap();
    let (data, moved) = (parent.path().join("data"), parent.path().join("moved"));
    let (mut office, batch) = office_with_batch(&data);
    let log = &mut office.shards[0].1;
    log.append(&batch, Duration::ZERO).unwrap();
    let reader = another_program(&data);
    reader.execute_batch("BEGIN; SELECT count(*) FROM record").unwrap();
    fs::rename(&data, &moved).unwrap();
    fs::create_dir(&data).unwrap();
    copy_directory(&moved, &data);
    fs::remove_file(data.join(format!("{LOG}-shm"))).unwrap();

    // A commit that does not fit the cache is written to the journal before it ends.
    let other = another_program(&data);
    let rows = "WITH RECURSIVE number(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM number WHERE n < 1000)";
    other
        .execute_batch(&format!(
            "PRAGMA cache_size = 10; BEGIN; CREATE TABLE large (body);
             INSERT INTO large {rows} SELECT zeroblob(1000) FROM number"
        ))
        .unwrap();
    let written = fs::metadata(data.join(JOURNAL)).unwrap().len();
    let probed = office.shards[0].1.probe();
    assert_eq!(fs::metadata(data.join(JOURNAL)).unwrap().len(), written, "{probed:?}");
    assert!(matches!(probed, Err(AppendError::Unknown(_))), "{probed:?}");
    other.execute_batch("COMMIT").unwrap();
    drop(other);
    let whole =
        another_program(&data).query_row("SELECT count(*) FROM large", [], |row| row.get::<_, u32>(0));
    assert_eq!(whole.unwrap(), 1000);
    drop((office, reader));
}

/// A killed process leaves a commit that was cut off, and a reader keeps the journal from being emptied.
/// Then a power cut tears the first commit of the next process.
#[test]
fn a_start_beside_a_reader_loses_nothing() {
    let alive = tempfile::tempdir().unwrap();
    let mut office = Office::open(alive.path(), 1);
    office.run(EVENTS);
    office.run("reserve 1 for 1 2");
    let (before, mark) = (office.snapshot(), fs::read(alive.path().join("shard-00.mark")).unwrap());
    // It has many pages, so it is longer than the commits of the next process.
    let sales: Vec<String> = (0..300).map(|sale| format!("reserve {} for 2 1", sale % 4 + 1)).collect();
    office.run(&sales.join("|"));
    let killed = tempfile::tempdir().unwrap();
    copy_directory(alive.path(), killed.path());
    drop(office);
    let journal = killed.path().join(JOURNAL);
    let length = fs::metadata(&journal).unwrap().len();
    fs::File::options().write(true).open(&journal).unwrap().set_len(length - 1).unwrap();
    fs::write(killed.path().join("shard-00.mark"), &mark).unwrap();
    fs::remove_file(killed.path().join("shard-00.sqlite-shm")).unwrap();

    let reader = another_program(killed.path());
    reader.execute_batch("BEGIN; SELECT count(*) FROM record").unwrap();
    let mut office = Office::open(killed.path(), 1);
    assert_same(&before, &office.snapshot(), "a start beside a reader");
    let started = fs::metadata(&journal).unwrap().len();
    let page = reader.query_row("PRAGMA page_size", [], |row| row.get::<_, u32>(0)).unwrap();
    assert_eq!((started - 32) % (24 + u64::from(page)), 0, "the journal ends with a whole frame");
    assert!(started < length, "the commit that was cut off is still there");
    office.run("reserve 2 for 1 3");
    office.shards[0].1.maintain().unwrap();

    // A power cut that leaves the first frame of the last commit unwritten, and the mark of the last start.
    let torn = tempfile::tempdir().unwrap();
    copy_directory(killed.path(), torn.path());
    let mut bytes = fs::read(torn.path().join(JOURNAL)).unwrap();
    bytes[started as usize + 100] ^= 1;
    fs::write(torn.path().join(JOURNAL), bytes).unwrap();
    fs::write(torn.path().join("shard-00.mark"), &mark).unwrap();
    fs::remove_file(torn.path().join("shard-00.sqlite-shm")).unwrap();
    assert_same(&before, &Office::open(torn.path(), 1).snapshot(), "after the power cut");

    let after = office.snapshot();
    drop(office);
    let office = Office::open(killed.path(), 1);
    assert_same(&after, &office.snapshot(), "a second start beside the reader");
    drop((office, reader));
    drop(Office::open(killed.path(), 1));
    let emptied = fs::metadata(&journal).map_or(0, |journal| journal.len());
    assert_eq!(emptied, 0, "without a reader, the journal is written back");
    assert_same(&after, &Office::open(killed.path(), 1).snapshot(), "after the reader has ended");
}

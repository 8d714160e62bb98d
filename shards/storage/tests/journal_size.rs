//! Readers keep SQLite's journal from being written back: it grows meanwhile, and is made small again.

#![allow(clippy::unwrap_used, reason = "a test's unwrap is an assertion, in its helpers too")]

mod support;

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use shards::limits::JOURNAL_BYTES_MAX;
use shards::log::{Hindrance, Log, Upkeep};
use support::Office;

/// More than a journal is beyond its bound when a commit says that it is to be looked at.
const SLACK: u64 = 5 << 20;

/// A transaction that reads the log as it is now.
fn read(directory: &Path) -> Connection {
    let reader = Connection::open(directory.join("shard-00.sqlite")).unwrap();
    reader.execute_batch("BEGIN; SELECT max(position) FROM record").unwrap();
    reader
}

fn journal_bytes(directory: &Path) -> u64 {
    fs::metadata(directory.join("shard-00.sqlite-wal")).unwrap().len()
}

fn open(directory: &Path) -> Office {
    let mut office = Office::open(directory, 1);
    office.run("event 1 quota 1000000");
    office
}

/// Longer than a test takes.
const LONG: Duration = Duration::from_secs(120);

/// What a commit of long records writes at least.
const COMMIT_BYTES: u64 = 60_000;

/// Commits long records, some 20 pages, and does the upkeep that is due then.
fn commit_some(office: &mut Office) -> Option<Upkeep> {
    let rename = |number| format!("rename 1 {number}{}", "☂".repeat(190));
    office.run(&(100..200).map(rename).collect::<Vec<_>>().join(" | "));
    let log = &mut office.shards[0].1;
    log.maintenance_is_due().then(|| log.maintain().unwrap())
}

#[test]
fn a_journal_is_emptied_when_its_reader_has_gone() {
    let directory = tempfile::tempdir().unwrap();
    let mut office = open(directory.path());
    let reader = read(directory.path());
    loop {
        let Some(upkeep) = commit_some(&mut office) else { continue };
        assert_eq!(upkeep.journal_bytes, journal_bytes(directory.path()));
        if upkeep.journal_bytes > JOURNAL_BYTES_MAX {
            // The reader is of this process, which names others alone.
            assert_eq!(upkeep.hindrance, Some(Hindrance::Readers(Vec::new())));
            break;
        }
        assert_eq!(upkeep.hindrance, None, "a journal of that size may stay");
    }
    office.run("reserve 1 for 1 1");
    assert!(!office.shards[0].1.maintenance_is_due());
    drop(office);
    // A start beside the reader cannot empty it either.
    let mut office = Office::open(directory.path(), 1);
    assert!(journal_bytes(directory.path()) > JOURNAL_BYTES_MAX);
    assert!(office.shards[0].1.maintenance_is_due(), "nothing else would come to it");
    drop(reader);
    let log = &mut office.shards[0].1;
    let upkeep = log.maintain().unwrap();
    assert_eq!((upkeep.journal_bytes, upkeep.hindrance), (0, None));
    assert_eq!(journal_bytes(directory.path()), 0);
    office.recovered.files.check().expect("it is still the journal of this process");
    office.run("reserve 1 for 1 1");
    let totals = office.totals();
    drop(office);
    assert_eq!(totals.reserved, 2);
    assert_eq!(Office::open(directory.path(), 1).totals(), totals);
}

#[test]
fn readers_that_follow_each_other_do_not_let_it_grow() {
    const READERS: u64 = 3;
    let directory = tempfile::tempdir().unwrap();
    let mut office = open(directory.path());
    let (over, began) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        for number in 0..READERS {
            let (directory, over, began) = (directory.path(), &over, &began);
            scope.spawn(move || {
                // They do not all end at the same time.
                thread::sleep(Duration::from_millis(4 * number));
                let start = Instant::now();
                while !over.load(Ordering::Relaxed) && start.elapsed() < LONG {
                    let reader = read(directory);
                    began.fetch_add(1, Ordering::Relaxed);
                    thread::sleep(Duration::from_millis(12));
                    drop(reader);
                }
            });
        }
        let mut largest = 0;
        for _ in 0..2 * JOURNAL_BYTES_MAX / COMMIT_BYTES {
            commit_some(&mut office);
            largest = largest.max(journal_bytes(directory.path()));
        }
        over.store(true, Ordering::Relaxed);
        assert!(began.load(Ordering::Relaxed) > READERS, "they did not follow each other");
        assert!(largest < JOURNAL_BYTES_MAX + 2 * SLACK, "{largest} bytes");
    });
}

/// Long records fill pages which their number does not show.
#[test]
fn a_journal_of_long_records_is_written_back_as_often() {
    let directory = tempfile::tempdir().unwrap();
    let mut office = open(directory.path());
    for _ in 0..400 {
        commit_some(&mut office);
        assert!(journal_bytes(directory.path()) < SLACK);
    }
}

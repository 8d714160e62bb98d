//! Data directories from outside: what comes back after a restart, a crash at
//! any step, and what is refused, with its files left as they were.

#![allow(clippy::unwrap_used, reason = "a test's unwrap is an assertion, in its helpers too")]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rusqlite::Connection;
use shards::ids::{Epoch, EventId, Lsn, Slot, Timestamp, UserId};
use shards::log::ReadRecords;
use shards::record::{Columns, SlotHead, Stamp};
use shards::slots::slot_of_event;
use storage::{FileHeader, Identity, LogFile, MarkFile, Progress, RecoveryError, Synchronous};
use support::{Office, assert_same, copy_directory, files_in};

/// Slots 46, 67, 125 and 120, so that two shards have two each.
const EVENTS: &str = "event 1 quota 100 | event 2 quota 100 | event 3 quota 100 | event 4 quota 100";
/// One round of sales, the slots of one file taking turns.
const SALES: &str = "reserve 1 for 1 2 | reserve 4 for 1 1 | reserve 2 for 2 3 | reserve 3 for 2 1";

#[test]
fn a_first_start_makes_the_directory_and_a_second_finds_it() {
    let parent = tempfile::tempdir().unwrap();
    let directory = parent.path().join("new/data");
    assert_eq!(storage::last_shard_count(&directory).unwrap(), None);

    let mut office = Office::open(&directory, 2);
    assert_eq!(fs::metadata(&directory).unwrap().permissions().mode() & 0o777, 0o700);
    let names: Vec<String> = files_in(&directory).into_keys().collect();
    let marks_and_logs = ["shard-00.mark", "shard-00.sqlite", "shard-01.mark", "shard-01.sqlite"];
    assert_eq!(names, [&["manifest.json"], &marks_and_logs[..]].concat());
    assert_eq!(storage::last_shard_count(&directory).unwrap(), Some(2));
    let recovered = &office.recovered;
    assert_eq!((recovered.epoch, recovered.record_count), (Epoch(1), 0));
    assert_eq!((recovered.highest_event, recovered.highest_user), (EventId(0), UserId(0)));

    office.run(EVENTS);
    office.run(
        "user ada 7 | user bob 8 | edit 1 quota 50 | reserve 1 for 1 2 | reserve 1 for 2 5 | cancel 1-1",
    );
    office.run("reserve 2 for 1 4 | delete 2 | reserve 3 for 2 1");
    let (before, cluster) = (office.snapshot(), office.recovered.cluster);
    drop(office);

    let progress = Progress::default();
    let recovered = storage::open(&directory, 2, &progress).unwrap();
    assert_eq!((recovered.cluster, recovered.epoch), (cluster, Epoch(2)));
    assert_eq!((recovered.highest_event, recovered.highest_user), (EventId(4), UserId(8)));
    assert_eq!(recovered.record_count, 13);
    assert_eq!(progress.records_total.into_inner(), 13);
    assert_eq!(progress.records_done.into_inner(), 13);
    drop(recovered);
    assert_same(&before, &Office::open(&directory, 2).snapshot(), "the third start");
}

#[test]
fn the_shard_count_may_change_between_starts() {
    let directory = tempfile::tempdir().unwrap();
    let mut before = Office::open(directory.path(), 1).snapshot();
    for (round, shard_count) in [1, 2, 4, 3, 64, 1].into_iter().enumerate() {
        let context = format!("round {round}, {shard_count} shards");
        let mut office = Office::open(directory.path(), shard_count);
        assert_same(&before, &office.snapshot(), &context);

        office.run(&format!("user user{} {}", round + 1, round + 1));
        let first = round * 16 + 1;
        for event in first..first + 16 {
            office.run(&format!("event {event} quota 1000"));
        }
        for event in 1..first + 16 {
            if !event.is_multiple_of(16) || event >= first {
                office.run(&format!("reserve {event} for 1 3 | reserve {event} for {} 2", 2 + event % 8));
            }
        }
        // The newest reservation of an event that is as old as this round.
        office.run(&format!("cancel {first}-1 | cancel 1-{} | delete {}", 2 * round + 2, first + 15));
        before = office.snapshot();
        assert_eq!(office.totals().reserved, tickets_in_history(directory.path()), "{context}");
        assert_eq!(office.totals().events as usize, (round + 1) * 15, "{context}");
    }
    assert_eq!(
        files_in(directory.path()).len(),
        2 * 64 + 1,
        "the manifest, and a log and a mark of each shard there ever was"
    );
    assert_same(&before, &Office::open(directory.path(), 5).snapshot(), "the last start");
}

#[test]
fn starts_with_the_same_shard_count_share_one_range_of_epochs() {
    let directory = tempfile::tempdir().unwrap();
    Office::open(directory.path(), 2).run(EVENTS);
    for _ in 0..20 {
        Office::open(directory.path(), 2).run(SALES);
    }
    let manifest: serde_json::Value =
        serde_json::from_slice(&read(directory.path(), "manifest.json")).unwrap();
    let files = ["shard-00.sqlite", "shard-01.sqlite"];
    assert_eq!(manifest["epochs"], serde_json::json!([{ "first": 1, "last": 21, "files": files }]));
    assert_eq!(Office::open(directory.path(), 2).totals().reserved, 20 * 7);
}

#[test]
fn only_what_was_appended_comes_back() {
    let directory = tempfile::tempdir().unwrap();
    let mut office = Office::open(directory.path(), 2);
    office.run(EVENTS);
    let mut appended = office.snapshot();
    // Left open; handed out, but never appended; appended.
    for (step, committed) in [("open", false), ("begun", false), ("appended", true)] {
        office.apply(SALES);
        match step {
            "begun" => {
                assert!(office.shards.iter_mut().all(|(shard, _)| shard.begin_commit().is_some()))
            }
            "appended" => office.commit(),
            _ => {}
        }
        assert_ne!(appended, office.snapshot(), "{step}: memory runs ahead of the disk");
        if committed {
            appended = office.snapshot();
        }
        drop(office);
        office = Office::open(directory.path(), 2);
        assert_same(&appended, &office.snapshot(), step);
    }
}

#[test]
fn a_directory_has_one_owner_at_a_time() {
    let directory = tempfile::tempdir().unwrap();
    let first = Office::open(directory.path(), 1);
    let refused = Office::try_open(directory.path(), 1).err().unwrap();
    assert!(matches!(&refused, RecoveryError::Locked { path } if path == directory.path()), "{refused:?}");
    assert!(refused.to_string().contains(directory.path().to_str().unwrap()), "{refused}");
    drop(first);
    assert_eq!(Office::open(directory.path(), 1).recovered.epoch, Epoch(2));
}

/// A directory with three epochs: two of two shards, one of three. Each slot
/// of [`EVENTS`] has lsns 1 to 5 in epoch 1, one more in epoch 2 and in 3.
fn old_directory(directory: &Path) -> support::Snapshot {
    let mut office = Office::open(directory, 2);
    office.run(EVENTS);
    office.run("user ada 7 | user bob 8");
    for script in [SALES, SALES, SALES, "cancel 1-2 | cancel 4-2 | cancel 2-2 | cancel 3-2"] {
        office.run(script);
    }
    drop(office);
    Office::open(directory, 2).run(SALES);
    let mut office = Office::open(directory, 3);
    office.run(SALES);
    office.snapshot()
}

/// What is done to an [`old_directory`], and how the next start refuses it: the
/// variant's name, and its text with the directory cut out of paths.
type Refusal = (&'static str, fn(&Path), &'static str, &'static str);

const REFUSALS: &[Refusal] = &[
    // Files.
    (
        "a file is missing",
        |directory| fs::remove_file(directory.join("shard-01.sqlite")).unwrap(),
        "Missing",
        "shard-01.sqlite: named by the manifest, but missing",
    ),
    (
        "a file of an earlier shard count is missing",
        |directory| {
            drop(Office::open(directory, 1));
            fs::remove_file(directory.join("shard-02.sqlite")).unwrap();
        },
        "Missing",
        "shard-02.sqlite: named by the manifest, but missing",
    ),
    (
        "two files are swapped",
        |directory| swap(directory, "shard-00.sqlite", "shard-01.sqlite"),
        "Swapped",
        "shard-00.sqlite: is the file shard-01.sqlite, swapped or renamed",
    ),
    (
        "a file is another directory's",
        |directory| {
            let other = tempfile::tempdir().unwrap();
            old_directory(other.path());
            fs::copy(other.path().join("shard-00.sqlite"), directory.join("shard-00.sqlite")).unwrap();
        },
        "Foreign",
        "shard-00.sqlite: belongs to another data directory",
    ),
    (
        "a file is emptied",
        |directory| write(directory, "shard-01.sqlite", b""),
        "NotALog",
        "shard-01.sqlite: not a log file",
    ),
    (
        "a file is a text",
        |directory| write(directory, "shard-01.sqlite", &b"Dear diary\n".repeat(100)),
        "Log",
        "shard-01.sqlite: file is not a database",
    ),
    (
        "a file is a text, and its journal is of a killed process",
        |directory| {
            let alive = tempfile::tempdir().unwrap();
            copy_directory(directory, alive.path());
            let mut office = Office::open(alive.path(), 3);
            office.run(SALES);
            fs::remove_dir_all(directory).unwrap();
            copy_directory(alive.path(), directory);
            write(directory, "shard-01.sqlite", &b"Dear diary\n".repeat(100));
        },
        "Log",
        "shard-01.sqlite: file is not a database",
    ),
    (
        "a file is another program's database",
        |directory| {
            fs::remove_file(directory.join("shard-01.sqlite")).unwrap();
            sql(directory, "shard-01.sqlite", "CREATE TABLE diary (entry TEXT)");
        },
        "NotALog",
        "shard-01.sqlite: not a log file",
    ),
    (
        "a file is of a later format",
        |directory| sql(directory, "shard-00.sqlite", "PRAGMA user_version = 4"),
        "NewFormat",
        "shard-00.sqlite: format 4, written by a newer boxoffice: start that one; restore or move nothing",
    ),
    (
        "a file is of an earlier format",
        |directory| sql(directory, "shard-00.sqlite", "PRAGMA user_version = 1"),
        "OldFormat",
        "shard-00.sqlite: format 1 of a boxoffice before the first release, which no later version reads",
    ),
    (
        "a file has lost its header",
        |directory| sql(directory, "shard-00.sqlite", "DELETE FROM header"),
        "NotALog",
        "shard-00.sqlite: not a log file",
    ),
    (
        "a page is overwritten",
        |directory| {
            let mut bytes = read(directory, "shard-00.sqlite");
            bytes[4096..].fill(0xaa);
            write(directory, "shard-00.sqlite", &bytes);
        },
        "Log",
        "shard-00.sqlite: database disk image is malformed",
    ),
    // Rows.
    (
        "a row is deleted",
        |directory| sql(directory, "shard-00.sqlite", "DELETE FROM record WHERE slot = 46 AND lsn = 3"),
        "Replay",
        "shard-00.sqlite: row 6 (slot 120, lsn 3) where row 5 is due: records are missing",
    ),
    (
        "a row is deleted, those behind it moved up, and one put in at the end",
        |directory| {
            sql(directory, "shard-00.sqlite", "DELETE FROM record WHERE slot = 46 AND lsn = 3");
            close_gap(directory, "shard-00.sqlite");
        },
        "Replay",
        "shard-00.sqlite: slot 46 goes on with lsn 4 where 3 is due: records are missing",
    ),
    (
        "a slot's first row is deleted, those behind it moved up, and one put in at the end",
        |directory| {
            sql(directory, "shard-01.sqlite", "DELETE FROM record WHERE slot = 125 AND lsn = 1");
            close_gap(directory, "shard-01.sqlite");
        },
        "Replay",
        "shard-01.sqlite: slot 125 goes on with lsn 2 where 1 is due: records are missing",
    ),
    (
        "the last rows are deleted",
        |directory| sql(directory, "shard-00.sqlite", "DELETE FROM record WHERE position > 3"),
        "Replay",
        "shard-00.sqlite: ends at row 3, but row ",
    ),
    (
        "all rows have negative positions",
        |directory| sql(directory, "shard-00.sqlite", "UPDATE record SET position = -position"),
        "Log",
        "read shard-00.sqlite: Integer -1 out of range",
    ),
    (
        "the last rows are others",
        |directory| {
            let other = tempfile::tempdir().unwrap();
            copy_directory(directory, other.path());
            for directory in [other.path(), directory] {
                let mut office = Office::open(directory, 1);
                office.run(if directory == other.path() { "reserve 1 for 9 1" } else { "reserve 1 for 8 1" });
            }
            fs::copy(other.path().join("shard-00.mark"), directory.join("shard-00.mark")).unwrap();
        },
        "Replay",
        "is not the one that was committed (slot 46, lsn 8)",
    ),
    (
        "a log and its mark are from before the last start",
        |directory| {
            let names = ["shard-00.sqlite", "shard-00.mark"];
            let old = names.map(|name| read(directory, name));
            let mut office = Office::open(directory, 3);
            office.run(SALES);
            drop(office);
            for (name, bytes) in names.iter().zip(&old) {
                write(directory, name, bytes);
            }
        },
        "OlderCopy",
        "shard-00.sqlite: an older copy, in use last in epoch 3, while the directory was in use in epoch 4",
    ),
    (
        "a log without records and its mark are from before the last start, of fewer shards",
        |directory| {
            drop(Office::open(directory, 6));
            let names = ["shard-05.sqlite", "shard-05.mark"];
            let old = names.map(|name| read(directory, name));
            drop(Office::open(directory, 2));
            for (name, bytes) in names.iter().zip(&old) {
                write(directory, name, bytes);
            }
        },
        "OlderCopy",
        "shard-05.sqlite: an older copy, in use last in epoch 4, while the directory was in use in epoch 5",
    ),
    (
        "the manifest names a claim of an epoch that never was",
        |directory| edit_manifest(directory, |manifest| manifest["claimed"] = 9.into()),
        "Manifest",
        "manifest.json: not a manifest that this version can read: epoch 9 was claimed and never started",
    ),
    // Marks.
    (
        "a mark is missing",
        |directory| fs::remove_file(directory.join("shard-01.mark")).unwrap(),
        "Missing",
        "shard-01.mark: named by the manifest, but missing",
    ),
    (
        "two marks are swapped",
        |directory| swap(directory, "shard-00.mark", "shard-01.mark"),
        "Mark",
        "shard-00.mark: is the mark of shard-01.sqlite, swapped or renamed",
    ),
    (
        "a mark is another directory's",
        |directory| {
            let other = tempfile::tempdir().unwrap();
            old_directory(other.path());
            fs::copy(other.path().join("shard-00.mark"), directory.join("shard-00.mark")).unwrap();
        },
        "Mark",
        "shard-00.mark: wrong checksum",
    ),
    (
        "a mark is empty",
        |directory| write(directory, "shard-00.mark", b""),
        "Mark",
        "shard-00.mark: not a mark: EOF while parsing",
    ),
    (
        "a row is there twice",
        |directory| {
            sql(directory, "shard-01.sqlite", &copy_row("WHERE slot = 46 AND lsn = 7"));
        },
        "Replay",
        "shard-01.sqlite: slot 46 goes on with lsn 7 where 8 is due: records are missing",
    ),
    (
        "a row is moved to another slot",
        |directory| {
            sql(directory, "shard-00.sqlite", "UPDATE record SET slot = 122 WHERE slot = 46 AND lsn = 3")
        },
        "Replay",
        "shard-00.sqlite: slot 122 goes on with lsn 3 where 1 is due: records are missing",
    ),
    (
        "a row is moved to another slot, whose next it could be",
        |directory| {
            sql(directory, "shard-00.sqlite", "UPDATE record SET slot = 44 WHERE slot = 46 AND lsn = 1")
        },
        "Replay",
        "shard-00.sqlite: wrong checksum at slot 44, lsn 1",
    ),
    (
        "a row is in another shard's file",
        |directory| {
            sql(directory, "shard-00.sqlite", "UPDATE record SET slot = 67 WHERE slot = 46 AND lsn = 3")
        },
        "Replay",
        "shard-00.sqlite: slot 67 is not written to this file in epoch 1",
    ),
    (
        "a row is of an epoch to come",
        |directory| {
            sql(directory, "shard-00.sqlite", "UPDATE record SET epoch = 4 WHERE slot = 120 AND lsn = 7")
        },
        "Replay",
        "shard-00.sqlite: has records of epoch 4, which the manifest does not know",
    ),
    (
        "a row is of an epoch that never was",
        |directory| {
            sql(directory, "shard-00.sqlite", "UPDATE record SET epoch = 0 WHERE slot = 46 AND lsn = 1")
        },
        "Replay",
        "shard-00.sqlite: has records of epoch 0, which the manifest does not know",
    ),
    (
        "a row of an earlier epoch behind those of a later one",
        |directory| forge(directory, "shard-00.sqlite", 120, 6, "epoch = 1"),
        "Replay",
        "shard-00.sqlite: slot 120, lsn 6 is of epoch 1, and comes after records of a later one",
    ),
    (
        "a time that goes back",
        |directory| forge(directory, "shard-01.sqlite", 46, 7, "at = at - 5000"),
        "Replay",
        "and time goes back only by a record that says so",
    ),
    (
        "a record that sets time back to a later time",
        |directory| {
            let change = "kind = 48 - 128, event = 0, number = 0, user = 0, quantity = 0, body = NULL";
            forge(directory, "shard-01.sqlite", 46, 7, change);
        },
        "Replay",
        "and time goes back only by a record that says so",
    ),
    (
        "a kind that this version does not know",
        |directory| forge(directory, "shard-01.sqlite", 46, 7, "kind = kind | 63"),
        "Replay",
        "shard-01.sqlite: slot 46, lsn 7: record kind 63 is not known to this version. It was written by a newer \
         boxoffice: start that one; restore or move nothing",
    ),
    (
        "an event that no row can have",
        |directory| {
            sql(directory, "shard-01.sqlite", "UPDATE record SET event = -1 WHERE slot = 46 AND lsn = 7")
        },
        "Log",
        "read shard-01.sqlite: Integer -1 out of range",
    ),
    (
        "a body that is not this kind's",
        |directory| forge(directory, "shard-00.sqlite", 46, 1, "body = x'a1016161'"),
        "Replay",
        "shard-00.sqlite: slot 46, lsn 1: body of a event_created record: no name",
    ),
    (
        "a body with a member that this version does not know",
        |directory| forge(directory, "shard-00.sqlite", 46, 1, "body = x'a20561611861f6'"),
        "Replay",
        "shard-00.sqlite: slot 46, lsn 1: a event_created record has members that are not known to this version. It \
         was written by a newer boxoffice: start that one; restore or move nothing",
    ),
    (
        "a record that follows one which is not there",
        |directory| {
            sql(
                directory,
                "shard-00.sqlite",
                "UPDATE record SET kind = kind + 256 WHERE slot = 46 AND lsn = 3",
            );
        },
        "Log",
        "read shard-00.sqlite: Integer 257 out of range",
    ),
    // The manifest.
    (
        "a file that no epoch names",
        |directory| {
            fs::copy(directory.join("shard-02.sqlite"), directory.join("shard-07.sqlite")).unwrap();
        },
        "Unnamed",
        "shard-07.sqlite: has records, but the manifest does not name it",
    ),
    (
        "no manifest",
        |directory| fs::remove_file(directory.join("manifest.json")).unwrap(),
        "Unnamed",
        "shard-00.sqlite: has records, but the manifest does not name it",
    ),
    (
        "no manifest, and a file without records beside those with some",
        |directory| {
            drop(Office::open(directory, 5));
            fs::remove_file(directory.join("manifest.json")).unwrap();
        },
        "Unnamed",
        "shard-00.sqlite: has records, but the manifest does not name it",
    ),
    (
        "no manifest, and files of a later format",
        |directory| {
            fs::remove_file(directory.join("manifest.json")).unwrap();
            for name in ["shard-00.sqlite", "shard-01.sqlite", "shard-02.sqlite"] {
                sql(directory, name, "PRAGMA user_version = 4");
            }
        },
        "NewFormat",
        "shard-00.sqlite: format 4, written by a newer boxoffice",
    ),
    (
        "an old manifest",
        |directory| {
            edit_manifest(directory, |manifest| {
                manifest["epochs"].as_array_mut().unwrap().pop();
                manifest["claimed"] = 2.into();
            });
        },
        "Unnamed",
        "shard-02.sqlite: has records, but the manifest does not name it",
    ),
    (
        "a manifest with files in another order",
        |directory| {
            edit_manifest(directory, |manifest| {
                manifest["epochs"][0]["files"].as_array_mut().unwrap().reverse();
            });
        },
        "Replay",
        "is not written to this file in epoch 1",
    ),
    (
        "half a manifest",
        |directory| {
            let text = read(directory, "manifest.json");
            write(directory, "manifest.json", &text[..text.len() / 2]);
        },
        "Manifest",
        "manifest.json: not a manifest that this version can read: EOF while parsing",
    ),
    (
        "an empty manifest",
        |directory| write(directory, "manifest.json", b""),
        "Manifest",
        "manifest.json: not a manifest that this version can read: EOF while parsing",
    ),
    (
        "a manifest of a later format",
        |directory| {
            edit_manifest(directory, |manifest| {
                manifest["format"] = 4.into();
                manifest["region"] = "eu".into();
            });
        },
        "NewFormat",
        "manifest.json: format 4, written by a newer boxoffice: start that one; restore or move nothing",
    ),
    (
        "a manifest of the first format",
        |directory| edit_manifest(directory, |manifest| manifest["format"] = 1.into()),
        "OldFormat",
        "manifest.json: format 1 of a boxoffice before the first release, which no later version reads",
    ),
    (
        "a manifest of the second format",
        |directory| edit_manifest(directory, |manifest| manifest["format"] = 2.into()),
        "OldFormat",
        "manifest.json: format 2 of a boxoffice before the first release, which no later version reads",
    ),
    (
        "a manifest with a field of a later version",
        |directory| edit_manifest(directory, |manifest| manifest["region"] = "eu".into()),
        "Manifest",
        "manifest.json: not a manifest that this version can read: unknown field `region`",
    ),
    (
        "a manifest without epochs",
        |directory| edit_manifest(directory, |manifest| manifest["epochs"] = serde_json::json!([])),
        "Manifest",
        "it has no epochs",
    ),
    (
        "a manifest with a hole between epochs",
        |directory| edit_manifest(directory, |manifest| manifest["epochs"][1]["first"] = 4.into()),
        "Manifest",
        "epochs are not in order at 4",
    ),
    (
        "a manifest that never ends",
        |directory| edit_manifest(directory, |manifest| manifest["epochs"][1]["last"] = u64::MAX.into()),
        "Manifest",
        "its epochs never end",
    ),
    (
        "a manifest that leads out of the directory",
        |directory| {
            edit_manifest(directory, |manifest| manifest["epochs"][0]["files"][0] = "../other.sqlite".into());
        },
        "Manifest",
        "\"../other.sqlite\" is no file name",
    ),
    // The directory.
    (
        "a file in the directory's place",
        |directory| {
            fs::remove_dir_all(directory).unwrap();
            fs::write(directory, "not a directory").unwrap();
        },
        "Io",
        "create data directory DIRECTORY: File exists",
    ),
    (
        "a directory in the manifest's place",
        |directory| {
            fs::remove_file(directory.join("manifest.json")).unwrap();
            fs::create_dir(directory.join("manifest.json")).unwrap();
        },
        "Io",
        "read manifest.json: Is a directory",
    ),
];

#[test]
fn what_is_not_as_it_was_left_is_refused_and_left_as_it_is() {
    let old = tempfile::tempdir().unwrap();
    old_directory(old.path());
    for (name, spoil, variant, text) in REFUSALS {
        check_refusal(old.path(), name, spoil, variant, text);
    }
}

#[test]
fn no_column_can_be_changed() {
    let old = tempfile::tempdir().unwrap();
    old_directory(old.path());
    let columns = ["at", "event", "number", "user", "quantity", "chain"]
        .map(|column| format!("{column} = {column} + 1"));
    let others = ["kind = kind + 1", "kind = kind + 64", "kind = kind - 128", "epoch = 2", "body = x'a0'"]
        .map(str::to_owned);
    for change in columns.into_iter().chain(others) {
        let spoil = |directory: &Path| {
            let update = format!("UPDATE record SET {change} WHERE slot = 46 AND lsn = 3");
            sql(directory, "shard-00.sqlite", &update);
        };
        let text = "shard-00.sqlite: wrong checksum at slot 46, lsn 3";
        check_refusal(old.path(), &change, &spoil, "Replay", text);
    }
}

fn check_refusal(old: &Path, name: &str, spoil: &dyn Fn(&Path), variant: &str, text: &str) {
    let parent = tempfile::tempdir().unwrap();
    let directory = &parent.path().join("data");
    copy_directory(old, directory);
    spoil(directory);
    let before = files_in(directory);
    for shard_count in [3, 2] {
        let context = format!("{name}, {shard_count} shards");
        let Err(error) = Office::try_open(directory, shard_count) else { panic!("{context}: not refused") };
        let path = directory.to_str().unwrap();
        let message = error.to_string().replace(&format!("{path}/"), "").replace(path, "DIRECTORY");
        let debug = format!("{error:?}");
        assert_eq!(debug.split([' ', '(']).next(), Some(variant), "{context}: {message}");
        assert!(message.contains(text), "{context}: {message}");
        let after = files_in(directory);
        assert_eq!(after.keys().collect::<Vec<_>>(), before.keys().collect::<Vec<_>>(), "{context}");
        for (file, bytes) in &before {
            assert!(after[file] == *bytes, "{context}: {file} was changed");
        }
    }
}

/// A main file with the journal of another: as long as nobody writes the one
/// into the other, putting the files back brings everything back.
#[test]
fn a_refusal_leaves_the_journals_of_a_killed_process_alone() {
    let (alive, killed) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut office = Office::open(alive.path(), 2);
    office.run(EVENTS);
    office.run(SALES);
    copy_directory(alive.path(), killed.path());
    swap(killed.path(), "shard-00.sqlite", "shard-01.sqlite");
    let refused = Office::try_open(killed.path(), 2).err();
    assert!(matches!(refused, Some(RecoveryError::Swapped { .. })), "{refused:?}");
    swap(killed.path(), "shard-00.sqlite", "shard-01.sqlite");
    assert_same(&office.snapshot(), &Office::open(killed.path(), 2).snapshot(), "put back");
}

/// What a start had come to when it was killed, and how that looks on disk.
type Crash = (&'static str, fn(&Path));

/// What a first start had done when it was killed.
const FIRST_CRASHES: &[Crash] = &[
    ("nothing", |_| ()),
    ("a log file without a page", |directory| write(directory, "shard-00.sqlite", b"")),
    ("a log file without tables", |directory| sql(directory, "shard-00.sqlite", "PRAGMA journal_mode = WAL")),
    ("a log file without its mark", |directory| empty_log_without_mark(directory, "shard-00.sqlite", 42)),
    ("one of two log files", |directory| empty_log(directory, "shard-00.sqlite", 42)),
    ("the log files", |directory| {
        empty_log(directory, "shard-00.sqlite", 42);
        empty_log(directory, "shard-01.sqlite", 42);
    }),
    ("the log files, their tables still in SQLite's journal", |directory| {
        let alive = tempfile::tempdir().unwrap();
        let header = FileHeader { cluster: 42, name: "shard-00.sqlite".to_owned() };
        let log = LogFile::create(&alive.path().join(&header.name), &header, Synchronous::Full).unwrap();
        log.make_durable(Epoch(1), "").unwrap();
        copy_directory(alive.path(), directory);
    }),
    ("the log files and half a new manifest", |directory| {
        empty_log(directory, "shard-00.sqlite", 42);
        write(directory, "manifest.json.new", b"{\"format\": 1, \"clus");
    }),
    ("everything but the claim of the log files", |directory| {
        drop(Office::open(directory, 2));
        sql(directory, "shard-00.sqlite", "UPDATE header SET epoch = 0");
        sql(directory, "shard-01.sqlite", "UPDATE header SET epoch = 0");
        edit_manifest(directory, |manifest| manifest["claimed"] = 0.into());
    }),
    ("everything but the claim of one log file", |directory| {
        drop(Office::open(directory, 2));
        sql(directory, "shard-01.sqlite", "UPDATE header SET epoch = 0");
        edit_manifest(directory, |manifest| manifest["claimed"] = 0.into());
    }),
    ("everything but the manifest's last line", |directory| {
        drop(Office::open(directory, 2));
        edit_manifest(directory, |manifest| manifest["claimed"] = 0.into());
    }),
];

/// What a later start, of four shards, had done to an [`old_directory`] when it was killed.
const LATER_CRASHES: &[Crash] = &[
    ("nothing", |_| ()),
    ("a log file without a page", |directory| write(directory, "shard-03.sqlite", b"")),
    ("a log file without tables", |directory| sql(directory, "shard-03.sqlite", "PRAGMA journal_mode = WAL")),
    ("a log file without its mark", |directory| {
        empty_log_without_mark(directory, "shard-03.sqlite", cluster(directory));
    }),
    ("a log file", |directory| empty_log(directory, "shard-03.sqlite", cluster(directory))),
    ("a log file and half a new manifest", |directory| {
        empty_log(directory, "shard-03.sqlite", cluster(directory));
        let text = read(directory, "manifest.json");
        write(directory, "manifest.json.new", &text[..text.len() / 2]);
    }),
    ("a log file and a new manifest without its name", |directory| {
        empty_log(directory, "shard-03.sqlite", cluster(directory));
        fs::copy(directory.join("manifest.json"), directory.join("manifest.json.new")).unwrap();
        edit_manifest_file(directory, "manifest.json.new", add_epoch_of_four);
    }),
    ("everything but the claim of the log files", |directory| {
        empty_log(directory, "shard-03.sqlite", cluster(directory));
        edit_manifest(directory, add_epoch_of_four);
    }),
    ("everything but the claim of the new log file", |directory| {
        empty_log(directory, "shard-03.sqlite", cluster(directory));
        edit_manifest(directory, add_epoch_of_four);
        for name in ["shard-00.sqlite", "shard-01.sqlite", "shard-02.sqlite"] {
            sql(directory, name, "UPDATE header SET epoch = 4");
        }
    }),
    ("everything but the manifest's last line", |directory| {
        drop(Office::open(directory, 4));
        edit_manifest(directory, |manifest| manifest["claimed"] = 3.into());
    }),
];

#[test]
fn a_crash_at_any_step_of_a_first_start_recovers() {
    for (name, crash) in FIRST_CRASHES {
        for shard_count in [1, 2] {
            let directory = tempfile::tempdir().unwrap();
            crash(directory.path());
            let nothing = Office::open(tempfile::tempdir().unwrap().path(), 1).snapshot();
            check_recovers(directory.path(), shard_count, &nothing, EVENTS, name);
        }
    }
}

#[test]
fn a_crash_at_any_step_of_a_later_start_recovers() {
    let old = tempfile::tempdir().unwrap();
    let expected = old_directory(old.path());
    for (name, crash) in LATER_CRASHES {
        for shard_count in [4, 3, 1] {
            let directory = tempfile::tempdir().unwrap();
            copy_directory(old.path(), directory.path());
            crash(directory.path());
            check_recovers(directory.path(), shard_count, &expected, SALES, name);
        }
    }
}

/// Everything is there, and what is written then is there after one more start.
fn check_recovers(
    directory: &Path,
    shard_count: usize,
    expected: &support::Snapshot,
    script: &str,
    name: &str,
) {
    let context = format!("{name}, {shard_count} shards");
    let mut office = Office::open(directory, shard_count);
    assert_same(expected, &office.snapshot(), &context);
    office.run(script);
    let after = office.snapshot();
    drop(office);
    assert_same(&after, &Office::open(directory, shard_count).snapshot(), &context);
}

/// Copies a living directory, which is what a kill leaves, and cuts the journal
/// as a power cut in the middle of a write would.
#[test]
fn a_commit_that_was_cut_off_takes_nothing_else_along() {
    let alive = tempfile::tempdir().unwrap();
    let mut office = Office::open(alive.path(), 1);
    office.run(EVENTS);
    let before = office.snapshot();
    let length_before = read(alive.path(), "shard-00.sqlite-wal").len();
    let mark_before = read(alive.path(), "shard-00.mark");
    office.run(SALES);
    let after = office.snapshot();
    let length_after = read(alive.path(), "shard-00.sqlite-wal").len();
    for (length, expected) in [
        (length_before, &before),
        (length_before + 1, &before),
        ((length_before + length_after) / 2, &before),
        (length_after - 1, &before),
        (length_after, &after),
    ] {
        let killed = tempfile::tempdir().unwrap();
        copy_directory(alive.path(), killed.path());
        let journal = read(alive.path(), "shard-00.sqlite-wal");
        write(killed.path(), "shard-00.sqlite-wal", &journal[..length]);
        write(killed.path(), "shard-00.mark", &mark_before);
        fs::remove_file(killed.path().join("shard-00.sqlite-shm")).unwrap();
        check_recovers(killed.path(), 1, expected, SALES, &format!("journal of {length} bytes"));
    }
}

#[test]
fn history_is_readable_with_a_plain_sqlite() {
    let directory = tempfile::tempdir().unwrap();
    let mut office = Office::open(directory.path(), 1);
    office.run("user ada 7 | event 1 quota 10 | reserve 1 for 7 4 | cancel 1-1");
    drop(office);
    let mut office = Office::open(directory.path(), 1);
    office.run("reserve 1 for 7 2 | edit 1 quota 9 | event 2 quota 5 | reserve 2 for 8 5 | delete 2");
    let expected = [
        "slot lsn epoch at kind event reservation user quantity",
        "47 1 1 2023-11-14T22:13:21.046Z user_created - - 7 0",
        "46 1 1 2023-11-14T22:13:21.047Z event_created 1 - 50 10",
        "46 2 1 2023-11-14T22:13:21.048Z reserved 1 1-1 7 4",
        "46 3 1 2023-11-14T22:13:21.049Z cancelled 1 1-1 99 4",
        "46 4 2 2023-11-14T22:13:22.046Z reserved 1 1-2 7 2",
        "46 5 2 2023-11-14T22:13:22.047Z event_edited 1 - 99 9",
        "67 1 2 2023-11-14T22:13:22.048Z event_created 2 - 50 5",
        "67 2 2 2023-11-14T22:13:22.049Z reserved 2 2-1 8 5",
        "67 3 2 2023-11-14T22:13:22.050Z event_deleted 2 - 99 5",
    ];
    // Beside the running server.
    assert_eq!(history(&directory.path().join("shard-00.sqlite")), expected);
    assert_eq!(tickets_in_history(directory.path()), 2);
    assert_eq!(office.totals().reserved, 2);
}

/// A key belongs to no event: those records are found by the column `event`, and a key's are none of them.
#[test]
fn history_shows_keys_without_a_reservation() {
    let directory = tempfile::tempdir().unwrap();
    let mut office = Office::open(directory.path(), 1);
    office.run("event 1 quota 10 | reserve 1 for 7 4 key a | hold 1 for 7 2 60");
    let lines = history(&directory.path().join("shard-00.sqlite"));
    let words = |line: &String| line.split(' ').skip(4).map(str::to_owned).collect::<Vec<_>>().join(" ");
    let lines: Vec<String> = lines.iter().skip(1).map(words).collect();
    let expected = ["event_created 1 - 50 10", "reserved 1 1-1 7 4", "key_kept - - 7 4", "held 1 1-2 7 2"];
    assert_eq!(lines, expected);
}

/// The clock is in 2125 for a moment, in one process and at a start.
#[test]
fn times_come_down_by_a_record_that_history_shows() {
    let directory = tempfile::tempdir().unwrap();
    let mut office = Office::open(directory.path(), 1);
    office.run("event 1 quota 10 | clock 4922000000000 | reserve 1 for 7 1 | cancel 1-1");
    drop(office);
    let mut office = Office::open(directory.path(), 1);
    office.run("reserve 1 for 7 2 | reserve 1 for 8 3 | clock 4922000000000 | reserve 1 for 7 1");
    office.run("clock 1700000003000 | reserve 1 for 8 1");
    let expected = [
        "slot lsn epoch at kind event reservation user quantity",
        "46 1 1 2023-11-14T22:13:21.046Z event_created 1 - 50 10",
        "46 2 1 2125-12-21T14:13:20.001Z reserved 1 1-1 7 1",
        "46 3 1 2125-12-21T14:13:20.002Z cancelled 1 1-1 99 1",
        "46 4 2 2023-11-14T22:13:22.046Z time_set_back - - - 0",
        "46 5 2 2023-11-14T22:13:22.046Z reserved 1 1-2 7 2",
        "46 6 2 2023-11-14T22:13:22.047Z reserved 1 1-3 8 3",
        "46 7 2 2125-12-21T14:13:20.001Z reserved 1 1-4 7 1",
        "46 8 2 2023-11-14T22:13:23.001Z time_set_back - - - 0",
        "46 9 2 2023-11-14T22:13:23.001Z reserved 1 1-5 8 1",
    ];
    assert_eq!(history(&directory.path().join("shard-00.sqlite")), expected);
    let slot = slot_of_event(EventId(1));
    let mut reader = office.recovered.records.reader();
    // Set-backs are no records of the event, and are records of its slot.
    let page = reader.read_after(slot, Some(EventId(1)), Lsn(1), 100).unwrap();
    let lsns: Vec<_> = page.entries.iter().map(|entry| (entry.lsn.0, entry.previous.0)).collect();
    assert_eq!(lsns, [(2, 1), (3, 2), (5, 3), (6, 5), (7, 6), (9, 7)]);
    assert_eq!(reader.read_after(slot, None, Lsn(0), 100).unwrap().entries.len(), 9);
    let before = office.snapshot();
    drop((office, reader));
    for shard_count in [2, 3, 1] {
        let office = Office::open(directory.path(), shard_count);
        assert_same(&before, &office.snapshot(), "after a restart");
        assert_eq!(office.recovered.heads[slot.index()].lsn, Lsn(9));
    }
}

/// The view as lines of words, its columns' names first.
#[test]
fn the_history_of_an_older_version_learns_the_words_of_this_one() {
    let directory = tempfile::tempdir().unwrap();
    Office::open(directory.path(), 1).run("event 1 quota 2 | reserve 1 for 1 2");
    let path = directory.path().join("shard-00.sqlite");
    let before = history(&path);
    let old = "DROP VIEW history; CREATE VIEW history AS SELECT slot, lsn FROM record";
    sql(directory.path(), "shard-00.sqlite", old);
    drop(Office::open(directory.path(), 1));
    assert_eq!(history(&path), before);
}

fn history(path: &Path) -> Vec<String> {
    let connection = Connection::open(path).unwrap();
    let mut statement = connection.prepare("SELECT * FROM history").unwrap();
    let mut lines = vec![statement.column_names().collect::<Vec<_>>().join(" ")];
    let columns = statement.column_count();
    let mut rows = statement.query([]).unwrap();
    while let Some(row) = rows.next().unwrap() {
        let word = |column| match row.get(column).unwrap() {
            rusqlite::types::Value::Null => "-".to_owned(),
            rusqlite::types::Value::Integer(number) => number.to_string(),
            rusqlite::types::Value::Text(text) => text,
            other => panic!("{other:?}"),
        };
        lines.push((0..columns).map(word).collect::<Vec<_>>().join(" "));
    }
    lines
}

/// Tickets sold and not given back, summed over the view of every log file.
fn tickets_in_history(directory: &Path) -> u64 {
    let sum = "SELECT coalesce(sum(CASE kind WHEN 'reserved' THEN quantity
                                             WHEN 'cancelled' THEN -quantity
                                             WHEN 'event_deleted' THEN -quantity END), 0) FROM history";
    let files = files_in(directory).into_keys().filter(|name| name.ends_with(".sqlite"));
    let tickets = files.map(|name| {
        let connection = Connection::open(directory.join(name)).unwrap();
        connection.query_row(sum, [], |row| row.get::<_, i64>(0)).unwrap()
    });
    u64::try_from(tickets.sum::<i64>()).unwrap()
}

fn read(directory: &Path, name: &str) -> Vec<u8> {
    fs::read(directory.join(name)).unwrap()
}

fn write(directory: &Path, name: &str, bytes: &[u8]) {
    fs::write(directory.join(name), bytes).unwrap();
}

fn swap(directory: &Path, one: &str, other: &str) {
    let bytes = read(directory, one);
    write(directory, one, &read(directory, other));
    write(directory, other, &bytes);
}

fn sql(directory: &Path, name: &str, statements: &str) {
    Connection::open(directory.join(name)).unwrap().execute_batch(statements).unwrap();
}

fn empty_log(directory: &Path, name: &str, cluster: u64) {
    empty_log_without_mark(directory, name, cluster);
    MarkFile::create(&directory.join(name), cluster).unwrap();
}

fn empty_log_without_mark(directory: &Path, name: &str, cluster: u64) {
    let header = FileHeader { cluster, name: name.to_owned() };
    LogFile::create(&directory.join(name), &header, Synchronous::Full).unwrap();
}

/// As if a row that was deleted had never been; the last one is there twice instead.
fn close_gap(directory: &Path, name: &str) {
    let gap = "SELECT min(position) FROM record AS one
               WHERE NOT EXISTS (SELECT 1 FROM record WHERE position = one.position - 1) AND position > 1";
    // In order, so that no two rows have the same position meanwhile.
    let connection = Connection::open(directory.join(name)).unwrap();
    let first: i64 = connection.query_row(gap, [], |row| row.get(0)).unwrap();
    let last: i64 = connection.query_row("SELECT max(position) FROM record", [], |row| row.get(0)).unwrap();
    for position in first..=last {
        connection.execute("UPDATE record SET position = ?1 - 1 WHERE position = ?1", [position]).unwrap();
    }
    connection.execute(&copy_row("ORDER BY position DESC LIMIT 1"), []).unwrap();
}

/// Puts a row in once more, at the end.
fn copy_row(which: &str) -> String {
    let columns = "slot, epoch, lsn, at, kind, event, number, user, quantity, body, chain";
    format!("INSERT INTO record ({columns}) SELECT {columns} FROM record {which}")
}

fn cluster(directory: &Path) -> u64 {
    let log = LogFile::open(&directory.join("shard-00.sqlite"), Synchronous::Full).unwrap();
    let Identity::Log(header) = log.identity().unwrap() else { panic!("not a log") };
    header.cluster
}

fn edit_manifest(directory: &Path, edit: fn(&mut serde_json::Value)) {
    edit_manifest_file(directory, "manifest.json", edit);
}

fn edit_manifest_file(directory: &Path, name: &str, edit: fn(&mut serde_json::Value)) {
    let mut manifest = serde_json::from_slice(&read(directory, name)).unwrap();
    edit(&mut manifest);
    write(directory, name, &serde_json::to_vec(&manifest).unwrap());
}

fn add_epoch_of_four(manifest: &mut serde_json::Value) {
    let files = ["shard-00.sqlite", "shard-01.sqlite", "shard-02.sqlite", "shard-03.sqlite"];
    let range = serde_json::json!({ "first": 4, "last": 4, "files": files });
    manifest["epochs"].as_array_mut().unwrap().push(range);
}

/// Changes a record and gives it the checksum that it would have had.
fn forge(directory: &Path, name: &str, slot: u8, lsn: u64, change: &str) {
    sql(directory, name, &format!("UPDATE record SET {change} WHERE slot = {slot} AND lsn = {lsn}"));
    let mut head = SlotHead::empty(cluster(directory));
    // The record before it may be in the file of an earlier shard count.
    for file in files_in(directory).into_keys().filter(|name| name.ends_with(".sqlite")) {
        let connection = Connection::open(directory.join(file)).unwrap();
        let query = "SELECT chain FROM record WHERE slot = ?1 AND lsn = ?2";
        let chain = connection.query_row(query, (slot, lsn as i64 - 1), |row| row.get::<_, i64>(0));
        head.chain = chain.map_or(head.chain, i64::cast_unsigned);
    }
    let connection = Connection::open(directory.join(name)).unwrap();
    let query = "SELECT kind, event, number, user, quantity, coalesce(body, x''), epoch, at FROM record
                 WHERE slot = ?1 AND lsn = ?2";
    let chain = connection.query_row(query, (slot, lsn as i64), |row| {
        let columns = Columns {
            kind: (row.get::<_, i64>(0)? & 63) as u8,
            event: row.get(1)?,
            number: row.get(2)?,
            user: row.get(3)?,
            quantity: row.get(4)?,
            body: row.get::<_, Vec<u8>>(5)?.into(),
        };
        let (epoch, at) = (row.get::<_, i64>(6)?.cast_unsigned(), row.get::<_, i64>(7)?.cast_unsigned());
        let packed: i64 = row.get(0)?;
        let distance = ((packed >> 7) + 1).cast_unsigned();
        let stamp = Stamp {
            slot: Slot(slot),
            epoch: Epoch(epoch),
            lsn: Lsn(lsn),
            at: Timestamp(at),
            previous: Lsn(if distance == 0 { 0 } else { lsn - distance }),
            continues: packed & 64 != 0,
        };
        Ok(head.chain_next(&stamp, &columns))
    });
    let update = "UPDATE record SET chain = ?1 WHERE slot = ?2 AND lsn = ?3";
    connection.execute(update, (chain.unwrap().cast_signed(), slot, lsn as i64)).unwrap();
}

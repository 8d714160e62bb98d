//! Lost marks and manifests: what is proved is repaired, what is not proved is said, and the rest is refused.

#![allow(clippy::unwrap_used, reason = "a test's unwrap is an assertion, in its helpers too")]

mod support;

use std::fs;
use std::path::{Path, PathBuf};

use rusqlite::Connection;
use shards::log::Log;
use storage::{Finding, RecoveryError, Repair};
use support::{Office, Snapshot, assert_same, copy_directory, files_in};
use tempfile::{TempDir, tempdir};

const EVENTS: &str =
    "event 1 quota 100 | event 2 quota 100 | event 3 quota 100 | event 4 quota 100 | user ada 7";
const SALES: &str = "reserve 1 for 1 2 | reserve 2 for 2 1 | reserve 3 for 1 3 | reserve 4 for 2 1";

/// A directory that three shards wrote, and then two. The third log is not in use any more.
struct Left {
    folder: TempDir,
    snapshot: Snapshot,
}

impl Left {
    /// What an orderly end leaves, or else what a kill leaves, with records in the journals.
    fn by(is_closed: bool) -> Left {
        let (alive, folder) = (tempdir().unwrap(), tempdir().unwrap());
        let mut office = Office::open(alive.path(), 3);
        office.run(EVENTS);
        office.run(SALES);
        if is_closed {
            office.close();
        } else {
            drop(office);
        }
        let mut office = Office::open(alive.path(), 2);
        office.run(SALES);
        office.run("cancel 1-1 | reserve 2 for 7 2");
        let snapshot = office.snapshot();
        if is_closed {
            office.close();
        }
        copy_directory(alive.path(), &folder.path().join("data"));
        Left { folder, snapshot }
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.data().join(name)
    }

    fn remove(&self, name: &str) {
        fs::remove_file(self.path(name)).unwrap();
    }

    /// Checks that a start is refused, and that looking at the directory changes nothing.
    fn plan(&self, context: &str) -> Repair {
        assert!(Office::try_open(&self.data(), 2).is_err(), "{context}: it starts");
        let before = files_in(&self.data());
        let repair = Repair::plan(&self.data()).unwrap_or_else(|error| panic!("{context}: {error}"));
        assert!(files_in(&self.data()) == before, "{context}: a file was changed");
        repair
    }

    /// Repairs it, and checks that everything is there, and again after one more kill.
    fn repair(&self, repair: Repair, context: &str) -> Vec<(PathBuf, PathBuf)> {
        let kept = repair.run().unwrap();
        drop(repair);
        let again = Repair::plan(&self.data()).unwrap();
        assert_eq!(again.findings(), [], "{context}");
        drop(again);
        let mut office = Office::open(&self.data(), 3);
        assert_same(&self.snapshot, &office.snapshot(), context);
        office.run(SALES);
        let after = office.snapshot();
        drop(office);
        assert_same(&after, &Office::open(&self.data(), 1).snapshot(), context);
        kept
    }
}

/// The names of the files that are lost, and whether all of them are proved to be repaired without loss.
fn lost(repair: &Repair) -> (Vec<String>, bool) {
    let name = |finding: &Finding| match finding {
        Finding::Manifest { path, .. }
        | Finding::Mark { path, .. }
        | Finding::Journal { path }
        | Finding::Stranger { path } => path.file_name().unwrap().to_str().unwrap().to_owned(),
    };
    let findings = repair.findings();
    (findings.iter().map(name).collect(), findings.iter().all(Finding::is_proven))
}

/// A description, what is done to the directory, and the files that are lost then.
type Loss = (&'static str, fn(&Left), &'static [&'static str]);

const MARKS: [Loss; 5] = [
    ("a mark is removed", |left| left.remove("shard-00.mark"), &["shard-00.mark"]),
    (
        "all marks are removed",
        |left| ["shard-00.mark", "shard-01.mark", "shard-02.mark"].iter().for_each(|name| left.remove(name)),
        &["shard-00.mark", "shard-01.mark", "shard-02.mark"],
    ),
    ("a mark is emptied", |left| fs::write(left.path("shard-01.mark"), "").unwrap(), &["shard-01.mark"]),
    (
        "a bit of a mark is flipped",
        |left| {
            let mut mark = fs::read(left.path("shard-00.mark")).unwrap();
            mark[50] ^= 1;
            fs::write(left.path("shard-00.mark"), mark).unwrap();
        },
        &["shard-00.mark"],
    ),
    (
        "a mark is another's",
        |left| {
            fs::copy(left.path("shard-01.mark"), left.path("shard-00.mark")).unwrap();
        },
        &["shard-00.mark"],
    ),
];

const MANIFESTS: [Loss; 4] = [
    ("the manifest is removed", |left| left.remove("manifest.json"), &["manifest.json"]),
    (
        "the manifest is emptied",
        |left| fs::write(left.path("manifest.json"), "").unwrap(),
        &["manifest.json"],
    ),
    (
        "the manifest is an older one",
        |left| {
            let manifest = fs::read_to_string(left.path("manifest.json")).unwrap();
            let mut manifest: serde_json::Value = serde_json::from_str(&manifest).unwrap();
            manifest["epochs"].as_array_mut().unwrap().pop();
            manifest["claimed"] = 1.into();
            fs::write(left.path("manifest.json"), manifest.to_string()).unwrap();
        },
        &["manifest.json"],
    ),
    (
        "the manifest is edited",
        |left| {
            let manifest = fs::read_to_string(left.path("manifest.json")).unwrap();
            let edited = manifest.replacen("shard-02.sqlite", "shard-07.sqlite", 1);
            fs::write(left.path("manifest.json"), edited).unwrap();
        },
        &["manifest.json"],
    ),
];

#[test]
fn a_lost_mark_of_a_log_that_was_closed_is_made_anew() {
    for (context, spoil, names) in MARKS {
        let left = Left::by(true);
        spoil(&left);
        let spoiled = files_in(&left.data());
        let repair = left.plan(context);
        assert_eq!(lost(&repair), (names.iter().map(|&name| name.to_owned()).collect(), true), "{context}");
        for (path, kept) in left.repair(repair, context) {
            let name = path.file_name().unwrap().to_str().unwrap();
            assert_eq!(kept, left.path(&format!("{name}.before-repair-1")), "{context}");
            assert!(fs::read(kept).unwrap() == spoiled[name], "{context}: {name} is not kept as it was");
        }
    }
}

#[test]
fn a_lost_mark_of_a_killed_server_is_made_anew_only_by_consent() {
    for (context, spoil, names) in MARKS {
        let left = Left::by(false);
        spoil(&left);
        let repair = left.plan(context);
        assert_eq!(lost(&repair), (names.iter().map(|&name| name.to_owned()).collect(), false), "{context}");
        let is_unused = |finding: &&Finding| matches!(finding, Finding::Mark { path, .. } if path.ends_with("shard-02.mark"));
        assert!(
            repair.findings().iter().filter(is_unused).all(Finding::is_proven),
            "{context}: no shard wrote it"
        );
        left.repair(repair, context);
    }
}

#[test]
fn a_lost_manifest_is_made_anew_from_its_copies() {
    for is_closed in [true, false] {
        for (context, spoil, names) in MANIFESTS {
            let left = Left::by(is_closed);
            spoil(&left);
            let repair = left.plan(context);
            assert_eq!(
                lost(&repair),
                (names.iter().map(|&name| name.to_owned()).collect(), true),
                "{context}"
            );
            left.repair(repair, context);
        }
    }
}

#[test]
fn a_log_of_another_directory_is_set_aside() {
    let left = Left::by(true);
    let other = Left::by(true);
    fs::copy(other.path("shard-00.sqlite"), left.path("shard-05.sqlite")).unwrap();
    fs::copy(other.path("shard-00.mark"), left.path("shard-05.mark")).unwrap();
    let repair = left.plan("a stranger");
    assert_eq!(lost(&repair), (vec!["shard-05.sqlite".to_owned()], true));
    left.repair(repair, "a stranger");
    for name in ["shard-05.sqlite", "shard-05.mark"] {
        assert!(!left.path(name).exists() && left.path(&format!("{name}.before-repair-1")).exists());
    }
}

/// Once everything was written back, and with a commit after that.
#[test]
fn a_damaged_journal_is_set_aside_if_there_was_nothing_in_it() {
    for commits in [0, 1] {
        let (alive, folder) = (tempdir().unwrap(), tempdir().unwrap());
        let mut office = Office::open(alive.path(), 1);
        office.run(EVENTS);
        office.run(SALES);
        office.shards[0].1.maintain().unwrap();
        (0..commits).for_each(|_| office.run(SALES));
        copy_directory(alive.path(), &folder.path().join("data"));
        let left = Left { folder, snapshot: office.snapshot() };
        let mut journal = fs::read(left.path("shard-00.sqlite-wal")).unwrap();
        journal[3] ^= 0x40;
        fs::write(left.path("shard-00.sqlite-wal"), &journal).unwrap();
        if commits > 0 {
            let refused = Repair::plan(&left.data()).unwrap_err();
            assert!(matches!(refused, RecoveryError::Replay { .. }), "{refused}");
            continue;
        }
        let repair = left.plan("a damaged journal");
        assert_eq!(lost(&repair), (vec!["shard-00.sqlite-wal".to_owned()], true));
        left.repair(repair, "a damaged journal");
        assert!(fs::read(left.path("shard-00.sqlite-wal.before-repair-1")).unwrap() == journal);
    }
}

#[test]
fn files_that_are_kept_are_never_replaced() {
    let left = Left::by(true);
    for number in 1..=3 {
        fs::write(left.path("shard-00.mark"), format!("damage {number}")).unwrap();
        let repair = left.plan("again");
        repair.run().unwrap();
    }
    for number in 1..=3 {
        let kept = fs::read_to_string(left.path(&format!("shard-00.mark.before-repair-{number}"))).unwrap();
        assert_eq!(kept, format!("damage {number}"));
    }
}

/// A description, what is done to the directory that a kill has left, and how its repair is refused.
type Refusal = (&'static str, fn(&Left), &'static str);

const REFUSALS: [Refusal; 6] = [
    ("a journal is removed", |left| left.remove("shard-00.sqlite-wal"), "Replay"),
    ("a log is removed", |left| left.remove("shard-01.sqlite"), "Missing"),
    (
        "a log and the manifest are removed",
        |left| {
            left.remove("shard-01.sqlite");
            left.remove("manifest.json");
        },
        "Missing",
    ),
    (
        "a row is changed, and the mark is removed",
        |left| {
            left.remove("shard-00.mark");
            sql(left, "shard-00.sqlite", "UPDATE record SET quantity = 9 WHERE position = 2");
        },
        "Replay",
    ),
    (
        "an older copy of a log and of its mark, and the manifest is removed",
        |left| {
            let names = ["shard-00.sqlite", "shard-00.mark"];
            let old = names.map(|name| fs::read(left.path(name)).unwrap());
            drop(Office::open(&left.data(), 2));
            names.iter().zip(old).for_each(|(name, bytes)| fs::write(left.path(name), bytes).unwrap());
            left.remove("manifest.json");
        },
        "OlderCopy",
    ),
    (
        "a log that no epoch of the manifest names",
        |left| {
            let manifest = fs::read_to_string(left.path("manifest.json")).unwrap();
            sql(left, "shard-02.sqlite", "UPDATE header SET name = 'shard-06.sqlite'");
            fs::rename(left.path("shard-02.sqlite"), left.path("shard-06.sqlite")).unwrap();
            let mut manifest: serde_json::Value = serde_json::from_str(&manifest).unwrap();
            manifest["epochs"][0]["files"].as_array_mut().unwrap().pop();
            fs::write(left.path("manifest.json"), manifest.to_string()).unwrap();
        },
        "Missing",
    ),
];

#[test]
fn what_would_lose_records_is_not_repaired() {
    for (context, spoil, variant) in REFUSALS {
        let left = Left::by(false);
        spoil(&left);
        let before = files_in(&left.data());
        let Err(error) = Repair::plan(&left.data()) else { panic!("{context}: not refused") };
        let debug = format!("{error:?}");
        assert_eq!(debug.split([' ', '(']).next(), Some(variant), "{context}: {error}");
        assert!(files_in(&left.data()) == before, "{context}: a file was changed");
    }
}

/// The journal had records. Without the mark, nothing tells this from a log that ends there.
#[test]
fn a_lost_mark_with_a_lost_journal_is_not_proved() {
    let left = Left::by(false);
    left.remove("shard-00.mark");
    left.remove("shard-00.sqlite-wal");
    let repair = left.plan("both are removed");
    assert_eq!(lost(&repair), (vec!["shard-00.mark".to_owned()], false));
}

/// The manifest says whether a start has used the log since.
#[test]
fn a_mark_that_is_lost_with_the_manifest_is_not_proved() {
    let left = Left::by(true);
    left.remove("manifest.json");
    left.remove("shard-00.mark");
    let repair = left.plan("both are removed");
    assert_eq!(lost(&repair), (vec!["manifest.json".to_owned(), "shard-00.mark".to_owned()], false));
    left.repair(repair, "both are removed");
}

/// A reader keeps the next start from writing its claim back, so the log itself still says that it was closed.
#[test]
fn a_log_that_was_closed_and_used_again_is_not_taken_for_a_closed_one() {
    let (alive, killed) = (tempdir().unwrap(), tempdir().unwrap());
    let mut office = Office::open(alive.path(), 1);
    office.run(EVENTS);
    office.close();
    let reader = Connection::open(alive.path().join("shard-00.sqlite")).unwrap();
    reader.execute_batch("BEGIN; SELECT count(*) FROM record").unwrap();
    let mut office = Office::open(alive.path(), 1);
    office.run(SALES);
    copy_directory(alive.path(), &killed.path().join("data"));
    let left = Left { folder: killed, snapshot: office.snapshot() };
    for name in ["shard-00.mark", "shard-00.sqlite-wal", "shard-00.sqlite-shm"] {
        left.remove(name);
    }
    let refused = Repair::plan(&left.data()).unwrap_err();
    assert!(matches!(refused, RecoveryError::OlderCopy { .. }), "{refused}");
    left.remove("manifest.json");
    assert_eq!(
        lost(&left.plan("the manifest, too")),
        (vec!["manifest.json".to_owned(), "shard-00.mark".to_owned()], false)
    );
    drop((office, reader));
}

/// A note of the end in the same journal as records could be written back without them.
#[test]
fn a_log_that_was_not_written_back_is_not_noted_as_closed() {
    let (alive, folder) = (tempdir().unwrap(), tempdir().unwrap());
    let mut office = Office::open(alive.path(), 1);
    office.run(EVENTS);
    let reader = Connection::open(alive.path().join("shard-00.sqlite")).unwrap();
    reader.execute_batch("BEGIN; SELECT count(*) FROM record").unwrap();
    office.run(SALES);
    let snapshot = office.snapshot();
    office.close();
    copy_directory(alive.path(), &folder.path().join("data"));
    drop(reader);
    let left = Left { folder, snapshot };
    left.remove("shard-00.mark");
    let repair = left.plan("a reader");
    assert_eq!(lost(&repair), (vec!["shard-00.mark".to_owned()], false));
    left.repair(repair, "a reader");
}

#[test]
fn what_a_start_brings_up_is_not_repaired() {
    for is_closed in [true, false] {
        let left = Left::by(is_closed);
        assert_eq!(Repair::plan(&left.data()).unwrap().findings(), []);
    }
    let left = Left::by(false);
    let journal = fs::File::options().write(true).open(left.path("shard-00.sqlite-wal")).unwrap();
    journal.set_len(journal.metadata().unwrap().len() + 100).unwrap();
    assert_eq!(Repair::plan(&left.data()).unwrap().findings(), [], "a commit that was cut off");

    let first = tempdir().unwrap();
    fs::write(first.path().join("shard-00.sqlite"), "").unwrap();
    assert_eq!(Repair::plan(first.path()).unwrap().findings(), [], "a first start that was cut off");
    assert!(first.path().join("shard-00.sqlite").exists());
}

#[test]
fn a_directory_is_repaired_by_one_process_at_a_time() {
    let left = Left::by(true);
    let office = Office::open(&left.data(), 2);
    let refused = Repair::plan(&left.data()).unwrap_err();
    assert!(matches!(refused, RecoveryError::Locked { .. }), "{refused}");
    office.close();
    left.remove("shard-00.mark");
    let repair = Repair::plan(&left.data()).unwrap();
    let refused = Office::try_open(&left.data(), 2).err().unwrap();
    assert!(matches!(refused, RecoveryError::Locked { .. }), "{refused}");
    drop(repair);

    let missing = left.folder.path().join("missing");
    let refused = Repair::plan(&missing).unwrap_err();
    assert!(matches!(refused, RecoveryError::Io { .. }) && !missing.exists(), "{refused}");
}

fn sql(left: &Left, name: &str, statements: &str) {
    Connection::open(Path::new(&left.path(name))).unwrap().execute_batch(statements).unwrap();
}

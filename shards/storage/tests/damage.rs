//! Bits that flip, and journals that are gone: what was committed is there, or
//! the start is refused with the name of the file.

#![allow(clippy::unwrap_used, reason = "a test's unwrap is an assertion, in its helpers too")]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use shards::log::Log;
use support::{Office, Snapshot, assert_same, copy_directory};
use tempfile::{TempDir, tempdir};

const LOG: &str = "shard-00.sqlite";
const JOURNAL: &str = "shard-00.sqlite-wal";
const MARK: &str = "shard-00.mark";

/// Bytes between two that are flipped: all of them takes an hour. A prime, so that every
/// place in a page or a row gets its turn.
fn stride() -> usize {
    std::env::var("BOXOFFICE_FLIP_STRIDE").map_or(997, |stride| stride.parse().expect("a number of bytes"))
}

/// What a kill leaves: some in the main file, some in the journal, all of it acknowledged.
struct Killed {
    directory: TempDir,
    /// What every query answered after each of the last batches, the newest at the end.
    snapshots: Vec<Snapshot>,
    /// As it was synced last, with the first commit after a checkpoint: a power cut leaves no older one.
    synced_mark: Vec<u8>,
    /// As it was at the last checkpoint.
    checkpoint_mark: Vec<u8>,
}

impl Killed {
    fn new() -> Killed {
        let (alive, directory) = (tempdir().unwrap(), tempdir().unwrap());
        let mut office = Office::open(alive.path(), 1);
        office.run("event 1 quota 1000 | event 2 quota 1000 | user ada 7");
        for _ in 0..40 {
            office.run("reserve 1 for 1 2 | reserve 2 for 2 1 | reserve 1 for 3 1");
        }
        office.shards[0].1.maintain().unwrap();
        let checkpoint_mark = fs::read(alive.path().join(MARK)).unwrap();
        let mut snapshots = Vec::new();
        let mut synced_mark = None;
        for round in 0..6 {
            for script in [
                "reserve 1 for 1 2 | reserve 2 for 2 1 | edit 2 quota 900 | edit 2 quota 1000",
                &format!("cancel 1-{} | reserve 1 for 4 4", round + 1),
                "reserve 1 for 5 1",
            ] {
                office.run(script);
                snapshots.push(office.snapshot());
                synced_mark.get_or_insert_with(|| fs::read(alive.path().join(MARK)).unwrap());
            }
        }
        copy_directory(alive.path(), directory.path());
        let synced_mark = synced_mark.expect("there were rounds");
        Killed { directory, snapshots, synced_mark, checkpoint_mark }
    }

    fn path(&self, file: &str) -> PathBuf {
        self.directory.path().join(file)
    }
}

#[test]
fn a_deleted_journal_is_noticed() {
    let killed = Killed::new();
    fs::remove_file(killed.path(JOURNAL)).unwrap();
    let refused = Office::try_open(killed.directory.path(), 1).err().expect("sales are gone").to_string();
    assert!(refused.contains("shard-00.sqlite: ends at row 123, but row 165 was committed"), "{refused}");
    assert!(refused.contains(JOURNAL), "{refused}");
}

/// A commit before the first checkpoint, one after it, and the mark that a power cut leaves of each.
#[test]
fn after_a_power_cut_a_journal_that_is_gone_is_noticed() {
    let alive = tempdir().unwrap();
    let mut office = Office::open(alive.path(), 1);
    for checkpoints in 0..2 {
        office.run(&format!("user user{0} {0}", checkpoints + 1));
        let synced_mark = fs::read(alive.path().join(MARK)).unwrap();
        office.run(&format!("remove user{0} {0}", checkpoints + 1));
        let expected = office.snapshot();
        for lost in ["nothing", "the file", "its bytes", "all but zeros"] {
            let context = format!("{checkpoints} checkpoints, {lost}");
            let cut = tempdir().unwrap();
            copy_directory(alive.path(), cut.path());
            fs::write(cut.path().join(MARK), &synced_mark).unwrap();
            let journal = cut.path().join(JOURNAL);
            match lost {
                "the file" => fs::remove_file(&journal).unwrap(),
                "its bytes" => fs::write(&journal, b"").unwrap(),
                "all but zeros" => fs::write(&journal, vec![0; fs::read(&journal).unwrap().len()]).unwrap(),
                _ => {
                    assert_same(&expected, &Office::open(cut.path(), 1).snapshot(), &context);
                    continue;
                }
            }
            let refused = Office::try_open(cut.path(), 1).err();
            let refused = refused.unwrap_or_else(|| panic!("{context}: it starts")).to_string();
            assert!(refused.contains("shard-00.sqlite: ends at row "), "{context}: {refused}");
            assert!(refused.contains(JOURNAL), "{context}: {refused}");
        }
        office.shards[0].1.maintain().unwrap();
    }
}

#[test]
fn a_damaged_journal_may_be_larger_than_memory() {
    let killed = Killed::new();
    // An older mark than a power cut leaves, so that the journal alone shows the damage.
    fs::write(killed.path(MARK), &killed.checkpoint_mark).unwrap();
    let journal = fs::File::options().write(true).open(killed.path(JOURNAL)).unwrap();
    journal.write_all_at(&[0xaa], 0).unwrap();
    journal.set_len(1 << 42).unwrap();
    let refused = Office::try_open(killed.directory.path(), 1).err().expect("sales are gone").to_string();
    assert!(refused.contains("shard-00.sqlite-wal: its header is damaged"), "{refused}");
}

/// SQLite keeps the journal beside the file itself, not beside a link to it.
#[test]
fn a_damaged_journal_of_a_log_behind_a_link_is_noticed() {
    let killed = Killed::new();
    fs::write(killed.path(MARK), &killed.checkpoint_mark).unwrap();
    let elsewhere = tempdir().unwrap();
    for name in [LOG, JOURNAL] {
        fs::copy(killed.path(name), elsewhere.path().join(name)).unwrap();
        fs::remove_file(killed.path(name)).unwrap();
    }
    std::os::unix::fs::symlink(elsewhere.path().join(LOG), killed.path(LOG)).unwrap();
    let journal = fs::File::options().write(true).open(elsewhere.path().join(JOURNAL)).unwrap();
    journal.write_all_at(&[0xaa], 0).unwrap();
    let refused = Office::try_open(killed.directory.path(), 1).err().expect("sales are gone").to_string();
    assert!(refused.contains("shard-00.sqlite-wal: its header is damaged"), "{refused}");
}

/// It would be taken for an empty one that a crash left, and removed with all that it has.
#[test]
fn a_log_that_nothing_names_is_no_debris_when_its_journal_is_damaged() {
    let alive = tempdir().unwrap();
    let mut office = Office::open(alive.path(), 1);
    office.run("event 1 quota 100 | reserve 1 for 1 2");
    for damaged in [0, 40] {
        let killed = tempdir().unwrap();
        copy_directory(alive.path(), killed.path());
        fs::remove_file(killed.path().join("manifest.json")).unwrap();
        let mut journal = fs::read(killed.path().join(JOURNAL)).unwrap();
        journal[damaged] ^= 1;
        fs::write(killed.path().join(JOURNAL), journal).unwrap();
        let refused = Office::try_open(killed.path(), 1).err();
        let refused = refused.unwrap_or_else(|| panic!("byte {damaged}: all of it is gone"));
        assert!(format!("{refused:?}").starts_with("Unnamed"), "byte {damaged}: {refused:?}");
        assert!(killed.path().join(LOG).exists() && killed.path().join(JOURNAL).exists());
    }
}

/// What came of a start after one bit was flipped.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Verdict {
    Refused,
    NothingLost,
    /// That many of the last batches.
    Lost(usize),
}

impl Killed {
    /// Flips a bit in a file, at one of these bytes at a time.
    fn flip_bits(&self, file: &str, places: impl Iterator<Item = usize>) -> BTreeMap<Verdict, usize> {
        let bytes = fs::read(self.path(file)).unwrap();
        let mut verdicts = BTreeMap::new();
        for at in places.take_while(|&at| at < bytes.len()) {
            let parent = tempdir().unwrap();
            let copy = parent.path().join("data");
            copy_directory(self.directory.path(), &copy);
            let mut bytes = bytes.clone();
            bytes[at] ^= 1 << (at % 8);
            fs::write(copy.join(file), bytes).unwrap();
            let verdict = self.judge(&copy, &format!("{file}, byte {at}"));
            *verdicts.entry(verdict).or_default() += 1;
        }
        println!("{file}: {verdicts:?}");
        verdicts
    }

    fn judge(&self, copy: &Path, context: &str) -> Verdict {
        match Office::try_open(copy, 1) {
            Err(error) => {
                let text = error.to_string();
                let names = ["shard-00", "manifest.json"];
                assert!(names.iter().any(|name| text.contains(name)), "{context}: {text}");
                Verdict::Refused
            }
            Ok(office) => {
                let found = office.snapshot();
                let lost = self.snapshots.iter().rev().position(|snapshot| *snapshot == found);
                match lost.unwrap_or_else(|| panic!("{context}: neither refused nor as it ever was")) {
                    0 => Verdict::NothingLost,
                    batches => Verdict::Lost(batches),
                }
            }
        }
    }
}

/// The most batches that any flip lost unseen.
fn most_lost(verdicts: &BTreeMap<Verdict, usize>) -> usize {
    let lost = verdicts.keys().map(|verdict| match verdict {
        Verdict::Lost(batches) => *batches,
        Verdict::Refused | Verdict::NothingLost => 0,
    });
    lost.max().unwrap_or(0)
}

#[test]
fn no_flipped_bit_loses_anything_unseen() {
    let killed = Killed::new();
    for (file, stride) in [(LOG, stride() / 5 + 1), (JOURNAL, stride()), (MARK, 16), ("manifest.json", 16)] {
        let verdicts = killed.flip_bits(file, (0..).step_by(stride));
        assert_eq!(most_lost(&verdicts), 0, "{file}: {verdicts:?}");
        assert!(verdicts.contains_key(&Verdict::Refused), "{file}: no flip was seen");
    }
}

/// A power cut may leave an older mark. Then the journal's own frames have to tell, and they
/// cannot for the last batch: a commit that was cut off looks the same.
#[test]
fn after_a_power_cut_no_flipped_bit_loses_more_than_the_last_batch_unseen() {
    let killed = Killed::new();
    fs::write(killed.path(MARK), &killed.synced_mark).unwrap();
    let verdicts = killed.flip_bits(JOURNAL, (0..).step_by(stride()));
    assert_eq!(most_lost(&verdicts).max(1), 1, "{verdicts:?}");
    // Page number, length after a commit, generation, checksum: of every frame.
    let headers = (0..).flat_map(|frame| [3, 7, 11, 15, 19].map(|field| 32 + frame * (24 + 4096) + field));
    let verdicts = killed.flip_bits(JOURNAL, headers);
    assert_eq!(most_lost(&verdicts).max(1), 1, "{verdicts:?}");
}

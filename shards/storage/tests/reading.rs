//! Pages of a slot's records, read beside the logs that append to it.

#![allow(clippy::unwrap_used, reason = "a test's unwrap is an assertion, in its helpers too")]

mod support;

use shards::ids::{EventId, Lsn, Slot};
use shards::log::{Log, ReadRecords};
use shards::record::Entry;
use shards::slots::slot_of_event;
use storage::RecordReader;
use support::Office;

/// 1 and 19 are in one slot.
const EVENTS: [u32; 6] = [1, 2, 3, 4, 5, 19];

/// All pages of a slot, with the lsn of the last record that there is.
fn read_all(
    reader: &mut RecordReader,
    slot: Slot,
    event: Option<EventId>,
    limit: usize,
) -> (Vec<Entry>, Lsn) {
    let (mut entries, mut after) = (Vec::new(), Lsn(0));
    loop {
        let page = reader.read_after(slot, event, after, limit).unwrap();
        assert!(page.entries.len() <= limit);
        assert!(page.entries.iter().all(|entry| entry.lsn > after && entry.lsn <= page.searched));
        entries.extend(page.entries);
        if page.is_last {
            return (entries, page.searched);
        }
        assert!(page.searched > after, "a page that comes no further");
        after = page.searched;
    }
}

/// Every slot and event, by pages of several sizes, against what was committed.
fn check(office: &Office, committed: &[Entry], context: &str) {
    let mut reader = office.recovered.records.reader();
    for slot in (0..=u8::MAX).map(Slot) {
        let expected: Vec<&Entry> = committed.iter().filter(|entry| entry.slot == slot).collect();
        let limits: &[usize] = if expected.len() < 1000 { &[1, 7, 1000] } else { &[1000] };
        for &limit in limits {
            let (found, last) = read_all(&mut reader, slot, None, limit);
            assert_eq!(found.iter().collect::<Vec<_>>(), expected, "{context}: slot {slot}, limit {limit}");
            assert_eq!(last.0, expected.len() as u64, "{context}: slot {slot}");
        }
    }
    for event in EVENTS.map(EventId) {
        let slot = slot_of_event(event);
        let of_event = |entry: &&Entry| entry.record.event() == Some(event);
        let expected: Vec<&Entry> = committed.iter().filter(of_event).collect();
        let (found, _) = read_all(&mut reader, slot, Some(event), 5);
        assert_eq!(found.iter().collect::<Vec<_>>(), expected, "{context}: {event}");
    }
}

#[test]
fn pages_go_through_the_files_of_all_epochs() {
    let directory = tempfile::tempdir().unwrap();
    let mut committed = Vec::new();
    // Each slot goes to another file and comes back.
    for (round, shard_count) in [1, 2, 1, 3, 2, 2].into_iter().enumerate() {
        let mut office = Office::open(directory.path(), shard_count);
        check(&office, &committed, &format!("start {round}"));
        if round == 0 {
            office.run("user ada 7 | user bob 8");
            for event in EVENTS {
                office.run(&format!("event {event} quota 100000"));
            }
        }
        for _ in 0..3 {
            office.run("reserve 1 for 1 2 | reserve 4 for 1 1 | edit 2 quota 90000 | reserve 19 for 2 1");
            office.run("edit 2 quota 100000 | reserve 1 for 3 1 | reserve 5 for 1 1");
        }
        committed.append(&mut office.committed);
        check(&office, &committed, &format!("round {round}"));
        // In memory alone: nobody may see it.
        office.apply("reserve 1 for 1 1 | reserve 2 for 1 1");
        check(&office, &committed, &format!("round {round}, with an open batch"));
    }
}

#[test]
fn a_reader_follows_what_is_appended_and_keeps_nothing_from_being_written_back() {
    let directory = tempfile::tempdir().unwrap();
    let mut office = Office::open(directory.path(), 1);
    office.run("event 1 quota 100000");
    let slot = slot_of_event(EventId(1));
    let mut reader = office.recovered.records.reader();
    let mut after = Lsn(0);
    for round in 0..20 {
        let page = reader.read_after(slot, None, after, 100).unwrap();
        assert_eq!(page.entries.last(), office.committed.last(), "round {round}");
        assert_eq!(page.searched, office.committed.last().unwrap().lsn);
        after = page.searched;
        office.run("reserve 1 for 1 1 | reserve 1 for 2 1");
        let upkeep = office.shards[0].1.maintain().unwrap();
        assert!(upkeep.journal_bytes < 100_000 && upkeep.hindrance.is_none(), "{upkeep:?}");
    }
}

/// A slot with few records among many, and one whose pages end at the bound on a page's work.
#[test]
fn long_logs_are_read_in_bounded_pages() {
    const SALES: usize = 140_000;
    let directory = tempfile::tempdir().unwrap();
    let mut office = Office::open(directory.path(), 1);
    for event in EVENTS {
        office.run(&format!("event {event} quota 10000000"));
    }
    let batch = ["reserve 1 for 1 1"; 10_000].join(" | ");
    for round in 0..SALES / 10_000 {
        office.run(&batch);
        if round % 5 == 0 {
            office.run("reserve 2 for 1 1 | reserve 19 for 1 1");
        }
    }
    let mut committed = std::mem::take(&mut office.committed);
    check(&office, &committed, "as it was written");
    drop(office);
    let mut office = Office::open(directory.path(), 1);
    office.run("reserve 2 for 1 1 | reserve 1 for 1 1");
    committed.append(&mut office.committed);
    check(&office, &committed, "after a restart");

    let mut reader = office.recovered.records.reader();
    let slot = slot_of_event(EventId(1));
    let beyond = reader.read_after(slot, None, Lsn(u64::MAX), 1).unwrap();
    assert!(beyond.is_last && beyond.entries.is_empty());
    let page = reader.read_after(slot, None, Lsn(0), usize::MAX).unwrap();
    assert!(!page.is_last && page.entries.len() < SALES, "{} records at once", page.entries.len());
    for event in [None, Some(EventId(1))] {
        let (found, _) = read_all(&mut reader, slot, event, usize::MAX);
        let expected = committed.iter().filter(|entry| entry.slot == slot);
        let expected = expected.filter(|entry| event.is_none() || entry.record.event() == event);
        assert!(found.iter().eq(expected), "pages that end at the bound, {event:?}");
    }
}

/// A reader notices what was changed or removed under a running server, but for a page's first record.
#[test]
fn what_is_not_as_it_was_written_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let mut office = Office::open(directory.path(), 1);
    office.run("event 1 quota 100 | reserve 1 for 1 2 | reserve 1 for 2 3 | reserve 1 for 3 1");
    let slot = slot_of_event(EventId(1));
    let shell = rusqlite::Connection::open(directory.path().join("shard-00.sqlite")).unwrap();
    let mut reader = office.recovered.records.reader();
    let mut read = |event, limit| {
        let page = reader.read_after(slot, event, Lsn(0), limit);
        page.map(|page| page.entries.len()).map_err(|error| error.to_string())
    };
    assert_eq!((read(None, 10), read(Some(EventId(1)), 10)), (Ok(4), Ok(4)));
    shell.execute("UPDATE record SET quantity = 99 WHERE lsn = 2", []).unwrap();
    let error = read(None, 10).unwrap_err();
    assert!(error.contains("wrong checksum at slot 46, lsn 2"), "{error}");
    shell.execute("UPDATE record SET quantity = 2 WHERE lsn = 2", []).unwrap();
    assert_eq!(read(None, 10), Ok(4));
    shell.execute("DELETE FROM record WHERE lsn = 3", []).unwrap();
    for event in [None, Some(EventId(1))] {
        let error = read(event, 10).unwrap_err();
        assert!(error.contains("records are missing"), "{error}");
        assert_eq!(read(event, 2), Ok(2), "up to the damage");
    }
}

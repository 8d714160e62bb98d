//! When a driver ends holds.

use super::*;

const START: u64 = 1_800_000_000_000;

/// A moment of a process that started at `START`.
pub(super) fn at(elapsed: Duration) -> Now {
    let time = Timestamp(START + elapsed.as_millis() as u64);
    Now { elapsed, steady: time, wall: time }
}

/// Takes in a new event and a hold of one of its tickets, for so many seconds.
pub(super) fn hold(driver: &mut Driver<u32>, elapsed: Duration, event: u32, seconds: u64) {
    use crate::command::{Actor, Buyer, CreateEvent};
    use crate::details::{EventName, NewDetails};
    use crate::ids::{EventId, HoldTime, Quantity, Quota, Role, UserId};
    let (id, organizer) = (EventId(event), UserId(1));
    let details = NewDetails::new(EventName::new("x").unwrap(), Quota::new(9).unwrap());
    let create = Command::CreateEvent(Box::new(CreateEvent { id, organizer, key: None, details }));
    driver.take_in(at(elapsed), Ask::Command(create), 0);
    let hold = Command::Hold {
        event: id,
        actor: Actor::new(UserId(2), Role::Customer),
        buyer: Buyer::Account(UserId(2)),
        quantity: Quantity::new(1).unwrap(),
        time: HoldTime::from_seconds(seconds).unwrap(),
    };
    driver.take_in(at(elapsed), Ask::Command(hold), 0);
}

/// Commits the open batch and lets its answers leave. Returns the number of its records.
pub(super) fn commit_all(driver: &mut Driver<u32>, elapsed: Duration) -> usize {
    loop {
        let (_, batch) = step(driver, elapsed, false);
        if let Some(batch) = batch {
            let records = batch.entries.len();
            driver.log_is_done(appended(batch, MS, false)).unwrap();
            while driver.next_release().is_some() {}
            return records;
        }
    }
}

#[test]
fn holds_end_at_their_deadlines_without_requests() {
    let mut driver = driver(100, Pace::AT_ONCE);
    hold(&mut driver, 5 * MS, 1, 10);
    hold(&mut driver, 6 * MS, 2, 10);
    commit_all(&mut driver, 6 * MS);
    // Nothing in between, and nothing again and again at the boundary.
    let microsecond = Duration::from_micros(1);
    let first = 10_005 * MS;
    for elapsed in [7 * MS, 10_004 * MS, first - microsecond] {
        let mut words = vec!["wait until 10005 ms"];
        while step(&mut driver, elapsed, false).0 == "wait until 10005 ms" && words.len() < 4 {
            words.push("again");
        }
        assert_eq!(words.len(), 4, "at {elapsed:?}");
    }
    for (elapsed, next) in [(first, "wait until 10006 ms"), (10_006 * MS, "wait")] {
        while step(&mut driver, elapsed, false).0 != "expire" {}
        driver.expire(at(elapsed));
        assert_eq!(commit_all(&mut driver, elapsed), 1);
        assert_eq!(step(&mut driver, elapsed, false).0, next);
    }
}

#[test]
fn many_holds_that_end_let_requests_in_between() {
    let mut driver = driver(10_000, Pace::AT_ONCE);
    for event in 1..=600 {
        hold(&mut driver, MS, event, 10);
    }
    commit_all(&mut driver, MS);
    let late = 20_000 * MS;
    while step(&mut driver, late, true).0 != "expire" {}
    driver.expire(at(late));
    expect(&mut driver, late, true, &["take in"]);
    take_in(&mut driver, 1);
    // The request has ended the holds of its slot, too.
    let records = commit_all(&mut driver, late);
    assert!((257..300).contains(&records), "{records}");
    while step(&mut driver, late, true).0 != "expire" {}
    driver.expire(at(late));
    assert_eq!(commit_all(&mut driver, late), 256);
}

#[test]
fn no_hold_ends_while_the_log_is_read_only_or_the_driver_stops() {
    let mut driver = driver(100, Pace::AT_ONCE);
    hold(&mut driver, MS, 1, 10);
    commit_all(&mut driver, MS);
    take_in(&mut driver, 1);
    let batch = expect(&mut driver, MS, false, &["wait until 10001 ms", "append 1"]).unwrap();
    let full = rolled_back(RollbackCause::NoRoom);
    let done = LogDone::Append { batch, result: Err(full), waited: MS, maintenance_is_due: false };
    driver.log_is_done(done).unwrap();
    let late = 20_000 * MS;
    expect(&mut driver, late, false, &["full for 1", "wait until 21000 ms", "wait until 21000 ms"]);
    driver.take_in(at(late), Ask::Query(Query::Totals), 2);
    assert!(step(&mut driver, late, false).0.contains("held: 1"), "it stays live");
    expect(&mut driver, 21_000 * MS, false, &["probe"]);
    driver.log_is_done(LogDone::Probe(Ok(()))).unwrap();
    // It ends once the log takes records.
    while step(&mut driver, 21_000 * MS, false).0 != "expire" {}
    driver.expire(at(21_000 * MS));
    driver.take_in(at(21_000 * MS), Ask::Query(Query::Totals), 3);
    let batch = expect(&mut driver, 21_000 * MS, false, &["append 1"]).unwrap();
    driver.log_is_done(appended(batch, MS, false)).unwrap();
    assert!(step(&mut driver, 21_000 * MS, false).0.contains("held: 0"));

    hold(&mut driver, 22_000 * MS, 2, 10);
    commit_all(&mut driver, 22_000 * MS);
    driver.stop();
    while step(&mut driver, 40_000 * MS, false).0 != "stop" {
        assert_ne!(step(&mut driver, 40_000 * MS, false).0, "expire");
    }
}

#[test]
fn holds_of_an_earlier_process_get_more_time_first() {
    let mut first = driver(100, Pace::AT_ONCE);
    hold(&mut first, MS, 1, 10);
    commit_all(&mut first, MS);
    let mut heads = Box::new([SlotHead::empty(1); SLOT_COUNT]);
    let slot = crate::slots::slot_of_event(crate::ids::EventId(1));
    let (state, head) = first.into_shard().release_slot(slot).expect("it is owned");
    heads[slot.index()] = head;
    let mut states = ShardState::default();
    states.adopt(slot, state);
    let mut driver = Driver::new(Shard::new(states, &heads, Epoch(2)), 100, Pace::AT_ONCE);
    expect(&mut driver, MS, true, &["expire"]);
    driver.expire(at(MS));
    expect(&mut driver, MS, true, &["take in"]);
    assert_eq!(commit_all(&mut driver, MS), 1);
    expect(&mut driver, 2 * MS, false, &["wait until 60001 ms"]);
}

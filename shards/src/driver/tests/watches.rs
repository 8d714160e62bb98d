//! Questions that wait for news of an event.

use super::holds::{at, commit_all, hold};
use super::*;
use crate::ids::{EventId, Lsn};

/// The event of [`hold`] has two records, and its quota is 9.
const EVENT: u32 = 1;
const SECOND: Duration = Duration::from_secs(1);

fn watch(driver: &mut Driver<u32>, elapsed: Duration, after: u64, asker: u32) {
    let (event, wait) = (EventId(EVENT), SECOND);
    driver.take_in(at(elapsed), Ask::Query(Query::Watch { event, after: Lsn(after), wait }), asker);
}

/// The answers that may leave, as askers and positions.
fn released(driver: &mut Driver<u32>) -> Vec<(u32, u64)> {
    let mut released = Vec::new();
    while let Some(release) = driver.next_release() {
        match release {
            Release::Answer(0, _) => {}
            Release::Answer(asker, Ok(Outcome::Availability(now))) => released.push((asker, now.position.0)),
            other => panic!("{other:?}"),
        }
    }
    released
}

fn with_event() -> Driver<u32> {
    let mut driver = driver(100, Pace::AT_ONCE);
    hold(&mut driver, MS, EVENT, 60);
    assert_eq!(commit_all(&mut driver, MS), 2);
    driver
}

/// Takes in two more holds of the event, and begins to commit them.
fn begin_change(driver: &mut Driver<u32>) -> Batch {
    hold(driver, 3 * MS, EVENT, 60);
    hold(driver, 3 * MS, EVENT, 60);
    loop {
        if let (_, Some(batch)) = step(driver, 3 * MS, false) {
            return batch;
        }
    }
}

#[test]
fn news_come_once_they_are_committed_and_once_for_many_changes() {
    let mut driver = with_event();
    watch(&mut driver, 2 * MS, 1, 1);
    assert_eq!(released(&mut driver), [(1, 2)], "it has the news already");
    watch(&mut driver, 2 * MS, 2, 2);
    watch(&mut driver, 2 * MS, 2, 3);
    assert_eq!(released(&mut driver), []);
    let batch = begin_change(&mut driver);
    assert_eq!(released(&mut driver), [], "nothing is committed");
    driver.log_is_done(appended(batch, MS, false)).unwrap();
    assert_eq!(released(&mut driver), [(2, 4), (3, 4)]);
}

#[test]
fn whoever_waits_long_enough_or_for_a_driver_that_stops_gets_what_is_there() {
    let mut driver = with_event();
    watch(&mut driver, 2 * MS, 2, 1);
    watch(&mut driver, 2 * MS, 2, 2);
    watch(&mut driver, 3 * MS, 2, 3);
    expect(&mut driver, 3 * MS, false, &["wait until 1002 ms"]);
    expect(&mut driver, 1002 * MS, false, &["expire"]);
    driver.expire(at(1002 * MS));
    assert_eq!(released(&mut driver), [(1, 2), (2, 2)]);
    expect(&mut driver, 1002 * MS, false, &["wait until 1003 ms"]);
    driver.stop();
    watch(&mut driver, 1002 * MS, 2, 4);
    assert_eq!(released(&mut driver), [(3, 2), (4, 2)]);
    expect(&mut driver, 1002 * MS, false, &["stop"]);
}

#[test]
fn news_that_are_undone_are_not_told() {
    let mut driver = with_event();
    watch(&mut driver, 2 * MS, 2, 1);
    let batch = begin_change(&mut driver);
    let full = Err(rolled_back(RollbackCause::NoRoom));
    let done = LogDone::Append { batch, result: full, waited: MS, maintenance_is_due: false };
    driver.log_is_done(done).unwrap();
    assert_eq!(released(&mut driver), [(1, 2)]);
    // Its time passes while the log takes no records, too.
    watch(&mut driver, 4 * MS, 2, 2);
    driver.expire(at(1004 * MS));
    assert_eq!(released(&mut driver), [(2, 2)]);
}

//! Tests of the order of steps, with an owner that does them as the pump does.

mod holds;
mod watches;

use super::batching::COMMITS_ALONE_MAX;
use super::*;
use crate::command::Query;
use crate::ids::{Epoch, Timestamp};
use crate::limits::SLOT_COUNT;
use crate::log::{Appended, Hindrance};
use crate::outcome::{Outcome, Rejection};
use crate::record::SlotHead;
use crate::slots::SlotSet;
use crate::state::ShardState;

const MS: Duration = Duration::from_millis(1);

fn driver(batch_max: usize, pace: Pace) -> Driver<u32> {
    let heads = Box::new([SlotHead::empty(1); SLOT_COUNT]);
    let shard = Shard::new(ShardState::owning(SlotSet::all()), &heads, Epoch(1));
    Driver::new(shard, batch_max, pace)
}

fn create_user(number: u32) -> Ask {
    use crate::command::CreateUser;
    use crate::ids::{Role, UserId, Username};
    Ask::Command(Command::CreateUser(Box::new(CreateUser {
        id: UserId(number),
        username: Username::new(&format!("user{number}")).unwrap(),
        password_hash: "hash".into(),
        role: Role::Customer,
        token_version: 1,
    })))
}

fn take_in(driver: &mut Driver<u32>, number: u32) {
    driver.take_in(Now::at(Timestamp(1000)), create_user(number), number);
}

/// The next step in a word, and the batch if there is one.
fn step(driver: &mut Driver<u32>, elapsed: Duration, requests_wait: bool) -> (String, Option<Batch>) {
    let step = driver.step(|| elapsed, requests_wait);
    let word = match &step {
        Step::Answer(asker, Ok(Outcome::Account(_))) => format!("answer {asker}"),
        Step::Answer(asker, Err(Rejection::LogFull)) => format!("full for {asker}"),
        Step::Answer(asker, Err(Rejection::LogLocked)) => format!("locked for {asker}"),
        Step::Answer(asker, reply) => format!("answer {asker} {reply:?}"),
        Step::Send(slot, _) => format!("send {slot}"),
        Step::Expire => "expire".to_owned(),
        Step::TakeIn(BATCH_MAX) => "take in".to_owned(),
        Step::TakeIn(count) => format!("take in {count}"),
        Step::Gather(Gather::Once) => "gather once".to_owned(),
        Step::Gather(Gather::Until(until)) => format!("gather until {} us", until.as_micros()),
        Step::Append { batch, on_worker } => {
            format!("append {}{}", batch.entries.len(), if *on_worker { " on worker" } else { "" })
        }
        Step::Maintain => "maintain".to_owned(),
        Step::Probe => "probe".to_owned(),
        Step::Yield => "yield".to_owned(),
        Step::Wait { until: None } => "wait".to_owned(),
        Step::Wait { until: Some(until) } => format!("wait until {} ms", until.as_millis()),
        Step::Stop => "stop".to_owned(),
    };
    match step {
        Step::Append { batch, .. } => (word, Some(batch)),
        _ => (word, None),
    }
}

/// Checks the next steps, and returns the batch of the last one.
fn expect(driver: &mut Driver<u32>, elapsed: Duration, requests_wait: bool, words: &[&str]) -> Option<Batch> {
    let mut last = None;
    for word in words {
        let (found, batch) = step(driver, elapsed, requests_wait);
        assert_eq!(found, *word);
        last = batch;
    }
    last
}

fn appended(batch: Batch, waited: Duration, maintenance_is_due: bool) -> LogDone {
    LogDone::Append { batch, result: Ok(Appended::default()), waited, maintenance_is_due }
}

fn error() -> LogError {
    LogError { action: "commit to", place: "log".to_owned(), source: "broken".into() }
}

fn rolled_back(cause: RollbackCause) -> AppendError {
    AppendError::RolledBack { cause, error: error() }
}

#[test]
fn a_round_takes_in_commits_and_answers() {
    let mut driver = driver(2, Pace::AT_ONCE);
    expect(&mut driver, MS, false, &["wait"]);
    expect(&mut driver, MS, true, &["take in"]);
    take_in(&mut driver, 1);
    take_in(&mut driver, 2);
    let batch = expect(&mut driver, MS, true, &["append 2"]).unwrap();
    let notice = driver.log_is_done(appended(batch, MS, true)).unwrap();
    assert!(matches!(notice, Notice::Committed { records: 2 }));
    // Maintenance comes before the next batch, which fills meanwhile.
    expect(&mut driver, MS, true, &["answer 1", "answer 2", "maintain", "yield", "take in"]);
    take_in(&mut driver, 3);
    take_in(&mut driver, 4);
    expect(&mut driver, MS, true, &["wait"]);
    driver.log_is_done(LogDone::Maintain(Ok(Upkeep::default()))).unwrap();
    expect(&mut driver, MS, false, &["append 2"]);
}

#[test]
fn a_hindered_maintenance_is_tried_again_each_second_without_requests() {
    let mut driver = driver(10, Pace::AT_ONCE);
    let hindered = || {
        let hindrance = Some(Hindrance::Readers(Vec::new()));
        LogDone::Maintain(Ok(Upkeep { hindrance, ..Upkeep::default() }))
    };
    expect(&mut driver, MS, true, &["take in"]);
    take_in(&mut driver, 1);
    let batch = expect(&mut driver, MS, false, &["append 1"]).unwrap();
    driver.log_is_done(appended(batch, MS, true)).unwrap();
    expect(&mut driver, MS, false, &["answer 1", "maintain", "wait"]);
    driver.log_is_done(hindered()).unwrap();
    expect(&mut driver, 2 * MS, false, &["wait until 1002 ms"]);
    // Commits go on, and one that fills the journal does not wait for that time.
    expect(&mut driver, 3 * MS, true, &["take in"]);
    take_in(&mut driver, 2);
    let batch = expect(&mut driver, 3 * MS, false, &["append 1"]).unwrap();
    driver.log_is_done(appended(batch, MS, false)).unwrap();
    expect(&mut driver, 3 * MS, false, &["answer 2", "wait until 1002 ms"]);
    expect(&mut driver, 1002 * MS, false, &["maintain", "wait"]);
    driver.log_is_done(hindered()).unwrap();
    expect(&mut driver, 1003 * MS, false, &["wait until 2003 ms"]);
    expect(&mut driver, 2003 * MS, false, &["maintain"]);
    driver.log_is_done(LogDone::Maintain(Ok(Upkeep::default()))).unwrap();
    expect(&mut driver, 9000 * MS, false, &["wait"]);
}

/// While the log is maintained, the time of its next probe passes: nothing can be done then, so nothing is waited for
/// but the log.
#[test]
fn a_full_log_that_is_maintained_is_waited_for() {
    let mut driver = driver(10, Pace::AT_ONCE);
    driver.maintain_first();
    expect(&mut driver, MS, false, &["maintain"]);
    let hindered = Upkeep { hindrance: Some(Hindrance::NoRoom), ..Upkeep::default() };
    driver.log_is_done(LogDone::Maintain(Ok(hindered))).unwrap();
    expect(&mut driver, MS, true, &["take in"]);
    take_in(&mut driver, 1);
    let batch = expect(&mut driver, MS, false, &["append 1"]).unwrap();
    let full = rolled_back(RollbackCause::NoRoom);
    let done = LogDone::Append { batch, result: Err(full), waited: MS, maintenance_is_due: false };
    driver.log_is_done(done).unwrap();
    expect(&mut driver, MS, false, &["full for 1", "wait until 1001 ms"]);
    expect(&mut driver, 1001 * MS, false, &["maintain", "wait"]);
    expect(&mut driver, 1002 * MS, false, &["wait"]);
    driver.log_is_done(LogDone::Maintain(Ok(Upkeep::default()))).unwrap();
    expect(&mut driver, 1003 * MS, false, &["probe", "wait"]);
}

#[test]
fn a_hindered_maintenance_does_not_keep_it_from_stopping() {
    let mut driver = driver(10, Pace::AT_ONCE);
    driver.maintain_first();
    expect(&mut driver, MS, true, &["maintain"]);
    let upkeep = Upkeep { hindrance: Some(Hindrance::NoRoom), ..Upkeep::default() };
    driver.log_is_done(LogDone::Maintain(Ok(upkeep))).unwrap();
    driver.stop();
    expect(&mut driver, 9000 * MS, false, &["stop"]);
}

#[test]
fn nothing_is_left_when_it_stops() {
    let mut driver = driver(10, Pace::AT_ONCE);
    expect(&mut driver, MS, true, &["take in"]);
    take_in(&mut driver, 1);
    driver.stop();
    let batch = expect(&mut driver, MS, false, &["append 1"]).unwrap();
    expect(&mut driver, MS, false, &["wait"]);
    driver.log_is_done(appended(batch, MS, false)).unwrap();
    expect(&mut driver, MS, false, &["answer 1", "stop"]);
}

#[test]
fn a_full_log_is_probed_once_a_second_until_it_has_room() {
    let mut driver = driver(10, Pace::AT_ONCE);
    expect(&mut driver, MS, true, &["take in"]);
    take_in(&mut driver, 1);
    let batch = expect(&mut driver, MS, false, &["append 1"]).unwrap();
    let full = rolled_back(RollbackCause::NoRoom);
    let done = LogDone::Append { batch, result: Err(full), waited: MS, maintenance_is_due: false };
    let notice = driver.log_is_done(done);
    assert!(matches!(notice, Ok(Notice::ReadOnly { cause: RollbackCause::NoRoom, .. })));
    expect(&mut driver, MS, false, &["full for 1", "wait until 1001 ms"]);
    expect(&mut driver, 2 * MS, true, &["take in"]);
    take_in(&mut driver, 2);
    driver.take_in(Now::at(Timestamp(1)), Ask::Query(Query::Totals), 3);
    expect(&mut driver, 2 * MS, false, &["full for 2"]);
    assert!(step(&mut driver, 2 * MS, false).0.starts_with("answer 3"), "reads go on");
    expect(&mut driver, 1000 * MS, false, &["wait until 1001 ms"]);
    expect(&mut driver, 1001 * MS, false, &["probe", "wait"]);
    let still_full = LogDone::Probe(Err(rolled_back(RollbackCause::NoRoom)));
    assert!(matches!(driver.log_is_done(still_full), Ok(Notice::StillReadOnly)));
    expect(&mut driver, 1002 * MS, false, &["wait until 2002 ms"]);
    expect(&mut driver, 2002 * MS, false, &["probe"]);
    let notice = driver.log_is_done(LogDone::Probe(Ok(())));
    assert!(matches!(notice, Ok(Notice::Writable { cause: RollbackCause::NoRoom })));
    expect(&mut driver, 2003 * MS, true, &["yield", "take in"]);
    take_in(&mut driver, 4);
    expect(&mut driver, 2003 * MS, false, &["append 1"]);
}

#[test]
fn a_locked_log_refuses_with_its_own_cause_which_may_change() {
    let mut driver = driver(10, Pace::AT_ONCE);
    expect(&mut driver, MS, true, &["take in"]);
    take_in(&mut driver, 1);
    let batch = expect(&mut driver, MS, false, &["append 1"]).unwrap();
    let locked = rolled_back(RollbackCause::Locked);
    let done = LogDone::Append { batch, result: Err(locked), waited: MS, maintenance_is_due: false };
    let notice = driver.log_is_done(done);
    assert!(matches!(notice, Ok(Notice::ReadOnly { cause: RollbackCause::Locked, .. })));
    expect(&mut driver, MS, false, &["locked for 1", "wait until 1001 ms"]);
    expect(&mut driver, 1001 * MS, false, &["probe", "wait"]);
    let full = LogDone::Probe(Err(rolled_back(RollbackCause::NoRoom)));
    let notice = driver.log_is_done(full);
    assert!(matches!(notice, Ok(Notice::ReadOnly { cause: RollbackCause::NoRoom, .. })));
    expect(&mut driver, 1002 * MS, true, &["take in"]);
    take_in(&mut driver, 2);
    expect(&mut driver, 1002 * MS, false, &["full for 2", "wait until 2002 ms"]);
    expect(&mut driver, 2002 * MS, false, &["probe"]);
    let notice = driver.log_is_done(LogDone::Probe(Ok(())));
    assert!(matches!(notice, Ok(Notice::Writable { cause: RollbackCause::NoRoom })));
}

#[test]
fn an_unknown_result_ends_the_process() {
    for probe in [false, true] {
        let mut driver = driver(10, Pace::AT_ONCE);
        expect(&mut driver, MS, true, &["take in"]);
        take_in(&mut driver, 1);
        let batch = expect(&mut driver, MS, false, &["append 1"]).unwrap();
        let unknown = AppendError::Unknown(error());
        let append =
            |result| LogDone::Append { batch, result: Err(result), waited: MS, maintenance_is_due: false };
        let failed = if probe {
            driver.log_is_done(append(rolled_back(RollbackCause::NoRoom))).unwrap();
            expect(&mut driver, MS, false, &["full for 1", "wait until 1001 ms"]);
            expect(&mut driver, 1001 * MS, false, &["probe"]);
            driver.log_is_done(LogDone::Probe(Err(unknown)))
        } else {
            driver.log_is_done(append(unknown))
        };
        assert!(failed.is_err());
    }
}

#[test]
fn a_commit_on_a_fast_disk_gathers_while_there_is_news() {
    let mut driver = driver(10, Pace::USUAL);
    expect(&mut driver, MS, true, &["take in"]);
    take_in(&mut driver, 1);
    // Nothing is known of the disk before the first commit.
    let batch = expect(&mut driver, MS, false, &["append 1"]).unwrap();
    driver.log_is_done(appended(batch, Duration::from_micros(800), false)).unwrap();
    expect(&mut driver, MS, false, &["answer 1", "wait"]);
    expect(&mut driver, MS, true, &["take in"]);
    take_in(&mut driver, 2);
    expect(&mut driver, MS, true, &["gather once"]);
    driver.gathered(true);
    expect(&mut driver, MS, true, &["take in"]);
    take_in(&mut driver, 3);
    expect(&mut driver, MS, false, &["gather once"]);
    driver.gathered(false);
    expect(&mut driver, MS, false, &["append 2"]);
}

/// Takes in requests that change something and commits them. Returns the step before the commit.
fn commit(driver: &mut Driver<u32>, requests: std::ops::Range<u32>, waited: Duration) -> String {
    expect(driver, MS, true, &["take in"]);
    requests.for_each(|number| take_in(driver, number));
    let (word, batch) = step(driver, MS, false);
    finish(driver, batch.expect("it commits at once"), waited);
    word
}

/// Reports a commit, and lets its answers leave.
fn finish(driver: &mut Driver<u32>, batch: Batch, waited: Duration) {
    let records = batch.entries.len();
    driver.log_is_done(appended(batch, waited, false)).unwrap();
    for _ in 0..records {
        assert!(step(driver, MS, false).0.starts_with("answer "));
    }
    expect(driver, MS, false, &["wait"]);
}

#[test]
fn a_commit_on_a_slow_disk_waits_for_clients_that_come_back() {
    let mut driver = driver(10, Pace::USUAL);
    // The average wait rises to 10 ms. Nothing is known of the disk before the first commit.
    assert_eq!(commit(&mut driver, 0..4, 80 * MS), "append 4");
    for round in 1..=COMMITS_ALONE_MAX {
        let requests = 4 * round..4 * round + 4;
        assert_eq!(commit(&mut driver, requests, 10 * MS), "append 4 on worker");
    }
    // The next one tests whether clients come back: one has sent a request, three are missing.
    expect(&mut driver, MS, true, &["take in"]);
    take_in(&mut driver, 100);
    expect(&mut driver, MS, false, &["gather until 6000 us"]);
    driver.gathered(true);
    expect(&mut driver, 2 * MS, true, &["take in"]);
    (101..104).for_each(|number| take_in(&mut driver, number));
    let batch = expect(&mut driver, 3 * MS, false, &["append 4 on worker"]).expect("a batch");
    finish(&mut driver, batch, 10 * MS);
    // They did, so the next commit waits too. This time they do not come.
    expect(&mut driver, MS, true, &["take in"]);
    take_in(&mut driver, 104);
    expect(&mut driver, MS, false, &["gather until 6000 us", "gather until 6000 us"]);
    let batch = expect(&mut driver, 6 * MS, false, &["append 1 on worker"]).expect("a batch");
    finish(&mut driver, batch, 10 * MS);
    assert_eq!(commit(&mut driver, 105..106, 10 * MS), "append 1 on worker");
}

#[test]
fn reads_beside_a_full_batch_need_one_step() {
    let mut driver = driver(1, Pace::AT_ONCE);
    expect(&mut driver, MS, true, &["take in"]);
    for reader in 0..100 {
        assert!(driver.has_room(), "a read takes none");
        driver.take_in(Now::at(Timestamp(1)), Ask::Query(Query::Totals), reader);
    }
    take_in(&mut driver, 100);
    assert!(!driver.has_room());
}

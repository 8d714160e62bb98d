//! The ends of holds: exact for every reader, at starts, and when the log takes no records.

use super::*;
use crate::ids::HoldTime;
use crate::record::Kind;

fn hold(tickets: u64, seconds: u64) -> Ask {
    let Ask::Command(Command::Reserve { event, actor, buyer, quantity }) = reserve(tickets) else {
        unreachable!("a reservation is a command")
    };
    let time = HoldTime::from_seconds(seconds).unwrap();
    Ask::Command(Command::Hold { event, actor, buyer, quantity, time })
}

fn confirm() -> Ask {
    let actor = Actor::new(UserId(2), Role::Customer);
    let reservation = ReservationId { event: EVENT, number: 1 };
    Ask::Command(Command::Confirm { reservation, actor, quantity: None })
}

fn see() -> Ask {
    let actor = Actor::new(UserId(2), Role::Customer);
    Ask::Query(Query::Reservation { reservation: ReservationId { event: EVENT, number: 1 }, actor })
}

/// Commits what is open, and returns what leaves, in words; with the kinds of the records before it.
fn finish(shard: &mut Shard<&'static str>) -> String {
    let mut words: Vec<String> = Vec::new();
    if let Some(batch) = shard.begin_commit() {
        words.extend(batch.entries.iter().map(|entry| match entry.record {
            Record::HoldsExpired { up_to, tickets, .. } => format!("[over {tickets} {}]", up_to.0),
            Record::HoldsExtended { from } => format!("[extended {}]", from.0),
            Record::Held(ref held) => format!("[held {}]", held.deadline.0),
            ref record => {
                let kind = Kind::ALL.into_iter().find(|&kind| kind as u8 == record.encode().kind);
                format!("[{}]", kind.expect("a known kind").name())
            }
        }));
        shard.finish_commit(batch);
    }
    while let Some(release) = shard.next_release() {
        let Release::Answer(_, reply) = release else { panic!("{release:?}") };
        words.push(describe(reply));
    }
    words.join(" ")
}

fn describe(reply: Reply) -> String {
    match reply {
        Ok(Outcome::Reservation(view)) => match view.expires_at {
            Some(end) => format!("{} {}", view.status.as_str(), end.0),
            None => view.status.as_str().to_owned(),
        },
        Ok(Outcome::Event(event)) => format!("{}+{}", event.reserved, event.held),
        Ok(Outcome::Part(part)) => match part.outcome {
            Outcome::Totals(totals) => format!("{}+{}", totals.reserved, totals.held),
            Outcome::Reservations(list) => format!("{} {}", list.len(), list[0].status.as_str()),
            other => panic!("{other:?}"),
        },
        Ok(other) => panic!("{other:?}"),
        Err(rejection) => format!("{rejection:?}"),
    }
}

/// A shard with a committed hold of `tickets` out of 5, from 2000 to 12000.
fn shard_with_hold(tickets: u64) -> Shard<&'static str> {
    let mut shard = shard_with_event(5);
    ask(&mut shard, 2000, hold(tickets, 10), "holder");
    assert_eq!(finish(&mut shard), "[held 12000] held 12000");
    shard
}

/// Moves the slot of the event to another shard, as a start of another process does.
fn restarted(mut shard: Shard<&'static str>) -> Shard<&'static str> {
    let slot = slot_of_event(EVENT);
    let (state, head) = shard.release_slot(slot).expect("it is owned");
    let mut other = Shard::new(ShardState::default(), &empty_heads(), Epoch(2));
    other.adopt(slot, state, head, Epoch(2));
    other
}

#[test]
fn every_reader_sees_the_end_of_a_hold_at_its_millisecond() {
    let totals = || Ask::Query(Query::Totals);
    let mine = || Ask::Query(Query::CustomerReservations { customer: UserId(2), after: None, limit: 9 });
    let rows = [
        (see as fn() -> Ask, "held 12000", "expired 12000"),
        (|| Ask::Query(VIEW), "0+4", "0+0"),
        (totals, "0+4", "0+0"),
        (mine, "1 held", "1 expired"),
        (confirm, "[confirmed] confirmed", "HoldExpired"),
        (|| reserve(2), "SoldOut { remaining: 1 }", "[reserved] confirmed"),
    ];
    for (question, before, after) in rows {
        let mut shard = shard_with_hold(4);
        ask(&mut shard, 11_999, question(), "reader");
        assert_eq!(finish(&mut shard), before);
        let mut shard = shard_with_hold(4);
        ask(&mut shard, 12_000, question(), "reader");
        assert!(shard.next_release().is_none(), "the end is not on disk yet");
        assert_eq!(finish(&mut shard), format!("[over 4 12000] {after}"), "in one batch");
        ask(&mut shard, 12_001, Ask::Query(VIEW), "reader");
        assert!(!finish(&mut shard).contains("over"), "once");
    }
}

#[test]
fn a_full_log_ends_no_hold_until_it_has_room() {
    let mut shard = shard_with_hold(4);
    ask(&mut shard, 12_000, reserve(2), "buyer");
    ask(&mut shard, 12_000, see(), "reader");
    let batch = shard.begin_commit().expect("it has records");
    shard.roll_back(batch, RollbackCause::NoRoom);
    assert_eq!(finish(&mut shard), "LogFull held 12000");
    ask(&mut shard, 13_000, see(), "reader");
    ask(&mut shard, 13_000, confirm(), "holder");
    assert_eq!(finish(&mut shard), "held 12000 LogFull");
    assert_eq!(shard.holds_end_at(), None);
    shard.end_holds(Now::at(Timestamp(13_000)));
    assert!(shard.begin_commit().is_none());
    shard.resume();
    assert!(shard.holds_end_at().is_some());
    ask(&mut shard, 14_000, confirm(), "holder");
    assert_eq!(finish(&mut shard), "[over 4 14000] HoldExpired");
    assert_eq!(shard.holds_end_at(), None);
}

#[test]
fn a_start_gives_holds_a_minute_before_anything_else() {
    // Also if the time was over before.
    for (now, end) in [(2001, 62_001), (12_000, 72_000), (9_000_000, 9_060_000)] {
        let mut shard = restarted(shard_with_hold(4));
        assert!(shard.holds_end_at().is_some_and(|at| at.is_zero()), "it has something to do at once");
        ask(&mut shard, now, see(), "reader");
        assert_eq!(finish(&mut shard), format!("[extended {now}] held {end}"));
        ask(&mut shard, end - 1, see(), "reader");
        assert_eq!(finish(&mut shard), format!("held {end}"));
        ask(&mut shard, end, reserve(5), "buyer");
        assert_eq!(finish(&mut shard), format!("[over 4 {end}] [reserved] confirmed"));
    }
    let mut shard = restarted(shard_with_hold(4));
    shard.end_holds(Now::at(Timestamp(5000)));
    assert_eq!(finish(&mut shard), "[extended 5000]");
    // And every start again.
    let mut shard = restarted(shard);
    ask(&mut shard, 6000, confirm(), "holder");
    assert_eq!(finish(&mut shard), "[extended 6000] [confirmed] confirmed");
    let mut shard = restarted(shard);
    ask(&mut shard, 7000, Ask::Query(VIEW), "reader");
    assert_eq!(finish(&mut shard), "4+0", "nothing is held");
}

#[test]
fn the_time_of_a_start_is_given_again_after_a_rollback() {
    let mut shard = restarted(shard_with_hold(4));
    ask(&mut shard, 20_000, see(), "reader");
    ask(&mut shard, 20_000, confirm(), "holder");
    let batch = shard.begin_commit().expect("it has records");
    shard.roll_back(batch, RollbackCause::Locked);
    assert_eq!(finish(&mut shard), "held 12000 LogLocked", "as it is on disk");
    ask(&mut shard, 21_000, see(), "reader");
    assert_eq!(finish(&mut shard), "held 12000");
    shard.resume();
    ask(&mut shard, 22_000, see(), "reader");
    assert_eq!(finish(&mut shard), "[extended 22000] held 82000");
    // A start that finds no room gives the time later.
    let mut shard = restarted(shard).refusing(RollbackCause::NoRoom);
    ask(&mut shard, 90_000, see(), "reader");
    assert_eq!((finish(&mut shard), shard.holds_end_at()), ("held 82000".to_owned(), None));
    shard.resume();
    assert!(shard.holds_end_at().is_some_and(|at| at.is_zero()));
    ask(&mut shard, 95_000, see(), "reader");
    assert_eq!(finish(&mut shard), "[extended 95000] held 155000");
}

/// Deadlines are compared with the time up to which holds are over, so a slot's time does not go back with the clock.
#[test]
fn a_clock_that_was_set_back_makes_no_hold_short_or_endless() {
    let mut shard = shard_with_hold(2);
    ask(&mut shard, 2000, hold(1, 1800), "holder");
    ask(&mut shard, 500_000, see(), "reader");
    assert_eq!(finish(&mut shard), "[held 1802000] [over 2 500000] held 1802000 expired 12000");
    // 490 s back: the slot goes on at 500 s.
    let mut shard = restarted(shard);
    ask(&mut shard, 10_000, hold(1, 10), "holder");
    assert_eq!(finish(&mut shard), "[time_set_back] [extended 500000] [held 510000] held 510000");
    ask(&mut shard, 19_999, Ask::Query(VIEW), "reader");
    assert_eq!(finish(&mut shard), "0+2");
    ask(&mut shard, 20_000, Ask::Query(VIEW), "reader");
    assert_eq!(finish(&mut shard), "[over 1 510000] 0+1");
    // The same with nothing held, and after a rollback.
    let mut shard = shard_with_hold(2);
    ask(&mut shard, 500_000, see(), "reader");
    finish(&mut shard);
    let mut shard = restarted(shard);
    ask(&mut shard, 10_000, hold(1, 10), "holder");
    let batch = shard.begin_commit().expect("it has records");
    shard.roll_back(batch, RollbackCause::NoRoom);
    shard.resume();
    assert_eq!(finish(&mut shard), "LogFull");
    ask(&mut shard, 11_000, hold(1, 10), "holder");
    assert_eq!(finish(&mut shard), "[time_set_back] [held 511000] held 511000");
    ask(&mut shard, 20_999, Ask::Query(VIEW), "reader");
    ask(&mut shard, 21_000, Ask::Query(VIEW), "reader");
    assert_eq!(finish(&mut shard), "[over 1 511000] 0+1 0+0");
}

#[test]
fn a_slot_that_is_given_up_takes_its_deadlines_with_it() {
    let mut shard = shard_with_hold(4);
    let at = |shard: &Shard<_>| shard.holds_end_at().map(|at| at.as_millis());
    // `Now::at` says that no time has passed since the start of the process.
    assert_eq!(at(&shard), Some(12_000 - 1000));
    shard.release_slot(slot_of_event(EVENT)).expect("it is owned");
    assert_eq!(at(&shard), None);
    shard.end_holds(Now::at(Timestamp(20_000)));
    assert!(shard.begin_commit().is_none());
}

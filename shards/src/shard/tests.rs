mod holds;

use smallvec::smallvec;

use super::*;
use crate::command::{Actor, Buyer, CreateEvent};
use crate::details::{EventName, NewDetails};
use crate::ids::{EventId, Lsn, Quantity, Quota, ReservationId, Role, UserId};
use crate::outcome::Outcome;
use crate::slots::slot_of_event;
use crate::state::OutcomeRef;

const EVENT: EventId = EventId(1);
const VIEW: Query = Query::Event { event: EVENT };

fn empty_heads() -> SlotHeads {
    Box::new([SlotHead::empty(1); SLOT_COUNT])
}

/// A shard with a committed event of this quota.
fn shard_with_event(quota: u64) -> Shard<&'static str> {
    let mut shard = Shard::new(ShardState::owning(SlotSet::all()), &empty_heads(), Epoch(1));
    let create = CreateEvent {
        id: EVENT,
        organizer: UserId(1),
        key: None,
        details: NewDetails::new(EventName::new("x").unwrap(), Quota::new(quota).unwrap()),
    };
    ask(&mut shard, 1000, Ask::Command(Command::CreateEvent(Box::new(create))), "organizer");
    assert!(shard.next_release().is_none(), "nothing is on disk yet");
    commit(&mut shard);
    assert_eq!(answers(&mut shard), [("organizer", Ok(Some(0)))]);
    shard
}

fn ask(shard: &mut Shard<&'static str>, now: u64, ask: Ask, asker: &'static str) {
    shard.take_in(Now::at(Timestamp(now)), ask, asker);
}

fn reserve(tickets: u64) -> Ask {
    let quantity = Quantity::new(tickets).unwrap();
    let (user, role) = (UserId(2), Role::Customer);
    let actor = Actor::new(user, role);
    Ask::Command(Command::Reserve { event: EVENT, actor, buyer: Buyer::Account(user), quantity })
}

fn commit(shard: &mut Shard<&'static str>) -> Vec<Entry> {
    let batch = shard.begin_commit().expect("the batch has records");
    let entries = batch.entries.clone();
    shard.finish_commit(batch);
    entries
}

type Answered = (&'static str, Result<Option<u32>, Rejection>);

/// Everything that may leave: answers, with the reserved tickets of an event's view, and messages.
fn answers(shard: &mut Shard<&'static str>) -> Vec<Answered> {
    let reserved = |outcome| match outcome {
        Outcome::Event(event) => Some(event.reserved),
        _ => None,
    };
    std::iter::from_fn(|| shard.next_release())
        .map(|release| match release {
            Release::Answer(asker, reply) => (asker, reply.map(reserved)),
            Release::Message(..) => ("message", Ok(None)),
        })
        .collect()
}

#[test]
fn nothing_leaves_before_the_records_it_depends_on_are_durable() {
    let mut shard = shard_with_event(1);
    ask(&mut shard, 1001, Ask::Query(VIEW), "reader");
    assert_eq!(answers(&mut shard), [("reader", Ok(Some(0)))], "nothing is pending");

    ask(&mut shard, 1001, reserve(1), "buyer");
    let first = shard.begin_commit().unwrap();
    ask(&mut shard, 1002, reserve(1), "too late");
    ask(&mut shard, 1002, Ask::Query(VIEW), "reader");
    assert_eq!(answers(&mut shard), []);
    assert!(shard.begin_commit().is_none(), "one batch is written at a time");
    shard.finish_commit(first);
    let sold_out = Err(Rejection::SoldOut { remaining: 0 });
    assert_eq!(answers(&mut shard), [("buyer", Ok(None)), ("too late", sold_out), ("reader", Ok(Some(1)))]);
    assert!(shard.is_at_rest());
}

#[test]
fn lsns_have_no_gap_and_time_does_not_go_back_by_a_little() {
    let mut shard = shard_with_event(10);
    for now in [2000, 500, 3000] {
        ask(&mut shard, now, reserve(1), "buyer");
    }
    let entries = commit(&mut shard);
    let slot = slot_of_event(EVENT);
    let seen: Vec<_> =
        entries.iter().map(|entry| (entry.slot, entry.lsn, entry.previous, entry.at)).collect();
    let expected = [(2, 2000), (3, 2000), (4, 3000)];
    assert_eq!(seen, expected.map(|(lsn, at)| (slot, Lsn(lsn), Lsn(lsn - 1), Timestamp(at))));
}

/// The times of the records that commands at these times make, with `<` before that of a set-back.
fn times(shard: &mut Shard<&'static str>, commands: &[u64]) -> String {
    for &now in commands {
        ask(shard, now, reserve(1), "buyer");
    }
    let entries = commit(shard);
    answers(shard);
    let times = entries.iter().map(|entry| {
        let is_set_back = entry.record == Record::TimeSetBack;
        assert_eq!(entry.continues, is_set_back, "{entry:?}");
        format!("{}{}", if is_set_back { "<" } else { "" }, entry.at.0)
    });
    times.collect::<Vec<_>>().join(" ")
}

#[test]
fn a_slot_that_is_far_ahead_is_set_back_by_a_record() {
    let rows = [
        // Once for the slot, not for each command.
        ([4_922_000_000_000, 2000, 2000, 2001], "4922000000000 <2000 2000 2000 2001"),
        // Up to the bound, the slot waits for the clock.
        ([20_000, 10_000, 25_000, 25_001], "20000 20000 25000 25001"),
        ([20_000, 9_999, 500, 0], "20000 <9999 9999 9999 9999"),
        // No record has the time 0.
        ([20_000, 0, 0, 5], "20000 <1 1 1 5"),
    ];
    for (commands, expected) in rows {
        let mut shard = shard_with_event(20);
        assert_eq!(times(&mut shard, &commands), expected);
    }
}

#[test]
fn records_with_a_set_back_lead_to_the_same_state() {
    let mut shard = shard_with_event(5);
    let mut replayed = shard_with_event(5);
    for now in [1_000_000, 2000, 2_000_000, 3000] {
        ask(&mut shard, now, reserve(1), "buyer");
    }
    for Entry { slot, lsn, at, previous, record, .. } in commit(&mut shard) {
        assert_eq!(replayed.state.apply(slot, at, lsn, &record), previous);
    }
    assert_eq!(replayed.state, shard.state);
}

#[test]
fn what_makes_no_record_sets_no_time_back() {
    let mut shard = shard_with_event(1);
    ask(&mut shard, 1_000_000, reserve(1), "buyer");
    commit(&mut shard);
    ask(&mut shard, 2000, reserve(1), "too late");
    ask(&mut shard, 2000, Ask::Query(VIEW), "reader");
    assert!(shard.begin_commit().is_none());
}

#[test]
fn a_set_back_is_undone_with_its_batch() {
    let mut shard = shard_with_event(5);
    assert_eq!(times(&mut shard, &[1_000_000]), "1000000");
    ask(&mut shard, 2000, reserve(1), "buyer");
    let batch = shard.begin_commit().expect("it has records");
    assert_eq!(batch.entries.len(), 2);
    let lsn = batch.entries[0].lsn;
    shard.roll_back(batch, RollbackCause::NoRoom);
    shard.resume();
    answers(&mut shard);
    ask(&mut shard, 3000, reserve(1), "buyer");
    let entries = commit(&mut shard);
    assert_eq!((entries[0].lsn, &entries[0].record), (lsn, &Record::TimeSetBack));
    assert_eq!(entries[1].at, Timestamp(3000));
}

#[test]
fn a_full_log_undoes_the_batch_being_written_and_the_open_one() {
    let mut shard = shard_with_event(2);
    ask(&mut shard, 1001, reserve(1), "first");
    let batch = shard.begin_commit().unwrap();
    ask(&mut shard, 1001, reserve(1), "second");
    ask(&mut shard, 1001, Ask::Query(VIEW), "reader");
    ask(&mut shard, 1001, reserve(1), "too late");
    assert_eq!(answers(&mut shard), []);

    shard.roll_back(batch, RollbackCause::NoRoom);
    ask(&mut shard, 1001, reserve(1), "while it is full");
    let full = Err(Rejection::LogFull);
    let expected = [
        ("first", full.clone()),
        ("second", full.clone()),
        ("reader", Ok(Some(0))),
        ("too late", full.clone()),
        ("while it is full", full),
    ];
    assert_eq!(answers(&mut shard), expected);
    assert!(shard.begin_commit().is_none(), "nothing is left to write");

    shard.resume();
    ask(&mut shard, 1001, reserve(2), "with room again");
    let entries = commit(&mut shard);
    assert_eq!(
        (entries[0].lsn, entries[0].previous),
        (Lsn(2), Lsn(1)),
        "positions continue after the last one on disk"
    );
    ask(&mut shard, 1001, Ask::Query(VIEW), "reader");
    assert_eq!(answers(&mut shard), [("with room again", Ok(None)), ("reader", Ok(Some(2)))]);
}

/// A decision of two records and a message.
fn two_records_and_a_message() -> Decision {
    let reserved = |number| Record::Reserved {
        id: ReservationId { event: EVENT, number },
        by: UserId(2).into(),
        buyer: Buyer::Account(UserId(2)),
        quantity: 1,
    };
    let Ask::Command(command) = reserve(1) else { unreachable!("a reservation is a command") };
    Decision {
        records: smallvec![reserved(1), reserved(2)],
        reply: Ok(OutcomeRef::Event(EVENT)),
        messages: vec![(Slot(9), command)],
    }
}

#[test]
fn records_of_one_decision_are_committed_together_and_its_messages_wait_for_them() {
    let mut shard = shard_with_event(2);
    let slot = slot_of_event(EVENT);
    let reply = shard.carry_out(Now::at(Timestamp(1001)), slot, two_records_and_a_message());
    assert!(
        matches!(reply, Ok(Outcome::Event(event)) if event.reserved == 2),
        "the state after both records"
    );
    assert_eq!(answers(&mut shard), []);
    let entries = commit(&mut shard);
    let seen: Vec<_> = entries.iter().map(|entry| (entry.lsn, entry.previous, entry.continues)).collect();
    assert_eq!(seen, [(Lsn(2), Lsn(1), true), (Lsn(3), Lsn(2), false)]);
    assert_eq!(answers(&mut shard), [("message", Ok(None))]);
}

#[test]
fn a_message_that_followed_from_undone_records_is_not_sent() {
    let mut shard = shard_with_event(2);
    let reply = shard.carry_out(Now::at(Timestamp(1001)), slot_of_event(EVENT), two_records_and_a_message());
    assert!(reply.is_ok());
    let batch = shard.begin_commit().unwrap();
    shard.roll_back(batch, RollbackCause::NoRoom);
    assert_eq!(answers(&mut shard), []);
    ask(&mut shard, 1002, Ask::Query(VIEW), "reader");
    assert_eq!(answers(&mut shard), [("reader", Ok(Some(0)))]);
}

#[test]
fn a_slot_of_another_owner_cannot_be_released() {
    let slot = slot_of_event(EVENT);
    let others = SlotSet::all().iter().filter(|&other| other != slot).collect();
    let mut shard: Shard<&'static str> = Shard::new(ShardState::owning(others), &empty_heads(), Epoch(1));
    let (id, organizer) = (EventId(2), UserId(1));
    let (name, quota) = (EventName::new("x").unwrap(), Quota::new(1).unwrap());
    let create = Command::CreateEvent(Box::new(CreateEvent {
        id,
        organizer,
        key: None,
        details: NewDetails::new(name, quota),
    }));
    ask(&mut shard, 1000, Ask::Command(create), "organizer");
    let batch = shard.begin_commit().expect("the batch has a record");
    assert!(shard.release_slot(slot).is_none(), "also while other slots are written");
    shard.finish_commit(batch);
    assert_eq!(answers(&mut shard), [("organizer", Ok(Some(0)))]);
}

#[test]
fn a_slot_moves_with_its_state() {
    let mut shard = shard_with_event(3);
    ask(&mut shard, 1001, reserve(1), "buyer");
    commit(&mut shard);
    answers(&mut shard);
    let slot = slot_of_event(EVENT);
    let (state, head) = shard.release_slot(slot).expect("it is owned");
    assert!(!shard.owned().contains(slot));
    ask(&mut shard, 1002, reserve(1), "buyer");
    ask(&mut shard, 1002, Ask::Query(VIEW), "reader");
    let elsewhere = Err(Rejection::Elsewhere);
    assert_eq!(answers(&mut shard), [("buyer", elsewhere.clone()), ("reader", elsewhere)]);
    assert!(shard.release_slot(slot).is_none());

    let mut other: Shard<&'static str> = Shard::new(ShardState::default(), &empty_heads(), Epoch(2));
    other.adopt(slot, state, head, Epoch(7));
    ask(&mut other, 1003, reserve(1), "buyer");
    let entries = commit(&mut other);
    assert_eq!((entries[0].lsn, entries[0].epoch), (Lsn(3), Epoch(7)), "under its own epoch");
    let customer = UserId(2);
    let mine = Query::CustomerReservations { customer, after: None, limit: 10 };
    let reply = other.state().query(&mine);
    let Ok(Outcome::Part(part)) = reply else { panic!("{reply:?}") };
    assert_eq!(part.slots, [slot].into_iter().collect(), "it speaks for what it owns now");
    assert!(
        matches!(part.outcome, Outcome::Reservations(list) if list.len() == 2),
        "the index has the slot's reservations"
    );
}

#[test]
fn an_account_has_at_most_as_many_reservations_as_are_allowed() {
    let mut shard = shard_with_event(7).with_reservations_max(2);
    let refused = Err(Rejection::AccountLimit { account: UserId(2), most: 2 });
    let by_another = |ask| match ask {
        Ask::Command(Command::Reserve { event, actor, quantity, .. }) => {
            let buyer = Buyer::Account(UserId(3));
            Ask::Command(Command::Reserve { event, actor, buyer, quantity })
        }
        other => other,
    };
    let cancel = || {
        let actor = Actor::new(UserId(2), Role::Customer);
        Ask::Command(Command::Cancel { reservation: ReservationId { event: EVENT, number: 1 }, actor })
    };
    // With the log full, a batch is undone, and what it counted.
    ask(&mut shard, 1001, reserve(1), "undone");
    ask(&mut shard, 1001, reserve(1), "undone");
    ask(&mut shard, 1001, reserve(1), "refused with them");
    let batch = shard.begin_commit().expect("it has records");
    shard.roll_back(batch, RollbackCause::NoRoom);
    shard.resume();
    assert!(!shard.state().has_reservations(UserId(2), 1));
    answers(&mut shard);

    let steps = [
        (reserve(1), Ok(None)),
        (reserve(9), Err(Rejection::SoldOut { remaining: 6 })),
        (reserve(1), Ok(None)),
        (reserve(1), refused.clone()),
        (reserve(9), Err(Rejection::SoldOut { remaining: 5 })),
        (cancel(), Ok(None)),
        // It takes memory as before.
        (reserve(1), refused.clone()),
        // The buyer counts, not who acts.
        (by_another(reserve(1)), Ok(None)),
    ];
    let mut entries = 0;
    for (index, (step, expected)) in steps.into_iter().enumerate() {
        ask(&mut shard, 2000, step, "asker");
        if let Some(batch) = shard.begin_commit() {
            entries += batch.entries.len();
            shard.finish_commit(batch);
        }
        assert_eq!(answers(&mut shard), [("asker", expected)], "step {index}");
    }
    assert_eq!(entries, 4, "a refusal writes nothing");
    assert!(shard.state().has_reservations(UserId(2), 2) && !shard.state().has_reservations(UserId(2), 3));

    // Another setting holds for what comes, and takes nothing away.
    let mut shard = shard.with_reservations_max(1);
    ask(&mut shard, 3000, reserve(1), "asker");
    assert_eq!(
        answers(&mut shard),
        [("asker", Err(Rejection::AccountLimit { account: UserId(2), most: 1 }))]
    );
    let mut shard = shard.with_reservations_max(3);
    ask(&mut shard, 3000, reserve(1), "asker");
    commit(&mut shard);
    assert_eq!(answers(&mut shard), [("asker", Ok(None))]);
}

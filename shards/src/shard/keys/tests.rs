use std::time::Duration;

use super::*;
use crate::command::{Actor, Ask, Buyer, Command, CreateEvent, IdempotencyKey, Keyed};
use crate::details::{EventName, NewDetails};
use crate::ids::{Epoch, EventId, Quantity, Quota, Role, Timestamp, UserId};
use crate::limits::SLOT_COUNT;
use crate::log::RollbackCause;
use crate::outcome::Outcome;
use crate::record::{Entry, SlotHead};
use crate::shard::{Release, SlotHeads};
use crate::slots::{SlotSet, slot_of_event};
use crate::state::{DroppedGenerations, Generation, ShardState, Undo};

const EVENT: EventId = EventId(1);
const START: u64 = 1_700_000_000_000;
const MINUTE_MS: u64 = 60_000;

fn empty_heads() -> SlotHeads {
    Box::new([SlotHead::empty(1); SLOT_COUNT])
}

/// Some minutes after the start, on both clocks.
fn at(minutes: u64) -> Now {
    let time = Timestamp(START + minutes * MINUTE_MS);
    Now { elapsed: Duration::from_mins(minutes), steady: time, wall: time }
}

/// The start of another process, whose wall clock is so many minutes ahead.
fn started(minutes: i64) -> Now {
    Now::at(Timestamp(START.saturating_add_signed(minutes * MINUTE_MS.cast_signed())))
}

fn shard() -> Shard<()> {
    let mut shard = Shard::new(ShardState::owning(SlotSet::all()), &empty_heads(), Epoch(1));
    let create = CreateEvent {
        id: EVENT,
        organizer: UserId(8),
        key: None,
        details: NewDetails::new(EventName::new("x").unwrap(), Quota::new(8).unwrap()),
    };
    shard.take_in(at(0), Ask::Command(Command::CreateEvent(Box::new(create))), ());
    commit(&mut shard);
    shard
}

fn keyed(name: u8) -> Command {
    let user = UserId(1000 + u32::from(name));
    let key = IdempotencyKey { user, is_bounded: true, hash: [name; 16], fingerprint: 1 };
    let actor = Actor::new(user, Role::Customer);
    let quantity = Quantity::new(1).unwrap();
    let command = Command::Reserve { event: EVENT, actor, buyer: Buyer::Account(user), quantity };
    Command::Keyed(Box::new(Keyed { key, command }))
}

fn commit(shard: &mut Shard<()>) -> Vec<Entry> {
    let Some(batch) = shard.begin_commit() else { return Vec::new() };
    let entries = batch.entries.clone();
    shard.finish_commit(batch);
    while let Some(release) = shard.next_release() {
        let Release::Answer((), reply) = release else { panic!("{release:?}") };
        assert!(reply.is_ok(), "{reply:?}");
    }
    entries
}

/// Takes in a request and commits it. Returns the minutes that a new generation was begun after the one before, if one
/// was.
fn buy(shard: &mut Shard<()>, now: Now, name: u8) -> Option<u32> {
    shard.take_in(now, Ask::Command(keyed(name)), ());
    let entries = commit(shard);
    let (last, before) = entries.split_last().expect("it has records");
    assert!(before.iter().all(|entry| entry.continues) && !last.continues);
    minutes_of(&entries)
}

fn minutes_of(entries: &[Entry]) -> Option<u32> {
    entries.iter().find_map(|entry| match entry.record {
        Record::KeysAged { since_ms } => Some(since_ms / MINUTE_MS as u32),
        _ => None,
    })
}

fn keeps(shard: &Shard<()>, name: u8) -> bool {
    let Command::Keyed(keyed) = keyed(name) else { unreachable!("it has a key") };
    shard.state().slot(slot_of_event(EVENT)).unwrap().keeps(&keyed.key)
}

#[test]
fn a_key_is_kept_for_a_day_and_not_much_longer() {
    // Minutes at which other keys come, and those after which the first one is kept.
    let rows: [(&[u64], &[u64]); 5] = [
        (&[59, 60, 1440, 1499], &[59, 60, 1440, 1499]),
        (&[60, 1499, 1500, 2559], &[60, 1499, 1500]),
        (&[60, 120, 1500], &[60, 120]),
        // A generation ends when the next one begins, so an idle slot forgets nothing of itself.
        (&[3000, 4439], &[3000, 4439]),
        (&[3000, 4440], &[3000]),
    ];
    for (minutes, kept) in rows {
        let mut shard = shard();
        assert_eq!(buy(&mut shard, at(0), 0), None);
        for (index, &minute) in minutes.iter().enumerate() {
            buy(&mut shard, at(minute), 1 + index as u8);
            assert_eq!(keeps(&shard, 0), kept.contains(&minute), "{minutes:?}: {minute}");
        }
    }
}

#[test]
fn generations_begin_an_hour_apart() {
    let mut shard = shard();
    let minutes = [0, 10, 59, 60, 61, 119, 120].map(|minute| buy(&mut shard, at(minute), minute as u8));
    assert_eq!(minutes, [None, None, None, Some(60), None, None, Some(60)]);
    // More than a day counts as a day: all but the last generation are forgotten.
    assert_eq!(buy(&mut shard, at(100_000), 200), Some(1440));
    assert_eq!([0, 60, 120, 200].map(|name| keeps(&shard, name)), [false, false, true, true]);
}

/// Across a stop, the wall clock counts, between nothing and an hour.
#[test]
fn a_start_counts_at_most_an_hour() {
    const YEARS: i64 = 10 * 365 * 24 * 60;
    let rows = [
        (0, [None, None, Some(60)]),
        (25, [None, Some(60), None]),
        (59, [None, Some(94), None]),
        (60, [Some(60), None, Some(60)]),
        (600, [Some(60), None, Some(60)]),
        (YEARS, [Some(60), None, Some(60)]),
        (-600, [None, None, Some(60)]),
        (-YEARS, [None, None, Some(60)]),
    ];
    for (ahead, expected) in rows {
        let mut before = shard();
        buy(&mut before, at(0), 0);
        let slot = slot_of_event(EVENT);
        let (state, head) = before.release_slot(slot).unwrap();
        let mut shard: Shard<()> = Shard::new(ShardState::default(), &empty_heads(), Epoch(2));
        shard.adopt(slot, state, head, Epoch(2));
        let made = [0, 35, 60].map(|minutes| {
            let start = started(ahead);
            let passed = Duration::from_mins(minutes);
            let wall = Timestamp(start.wall.0 + minutes * MINUTE_MS);
            buy(&mut shard, Now { elapsed: passed, steady: wall, wall }, 1 + minutes as u8)
        });
        assert_eq!(made, expected, "{ahead} minutes ahead");
        assert!(keeps(&shard, 0), "{ahead} minutes ahead");
    }
}

#[test]
fn a_key_and_its_generation_are_undone_with_their_batch() {
    let mut shard = shard();
    // The first key of a slot begins the first generation.
    shard.take_in(at(0), Ask::Command(keyed(0)), ());
    roll_back(&mut shard);
    assert_eq!((keeps(&shard, 0), shard.state().key_count()), (false, 0));
    assert_eq!(buy(&mut shard, at(5), 0), None);
    // An undone generation counts for nothing, and its successor as the one that it was.
    for minute in [65, 70] {
        shard.take_in(at(minute), Ask::Command(keyed(1)), ());
        roll_back(&mut shard);
        assert_eq!((keeps(&shard, 0), keeps(&shard, 1), shard.state().key_count()), (true, false, 1));
    }
    assert_eq!(buy(&mut shard, at(75), 1), Some(70));
    // What was dropped is there again.
    shard.take_in(at(1600), Ask::Command(keyed(2)), ());
    assert!(!keeps(&shard, 0));
    roll_back(&mut shard);
    assert_eq!((keeps(&shard, 0), keeps(&shard, 1), shard.state().key_count()), (true, true, 2));
    assert_eq!(buy(&mut shard, at(1601), 3), Some(1440));
    assert_eq!((keeps(&shard, 0), shard.state().key_count()), (false, 2));
}

fn roll_back(shard: &mut Shard<()>) {
    let batch = shard.begin_commit().expect("it has records");
    shard.roll_back(batch, RollbackCause::NoRoom);
    assert_eq!(shard.expires_at(), None, "nothing is to be done while the log is full");
    shard.age_keys_if_due(at(100_000));
    assert_eq!(shard.open_records(), 0);
    shard.resume();
    while let Some(release) = shard.next_release() {
        assert!(matches!(release, Release::Answer((), Err(Rejection::LogFull))), "{release:?}");
    }
}

/// A slot in which no new keys come forgets its keys, too.
#[test]
fn idle_slots_forget_when_it_is_due() {
    let mut shard = shard();
    assert_eq!(shard.expires_at(), None, "there are no keys");
    buy(&mut shard, at(10), 0);
    buy(&mut shard, at(40), 1);
    let mut begun = 0;
    let mut now = at(40);
    shard.age_keys_if_due(now);
    while let Some(due) = shard.expires_at() {
        assert!(due > now.elapsed, "{due:?}");
        now = at(due.as_secs() / 60);
        let early = at(due.as_secs() / 60 - 1);
        shard.age_keys_if_due(early);
        assert_eq!(shard.open_records(), 0, "not before");
        shard.age_keys_if_due(now);
        assert_eq!(minutes_of(&commit(&mut shard)), Some(60));
        begun += 1;
        assert!(begun < 100, "keys are never forgotten");
    }
    assert_eq!((begun, shard.state().key_count()), (25, 0));
    assert_eq!(now.elapsed, Duration::from_mins(10 + 25 * 60));
    assert!(shard.key_ages.len() <= 25, "those that are gone are forgotten");
}

/// What a full log has undone is due again, also if it would have forgotten the last keys.
#[test]
fn keys_that_a_full_log_brought_back_are_forgotten_later() {
    let mut shard = shard();
    buy(&mut shard, at(0), 0);
    let mut now = at(0);
    while shard.state().key_count() > 0 {
        now = at(shard.expires_at().expect("a key is kept").as_secs() / 60);
        shard.age_keys_if_due(now);
        if shard.open_records() > 0 {
            roll_back(&mut shard);
            assert_eq!(shard.expires_at(), Some(Duration::ZERO), "{now:?}");
            shard.age_keys_if_due(now);
            commit(&mut shard);
        }
    }
    assert_eq!(now.elapsed, Duration::from_mins(25 * 60));
}

/// Each commit frees more than it keeps, however the keys lie in generations.
#[test]
fn the_memory_of_forgotten_keys_does_not_pile_up() {
    let dropped = std::iter::once(3000).chain([1; 100]).map(Generation::with_keys).collect();
    let mut undo = Undo::Generations(Box::new(DroppedGenerations(dropped)));
    let mut forgotten = ForgottenKeys::default();
    forgotten.expect_one();
    forgotten.free_some(std::iter::once(&mut undo), 1);
    assert!(!forgotten.is_empty(), "not all at once");
    // 500 sales with keys in each commit.
    (0..3).for_each(|_| forgotten.free_some(std::iter::empty(), 1000));
    assert!(forgotten.is_empty());
}

/// The commits that follow free what was dropped.
#[test]
fn forgotten_keys_are_freed_with_commits() {
    let mut shard = shard();
    buy(&mut shard, at(0), 0);
    buy(&mut shard, at(60), 1);
    assert!(shard.forgotten_keys.is_empty());
    shard.take_in(at(1500), Ask::Command(keyed(2)), ());
    roll_back(&mut shard);
    assert!(keeps(&shard, 0) && shard.forgotten_keys.is_empty());
    shard.take_in(at(1500), Ask::Command(keyed(2)), ());
    assert!(!keeps(&shard, 0));
    commit(&mut shard);
    assert!(shard.forgotten_keys.is_empty(), "one key is freed at once");
    assert!(keeps(&shard, 1) && keeps(&shard, 2));
}

#[test]
fn a_shard_keeps_at_most_as_many_keys_as_are_allowed() {
    let mut shard = shard().with_keys_max(2);
    let reply = |shard: &mut Shard<()>, command| {
        shard.take_in(at(0), Ask::Command(command), ());
        let batch = shard.begin_commit();
        let count = batch.as_ref().map_or(0, |batch| batch.entries.len());
        batch.into_iter().for_each(|batch| shard.finish_commit(batch));
        let Some(Release::Answer((), reply)) = shard.next_release() else { panic!("no answer") };
        (reply, count)
    };
    for name in [0, 1] {
        let (made, count) = reply(&mut shard, keyed(name));
        assert!(matches!(made, Ok(Outcome::Reservation(_))) && count == 2, "{made:?}");
    }
    assert_eq!(reply(&mut shard, keyed(2)), (Err(Rejection::NoRoomForKeys), 0));
    let (again, count) = reply(&mut shard, keyed(0));
    assert!(matches!(again, Ok(Outcome::Replayed(_))) && count == 0, "{again:?}");
    let mut shard = shard.with_keys_max(3);
    assert!(reply(&mut shard, keyed(2)).0.is_ok());
}

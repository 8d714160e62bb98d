//! Slots are independent: replayed, adopted, released and undone one by one.

use std::collections::BTreeSet;

use super::{actor, all_slots};
use crate::clock::Now;
use crate::command::{
    Actor, Buyer, Command, CreateEvent, CreateUser, CustomerRef, DeleteEvent, EditEvent, ExpectedVersion,
    GiveEventId, IdempotencyKey, Keyed, OrderItem, OrderMessage, Prepare, Transfer,
};
use crate::details::{DetailsPatch, EventName, NewDetails};
use crate::ids::{
    Attempt, Epoch, EventId, HoldTime, Lsn, Quantity, Quota, ReservationId, Role, Slot, Timestamp, UserId,
    Username,
};
use crate::record::{Kind, Record};
use crate::slots::{SlotSet, slot_of_event};
use crate::state::{ShardState, Undo};

/// Pseudo-random numbers that are the same in each run.
struct Draws(u64);

impl Draws {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % bound
    }
}

/// Records of many events and accounts, the state after them, and the undo of each.
struct History {
    /// The records of each slot.
    records: Vec<Vec<(Lsn, Record)>>,
    state: ShardState,
    undo_steps: Vec<(Slot, Lsn, Record, Undo)>,
}

fn history(draws: &mut Draws) -> History {
    let mut state = all_slots();
    let mut records_of: Vec<Vec<(Lsn, Record)>> = vec![Vec::new(); 256];
    let mut undo_steps = Vec::new();
    for step in 0..600 {
        let event = EventId(1 + draws.below(12) as u32);
        let customer = UserId(1 + draws.below(3) as u32);
        let by = Actor::new(customer, Role::Customer);
        let number = 1 + draws.below(10) as u32;
        let command = match draws.below(17) {
            _ if step < 12 => Command::CreateEvent(Box::new(CreateEvent {
                id: EventId(step + 1),
                organizer: actor("o").user,
                key: None,
                details: NewDetails::new(EventName::new("Concert").unwrap(), Quota::new(60).unwrap()),
            })),
            0 => Command::CreateUser(Box::new(CreateUser {
                id: UserId(step + 1),
                username: Username::new(&format!("user{step}")).unwrap(),
                password_hash: "hash".into(),
                role: Role::Customer,
                token_version: 7,
            })),
            1 => Command::EditEvent(Box::new(EditEvent {
                event,
                actor: actor("z"),
                version: ExpectedVersion::Any,
                changes: DetailsPatch {
                    quota: Quota::new(40 + draws.below(60) as u64),
                    ..DetailsPatch::default()
                },
                organizer: (draws.below(2) == 0).then(|| actor(["o", "p"][draws.below(2)]).user),
            })),
            11 => Command::GiveEventId(Box::new(GiveEventId {
                key: key(customer, 2, draws),
                id: EventId(1000 + step),
            })),
            2 if draws.below(8) == 0 => Command::DeleteEvent(Box::new(DeleteEvent {
                event,
                actor: actor("z"),
                version: ExpectedVersion::Any,
                force: true,
            })),
            4 => Command::Reduce {
                reservation: ReservationId { event, number },
                actor: by,
                quantity: Quantity::new(1).unwrap(),
            },
            5 | 6 => Command::Hold {
                event,
                actor: by,
                buyer: Buyer::Account(customer),
                quantity: Quantity::new(1 + draws.below(3) as u64).unwrap(),
                time: HoldTime::from_seconds(10 + draws.below(5) as u64).unwrap(),
            },
            7..10 => Command::Confirm {
                reservation: ReservationId { event, number },
                actor: by,
                quantity: Quantity::new(draws.below(3) as u64),
            },
            10 => Command::Release { reservation: ReservationId { event, number }, actor: by },
            14 => Command::Transfer(Box::new(Transfer {
                reservation: ReservationId { event, number },
                actor: if draws.below(2) == 0 { by } else { actor("o") },
                to: Some(match draws.below(2) {
                    0 => Buyer::Account(UserId(1 + draws.below(3) as u32)),
                    _ => buyer_without_account(draws),
                }),
                quantity: Quantity::new(draws.below(3) as u64),
            })),
            15 => Command::Reserve {
                event,
                actor: actor(["o", "p"][draws.below(2)]),
                buyer: buyer_without_account(draws),
                quantity: Quantity::new(1 + draws.below(3) as u64).unwrap(),
            },
            16 => Command::Hold {
                event,
                actor: actor(["o", "p"][draws.below(2)]),
                buyer: buyer_without_account(draws),
                quantity: Quantity::new(1).unwrap(),
                time: HoldTime::from_seconds(10).unwrap(),
            },
            2 | 3 => Command::Cancel { reservation: ReservationId { event, number }, actor: by },
            _ => Command::Reserve {
                event,
                actor: by,
                buyer: Buyer::Account(customer),
                quantity: Quantity::new(1 + draws.below(3) as u64).unwrap(),
            },
        };
        let command = match (draws.below(2), command) {
            (0, command @ (Command::Reserve { .. } | Command::Hold { .. } | Command::Confirm { .. })) => {
                Command::Keyed(Box::new(Keyed { key: key(customer, 1, draws), command }))
            }
            (_, command) => command,
        };
        let slot = command.slot();
        // Time passes, at some steps so much that holds end, or that a start gives them more time.
        let now = Now::at(Timestamp(300 * u64::from(step)));
        let of_slot = state.slot(slot).expect("all slots are owned");
        let mut made = match draws.below(100) {
            0 => [Record::HoldsExtended { from: now.steady }].into_iter().collect(),
            1..25 => of_slot.expiry_due(now).into_iter().collect(),
            _ => state.decide(now, slot, command).records,
        };
        if draws.below(10) == 0 {
            made.push(Record::KeysAged { since_ms: 3_600_000 * (1 + draws.below(12) as u32) });
        }
        for record in made {
            let records = &mut records_of[slot.index()];
            let lsn = Lsn(1 + records.len() as u64);
            let undo = state.slot(slot).expect("all slots are owned").undo_of(&record);
            let previous = state.apply(slot, Timestamp(lsn.0), lsn, &record);
            let last = records.iter().rev().find(|(_, other)| other.event() == record.event());
            let expected = last.filter(|_| record.event().is_some()).map_or(Lsn(0), |(lsn, _)| *lsn);
            assert_eq!(previous, expected, "the event's record before {record:?}");
            undo_steps.push((slot, previous, record.clone(), undo));
            records.push((lsn, record));
        }
    }
    History { records: records_of, state, undo_steps }
}

/// Few refs, so that some are forgotten and made again.
fn buyer_without_account(draws: &mut Draws) -> Buyer {
    match draws.below(6) {
        0 => Buyer::Guest,
        1 => Buyer::Block,
        number => Buyer::Ref(CustomerRef::new(&format!("ref {number}")).unwrap()),
    }
}

/// `address` is another number for each kind of request.
fn key(user: UserId, address: u8, draws: &mut Draws) -> IdempotencyKey {
    let mut hash = [address; 16];
    hash[0] = draws.below(40) as u8;
    IdempotencyKey { user, is_bounded: false, hash, fingerprint: 1 }
}

/// A slot's records lead to the same state alone and interleaved with those of other slots, and slots that
/// are adopted one by one make the same shard.
#[test]
fn a_slot_replayed_alone_or_interleaved_is_the_same() {
    let mut draws = Draws(7);
    let mut kinds = BTreeSet::new();
    for _ in 0..20 {
        let History { records, state, .. } = history(&mut draws);
        kinds.extend(records.iter().flatten().map(|(_, record)| record.encode().kind));
        let mut interleaved = all_slots();
        let mut next = [0; 256];
        let mut left: Vec<usize> = (0..256).filter(|&slot| !records[slot].is_empty()).collect();
        assert!(left.len() > 12);
        while !left.is_empty() {
            let index = draws.below(left.len());
            let slot = left[index];
            let (lsn, record) = &records[slot][next[slot]];
            interleaved.apply(Slot(slot as u8), Timestamp(lsn.0), *lsn, record);
            next[slot] += 1;
            if next[slot] == records[slot].len() {
                left.swap_remove(index);
            }
        }
        assert_eq!(interleaved, state);

        let mut adopted = ShardState::default();
        for slot in (0..=u8::MAX).rev().map(Slot) {
            let mut alone = ShardState::owning([slot].into_iter().collect());
            for (lsn, record) in &records[slot.index()] {
                alone.apply(slot, Timestamp(lsn.0), *lsn, record);
            }
            adopted.adopt(slot, alone.release(slot).expect("it was adopted"));
            assert_eq!(alone, ShardState::default(), "slot {slot} is released completely");
        }
        assert_eq!(adopted, state);

        // A release removes the slot, and no other.
        let mut others: SlotSet = adopted.owned();
        let slot = slot_of_event(EventId(1 + draws.below(12) as u32));
        others.remove(slot);
        let released = adopted.release(slot).expect("it was adopted");
        assert_eq!(adopted.owned(), others);
        assert!(adopted.release(slot).is_none());
        adopted.adopt(slot, released);
        assert_eq!(adopted, state);
    }
    for kind in [Kind::Held, Kind::Confirmed, Kind::Released, Kind::HoldsExpired, Kind::HoldsExtended] {
        assert!(kinds.contains(&(kind as u8)), "no {} in {kinds:?}", kind.name());
    }
}

/// The undos of different slots interleave; within a slot, the last record is undone first.
#[test]
fn undo_goes_slot_by_slot() {
    let mut draws = Draws(11);
    for _ in 0..20 {
        let History { mut state, undo_steps, .. } = history(&mut draws);
        let mut of_slot: Vec<Vec<_>> = (0..256).map(|_| Vec::new()).collect();
        undo_steps.into_iter().for_each(|entry| of_slot[entry.0.index()].push(entry));
        while !of_slot.iter().all(Vec::is_empty) {
            let candidates: Vec<_> = (0..256).filter(|&slot| !of_slot[slot].is_empty()).collect();
            let slot = candidates[draws.below(candidates.len())];
            for _ in 0..=draws.below(5) {
                let Some((slot, previous, record, undo)) = of_slot[slot].pop() else { break };
                state.undo(slot, previous, &record, undo);
            }
        }
        assert_eq!(state, all_slots());
    }
}

/// What a refused order leaves behind takes memory, so it counts; but nobody sees it, so no list looks at it.
#[test]
fn an_aborted_part_counts_and_is_in_no_list() {
    let (event, owner) = (EventId(1), UserId(2));
    let slot = slot_of_event(event);
    let attempt = Attempt { epoch: Epoch(1), number: 1 };
    let item = OrderItem { event, quantity: Quantity::new(3).unwrap() };
    let prepare = Prepare { owner, attempt, actor: actor("b"), buyer: Buyer::Account(owner), item };
    let part = ReservationId { event, number: 1 };
    let mut state = all_slots();
    let details = NewDetails::new(EventName::new("Concert").unwrap(), Quota::new(60).unwrap());
    let create = CreateEvent { id: event, organizer: actor("o").user, key: None, details };
    let now = Now::at(Timestamp(1));
    let created = state.decide(now, slot, Command::CreateEvent(Box::new(create))).records;
    state.apply(slot, Timestamp(1), Lsn(1), &created[0]);
    let listed = |state: &ShardState| state.reservations_of.after(owner.0, None).count();
    for (lsn, message, in_list) in [
        (Lsn(2), OrderMessage::Prepare(prepare), 1),
        (Lsn(3), OrderMessage::Abort { owner, attempt, part }, 0),
    ] {
        let record = state.hear_of_part(now, slot, &message).unwrap().record.unwrap();
        let before = state.slot(slot).unwrap().undo_of(&record);
        let listed_before = listed(&state);
        let previous = state.apply(slot, Timestamp(1), lsn, &record);
        state.undo(slot, previous, &record, before);
        assert_eq!(listed(&state), listed_before, "undone");
        state.apply(slot, Timestamp(1), lsn, &record);
        assert_eq!(listed(&state), in_list);
        assert!(state.has_reservations(owner, 1) && !state.has_reservations(owner, 2));
    }
    let mut other = ShardState::default();
    other.adopt(slot, state.release(slot).unwrap());
    assert_eq!(listed(&other), 0);
    assert!(other.has_reservations(owner, 1) && !other.has_reservations(owner, 2));
    assert!(!state.has_reservations(owner, 1));
}

use std::borrow::Cow;

use super::*;
use crate::api_keys::{Scope, Scopes};
use crate::command::CustomerRef;
use crate::details::SalesRules;
use crate::ids::{Attempt, Epoch, Lsn, Quantity, Slot, Timestamp};
use crate::outcome::OrderPart;

fn one_of_each_kind() -> Vec<Record> {
    let id = ReservationId { event: EventId(7), number: 3 };
    let username = Username::new("ada").unwrap();
    let held = Held {
        id,
        by: UserId(2).into(),
        buyer: Buyer::Account(UserId(2)),
        quantity: 4,
        deadline: Timestamp(1_800_000_600_000),
    };
    vec![
        Record::Held(Box::new(held)),
        Record::Reserved { id, by: UserId(2).into(), buyer: Buyer::Account(UserId(2)), quantity: 4 },
        Record::Cancelled { id, by: UserId(2).into(), quantity: 4 },
        Record::Confirmed { id, by: UserId(2).into(), given_back: 1 },
        Record::Released { id, by: UserId(2).into(), quantity: 4 },
        Record::HoldsExpired { event: EventId(7), up_to: Timestamp(1_800_000_600_000), tickets: 9 },
        Record::HoldsExtended { from: Timestamp(1_800_000_600_000) },
        Record::Reduced { id, by: UserId(2).into(), quantity: 3 },
        transferred(Buyer::Account(UserId(5)), None),
        Record::PartPrepared(Box::new(PartPrepared {
            id,
            by: UserId(2).into(),
            buyer: Buyer::Account(UserId(2)),
            quantity: 4,
            owner: UserId(2),
            attempt: ATTEMPT,
        })),
        part_settled(Some(ORDER), PartStep::Confirmed),
        Record::EventCreated(Box::new(EventCreated {
            id: EventId(7),
            organizer: UserId(1),
            key: None,
            details: EventDetails { name: "\"Quoted\" ☂".into(), quota: 10, venue: None, rules: None },
        })),
        Record::EventEdited(Box::new(EventEdited {
            id: EventId(7),
            by: UserId(1).into(),
            details: EventDetails {
                name: "New".into(),
                quota: 0,
                venue: Some("Main hall".into()),
                rules: SalesRules {
                    max_per_reservation: Quantity::new(4),
                    max_per_customer: Quantity::new(300),
                    sales_start: Some(Timestamp(1_800_000_000_000)),
                    sales_end: Some(Timestamp(1_800_000_000_001)),
                }
                .boxed(),
            },
            organizer: None,
        })),
        Record::EventDeleted { event: EventId(7), by: UserId(1).into(), tickets: 9 },
        key_kept(Answer::EventId(EventId(7))),
        Record::UserCreated(Box::new(UserCreated {
            id: UserId(1),
            username: username.clone(),
            password_hash: "$argon2id$...".into(),
            role: Role::Organizer,
            token_version: u64::MAX,
        })),
        Record::PasswordChanged(Box::new(PasswordChanged {
            id: UserId(1),
            username: username.clone(),
            by: UserId(1),
            password_hash: "$argon2id$...".into(),
            token_version: 1,
        })),
        Record::RoleChanged(Box::new(RoleChanged {
            id: UserId(1),
            username: username.clone(),
            by: UserId(2),
            role: Role::Admin,
            token_version: u64::MAX,
        })),
        Record::UserRemoved(Box::new(UserRemoved {
            id: UserId(1),
            username: username.clone(),
            by: UserId(2),
        })),
        Record::TokensEnded(Box::new(TokensEnded {
            id: UserId(1),
            username: username.clone(),
            by: UserId(2),
            token_version: 1,
        })),
        Record::OrderPlaced(Box::new(OrderPlaced {
            id: ORDER,
            by: UserId(2).into(),
            buyer: Buyer::Account(UserId(2)),
            parts: [3, 12].map(part).into(),
            attempt: ATTEMPT,
            deadline: None,
        })),
        Record::OrderConfirmed { id: ORDER, by: UserId(2).into() },
        Record::OrderCancelled { id: ORDER, by: UserId(99).into() },
        Record::OrderExpired { id: ORDER },
        Record::OrderSettled { id: ORDER },
        Record::ApiKeyMade(Box::new(ApiKeyMade {
            organizer: UserId(1),
            number: ApiKeyNumber(3),
            key: ApiKey {
                name: "Shop".into(),
                scopes: Scopes::from_iter([Scope::EventsRead, Scope::Sell]),
                secret_hash: std::array::from_fn(|index| index as u8),
                username,
                account_version: 1,
                ends_at: Some(Timestamp(1_800_000_600_000)),
            },
        })),
        Record::ApiKeyEnded { organizer: UserId(1), number: ApiKeyNumber(3) },
        Record::TimeSetBack,
        Record::KeysAged { since_ms: 3_600_000 },
        key_kept(Answer::Reservation { id, quantity: 4 }),
    ]
}

fn transferred(to: Buyer, part: Option<TransferredPart>) -> Record {
    let id = ReservationId { event: EventId(7), number: 3 };
    Record::Transferred(Box::new(Transferred { id, by: UserId(2).into(), to, part }))
}

/// Each buyer without an account, with the members that say so.
fn buyers() -> [(Buyer, &'static [u8]); 3] {
    let text = CustomerRef::new("c7").unwrap();
    [(Buyer::Ref(text), &[11, 0x62, b'c', b'7']), (Buyer::Guest, &[12, 1]), (Buyer::Block, &[12, 2])]
}

#[test]
fn buyers_without_an_account_are_members_of_bodies() {
    let id = ReservationId { event: EventId(7), number: 3 };
    let (by, quantity, deadline) = (By::from(UserId(2)), 4, Timestamp(9));
    let part = TransferredPart { number: 8, quantity: 1 };
    let same = |record: Record, expected: &[&[u8]]| {
        let columns = record.encode();
        assert_eq!((columns.user, &*columns.body), (2, &*expected.concat()));
        assert_eq!(Record::decode(&columns).unwrap(), record);
    };
    for (buyer, members) in buyers() {
        same(Record::Reserved { id, by, buyer: buyer.clone(), quantity }, &[&[0xa1], members]);
        let held = Held { id, by, buyer: buyer.clone(), quantity, deadline };
        same(Record::Held(Box::new(held)), &[&[0xa2, 6, 9], members]);
        same(transferred(buyer.clone(), Some(part)), &[&[0xa2], members, &[23, 0x82, 8, 1]]);
        let of_another = |deadline, buyer| Answer::of(UserId(2), id, quantity, deadline, buyer);
        for deadline in [None, Some(deadline)] {
            let kept = key_kept(of_another(deadline, buyer.clone()));
            assert_eq!(Record::decode(&kept.encode()).unwrap(), kept);
        }
        let to_account = key_kept(of_another(None, Buyer::Account(UserId(5))));
        assert_eq!(Record::decode(&to_account.encode()).unwrap(), to_account);
    }
    same(transferred(Buyer::Account(UserId(5)), Some(part)), &[&[0xa2, 22, 5, 23, 0x82, 8, 1]]);
    let nobody = Columns::of(Kind::Transferred);
    assert!(Record::decode(&nobody).is_err_and(|error| !error.is_newer()));
}

const ORDER: OrderId = OrderId { user: UserId(2), number: 5 };
const ATTEMPT: Attempt = Attempt { epoch: Epoch(3), number: 400 };

fn part(number: u32) -> OrderPart {
    OrderPart { reservation: ReservationId { event: EventId(7), number }, quantity: 2 }
}

fn part_settled(order: Option<OrderId>, step: PartStep) -> Record {
    let id = ReservationId { event: EventId(7), number: 3 };
    Record::PartSettled(Box::new(PartSettled { id, by: UserId(2).into(), order, step, given_back: 1 }))
}

fn key_kept(answer: Answer) -> Record {
    let hash = std::array::from_fn(|index| index as u8);
    Record::KeyKept(Box::new(KeyKept { user: UserId(2), hash, fingerprint: 0x0102_0304_0506_0708, answer }))
}

#[test]
fn every_kind_survives_its_columns() {
    let records = one_of_each_kind();
    let kinds: Vec<u8> = records.iter().map(|record| record.encode().kind).collect();
    assert_eq!(kinds, Kind::ALL.map(|kind| kind as u8), "a kind is missing in this test");
    let id = ReservationId { event: EventId(7), number: 3 };
    let for_another =
        Record::Reserved { id, by: UserId(1).into(), buyer: Buyer::Account(UserId(2)), quantity: 4 };
    assert_eq!(*for_another.encode().body, [0xa1, 0, 1]);
    let held_for_another = Record::Held(Box::new(Held {
        id,
        by: UserId(1).into(),
        buyer: Buyer::Account(UserId(2)),
        quantity: 4,
        deadline: Timestamp(9),
    }));
    assert_eq!(*held_for_another.encode().body, [0xa2, 0, 1, 6, 9]);
    let handed_over = Record::EventEdited(Box::new(EventEdited {
        id: EventId(7),
        by: UserId(1).into(),
        details: EventDetails { name: "New".into(), quota: 0, venue: None, rules: None },
        organizer: Some(UserId(9)),
    }));
    assert_eq!(*handed_over.encode().body, [0xa2, 5, 0x63, b'N', b'e', b'w', 0x18, 25, 9]);
    let order_of_another = Record::OrderPlaced(Box::new(OrderPlaced {
        id: ORDER,
        by: UserId(1).into(),
        buyer: Buyer::Account(UserId(4)),
        parts: [part(3)].into(),
        attempt: ATTEMPT,
        deadline: Some(Timestamp(9)),
    }));
    let of_another = Record::PartPrepared(Box::new(PartPrepared {
        id,
        by: UserId(1).into(),
        buyer: Buyer::Account(UserId(2)),
        quantity: 4,
        owner: UserId(3),
        attempt: ATTEMPT,
    }));
    let steps = [
        PartStep::Held,
        PartStep::Locked(ATTEMPT),
        PartStep::Unlocked,
        PartStep::Confirmed,
        PartStep::Cancelled,
        PartStep::Expired,
    ];
    let steps = steps.map(|step| part_settled(Some(ORDER), step));
    let aborted = part_settled(None, PartStep::Aborted);
    let keys = [Answer::Order { id: ORDER }, Answer::HeldOrder { id: ORDER, deadline: Timestamp(9) }];
    let more = [for_another, held_for_another, handed_over, order_of_another, of_another, aborted];
    let more = more.into_iter().chain(steps).chain(keys.map(key_kept));
    for record in records.into_iter().chain(more) {
        assert_eq!(Record::decode(&record.encode()).unwrap(), record);
    }
}

#[test]
fn a_record_has_the_api_key_with_which_it_was_made() {
    let id = ReservationId { event: EventId(7), number: 3 };
    let by = By::new(UserId(2), Some(ApiKeyNumber(5)));
    let buyer = Buyer::Account(UserId(2));
    let details = EventDetails { name: "A".into(), quota: 4, venue: None, rules: None };
    let members = |record: Record, expected: &[u8]| {
        let columns = record.encode();
        assert_eq!(*columns.body, *expected, "{record:?}");
        assert_eq!(Record::decode(&columns).unwrap(), record);
        let none = Columns {
            body: Cow::Owned(expected.iter().map(|&b| if b == 5 { 0 } else { b }).collect()),
            ..columns
        };
        assert!(Record::decode(&none).is_err(), "there is no key 0: {none:?}");
    };
    let alone = [0xa1, 10, 5];
    members(Record::Reserved { id, by, buyer: buyer.clone(), quantity: 4 }, &alone);
    members(Record::Cancelled { id, by, quantity: 4 }, &alone);
    members(Record::Reduced { id, by, quantity: 4 }, &alone);
    members(Record::Released { id, by, quantity: 4 }, &alone);
    members(Record::Confirmed { id, by, given_back: 0 }, &alone);
    members(Record::EventDeleted { event: EventId(7), by, tickets: 9 }, &alone);
    let order = OrderId { user: UserId(2), number: 3 };
    members(Record::OrderConfirmed { id: order, by }, &alone);
    members(Record::OrderCancelled { id: order, by }, &alone);
    let of_another = By::new(UserId(3), by.key());
    members(Record::OrderCancelled { id: order, by: of_another }, &[0xa2, 0, 3, 10, 5]);
    let held = Held { id, by, buyer: Buyer::Guest, quantity: 4, deadline: Timestamp(9) };
    members(Record::Held(Box::new(held)), &[0xa3, 6, 9, 10, 5, 12, 1]);
    members(
        Record::Transferred(Box::new(Transferred { id, by, to: Buyer::Guest, part: None })),
        &[0xa2, 10, 5, 12, 1],
    );
    let step = PartStep::Confirmed;
    let settled = PartSettled { id, by, order: None, step, given_back: 0 };
    members(Record::PartSettled(Box::new(settled)), &[0xa2, 10, 5, 0x18, 28, 4]);
    let attempt = Attempt { epoch: Epoch(1), number: 1 };
    let prepared = PartPrepared { id, by, buyer: buyer.clone(), quantity: 4, owner: UserId(2), attempt };
    members(Record::PartPrepared(Box::new(prepared)), &[0xa2, 10, 5, 0x18, 26, 0x82, 1, 1]);
    let placed = OrderPlaced { id: order, by, buyer, parts: [].into(), attempt, deadline: None };
    members(Record::OrderPlaced(Box::new(placed)), &[0xa3, 10, 5, 0x18, 26, 0x82, 1, 1, 0x18, 27, 0x80]);
    let edited = EventEdited { id: EventId(7), by, details: details.clone(), organizer: None };
    members(Record::EventEdited(Box::new(edited)), &[0xa2, 5, 0x61, b'A', 10, 5]);
    let created = EventCreated { id: EventId(7), organizer: by.user, key: by.key(), details };
    members(Record::EventCreated(Box::new(created)), &[0xa2, 5, 0x61, b'A', 10, 5]);
}

#[test]
fn what_a_newer_version_wrote_is_refused_as_such() {
    let records = one_of_each_kind();
    let newer = |record: &Record, change: fn(&mut Columns<'_>)| {
        let mut columns = record.encode();
        change(&mut columns);
        let error = Record::decode(&columns).expect_err("it is not known");
        assert!(error.is_newer(), "{columns:?}: {error}");
        assert!(error.to_string().contains("start that one; restore or move nothing"), "{error}");
    };
    for record in &records {
        newer(record, |columns| columns.kind = 47);
        newer(record, |columns| {
            // One member more: 21, the text "x".
            let body = columns.body.to_mut();
            match body.first_mut() {
                Some(map) => *map += 1,
                None => body.push(0xa1),
            }
            body.extend([21, 0x61, b'x']);
        });
    }
    // A member that this version knows, in a kind that does not use it; and a column that a kind does not
    // use.
    newer(&Record::EventDeleted { event: EventId(7), by: UserId(1).into(), tickets: 9 }, |columns| {
        columns.body.to_mut().extend([0xa1, 0, 7]);
    });
    newer(&records[11], |columns| columns.number = 1);
    // A deadline where there is none.
    for record in [&records[1], &records[3]] {
        let mut columns = record.encode();
        columns.body.to_mut().extend([0xa1, 6, 9]);
        assert!(Record::decode(&columns).is_err_and(|error| error.is_newer()), "{record:?}");
    }
    // An origin that no version writes yet, or two buyers.
    for members in [&[0xa1, 12, 3][..], &[0xa2, 11, 0x61, b'a', 12, 1], &[0xa1, 22, 7]] {
        let mut columns = records[1].encode();
        columns.body.to_mut().extend(members);
        assert!(Record::decode(&columns).is_err_and(|error| error.is_newer()), "{members:?}");
    }
    // No version writes a limit of 0 yet.
    newer(&records[11], |columns| {
        let body = columns.body.to_mut();
        body[0] += 1;
        body.extend([20, 0]);
    });
    // A new event is not handed over.
    newer(&records[11], |columns| {
        let body = columns.body.to_mut();
        body[0] += 1;
        body.extend([0x18, 25, 9]);
    });
}

#[test]
fn a_body_that_is_damaged_is_not_taken_for_that_of_a_newer_version() {
    let bodies: [&[u8]; 4] = [b"x", &[0xa1, 5], &[0xa0], &[0xa1, 5, 1]];
    for body in bodies {
        let columns =
            Columns { event: 7, user: 1, quantity: 9, body: body.into(), ..Columns::of(Kind::EventCreated) };
        let error = Record::decode(&columns).expect_err("it has no name");
        assert!(!error.is_newer(), "{body:?}: {error}");
    }
    for kind in [Kind::Held, Kind::HoldsExpired, Kind::HoldsExtended] {
        let error = Record::decode(&Columns::of(kind)).expect_err("it has no deadline");
        assert!(!error.is_newer(), "{kind:?}: {error}");
    }
}

/// Numbers and forms that are on disk for ever.
#[test]
fn the_form_of_each_kind_never_changes() {
    let forms: Vec<String> = one_of_each_kind()
        .iter()
        .map(|record| {
            let Columns { kind, event, number, user, quantity, body } = record.encode();
            let body: String = body.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("{kind} {event} {number} {user} {quantity} {body}")
        })
        .collect();
    let expected = [
        "0 7 3 2 4 a1061b000001a3186577c0",
        "1 7 3 2 4 ",
        "2 7 3 2 4 ",
        "3 7 3 2 1 ",
        "4 7 3 2 4 ",
        "5 7 0 0 9 a1061b000001a3186577c0",
        "6 0 0 0 0 a1061b000001a3186577c0",
        "7 7 3 2 3 ",
        "8 7 3 2 0 a11605",
        "9 7 3 2 4 a1181a8203190190",
        "10 7 3 2 1 a20d820205181c04",
        "16 7 0 1 10 a1056c2251756f7465642220e29882",
        "17 7 0 1 0 a605634e657710694d61696e2068616c6c111b000001a3185c5000121b000001a3185c500113041419012c",
        "18 7 0 1 9 ",
        "19 0 0 2 0 a30750000102030405060708090a0b0c0d0e0f084808070605040302010907",
        "24 0 0 1 0 a40163616461026d246172676f6e326964242e2e2e0301041bffffffffffffffff",
        "25 0 0 1 0 a30163616461026d246172676f6e326964242e2e2e0401",
        "26 0 0 1 0 a4000201636164610302041bffffffffffffffff",
        "27 0 0 1 0 a200020163616461",
        "28 0 0 1 0 a3000201636164610401",
        "32 0 5 2 0 a2181a8203190190181b828307030283070c02",
        "33 0 5 2 0 ",
        "34 0 5 2 0 a1001863",
        "35 0 5 2 0 ",
        "36 0 5 2 0 ",
        "40 0 3 1 0 a601636164610401056453686f70181e05181f5820000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f18201b000001a3186577c0",
        "41 0 3 1 0 ",
        "48 0 0 0 0 ",
        "49 0 0 0 3600000 ",
        "50 0 3 2 4 a30750000102030405060708090a0b0c0d0e0f084808070605040302010907",
    ];
    assert_eq!(forms, expected);
}

#[test]
fn the_chain_sees_every_column() {
    let record = &one_of_each_kind()[11];
    let head = SlotHead::empty(1);
    let stamp = Stamp {
        slot: Slot(1),
        epoch: Epoch(1),
        lsn: Lsn(1),
        at: Timestamp(1),
        previous: Lsn(0),
        continues: false,
    };
    let chain = |change: fn(&mut Columns<'_>)| {
        let mut columns = record.encode();
        change(&mut columns);
        head.chain_next(&stamp, &columns)
    };
    let changes: [fn(&mut Columns<'_>); 6] = [
        |columns| columns.kind += 1,
        |columns| columns.event += 1,
        |columns| columns.number += 1,
        |columns| columns.user += 1,
        |columns| columns.quantity += 1,
        |columns| columns.body.to_mut().push(0),
    ];
    let right = chain(|_| ());
    for (index, change) in changes.into_iter().enumerate() {
        assert_ne!(chain(change), right, "column {index}");
    }
    let columns = record.encode();
    let others = [
        Stamp { slot: Slot(2), ..stamp },
        Stamp { epoch: Epoch(2), ..stamp },
        Stamp { lsn: Lsn(2), ..stamp },
        Stamp { at: Timestamp(2), ..stamp },
        Stamp { previous: Lsn(1), ..stamp },
        Stamp { continues: true, ..stamp },
    ];
    for other in others {
        assert_ne!(head.chain_next(&other, &columns), right, "{other:?}");
    }
    assert_ne!(SlotHead::empty(2).chain_next(&stamp, &columns), right);
}

/// The table of members in `docs/decisions/record-form.md`: their bytes in a body, with the values that it
/// names.
#[test]
fn members_cost_what_the_document_says() {
    fn price(number: u8, value: impl minicbor::Encode<()>) -> usize {
        minicbor::to_vec(number).unwrap().len() + minicbor::to_vec(value).unwrap().len()
    }
    let bytes = |length: usize| minicbor::bytes::ByteVec::from(vec![7; length]);
    let text = |length: usize| "x".repeat(length);
    let metadata: std::collections::BTreeMap<String, String> =
        (0..16).map(|index| (format!("key-{index:02}"), text(57))).collect();
    const AT_MS: u64 = 1_800_000_000_000;
    let members = [
        (0, "by", price(0, 1_000_000), 6),
        (1, "username", price(1, text(12)), 14),
        (2, "password_hash", price(2, text(97)), 100),
        (3, "role", price(3, 2), 2),
        (4, "token_version", price(4, u64::MAX), 10),
        (5, "name", price(5, text(23)), 25),
        (6, "deadline", price(6, AT_MS), 10),
        (7, "key_hash", price(7, bytes(16)), 18),
        (8, "fingerprint", price(8, bytes(8)), 10),
        (9, "first_answer", price(9, 400), 4),
        (10, "api_key", price(10, 70_000), 6),
        (11, "customer_ref", price(11, text(128)), 131),
        (12, "origin", price(12, 1), 2),
        (13, "order", price(13, (1_000_000, 12)), 8),
        (14, "reference", price(14, text(64)), 67),
        (15, "metadata", price(15, metadata), 1058),
        (16, "venue", price(16, text(23)), 25),
        (17, "sales_start", price(17, AT_MS), 10),
        (18, "sales_end", price(18, AT_MS), 10),
        (19, "max_per_reservation", price(19, 10), 2),
        (20, "max_per_customer", price(20, 10), 2),
        (22, "to", price(22, 1_000_000), 6),
        (23, "part", price(23, (1_000, 2)), 6),
        (21, "starts_at", price(21, (AT_MS, "Europe/Amsterdam")), 28),
        (24, "description", price(24, text(255)), 259),
        (25, "organizer", price(25, 1_000_000), 7),
        (26, "attempt", price(26, (12, 1000)), 7),
        (27, "parts", price(27, [(400, 12_000, 2)]), 11),
        (28, "step", price(28, 4), 3),
        (29, "other", price(29, 1_000_000), 7),
        (30, "scopes", price(30, 7), 3),
        (31, "secret_hash", price(31, bytes(32)), 36),
        (32, "ends_at", price(32, AT_MS), 11),
    ];
    for (number, name, found, stated) in members {
        println!("{number:2} {name:20} {found}");
        assert_eq!(found, stated, "{name}");
    }
}

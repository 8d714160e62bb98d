//! The protocol, message by message, between shards without disks.

use super::*;
use crate::command::{
    Actor, Ask, Buyer, CreateEvent, CustomerRef, EditEvent, ExpectedVersion, OrderItem, OrderItems,
    PlaceOrder, Query,
};
use crate::details::{DetailsPatch, EventName, NewDetails};
use crate::ids::{Epoch, EventId, HoldTime, Quantity, Quota, Role, Timestamp, UserId};
use crate::limits::SLOT_COUNT;
use crate::outcome::ReservationStatus;
use crate::record::SlotHead;
use crate::slots::{SlotSet, slot_of_event};
use crate::state::ShardState;

const OWNER: UserId = UserId(5);
const START: u64 = 1_700_000_000_000;

/// All slots in one shard: its messages go to itself, and wait until they are delivered.
struct Town {
    shard: Shard<&'static str>,
    messages: Vec<OrderMessage>,
    answers: Vec<String>,
    epoch: u64,
    seconds: u64,
}

impl Town {
    /// The events 1 and 2 have 4 tickets each.
    fn new() -> Town {
        let heads = Box::new([SlotHead::empty(1); SLOT_COUNT]);
        let shard = Shard::new(ShardState::owning(SlotSet::all()), &heads, Epoch(1));
        let mut town = Town { shard, messages: Vec::new(), answers: Vec::new(), epoch: 1, seconds: 0 };
        for id in [1, 2].map(EventId) {
            let details = NewDetails::new(EventName::new("x").unwrap(), Quota::new(4).unwrap());
            let create = CreateEvent { id, organizer: UserId(8), details };
            town.ask(Command::CreateEvent(Box::new(create)), "event");
        }
        town.commit();
        town.answers.clear();
        town
    }

    fn now(&self) -> Now {
        let time = Timestamp(START + self.seconds * 1000);
        Now { elapsed: Duration::from_secs(self.seconds), steady: time, wall: time }
    }

    fn ask(&mut self, command: Command, asker: &'static str) {
        let now = self.now();
        self.shard.take_in(now, Ask::Command(command), asker);
    }

    fn commit(&mut self) {
        if let Some(batch) = self.shard.begin_commit() {
            self.shard.finish_commit(batch);
        }
        while let Some(release) = self.shard.next_release() {
            match release {
                Release::Answer(asker, reply) => self.answers.push(format!("{asker}: {}", in_words(&reply))),
                Release::Message(_, Command::OrderMessage(message)) => self.messages.push(*message),
                Release::Message(_, other) => panic!("{other:?}"),
            }
        }
    }

    fn hear(&mut self, message: OrderMessage) {
        self.ask(Command::OrderMessage(Box::new(message)), "nobody");
        self.commit();
    }

    /// Delivers messages, the last ones first and each twice, until there are none.
    fn deliver(&mut self) {
        self.commit();
        while let Some(message) = self.messages.pop() {
            self.hear(message.clone());
            self.hear(message);
        }
    }

    fn pass(&mut self, seconds: u64) {
        self.seconds += seconds;
        let now = self.now();
        self.shard.expire(now);
        self.commit();
    }

    /// Another process takes over what is on disk; the messages of the old one may still come.
    fn restart(&mut self) {
        self.commit();
        self.epoch += 1;
        let heads = Box::new([SlotHead::empty(1); SLOT_COUNT]);
        let mut next = Shard::new(ShardState::default(), &heads, Epoch(self.epoch));
        for slot in SlotSet::all().iter() {
            // The askers of the old one get no answer.
            while self.shard.next_release().is_some() {}
            let (state, head) = self.shard.release_slot(slot).expect("it is owned");
            next.adopt(slot, state, head, Epoch(self.epoch));
            while self.shard.next_release().is_some() {}
        }
        self.shard = next;
        self.pass(1);
    }

    /// Reserved and held tickets of both events.
    fn counts(&self) -> [(u32, u32); 2] {
        [1, 2].map(|event| {
            let event = EventId(event);
            match self.shard.state().query(&Query::Availability { event }) {
                Ok(Outcome::Availability(one)) => {
                    assert_eq!(one.quota, one.reserved + one.held + one.remaining);
                    (one.reserved, one.held)
                }
                other => panic!("{other:?}"),
            }
        })
    }
}

fn in_words(reply: &Reply) -> String {
    match reply {
        Ok(Outcome::Order(view)) => format!("{} {:?}", view.id, view.status),
        Ok(Outcome::Cancelled) => "cancelled".to_owned(),
        Ok(Outcome::EventDeleted) => "deleted".to_owned(),
        Ok(Outcome::Event(_)) => "event".to_owned(),
        Ok(other) => panic!("{other:?}"),
        Err(Rejection::OrderRefused { items }) => {
            let items: Vec<_> = items.iter().map(|item| format!("{} {:?}", item.event, item.why)).collect();
            format!("refused {}", items.join(", "))
        }
        Err(rejection) => format!("{rejection:?}"),
    }
}

fn owner() -> Actor {
    Actor { user: OWNER, role: Role::Customer }
}

fn place(items: &[(u32, u64)], seconds: Option<u64>) -> Command {
    let items = items.iter().map(|&(event, quantity)| OrderItem {
        event: EventId(event),
        quantity: Quantity::new(quantity).unwrap(),
    });
    Command::PlaceOrder(Box::new(PlaceOrder {
        owner: OWNER,
        actor: owner(),
        buyer: Buyer::Account(OWNER),
        items: OrderItems::new(items.collect()).unwrap(),
        time: seconds.map(|seconds| HoldTime::from_seconds(seconds).unwrap()),
    }))
}

const ORDER: OrderId = OrderId { user: OWNER, number: 1 };

fn confirm() -> Command {
    Command::ConfirmOrder { order: ORDER, actor: owner() }
}

fn cancel() -> Command {
    Command::CancelOrder { order: ORDER, actor: owner() }
}

fn cancel_part(event: u32) -> Command {
    let reservation = ReservationId { event: EventId(event), number: 1 };
    Command::Cancel { reservation, actor: owner() }
}

fn delete(event: u32) -> Command {
    use crate::command::DeleteEvent;
    let actor = Actor { user: UserId(99), role: Role::Admin };
    let event = EventId(event);
    Command::DeleteEvent(Box::new(DeleteEvent { event, actor, version: ExpectedVersion::Any, force: true }))
}

const BOTH: &[(u32, u64)] = &[(1, 2), (2, 3)];

/// Each row: what is asked, one after the other, with all messages delivered between; the answers; and the tickets
/// that are reserved and held at the end.
#[test]
fn orders_go_from_one_state_to_the_next() {
    let (held, bought) = (place(BOTH, Some(60)), place(BOTH, None));
    type Row<'a> = (Vec<Command>, &'a [&'a str], [(u32, u32); 2]);
    let rows: [Row<'_>; 12] = [
        (vec![bought.clone()], &["5-1 Confirmed"], [(2, 0), (3, 0)]),
        (vec![held.clone()], &["5-1 Held"], [(0, 2), (0, 3)]),
        (
            vec![place(&[(1, 5), (2, 1), (3, 1)], None)],
            &["refused 1 SoldOut { remaining: 4 }, 3 EventNotFound"],
            [(0, 0), (0, 0)],
        ),
        (
            vec![held.clone(), confirm(), confirm()],
            &["5-1 Held", "5-1 Confirmed", "5-1 Confirmed"],
            [(2, 0), (3, 0)],
        ),
        (vec![held.clone(), cancel(), cancel()], &["5-1 Held", "cancelled", "cancelled"], [(0, 0), (0, 0)]),
        (
            vec![held.clone(), cancel(), confirm()],
            &["5-1 Held", "cancelled", "HoldReleased"],
            [(0, 0), (0, 0)],
        ),
        (vec![bought.clone(), cancel()], &["5-1 Confirmed", "cancelled"], [(0, 0), (0, 0)]),
        (vec![bought.clone(), cancel_part(1)], &["5-1 Confirmed", "cancelled"], [(0, 0), (3, 0)]),
        (
            vec![bought.clone(), cancel_part(1), cancel()],
            &["5-1 Confirmed", "cancelled", "cancelled"],
            [(0, 0), (0, 0)],
        ),
        (
            vec![held.clone(), cancel_part(1), confirm()],
            &[
                "5-1 Held",
                "cancelled",
                "PartsGone { parts: [ReservationId { event: EventId(1), number: 1 }] }",
            ],
            [(0, 0), (0, 3)],
        ),
        (vec![confirm(), cancel()], &["OrderNotFound", "OrderNotFound"], [(0, 0), (0, 0)]),
        (vec![bought, held], &["5-1 Confirmed", "refused 2 SoldOut { remaining: 1 }"], [(2, 0), (3, 0)]),
    ];
    for (commands, answers, counts) in rows {
        let mut town = Town::new();
        for command in commands.clone() {
            town.ask(command, "");
            town.deliver();
        }
        let expected: Vec<String> = answers.iter().map(|answer| format!(": {answer}")).collect();
        assert_eq!((&town.answers, town.counts()), (&expected, counts), "{commands:?}");
        assert!(!town.shard.has_orders_underway(), "{commands:?}");
    }
}

/// The first order for the last tickets in opposite order wins, or both are refused; the tickets are sold in the end.
#[test]
fn two_orders_for_the_last_tickets_leave_nothing_held() {
    let mut town = Town::new();
    town.ask(place(&[(1, 4), (2, 4)], None), "one");
    town.ask(place(&[(2, 4), (1, 4)], None), "other");
    town.deliver();
    assert_eq!(town.answers.len(), 2);
    assert_eq!(town.counts().map(|(_, held)| held), [0, 0], "{:?}", town.answers);
    town.ask(place(&[(2, 4), (1, 4)], None), "last");
    town.deliver();
    assert_eq!(town.counts(), [(4, 0), (4, 0)], "{:?}", town.answers);
}

/// The owner dies after it has heard so many messages. What is on disk is told, and what is not has failed.
#[test]
fn after_a_crash_between_any_two_messages_an_order_is_whole_or_not_there() {
    let mut outcomes = Vec::new();
    for delivered in 0..16 {
        for late in [false, true] {
            let mut town = Town::new();
            town.ask(place(BOTH, None), "buyer");
            town.commit();
            for _ in 0..delivered {
                if !town.messages.is_empty() {
                    let message = town.messages.remove(0);
                    town.hear(message);
                }
            }
            if !late {
                town.messages.clear();
            }
            town.restart();
            // Each repetition is late enough for the next.
            for _ in 0..4 {
                town.deliver();
                town.pass(10);
            }
            town.deliver();
            assert!(!town.shard.has_orders_underway(), "{delivered}");
            let counts = town.counts();
            assert!([[(2, 0), (3, 0)], [(0, 0), (0, 0)]].contains(&counts), "{delivered}: {counts:?}");
            let query = Query::Order { order: ORDER, actor: owner() };
            assert_eq!(town.shard.state().query(&query).is_ok(), counts[0].0 == 2, "{delivered}");
            outcomes.push(counts[0].0);
        }
    }
    assert!(outcomes.contains(&0) && outcomes.contains(&2), "{outcomes:?}");
}

#[test]
fn a_part_in_doubt_is_hidden_and_cannot_end() {
    let mut town = Town::new();
    town.ask(place(BOTH, None), "buyer");
    town.commit();
    for message in std::mem::take(&mut town.messages) {
        town.hear(message);
    }
    assert_eq!(town.counts(), [(0, 2), (0, 3)], "prepared");
    let query = Query::CustomerReservations { customer: OWNER, after: None, limit: 9 };
    let Ok(Outcome::Part(part)) = town.shard.state().query(&query) else { panic!("a list") };
    assert_eq!(part.outcome, Outcome::Reservations(Vec::new()));
    town.ask(cancel_part(1), "customer");
    town.ask(delete(1), "admin");
    town.commit();
    assert_eq!(town.answers, ["customer: ReservationNotFound", "admin: OrderInDoubt"]);
    town.deliver();
    town.ask(delete(1), "admin");
    town.commit();
    assert_eq!(town.answers[2..], ["buyer: 5-1 Confirmed", "admin: deleted"]);
}

#[test]
fn a_held_order_ends_at_its_deadline() {
    let mut town = Town::new();
    town.ask(place(BOTH, Some(10)), "buyer");
    town.deliver();
    // A confirmation whose parts are locked too late.
    town.pass(9);
    town.ask(confirm(), "late");
    town.commit();
    town.pass(1);
    town.deliver();
    assert_eq!(town.answers, ["buyer: 5-1 Held", "late: HoldExpired"]);
    assert_eq!(town.counts(), [(0, 0), (0, 0)]);
    let parts = [1, 2].map(|event| ReservationId { event: EventId(event), number: 1 });
    let Ok(Outcome::Part(part)) = town.shard.state().query(&Query::Parts { parts: parts.into() }) else {
        panic!("a list")
    };
    let Outcome::Reservations(views) = part.outcome else { panic!("{:?}", part.outcome) };
    let shown: Vec<_> = views.iter().map(|view| (view.status, view.order)).collect();
    assert_eq!(shown, [(ReservationStatus::Expired, Some(ORDER)); 2]);
    assert_eq!(views.len(), 2);
}

fn hand_over(event: u32, organizer: u32) -> Command {
    let actor = Actor { user: UserId(99), role: Role::Admin };
    let (event, organizer) = (EventId(event), Some(UserId(organizer)));
    let (version, changes) = (ExpectedVersion::Any, DetailsPatch::default());
    Command::EditEvent(Box::new(EditEvent { event, actor, version, changes, organizer }))
}

/// What leaves its order with its event does not come back with it: the order may have ended meanwhile.
#[test]
fn a_part_that_left_with_its_event_does_not_come_back() {
    for seconds in [None, Some(60)] {
        let mut town = Town::new();
        let seller = Actor { user: UserId(8), role: Role::Organizer };
        let Command::PlaceOrder(mut order) = place(BOTH, seconds) else { panic!("an order") };
        (order.owner, order.actor) = (seller.user, seller);
        order.buyer = Buyer::Ref(CustomerRef::new("a").unwrap());
        let id = OrderId { user: seller.user, number: 1 };
        let confirm = Command::ConfirmOrder { order: id, actor: seller };
        let cancel = Command::CancelOrder { order: id, actor: seller };
        for command in [Command::PlaceOrder(order), hand_over(1, 9), confirm, cancel, hand_over(1, 8)] {
            town.ask(command, "");
            town.deliver();
        }
        assert_eq!(town.counts(), [(2, 0), (0, 0)], "{:?}", town.answers);
        let part = ReservationId { event: EventId(1), number: 1 };
        let query = Query::Reservation { reservation: part, actor: seller };
        let Ok(Outcome::Reservation(view)) = town.shard.state().query(&query) else { panic!("a part") };
        assert_eq!((view.status, view.order), (ReservationStatus::Confirmed, None), "{seconds:?}");
        assert!(!town.shard.has_orders_underway());
    }
}

/// A start gives a held order a minute, as it does a hold.
#[test]
fn a_start_gives_a_held_order_a_minute() {
    let mut town = Town::new();
    town.ask(place(BOTH, Some(10)), "buyer");
    town.deliver();
    town.seconds += 600;
    town.restart();
    town.deliver();
    town.pass(59);
    town.deliver();
    assert_eq!(town.counts(), [(0, 2), (0, 3)]);
    town.pass(1);
    town.deliver();
    assert_eq!(town.counts(), [(0, 0), (0, 0)]);
}

/// What a full log undoes was not done, and is answered so; the parts are free again.
#[test]
fn a_full_log_refuses_the_order() {
    for delivered in 0..4 {
        let mut town = Town::new();
        town.ask(place(BOTH, None), "buyer");
        town.commit();
        for _ in 0..delivered {
            let message = town.messages.remove(0);
            town.hear(message);
        }
        let message = town.messages.remove(0);
        town.ask(Command::OrderMessage(Box::new(message)), "nobody");
        let Some(batch) = town.shard.begin_commit() else { continue };
        town.shard.roll_back(batch, RollbackCause::NoRoom);
        town.commit();
        town.deliver();
        assert_eq!(town.answers, ["buyer: LogFull"], "{delivered}");
        town.shard.resume();
        town.pass(10);
        town.deliver();
        assert_eq!(town.counts(), [(0, 0), (0, 0)], "{delivered}");
        assert!(!town.shard.has_orders_underway(), "{delivered}");
    }
}

#[test]
fn as_many_orders_are_under_way_as_may_be() {
    let mut town = Town::new();
    for _ in 0..=crate::limits::ORDERS_UNDERWAY_MAX {
        town.ask(place(&[(1, 1)], None), "buyer");
    }
    town.commit();
    assert_eq!(town.answers, ["buyer: Overloaded"]);
    // Nobody answers them.
    town.messages.clear();
    (0..5).for_each(|_| town.pass(1));
    assert_eq!(town.answers.len(), 1 + crate::limits::ORDERS_UNDERWAY_MAX);
    town.messages.clear();
    town.ask(place(&[(1, 1)], None), "next");
    town.deliver();
    assert_eq!(town.answers.last().map(String::as_str), Some("next: 5-1 Confirmed"));
    assert_eq!(town.shard.state().slot(slot_of_event(EventId(1))).unwrap().doubts().count(), 0);
}

#[test]
fn orders_that_all_have_heard_of_are_put_on_record_as_fast_as_they_come() {
    let mut town = Town::new();
    for _ in 0..2 * SERVED_MAX {
        town.ask(place(&[(1, 1)], None), "buyer");
        town.deliver();
        let order = OrderId { user: OWNER, number: town.answers.len() as u32 };
        town.ask(Command::CancelOrder { order, actor: owner() }, "buyer");
        town.deliver();
        town.answers.truncate(order.number as usize);
    }
    let unsettled = |town: &Town| {
        town.shard.state().slot(slot_of_user(OWNER)).expect("it is owned").unsettled_orders().count()
    };
    assert_eq!(unsettled(&town), 2 * SERVED_MAX);
    town.pass(1);
    assert_eq!(unsettled(&town), SERVED_MAX, "no more at a time");
    let due = town.shard.expires_at().expect("there are more");
    assert!(due < Duration::from_secs(town.seconds) + AGAIN, "{due:?}");
    town.shard.expire(Now { elapsed: due, ..town.now() });
    town.commit();
    assert_eq!(unsettled(&town), 0);
}

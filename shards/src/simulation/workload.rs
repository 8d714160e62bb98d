//! The requests of the simulated clients: few people, few events and few tickets, so that they conflict
//! often.

use std::collections::BTreeSet;
use std::time::Duration;

use super::oracle::number_of_buyer;
use super::random::Random;
use crate::api_keys::{ApiKey, Scope};
use crate::command::{
    Actor, Ask, Buyer, ChangePassword, ChangeRole, Command, CreateEvent, CreateUser, CustomerRef,
    DeleteEvent, EditEvent, EndApiKey, EndTokens, ExpectedVersion, GiveEventId, IdempotencyKey, Keyed,
    MakeApiKey, OrderItem, OrderItems, PlaceOrder, Query, RemoveUser, Transfer,
};
use crate::details::{DetailsPatch, EventName, NewDetails, RulesPatch, SalesRules, Venue};
use crate::ids::{
    ApiKeyNumber, EventId, HoldTime, Lsn, OrderId, Quantity, Quota, ReservationId, Role, Timestamp, UserId,
    Username,
};
use crate::limits::SLOT_COUNT;
use crate::outcome::{OrderView, ReservationStatus, ReservationView, Statuses};

/// The wall time at which worlds begin: 2023-11-14.
pub(super) const START: Timestamp = Timestamp(1_700_000_000_000);

const CUSTOMERS: u64 = 4;
const ORGANIZERS: [u32; 2] = [11, 12];
pub(super) const ADMIN: Actor = Actor::new(UserId(99), Role::Admin);
const EVENTS_MAX: u32 = 6;
/// With those that are created by an id that was given to a key.
const GIVEN_EVENTS_MAX: u32 = 9;
/// The most event ids in a world of days; few of them are used.
const DAYS_IDS_MAX: u32 = 40;
/// The refs of customers without an account.
const REFS: u64 = 3;
const USERNAMES: u64 = 8;
/// The highest reservation number in a request; an event may have fewer.
const NUMBERS: u64 = 6;
/// The times of holds, in seconds.
pub(super) const HOLD_SECONDS: [u64; 4] = [10, 11, 60, 1800];

/// The highest ids in use.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Ids {
    pub(super) event: u32,
    pub(super) user: u32,
}

/// Draws the next request. A creation takes the next id.
pub(super) fn random_ask(random: &mut Random, ids: &mut Ids) -> Ask {
    if ids.event == 0 {
        return Ask::Command(create_event(random, ids));
    }
    if random.within(0, 4) == 0 {
        return ask_about_order(random, ids);
    }
    let command = match random.within(0, 99) {
        0..16 => reserve(random, ids),
        16..24 => reserve_with_key(random, ids),
        24..28 => change_api_keys(random),
        28..40 => change_hold(random, ids),
        40..47 => Command::Cancel { reservation: reservation(random, ids), actor: actor(random) },
        47..50 => transfer(random, ids),
        50..54 => Command::Reduce {
            reservation: reservation(random, ids),
            actor: actor(random),
            quantity: quantity(random),
        },
        54..60 => edit_event(random, ids),
        60..62 => Command::DeleteEvent(Box::new(DeleteEvent {
            event: event(random, ids),
            actor: actor(random),
            version: expected_version(random),
            force: random.within(0, 1) == 1,
        })),
        62..66 if ids.event < EVENTS_MAX => create_event(random, ids),
        66..68 => create_user(random, ids),
        68..70 => return give_event_id(random, ids, GIVEN_EVENTS_MAX),
        70..76 => change_account(random, ids),
        _ => return Ask::Query(random_query(random, ids)),
    };
    Ask::Command(command)
}

/// A question for news of an event.
pub(super) fn watch(random: &mut Random, event: EventId, after: Lsn) -> Query {
    Query::Watch { event, after, wait: Duration::from_millis(random.within(0, 2000)) }
}

/// A question for the changes of an event after a position, or after any.
pub(super) fn changes(random: &mut Random, event: EventId, after: Option<Lsn>) -> Query {
    Query::Changes {
        event,
        actor: if random.within(0, 3) == 0 { actor(random) } else { ADMIN },
        after: after.unwrap_or_else(|| Lsn(random.within(0, 12))),
        limit: random.within(1, 4) as usize,
    }
}

fn random_query(random: &mut Random, ids: &Ids) -> Query {
    match random.within(0, 6) {
        0 => match random.within(0, 3) {
            0 => Query::Event { event: event(random, ids) },
            1 => Query::ApiKeys { organizer: organizer_with_keys(random) },
            _ => Query::ApiKey { organizer: organizer_with_keys(random), number: api_key(random) },
        },
        1 => match random.within(0, 5) {
            4 => {
                let event = event(random, ids);
                changes(random, event, None)
            }
            5 => Query::ChangedEvents {
                organizer: organizer(random),
                after: Box::new([Lsn(random.within(0, 12)); SLOT_COUNT]),
            },
            0 => Query::Event { event: event(random, ids) },
            1 => Query::Availability { event: event(random, ids) },
            2 => {
                // No event has this position. Those who have an answer ask on from there.
                let event = event(random, ids);
                watch(random, event, Lsn(0))
            }
            _ => {
                let events: BTreeSet<EventId> =
                    (0..random.within(1, 4)).map(|_| event(random, ids)).collect();
                Query::Availabilities { events: events.into_iter().collect() }
            }
        },
        2 => Query::Reservation { reservation: reservation(random, ids), actor: actor(random) },
        3 => Query::EventReservations {
            event: event(random, ids),
            actor: actor(random),
            after: (random.within(0, 1) == 0).then(|| random.within(0, 3) as u32),
            up_to: (random.within(0, 2) == 0).then(|| random.within(0, 6) as u32),
            statuses: match random.within(0, 1) {
                0 => Statuses::ALL,
                _ => ReservationStatus::ALL.into_iter().filter(|_| random.within(0, 1) == 0).collect(),
            },
            customer_ref: (random.within(0, 2) == 0).then(|| customer_ref(random.within(1, REFS))),
            limit: random.within(1, 6) as usize,
        },
        4 => Query::CustomerReservations {
            customer: customer(random),
            after: (random.within(0, 1) == 0).then(|| reservation(random, ids)),
            limit: random.within(1, 6) as usize,
        },
        5 => match random.within(0, 3) {
            0 => Query::Totals,
            1 => Query::EventsCreated { organizer: organizer(random) },
            _ => Query::Events {
                after: (random.within(0, 1) == 0).then(|| event(random, ids)),
                limit: random.within(1, 6) as usize,
                organizer: (random.within(0, 1) == 0).then(|| organizer(random)),
            },
        },
        _ => match random.within(0, 5) {
            5 => Query::ApiKeysStand {
                user: user(random, ids),
                username: username(random),
                account_version: token_version(random),
            },
            0 => Query::Account { username: username(random) },
            1 => Query::AccountOf { user: user(random, ids) },
            2 => Query::Users {
                after: (random.within(0, 1) == 0).then(|| user(random, ids)),
                limit: random.within(1, 6) as usize,
            },
            3 => {
                let users: BTreeSet<UserId> = (0..random.within(1, 4)).map(|_| user(random, ids)).collect();
                Query::Usernames { users: users.into_iter().collect() }
            }
            _ => Query::TokenStands {
                user: user(random, ids),
                username: username(random),
                token_version: token_version(random),
            },
        },
    }
}

fn reserve(random: &mut Random, ids: &Ids) -> Command {
    let event = event(random, ids);
    if random.within(0, 3) == 0 {
        let buyer = buyer_without_account(random);
        return Command::Reserve { event, actor: seller(random), buyer, quantity: quantity(random) };
    }
    let customer = customer(random);
    let actor = match random.within(0, 3) {
        0 => actor(random),
        _ => Actor::new(customer, Role::Customer),
    };
    Command::Reserve { event, actor, buyer: Buyer::Account(customer), quantity: quantity(random) }
}

/// Mostly an organizer.
fn seller(random: &mut Random) -> Actor {
    match random.within(0, 5) {
        0 => actor(random),
        _ => organizer_who_acts(random),
    }
}

fn buyer_without_account(random: &mut Random) -> Buyer {
    match random.within(0, 5) {
        0 => Buyer::Guest,
        1 => Buyer::Block,
        _ => Buyer::Ref(customer_ref(random.within(1, REFS))),
    }
}

pub(super) fn customer_ref(number: u64) -> CustomerRef {
    CustomerRef::new(&format!("ref {number}")).expect("a good ref")
}

fn transfer(random: &mut Random, ids: &Ids) -> Command {
    let to = match random.within(0, 7) {
        0 => None,
        1..4 => Some(Buyer::Ref(customer_ref(random.within(1, REFS)))),
        _ => Some(Buyer::Account(customer(random))),
    };
    Command::Transfer(Box::new(Transfer {
        reservation: ReservationId { event: event(random, ids), number: random.within(1, 4) as u32 },
        actor: match random.within(0, 5) {
            0 => actor(random),
            1 | 2 => Actor::new(customer(random), Role::Customer),
            _ => organizer_who_acts(random),
        },
        to,
        quantity: (random.within(0, 2) > 0).then(|| quantity(random)),
    }))
}

fn change_hold(random: &mut Random, ids: &Ids) -> Command {
    match random.within(0, 9) {
        0..5 => {
            let Command::Reserve { event, actor, buyer, quantity } = reserve(random, ids) else {
                unreachable!("a reservation")
            };
            let time = hold_time(random.within(0, 7).saturating_sub(4) as usize);
            Command::Hold { event, actor, buyer, quantity, time }
        }
        5..9 => Command::Confirm {
            // Most events have few reservations before they are sold out.
            reservation: ReservationId { event: event(random, ids), number: random.within(1, 3) as u32 },
            // Others may not.
            actor: match random.within(0, 5) {
                0 => actor(random),
                1 => organizer_who_acts(random),
                _ => Actor::new(customer(random), Role::Customer),
            },
            quantity: (random.within(0, 1) == 0).then(|| quantity(random)),
        },
        _ => Command::Release { reservation: reservation(random, ids), actor: actor(random) },
    }
}

fn change_api_keys(random: &mut Random) -> Command {
    let organizer = organizer_with_keys(random);
    if random.within(0, 2) == 0 {
        return Command::EndApiKey(EndApiKey { organizer, number: api_key(random) });
    }
    let key = ApiKey {
        name: "Shop".into(),
        scopes: Scope::ALL.into_iter().filter(|_| random.within(0, 1) == 0).collect(),
        secret_hash: [random.within(0, 255) as u8; 32],
        username: username(random),
        account_version: token_version(random),
        ends_at: (random.within(0, 1) == 0).then(|| time(random)),
    };
    let over: BTreeSet<ApiKeyNumber> =
        (0..random.within(0, 3).saturating_sub(1)).map(|_| api_key(random)).collect();
    Command::MakeApiKey(Box::new(MakeApiKey { organizer, key, over: over.into_iter().collect() }))
}

/// Mostly the same one, so that a key is made, used and ended in one world.
fn organizer_with_keys(random: &mut Random) -> UserId {
    UserId(ORGANIZERS[usize::from(random.within(0, 5) == 0)])
}

/// Sometimes a key that does not exist yet, or has ended.
fn api_key(random: &mut Random) -> ApiKeyNumber {
    ApiKeyNumber([1, 1, 1, 2, 2, 3, 4][random.within(0, 6) as usize])
}

/// A request about orders: some keys come again, with the same content or another.
fn ask_about_order(random: &mut Random, ids: &Ids) -> Ask {
    let sells = random.within(0, 3) == 0;
    let user = if sells { organizer(random) } else { customer(random) };
    let order = OrderId { user, number: random.within(1, 2) as u32 };
    let of_others = random.within(0, 7) == 0;
    let actor = if of_others { actor(random) } else { Actor::new(user, role_of(user)) };
    let (command, address, content) = match random.within(0, 15) {
        0..6 => {
            let count = random.within(1, 3);
            let events: BTreeSet<EventId> = (0..count).map(|_| event(random, ids)).collect();
            let mut items: Vec<OrderItem> =
                events.into_iter().map(|event| OrderItem { event, quantity: quantity(random) }).collect();
            if random.within(0, 1) == 0 {
                items.reverse();
            }
            let buyer = if sells { buyer_without_account(random) } else { Buyer::Account(user) };
            let content: u32 = items.iter().map(|item| 10 * item.event.0 + item.quantity.get()).sum();
            let content = content << 16 | number_of_buyer(&buyer);
            let items = OrderItems::new(items).expect("different events");
            let time =
                (random.within(0, 3) > 0).then(|| hold_time(random.within(0, 7).saturating_sub(4) as usize));
            let actor = Actor::new(user, role_of(user));
            (
                Command::PlaceOrder(Box::new(PlaceOrder { owner: user, actor, buyer, items, time })),
                200,
                content,
            )
        }
        6..11 => (Command::ConfirmOrder { order, actor }, 200 + order.number as u8, 0),
        11 | 12 => return Ask::Command(Command::CancelOrder { order, actor }),
        13 => return Ask::Query(Query::Order { order, actor }),
        14 => {
            let after = (random.within(0, 1) == 0).then(|| random.within(0, 3) as u32);
            let customer_ref = (random.within(0, 3) == 0).then(|| customer_ref(1));
            let limit = random.within(1, 4) as usize;
            return Ask::Query(Query::Orders { owner: user, after, customer_ref, limit });
        }
        _ => {
            let parts: BTreeSet<_> = (0..random.within(1, 4)).map(|_| reservation(random, ids)).collect();
            return Ask::Query(Query::Parts { parts: parts.into_iter().collect() });
        }
    };
    // Others send no keys for an order that is not theirs.
    if actor.user != user || random.within(0, 2) > 0 {
        return Ask::Command(command);
    }
    let key = key(user, address, random.within(1, 3) as u8, content);
    Ask::Command(Command::Keyed(Box::new(Keyed { key, command })))
}

/// A change of what a request with a key has sold, and the request again.
pub(super) fn ask_after_keyed_sale(random: &mut Random, sold: &ReservationView, again: Ask) -> [Ask; 2] {
    let (reservation, actor) = (sold.id, ADMIN);
    let change = match random.within(0, 1) {
        0 => Command::Cancel { reservation, actor },
        _ => Command::Reduce { reservation, actor, quantity: quantity(random) },
    };
    [Ask::Command(change), again]
}

/// Whether a request places an order.
pub(super) fn is_placing(ask: &Ask) -> bool {
    let Ask::Command(command) = ask else { return false };
    match command {
        Command::Keyed(keyed) => matches!(keyed.command, Command::PlaceOrder(_)),
        command => matches!(command, Command::PlaceOrder(_)),
    }
}

/// What becomes of an order: its account gives a part up, or some tickets of it, or confirms or cancels the order, or
/// an admin tries to confirm it; or an admin deletes the event of a part; or several of these at once.
/// If the request had a key, `again` may come again.
pub(super) fn ask_after_order(random: &mut Random, order: &OrderView, again: Ask) -> Vec<Ask> {
    let actor = Actor::new(order.id.user, role_of(order.id.user));
    let part = order.parts[random.within(0, order.parts.len() as u64 - 1) as usize].reservation;
    let deletion =
        DeleteEvent { event: part.event, actor: ADMIN, version: ExpectedVersion::Any, force: true };
    let commands = [
        (6, Command::DeleteEvent(Box::new(deletion))),
        (4, Command::Cancel { reservation: part, actor }),
        (6, Command::Reduce { reservation: part, actor, quantity: quantity(random) }),
        (2, Command::ConfirmOrder { order: order.id, actor }),
        (5, Command::CancelOrder { order: order.id, actor }),
        (4, Command::ConfirmOrder { order: order.id, actor: ADMIN }),
    ];
    let drawn = commands.into_iter().filter(|&(one_in, _)| random.within(1, one_in) == 1);
    let mut asks: Vec<Ask> = drawn.map(|(_, command)| Ask::Command(command)).collect();
    if matches!(again, Ask::Command(Command::Keyed(_))) && random.within(0, 1) == 0 {
        asks.push(again);
    }
    asks
}

fn hold_time(index: usize) -> HoldTime {
    HoldTime::from_seconds(HOLD_SECONDS[index]).expect("within the bounds")
}

/// Draws a request with a key, in a world of days.
pub(super) fn random_ask_with_key(random: &mut Random, ids: &mut Ids) -> Ask {
    match random.within(0, 3) {
        0 if ids.event > 0 => Ask::Command(reserve_with_key(random, ids)),
        _ => give_event_id(random, ids, DAYS_IDS_MAX),
    }
}

/// Whether an event is created with an id that was given to a key.
pub(super) fn is_event_created(id: EventId) -> bool {
    id.0 <= GIVEN_EVENTS_MAX
}

/// Few keys, so that they come again, with the same content or another.
fn reserve_with_key(random: &mut Random, ids: &Ids) -> Command {
    let (event, quantity) = (event(random, ids), quantity(random));
    let (user, buyer) = match random.within(0, 4) {
        0 => (organizer(random), buyer_without_account(random)),
        _ => {
            let user = customer(random);
            (user, Buyer::Account(user))
        }
    };
    let (kind, sent) = (random.within(0, 4) as u8, random.within(1, 5) as u8);
    let actor = Actor::new(user, role_of(user));
    let reservation = ReservationId { event, number: u32::from(sent) };
    let mut content = quantity.get() << 16;
    let command = match kind {
        0 | 1 => {
            content |= number_of_buyer(&buyer);
            Command::Reserve { event, actor, buyer, quantity }
        }
        2 => {
            content |= number_of_buyer(&buyer);
            Command::Hold { event, actor, buyer, quantity, time: hold_time(0) }
        }
        3 => Command::Confirm { reservation, actor, quantity: Some(quantity) },
        _ => {
            let to = match buyer {
                Buyer::Ref(_) => buyer,
                Buyer::Account(_) | Buyer::Guest | Buyer::Block => Buyer::Account(customer(random)),
            };
            content |= number_of_buyer(&to);
            let quantity = Some(quantity);
            Command::Transfer(Box::new(Transfer { reservation, actor, to: Some(to), quantity }))
        }
    };
    let key = key(user, 5 * event.0 as u8 + kind, sent, content);
    Command::Keyed(Box::new(Keyed { key, command }))
}

fn key(user: UserId, address: u8, sent: u8, content: u32) -> IdempotencyKey {
    let mut hash = [0; 16];
    (hash[0], hash[15]) = (address, sent);
    let is_bounded = role_of(user) == Role::Customer;
    IdempotencyKey { user, is_bounded, hash, fingerprint: content.into() }
}

/// The role in which a user sends keys.
pub(super) fn role_of(user: UserId) -> Role {
    if ORGANIZERS.contains(&user.0) { Role::Organizer } else { Role::Customer }
}

/// The first step of the creation of an event with a key: asks for its id, or for a new one.
fn give_event_id(random: &mut Random, ids: &mut Ids, ids_max: u32) -> Ask {
    let content = random.within(1, 2) as u32;
    let key = key(organizer(random), 0, random.within(1, u64::from(ids_max) / 2) as u8, content);
    if ids.event >= ids_max || random.within(0, 2) == 0 {
        return Ask::Query(Query::GivenEventId { key });
    }
    ids.event += 1;
    Ask::Command(Command::GiveEventId(Box::new(GiveEventId { key, id: EventId(ids.event) })))
}

/// The key of a request for an event's id.
///
/// # Panics
///
/// On another request.
pub(super) fn key_of_event_id(ask: &Ask) -> IdempotencyKey {
    match ask {
        Ask::Command(Command::GiveEventId(give)) => give.key,
        Ask::Query(Query::GivenEventId { key }) => *key,
        other => panic!("{other:?} asks for no id"),
    }
}

/// The second step, once the id is known: the content of the request tells the event's details.
pub(super) fn create_given_event(key: &IdempotencyKey, id: EventId) -> Command {
    let name = EventName::new(&format!("Given {}", key.fingerprint)).expect("a valid name");
    let details = NewDetails::new(name, Quota::new(3 * key.fingerprint).expect("below the limit"));
    Command::CreateGivenEvent(Box::new(CreateEvent { id, organizer: key.user, key: None, details }))
}

fn create_event(random: &mut Random, ids: &mut Ids) -> Command {
    ids.event += 1;
    Command::CreateEvent(Box::new(CreateEvent {
        id: EventId(ids.event),
        organizer: organizer(random),
        key: key_in_use(random),
        details: NewDetails {
            name: name(random),
            quota: quota(random),
            venue: venue(random),
            rules: rules(random),
        },
    }))
}

/// Most events have no rules.
fn rules(random: &mut Random) -> SalesRules {
    let mut one_in_six = || random.within(0, 5) == 0;
    let [of_reservation, of_customer, start, end] = [(); 4].map(|()| one_in_six());
    SalesRules {
        max_per_reservation: of_reservation.then(|| quantity(random)),
        max_per_customer: of_customer.then(|| most_of_customer(random)),
        sales_start: start.then(|| time(random)),
        sales_end: end.then(|| time(random)),
    }
}

fn rules_patch(random: &mut Random) -> RulesPatch {
    let mut one_in_six = || random.within(0, 5) == 0;
    let [of_reservation, of_customer, start, end] = [(); 4].map(|()| one_in_six());
    let SalesRules { max_per_reservation, max_per_customer, sales_start, sales_end } = SalesRules {
        max_per_reservation: (random.within(0, 1) == 0).then(|| quantity(random)),
        max_per_customer: (random.within(0, 2) > 0).then(|| most_of_customer(random)),
        sales_start: (random.within(0, 2) == 0).then(|| time(random)),
        sales_end: (random.within(0, 2) == 0).then(|| time(random)),
    };
    RulesPatch {
        max_per_reservation: of_reservation.then_some(max_per_reservation),
        max_per_customer: of_customer.then_some(max_per_customer),
        sales_start: start.then_some(sales_start),
        sales_end: end.then_some(sales_end),
    }
}

fn most_of_customer(random: &mut Random) -> Quantity {
    Quantity::new(random.within(1, 5)).expect("at least one")
}

/// A time within the first moments of most worlds.
fn time(random: &mut Random) -> Timestamp {
    Timestamp(START.0 + random.within(0, 300))
}

fn create_user(random: &mut Random, ids: &mut Ids) -> Command {
    ids.user += 1;
    Command::CreateUser(Box::new(CreateUser {
        id: UserId(ids.user),
        username: username(random),
        password_hash: "hash".into(),
        role: Role::Customer,
        token_version: token_version(random),
    }))
}

fn change_account(random: &mut Random, ids: &Ids) -> Command {
    let (user, username) = (user(random, ids), username(random));
    let (by, next_token_version) = (ADMIN.user, token_version(random));
    match random.within(0, 5) {
        0 | 1 => Command::ChangePassword(Box::new(ChangePassword {
            user,
            username,
            by,
            token_version: (random.within(0, 3) > 0).then(|| token_version(random)),
            password_hash: "another hash".into(),
            next_token_version,
        })),
        // Always the same role: with two, the reply would not tell whether the command made a record.
        2 | 3 => {
            let role = Role::Organizer;
            Command::ChangeRole(Box::new(ChangeRole { user, username, by, role, next_token_version }))
        }
        4 => Command::EndTokens(Box::new(EndTokens { user, username, by, next_token_version })),
        _ => Command::RemoveUser(Box::new(RemoveUser { user, username, by })),
    }
}

fn edit_event(random: &mut Random, ids: &Ids) -> Command {
    Command::EditEvent(Box::new(EditEvent {
        event: event(random, ids),
        actor: actor(random),
        version: expected_version(random),
        changes: DetailsPatch {
            name: (random.within(0, 1) == 0).then(|| name(random)),
            quota: (random.within(0, 2) > 0).then(|| quota(random)),
            venue: (random.within(0, 2) == 0).then(|| venue(random)),
            rules: rules_patch(random),
        },
        organizer: match random.within(0, 5) {
            0 | 1 => Some(organizer(random)),
            // Was a customer, and may have bought.
            2 => Some(customer(random)),
            _ => None,
        },
    }))
}

/// Often one of an event's first versions.
fn expected_version(random: &mut Random) -> ExpectedVersion {
    match random.within(0, 3) {
        0 => ExpectedVersion::OneOf([random.within(1, 3)].into()),
        1 => ExpectedVersion::OneOf([random.within(1, 3), random.within(0, 5)].into()),
        _ => ExpectedVersion::Any,
    }
}

/// Sometimes an event that does not exist yet.
fn event(random: &mut Random, ids: &Ids) -> EventId {
    let unknown = u64::from(random.within(0, 15) == 0);
    EventId(random.within(1, u64::from(ids.event.min(GIVEN_EVENTS_MAX)) + unknown) as u32)
}

fn reservation(random: &mut Random, ids: &Ids) -> ReservationId {
    ReservationId { event: event(random, ids), number: random.within(1, NUMBERS) as u32 }
}

/// Most accounts have one of the first ids: the names of later ones were taken.
fn user(random: &mut Random, ids: &Ids) -> UserId {
    UserId(random.within(1, u64::from(ids.user).clamp(1, USERNAMES)) as u32)
}

/// Few versions, so that a change often names the account's current one.
fn token_version(random: &mut Random) -> u64 {
    random.within(1, 3)
}

fn customer(random: &mut Random) -> UserId {
    UserId(random.within(1, CUSTOMERS) as u32)
}

fn organizer(random: &mut Random) -> UserId {
    UserId(ORGANIZERS[random.within(0, 1) as usize])
}

fn organizer_who_acts(random: &mut Random) -> Actor {
    Actor { user: organizer(random), role: Role::Organizer, key: key_in_use(random) }
}

fn key_in_use(random: &mut Random) -> Option<ApiKeyNumber> {
    (random.within(0, 1) == 0).then(|| ApiKeyNumber(random.within(1, 3) as u32))
}

fn actor(random: &mut Random) -> Actor {
    match random.within(0, 7) {
        0 | 1 => Actor::new(customer(random), Role::Customer),
        // Was a customer, and may have bought.
        2 => Actor::new(customer(random), Role::Organizer),
        3 | 4 => organizer_who_acts(random),
        _ => ADMIN,
    }
}

/// Some are of another issuer, and differ in case only.
fn username(random: &mut Random) -> Username {
    let name = random.within(1, USERNAMES);
    match random.within(0, 5) {
        0 => Username::of_issuer("issuer", &format!("user{name}")).expect("a valid subject"),
        1 => Username::of_issuer("issuer", &format!("User{name}")).expect("a valid subject"),
        _ => Username::new(&format!("user{name}")).expect("a valid name"),
    }
}

fn name(random: &mut Random) -> EventName {
    EventName::new(&format!("Concert {}", random.within(1, 9))).expect("a valid name")
}

fn venue(random: &mut Random) -> Option<Venue> {
    let hall = random.within(0, 2);
    (hall > 0).then(|| Venue::new(&format!("Hall {hall}")).expect("a good venue"))
}

fn quantity(random: &mut Random) -> Quantity {
    Quantity::new(random.within(1, 3)).expect("at least one")
}

/// Small enough to be sold out.
fn quota(random: &mut Random) -> Quota {
    Quota::new(random.within(0, 8)).expect("below the limit")
}

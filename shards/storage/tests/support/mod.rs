//! A data directory driven by short scripts, and looked at from outside.
#![allow(dead_code, reason = "each test program uses a part of it")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use shards::api_keys::{ApiKey, Scope, Scopes};
use shards::clock::Now;
use shards::command::{
    Actor, Ask, Buyer, ChangePassword, ChangeRole, Command, CreateEvent, CreateUser, CustomerRef,
    DeleteEvent, EditEvent, EndApiKey, EndTokens, ExpectedVersion, GiveEventId, IdempotencyKey, Keyed,
    MakeApiKey, OrderItem, OrderItems, PlaceOrder, Query, RemoveUser, Transfer,
};
use shards::details::{DetailsPatch, EventName, NewDetails, RulesPatch};
use shards::ids::{
    ApiKeyNumber, EventId, HoldTime, OrderId, Quantity, Quota, Role, Slot, Timestamp, UserId, Username,
};
use shards::log::Log;
use shards::outcome::{Outcome, Rejection, Reply, Statuses, Totals};
use shards::record::Entry;
use shards::shard::{Release, Shard};
use shards::slots::shard_of_slot;
use storage::{Progress, Recovered, RecoveryError, SqliteLog};

/// Ids that scripts use and snapshots look at.
const EVENT_IDS: u32 = 100;
const CUSTOMER_IDS: u32 = 10;
const USERNAMES: [&str; 8] = ["ada", "bob", "user1", "user2", "user3", "user4", "user5", "user6"];
pub(crate) const ADMIN: Actor = Actor::new(UserId(99), Role::Admin);
const ORGANIZER: UserId = UserId(50);
/// 2023-11-14T22:13:20.045Z.
const FIRST_MS: u64 = 1_700_000_000_045;

/// A recovered data directory with its shards, each command a millisecond after the one before. `clock` with
/// milliseconds sets the clock.
pub(crate) struct Office {
    pub(crate) recovered: Recovered,
    pub(crate) shards: Vec<(Shard<()>, SqliteLog)>,
    /// Everything that was committed since it was opened.
    pub(crate) committed: Vec<Entry>,
    /// Between slots, on the way.
    messages: Vec<Command>,
    now: Timestamp,
}

/// What every query about everything answers.
pub(crate) type Snapshot = BTreeMap<String, String>;

impl Office {
    pub(crate) fn try_open(directory: &Path, shard_count: usize) -> Result<Office, RecoveryError> {
        let mut recovered = storage::open(directory, shard_count, &Progress::default())?;
        assert_eq!(recovered.shards.len(), shard_count);
        let shards = std::mem::take(&mut recovered.shards).into_iter();
        let shards = shards.map(|(state, log)| (Shard::new(state, &recovered.heads, recovered.epoch), log));
        let shards = shards.collect();
        let now = Timestamp(FIRST_MS + recovered.epoch.0 * 1000);
        Ok(Office { recovered, shards, committed: Vec::new(), messages: Vec::new(), now })
    }

    pub(crate) fn open(directory: &Path, shard_count: usize) -> Office {
        Office::try_open(directory, shard_count).unwrap()
    }

    /// Commands separated by `|`, all of which have to succeed; then a commit of each shard.
    pub(crate) fn run(&mut self, script: &str) {
        self.apply(script);
        self.commit();
    }

    /// The same without the commit: in memory alone.
    pub(crate) fn apply(&mut self, script: &str) {
        for line in script.split('|') {
            if let Some(time) = line.trim().strip_prefix("clock ") {
                self.now = Timestamp(time.parse().unwrap());
                continue;
            }
            if line.trim() == "deliver" {
                self.deliver();
                continue;
            }
            let command = command(line);
            let shard_index = shard_of_slot(command.slot(), self.shards.len());
            let (shard, _) = &mut self.shards[shard_index];
            self.now = Timestamp(self.now.0 + 1);
            shard.take_in(Now::at(self.now), Ask::Command(command), ());
            // A success waits for its commit.
            while let Some(release) = shard.next_release() {
                match release {
                    Release::Message(_, message) => self.messages.push(message),
                    refused @ Release::Answer(..) => panic!("{line}: {refused:?}"),
                }
            }
        }
    }

    /// Commits, and takes messages between slots in, until there are none; then what is on record about them later.
    fn deliver(&mut self) {
        self.commit();
        while !self.messages.is_empty() {
            for message in std::mem::take(&mut self.messages) {
                let shard_index = shard_of_slot(message.slot(), self.shards.len());
                self.shards[shard_index].0.take_in(Now::at(self.now), Ask::Command(message), ());
            }
            self.commit();
        }
        let now = Now { elapsed: Duration::from_secs(1), ..Now::at(self.now) };
        self.shards.iter_mut().for_each(|(shard, _)| shard.expire(now));
        self.commit();
    }

    pub(crate) fn commit(&mut self) {
        for (shard, log) in &mut self.shards {
            if let Some(batch) = shard.begin_commit() {
                log.append(&batch.entries, Duration::ZERO).unwrap();
                self.committed.extend(batch.entries.iter().cloned());
                shard.finish_commit(batch);
            }
            while let Some(release) = shard.next_release() {
                match release {
                    Release::Message(_, message) => self.messages.push(message),
                    Release::Answer((), Ok(_) | Err(Rejection::OrderRefused { .. })) => {}
                    refused @ Release::Answer(..) => panic!("{refused:?}"),
                }
            }
        }
    }

    /// Ends as a server does on SIGTERM.
    pub(crate) fn close(self) {
        for (_, log) in self.shards {
            Box::new(log).close().unwrap();
        }
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        let mut snapshot = Snapshot::new();
        let mut note = |query: &Query, answer: String| {
            snapshot.insert(format!("{query:?}"), answer);
        };
        for event in (1..=EVENT_IDS).map(EventId) {
            let slot = shards::slots::slot_of_event(event);
            let shard_index = shard_of_slot(slot, self.shards.len());
            for query in [Query::Event { event }, all_reservations(event)] {
                note(&query, format!("{:?}", self.ask(shard_index, &query)));
            }
        }
        for username in USERNAMES.map(|name| Username::new(name).unwrap()) {
            let shard_index = shard_of_slot(shards::slots::slot_of_username(&username), self.shards.len());
            let query = Query::Account { username };
            note(&query, format!("{:?}", self.ask(shard_index, &query)));
        }
        for customer in (1..=CUSTOMER_IDS).map(UserId) {
            let query = Query::CustomerReservations { customer, after: None, limit: usize::MAX };
            let mut reservations = Vec::new();
            for outcome in self.ask_all(&query) {
                let Outcome::Reservations(part) = outcome else { panic!("{outcome:?}") };
                reservations.extend(part);
            }
            reservations.sort_by_key(|reservation| reservation.id);
            note(&query, format!("{reservations:?}"));
        }
        note(&Query::Totals, format!("{:?}", self.totals()));
        snapshot
    }

    pub(crate) fn totals(&self) -> Totals {
        let mut sum = Totals::default();
        for outcome in self.ask_all(&Query::Totals) {
            let Outcome::Totals(part) = outcome else { panic!("{outcome:?}") };
            sum += part;
        }
        sum
    }

    /// The answer that a command would get. Nothing is done.
    pub(crate) fn would_answer(&self, line: &str) -> Reply {
        let command = command(line);
        let slot = command.slot();
        let state = self.shards[shard_of_slot(slot, self.shards.len())].0.state();
        let decision = state.decide(Now::at(self.now), slot, command);
        decision.reply.map(|outcome| state.slot(slot).unwrap().outcome(&outcome))
    }

    /// The answer of the shard that owns a slot.
    pub(crate) fn answer(&self, slot: Slot, query: &Query) -> Reply {
        self.ask(shard_of_slot(slot, self.shards.len()), query)
    }

    fn ask(&self, shard_index: usize, query: &Query) -> Reply {
        self.shards[shard_index].0.state().query(query)
    }

    fn ask_all(&self, query: &Query) -> Vec<Outcome> {
        let part = |shard_index| match self.ask(shard_index, query) {
            Ok(Outcome::Part(part)) => part.outcome,
            reply => panic!("{reply:?}"),
        };
        (0..self.shards.len()).map(part).collect()
    }
}

/// Names what differs, where a plain comparison would print both in full.
pub(crate) fn assert_same(before: &Snapshot, after: &Snapshot, context: &str) {
    for (query, answer) in before {
        assert_eq!(after.get(query), Some(answer), "{context}: {query}");
    }
    assert_eq!(before.len(), after.len(), "{context}");
}

/// Every file's bytes, but those that SQLite alone reads and writes.
pub(crate) fn files_in(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    if directory.is_file() {
        return [(String::new(), fs::read(directory).unwrap())].into();
    }
    let names =
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let names = names.filter(|name| !name.ends_with("-wal") && !name.ends_with("-shm"));
    names.map(|name| (name.clone(), fs::read(directory.join(&name)).unwrap_or_default())).collect()
}

/// With SQLite's journals: of a living directory, what a kill at this moment would leave.
pub(crate) fn copy_directory(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

pub(crate) fn all_reservations(event: EventId) -> Query {
    let (statuses, limit) = (Statuses::ALL, usize::MAX);
    Query::EventReservations {
        event,
        actor: ADMIN,
        after: None,
        up_to: None,
        statuses,
        customer_ref: None,
        limit,
    }
}

fn command(line: &str) -> Command {
    let number = |text: &str| text.parse::<u32>().unwrap();
    let event = |text: &str| EventId(number(text));
    let words: Vec<&str> = line.split_whitespace().collect();
    match *words {
        ["user", name, id] => Command::CreateUser(Box::new(CreateUser {
            id: UserId(number(id)),
            username: Username::new(name).unwrap(),
            password_hash: format!("$argon2id$of-{name}").into(),
            role: Role::Customer,
            token_version: u64::MAX - u64::from(number(id)),
        })),
        ["event", id, "quota", quota] => Command::CreateEvent(Box::new(CreateEvent {
            id: event(id),
            organizer: ORGANIZER,
            key: None,
            details: NewDetails::new(
                EventName::new(&format!("Event {id} ☂")).unwrap(),
                Quota::new(u64::from(number(quota))).unwrap(),
            ),
        })),
        ["edit", id, "quota", quota] => Command::EditEvent(Box::new(EditEvent {
            event: event(id),
            actor: ADMIN,
            version: ExpectedVersion::Any,
            changes: DetailsPatch {
                quota: Some(Quota::new(u64::from(number(quota))).unwrap()),
                ..DetailsPatch::default()
            },
            organizer: None,
        })),
        ["rules", id, of_reservation, of_customer, start, end] => Command::EditEvent(Box::new(EditEvent {
            event: event(id),
            actor: ADMIN,
            version: ExpectedVersion::Any,
            changes: DetailsPatch {
                rules: RulesPatch {
                    max_per_reservation: Some(Quantity::new(u64::from(number(of_reservation)))),
                    max_per_customer: Some(Quantity::new(u64::from(number(of_customer)))),
                    sales_start: Some(Some(Timestamp(start.parse().unwrap()))),
                    sales_end: Some(Some(Timestamp(end.parse().unwrap()))),
                },
                ..DetailsPatch::default()
            },
            organizer: None,
        })),
        ["rename", id, name] => Command::EditEvent(Box::new(EditEvent {
            event: event(id),
            actor: ADMIN,
            version: ExpectedVersion::Any,
            changes: DetailsPatch { name: Some(EventName::new(name).unwrap()), ..DetailsPatch::default() },
            organizer: None,
        })),
        ["delete", id] => Command::DeleteEvent(Box::new(DeleteEvent {
            event: event(id),
            actor: ADMIN,
            version: ExpectedVersion::Any,
            force: true,
        })),
        ["reserve", id, "for", customer, quantity] => Command::Reserve {
            event: event(id),
            actor: Actor::new(UserId(number(customer)), Role::Customer),
            buyer: Buyer::Account(UserId(number(customer))),
            quantity: Quantity::new(u64::from(number(quantity))).unwrap(),
        },
        ["reserve", id, "for", customer, quantity, "by", actor] => Command::Reserve {
            event: event(id),
            actor: Actor::new(UserId(number(actor)), Role::Organizer),
            buyer: Buyer::Account(UserId(number(customer))),
            quantity: Quantity::new(u64::from(number(quantity))).unwrap(),
        },
        ["sell", id, "for", to, quantity, "by", organizer, "with", key] => Command::Reserve {
            event: event(id),
            actor: Actor {
                user: UserId(number(organizer)),
                role: Role::Organizer,
                key: Some(ApiKeyNumber(number(key))),
            },
            buyer: buyer(to),
            quantity: Quantity::new(u64::from(number(quantity))).unwrap(),
        },
        ["sell", id, "for", to, quantity, "by", organizer] => Command::Reserve {
            event: event(id),
            actor: Actor::new(UserId(number(organizer)), Role::Organizer),
            buyer: buyer(to),
            quantity: Quantity::new(u64::from(number(quantity))).unwrap(),
        },
        ["sell", id, "for", to, quantity, "by", organizer, "key", name] => {
            let user = UserId(number(organizer));
            let hash = std::array::from_fn(|index| name.as_bytes().get(index).copied().unwrap_or(0));
            let key = IdempotencyKey { user, is_bounded: false, hash, fingerprint: 1 };
            let command = command(&format!("sell {id} for {to} {quantity} by {organizer}"));
            Command::Keyed(Box::new(Keyed { key, command }))
        }
        ["transfer", id, "to", to, ref quantity @ .., "by", actor] => {
            let actor = number(actor);
            let role = if actor == 50 { Role::Organizer } else { Role::Customer };
            Command::Transfer(Box::new(Transfer {
                reservation: id.parse().unwrap(),
                actor: Actor::new(UserId(actor), role),
                to: Some(buyer(to)),
                quantity: quantity.first().and_then(|quantity| Quantity::new(u64::from(number(quantity)))),
            }))
        }
        ["hold", id, "for", customer, quantity, seconds] => Command::Hold {
            event: event(id),
            actor: Actor::new(UserId(number(customer)), Role::Customer),
            buyer: Buyer::Account(UserId(number(customer))),
            quantity: Quantity::new(u64::from(number(quantity))).unwrap(),
            time: HoldTime::from_seconds(u64::from(number(seconds))).unwrap(),
        },
        ["confirm", id, quantity, "by", customer] => Command::Confirm {
            reservation: id.parse().unwrap(),
            actor: Actor::new(UserId(number(customer)), Role::Customer),
            quantity: Some(Quantity::new(u64::from(number(quantity))).unwrap()),
        },
        ["release", id] => Command::Release { reservation: id.parse().unwrap(), actor: ADMIN },
        ["reserve", id, "for", customer, quantity, "key", name] => {
            let user = UserId(number(customer));
            let hash = std::array::from_fn(|index| name.as_bytes().get(index).copied().unwrap_or(0));
            let fingerprint = number(quantity).into();
            let key = IdempotencyKey { user, is_bounded: true, hash, fingerprint };
            let command = command(&format!("reserve {id} for {customer} {quantity}"));
            Command::Keyed(Box::new(Keyed { key, command }))
        }
        ["give", id, "to", organizer, "key", name] => {
            let hash = std::array::from_fn(|index| name.as_bytes().get(index).copied().unwrap_or(0));
            let user = UserId(number(organizer));
            let key = IdempotencyKey { user, is_bounded: false, hash, fingerprint: u64::MAX };
            Command::GiveEventId(Box::new(GiveEventId { key, id: event(id) }))
        }
        ["reduce", id, quantity] => Command::Reduce {
            reservation: id.parse().unwrap(),
            actor: ADMIN,
            quantity: Quantity::new(u64::from(number(quantity))).unwrap(),
        },
        ["order", items, "for", customer, ref time @ ..] => {
            let user = UserId(number(customer));
            let item = |text: &str| {
                let (id, quantity) = text.split_once(':').unwrap();
                let quantity = Quantity::new(u64::from(number(quantity))).unwrap();
                OrderItem { event: event(id), quantity }
            };
            Command::PlaceOrder(Box::new(PlaceOrder {
                owner: user,
                actor: Actor::new(user, Role::Customer),
                buyer: Buyer::Account(user),
                items: OrderItems::new(items.split(',').map(item).collect()).unwrap(),
                time: time.first().map(|seconds| HoldTime::from_seconds(u64::from(number(seconds))).unwrap()),
            }))
        }
        ["confirm", "order", id] => {
            let order: OrderId = id.parse().unwrap();
            Command::ConfirmOrder { order, actor: Actor::new(order.user, Role::Customer) }
        }
        ["cancel", "order", id] => Command::CancelOrder { order: id.parse().unwrap(), actor: ADMIN },
        ["cancel", id] => Command::Cancel { reservation: id.parse().unwrap(), actor: ADMIN },
        ["password", name, id] => Command::ChangePassword(Box::new(ChangePassword {
            user: UserId(number(id)),
            username: Username::new(name).unwrap(),
            by: UserId(number(id)),
            token_version: Some(u64::MAX - u64::from(number(id))),
            password_hash: format!("$argon2id$new-of-{name}").into(),
            next_token_version: 1,
        })),
        ["set-password", name, id] => Command::ChangePassword(Box::new(ChangePassword {
            user: UserId(number(id)),
            username: Username::new(name).unwrap(),
            by: ADMIN.user,
            token_version: None,
            password_hash: format!("$argon2id$set-of-{name}").into(),
            next_token_version: 2,
        })),
        ["end-tokens", name, id] => Command::EndTokens(Box::new(EndTokens {
            user: UserId(number(id)),
            username: Username::new(name).unwrap(),
            by: UserId(number(id)),
            next_token_version: 3,
        })),
        ["api-key", name, "of", owner, id, "over", ref over @ ..] => {
            Command::MakeApiKey(Box::new(MakeApiKey {
                organizer: UserId(number(id)),
                key: ApiKey {
                    name: name.into(),
                    scopes: Scopes::from_iter([Scope::EventsRead, Scope::Sell]),
                    secret_hash: [7; 32],
                    username: Username::new(owner).unwrap(),
                    account_version: u64::from(u32::MAX) + 1,
                    ends_at: Some(Timestamp(1_800_000_000_000)).filter(|_| over.is_empty()),
                },
                over: over.iter().map(|key| ApiKeyNumber(number(key))).collect(),
            }))
        }
        ["end-api-key", id, key] => {
            let (organizer, number) = (UserId(number(id)), ApiKeyNumber(number(key)));
            Command::EndApiKey(EndApiKey { organizer, number })
        }
        ["organizer", name, id] => Command::ChangeRole(Box::new(ChangeRole {
            user: UserId(number(id)),
            username: Username::new(name).unwrap(),
            by: ADMIN.user,
            role: Role::Organizer,
            next_token_version: u64::from(u32::MAX) + 1,
        })),
        ["remove", name, id] => Command::RemoveUser(Box::new(RemoveUser {
            user: UserId(number(id)),
            username: Username::new(name).unwrap(),
            by: ADMIN.user,
        })),
        _ => panic!("no such command: {line}"),
    }
}

/// `guest`, `block`, a ref such as `@c7`, or the number of an account.
fn buyer(text: &str) -> Buyer {
    match text {
        "guest" => Buyer::Guest,
        "block" => Buyer::Block,
        _ if text.starts_with('@') => Buyer::Ref(CustomerRef::new(text).unwrap()),
        _ => Buyer::Account(UserId(text.parse().unwrap())),
    }
}

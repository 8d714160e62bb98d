//! The demonstration data: six users and the events 1 to 4, made once.

use std::net::IpAddr;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Value, json};
use shards::command::{CreateEvent, CreateUser};
use shards::details::{EventName, NewDetails};
use shards::ids::{EventId, Quota, Role, UserId, Username};
use shards::outcome::Rejection;

use super::common::Common;
use super::context::RequestContext;
use super::endpoint::{Access, Endpoint, Success, Tag, Takes};
use super::input::{NoBody, NoParameter, query};
use super::output::json_response;
use super::work::Work;
use crate::client::{Refused, Shards};
use crate::front::http::parse::Method;
use crate::front::http::write::Response;
use crate::front::problem::{Kind, Problem};
use crate::passwords::rules::NewPassword;
use crate::random;

/// The password of every demonstration account. The server listens on loopback only with `--demo`.
const PASSWORD: &str = "boxoffice-demo";

const USERS: [(&str, Role); 6] = [
    ("admin", Role::Admin),
    ("org1", Role::Organizer),
    ("org2", Role::Organizer),
    ("cust1", Role::Customer),
    ("cust2", Role::Customer),
    ("cust3", Role::Customer),
];

/// The events and their organizers.
const EVENTS: [(EventId, &str); 4] =
    [(EventId(1), "org1"), (EventId(2), "org1"), (EventId(3), "org2"), (EventId(4), "org2")];

/// The highest id that is kept for the demonstration while its data can be made.
pub const HIGHEST_EVENT: EventId = EVENTS[3].0;

const QUOTA_DEFAULT: u64 = 10_000;

/// What the demonstration has now.
#[derive(Serialize, JsonSchema)]
struct Demonstration {
    users: Vec<DemoUser>,
    /// Of all of them.
    password: &'static str,
    /// Those that were made by this call.
    events: Vec<EventId>,
    #[schemars(with = "Quota")]
    quota: u32,
}

/// Someone to log in as.
#[derive(Serialize, JsonSchema)]
struct DemoUser {
    username: &'static str,
    role: Role,
}

query! {
    /// How the demonstration is made.
    struct PopulateQuery {
        /// Of each of its events; 10000 when it is left out.
        quota: Option<Quota>,
    }
}

pub(super) static POPULATE: Endpoint = Endpoint {
    id: "populate",
    // For a browser's sake.
    method: Method::Get,
    path: "/api/v1/pop",
    access: Access::Demo,
    handler: &Takes(populate),
    writes: true,
    headers: &[],
    tag: Tag::Server,
    summary: "Make the demonstration data",
    about: "Served by `boxoffice serve --demo` alone.",
    successes: &[
        Success::json::<Demonstration>(200, "What was made.", example),
        Success::empty(304, "All is there already."),
    ],
    problems: &[Kind::UnclearClientAddress, Kind::EventExists, Kind::IdsUsedUp],
};

fn example() -> Value {
    json!({
        "users": [{ "username": "cust1", "role": "customer" }],
        "password": "boxoffice-demo",
        "events": [1, 2, 3, 4],
        "quota": 10000,
    })
}

/// 200 when it made something, 304 when all was there, 409 where other events exist.
/// A call that a crash cut short is finished by the next one.
fn populate(
    context: &RequestContext<'_>,
    _: NoParameter,
    PopulateQuery { quota }: PopulateQuery,
    _: NoBody,
) -> Result<Work, Problem> {
    let quota = quota.or_else(|| Quota::new(QUOTA_DEFAULT)).expect("the default is in bounds");
    let address = context.client_address()?;
    let shards = context.api.shards.clone();
    let common = Arc::clone(&context.api.common);
    Ok(Work::future(async move {
        let mut made_events = Vec::new();
        if others_exist(&shards).await? {
            return Err(Problem::plain(Kind::EventExists));
        }
        let organizers = create_users(&shards, &common, address).await?;
        for (event, organizer) in EVENTS {
            let organizer = organizers.iter().find(|(name, _)| *name == organizer);
            let (_, organizer) = *organizer.expect("each event's organizer is one of the users");
            if create_event(&shards, event, organizer, quota).await? {
                made_events.push(event);
            }
        }
        if made_events.is_empty() {
            return Ok(Response::empty(304));
        }
        let users = USERS.iter().map(|&(username, role)| DemoUser { username, role }).collect();
        Ok(json_response(
            200,
            &Demonstration { users, password: PASSWORD, events: made_events, quota: quota.get() },
        ))
    }))
}

/// Whether there are other events in the way of the demonstration's.
async fn others_exist(shards: &Shards) -> Result<bool, Refused> {
    let mut missing = false;
    for (event, organizer) in EVENTS {
        match shards.event(event).await {
            Ok(view) => {
                let organizer = Username::new(organizer).expect("the names are good ones");
                let account = shards.account(organizer).await?;
                // An event that was edited may have been handed over.
                let is_another = |organizer: UserId| organizer != view.organizer && view.version == 1;
                if account.is_none_or(|account| is_another(account.id)) {
                    return Ok(true);
                }
            }
            Err(Refused::Rejected(Rejection::EventDeleted)) => {}
            Err(Refused::Rejected(Rejection::EventNotFound)) => missing = true,
            Err(other) => return Err(other),
        }
    }
    Ok(missing && !shards.events(Some(HIGHEST_EVENT), 1, None).await?.is_empty())
}

/// Makes the missing accounts. Returns the ids of all.
async fn create_users(
    shards: &Shards,
    common: &Common,
    address: IpAddr,
) -> Result<Vec<(&'static str, UserId)>, Problem> {
    let password = NewPassword::new(PASSWORD).expect("the password is a good one");
    let mut ids = Vec::new();
    for (name, role) in USERS {
        let username = Username::new(name).expect("the names are good ones");
        if let Some(account) = shards.account(username.clone()).await? {
            ids.push((name, account.id));
            continue;
        }
        let password_hash = common.passwords.hash(address, password.clone()).await?;
        let id = common.ids.next_user()?;
        let create =
            CreateUser { id, username: username.clone(), password_hash, role, token_version: random::u64() };
        let account = match shards.create_user(create).await {
            Err(Refused::Rejected(Rejection::UsernameTaken)) => shards.account(username).await?,
            other => Some(other?),
        };
        ids.push((name, account.expect("it is there now").id));
    }
    Ok(ids)
}

/// Returns whether the event was missing.
async fn create_event(
    shards: &Shards,
    id: EventId,
    organizer: UserId,
    quota: Quota,
) -> Result<bool, Refused> {
    let name = EventName::new(&format!("Event {id}")).expect("the names are good ones");
    match shards
        .create_event(CreateEvent { id, organizer, key: None, details: NewDetails::new(name, quota) })
        .await
    {
        Ok(_) => Ok(true),
        Err(Refused::Rejected(Rejection::EventExists)) => Ok(false),
        Err(other) => Err(other),
    }
}

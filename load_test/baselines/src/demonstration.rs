//! The demonstration data: users and events, created once.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::json;

use crate::api::Service;
use crate::domain::{Account, NewAccount, NewEvent, Quota, Refusal, Role, Store};
use crate::input::Parameters;
use crate::problem::Problem;

/// The password of all users.
const PASSWORD: &str = "boxoffice-demo";

const QUOTA_DEFAULT: Quota = Quota(10_000);
const EVENTS_DEFAULT: i64 = 4;
const CUSTOMERS_DEFAULT: i64 = 3;

/// The maximum number of events and of customers: more would take too long for one request.
const COUNT_MAX: i64 = 10_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Wanted {
    /// The quota of each event.
    quota: Option<i64>,
    events: Option<i64>,
    customers: Option<i64>,
}

fn count(name: &str, wanted: Option<i64>, default: i64, least: i64, most: i64) -> Result<i64, Problem> {
    let count = wanted.unwrap_or(default);
    if (least..=most).contains(&count) {
        return Ok(count);
    }
    Err(Problem::invalid(name, &format!("must be a whole number from {least} to {most}")))
}

/// Answers 200 if something was created, 304 if everything existed, 409 if other events have the ids.
pub(crate) async fn populate<S: Store>(
    State(service): State<Arc<Service<S>>>,
    Parameters(Wanted { quota, events, customers }): Parameters<Wanted>,
) -> Result<Response, Problem> {
    let quota_max = i64::from(crate::domain::QUOTA_MAX);
    let quota = count("?quota", quota, i64::from(QUOTA_DEFAULT.0), 0, quota_max)?;
    let quota = i32::try_from(quota).expect("a quota fits into 32 bits");
    let event_count = count("?events", events, EVENTS_DEFAULT, 1, COUNT_MAX)?;
    let customer_count = count("?customers", customers, CUSTOMERS_DEFAULT, 1, COUNT_MAX)?;

    let mut names = vec![
        ("admin".to_owned(), Role::Admin),
        ("org1".to_owned(), Role::Organizer),
        ("org2".to_owned(), Role::Organizer),
    ];
    names.extend((1..=customer_count).map(|number| (format!("cust{number}"), Role::Customer)));
    let (users, made_users) = create_users(&service, names).await?;

    let mut made_events = Vec::new();
    for id in 1..=event_count {
        // The first half of the events belongs to org1.
        let organizer = if 2 * id <= event_count + 1 { &users[1] } else { &users[2] };
        if create_event(&service.store, id, organizer.id, quota).await? {
            made_events.push(id);
        }
    }
    if made_events.is_empty() && !made_users {
        return Ok(StatusCode::NOT_MODIFIED.into_response());
    }
    let users: Vec<_> =
        users.iter().map(|user| json!({"username": user.username, "role": user.role})).collect();
    let made = json!({"users": users, "password": PASSWORD, "events": made_events, "quota": quota});
    Ok(Json(made).into_response())
}

/// Returns all users in order, and whether one was created. They share one password hash, since a
/// thousand hashes would take half a minute.
async fn create_users<S: Store>(
    service: &Service<S>,
    names: Vec<(String, Role)>,
) -> Result<(Vec<Account>, bool), Problem> {
    let mut hash = None;
    let mut users = Vec::with_capacity(names.len());
    for (username, role) in names {
        if let Some(account) = service.store.account(&username).await? {
            users.push(account);
            continue;
        }
        let password_hash = match &hash {
            Some(hash) => String::clone(hash),
            None => hash.insert(service.passwords.hash(PASSWORD.to_owned()).await).clone(),
        };
        let new = NewAccount { username: username.clone(), role, password_hash };
        let account = match service.store.create_account(new).await {
            // A concurrent call has created it.
            Err(Refusal::UsernameTaken) => service.store.account(&username).await?,
            other => Some(other?),
        };
        users.push(account.expect("accounts are never removed"));
    }
    Ok((users, hash.is_some()))
}

/// Creates an event; returns false if it existed.
async fn create_event<S: Store>(store: &S, id: i64, organizer: i64, quota: i32) -> Result<bool, Refusal> {
    let new = NewEvent { id: Some(id), organizer, name: format!("Event {id}"), quota };
    match store.create_event(new).await {
        Ok(_) => Ok(true),
        Err(Refusal::EventExists) => match store.event(id).await {
            Ok(event) if event.organizer != organizer => Err(Refusal::EventExists),
            Ok(_) | Err(Refusal::EventDeleted) => Ok(false),
            Err(other) => Err(other),
        },
        Err(other) => Err(other),
    }
}

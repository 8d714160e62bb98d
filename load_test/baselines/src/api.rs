//! The part of boxoffice's API that the comparison needs: the same paths, statuses and JSON.
//!
//! Not included: lists of reservations and of accounts, changes of accounts, limits on password
//! guesses, the list of common passwords, `X-Request-Id`, `/metrics`, `/openapi.json` and the pages.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, ETAG, LINK, LOCATION};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::json;

use crate::auth::{TOKEN_LIFE_SECONDS, Tokens};
use crate::demonstration;
use crate::domain::{
    Account, Actor, Event, EventPatch, NewAccount, NewEvent, Quantity, Quota, Refusal, ReservationId, Role,
    Store,
};
use crate::input::{Body, EventName, Parameters, Password, Username};
use crate::passwords::Passwords;
use crate::problem::Problem;

const BODY_BYTES_MAX: usize = 64 * 1024;

const PAGE_LIMIT_DEFAULT: usize = 50;
const PAGE_LIMIT_MAX: usize = 100;

/// The state that all requests share.
pub(crate) struct Service<S> {
    pub(crate) store: S,
    pub(crate) tokens: Tokens,
    pub(crate) passwords: Passwords,
    pub(crate) boot_id: String,
    pub(crate) draining: AtomicBool,
}

type Shared<S> = State<Arc<Service<S>>>;
type Answer = Result<Response, Problem>;

pub(crate) fn router<S: Store>(service: Arc<Service<S>>) -> Router {
    Router::new()
        .route("/api/v1/events/{event}/reservations", post(reserve))
        .route("/api/v1/reservations/{reservation}", get(reservation).delete(cancel))
        .route("/api/v1/events", get(events).post(create_event))
        .route("/api/v1/events/{event}", get(event).patch(edit_event).delete(delete_event))
        .route("/api/v1/users", post(register))
        .route("/api/v1/sessions", post(log_in))
        .route("/api/v1/pop", get(demonstration::populate))
        .route("/livez", get(live))
        .route("/readyz", get(ready))
        .fallback(async || Problem::not_found())
        .method_not_allowed_fallback(async || Problem::method_not_allowed())
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(service)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewReservation {
    quantity: Quantity,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EventToBe {
    name: EventName,
    quota: Quota,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EventChanges {
    name: Option<EventName>,
    quota: Option<Quota>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AccountToBe {
    username: Username,
    password: Password,
    role: Option<NewRole>,
}

/// The roles that anyone may register with.
#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum NewRole {
    Customer,
    Organizer,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Credentials {
    username: String,
    password: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NoParameters {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Page {
    limit: Option<usize>,
    after: Option<i64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Deletion {
    #[serde(default)]
    force: bool,
}

/// Parses an event id in a path.
fn id(text: &str) -> Result<i64, Problem> {
    text.parse().ok().filter(|&id| id > 0).ok_or_else(Problem::not_found)
}

fn reservation_id(text: &str) -> Result<ReservationId, Problem> {
    text.parse().map_err(|()| Problem::not_found())
}

async fn reserve<S: Store>(
    State(service): Shared<S>,
    actor: Actor,
    Path(event): Path<String>,
    Parameters(NoParameters {}): Parameters<NoParameters>,
    body: Body,
) -> Answer {
    let customer = actor.only(&[Role::Customer])?.user;
    let event = id(&event)?;
    let NewReservation { quantity: Quantity(quantity) } = body.read()?;
    let reservation = service.store.reserve(event, customer, quantity).await?;
    let location = format!("/api/v1/reservations/{}", reservation.id);
    Ok((StatusCode::CREATED, [(LOCATION, location)], Json(reservation)).into_response())
}

async fn reservation<S: Store>(
    State(service): Shared<S>,
    actor: Actor,
    Path(reservation): Path<String>,
    Parameters(NoParameters {}): Parameters<NoParameters>,
) -> Answer {
    let id = reservation_id(&reservation)?;
    Ok(Json(service.store.reservation(actor, id).await?).into_response())
}

async fn cancel<S: Store>(
    State(service): Shared<S>,
    actor: Actor,
    Path(reservation): Path<String>,
    Parameters(NoParameters {}): Parameters<NoParameters>,
) -> Answer {
    let actor = actor.only(&[Role::Customer, Role::Admin])?;
    service.store.cancel(actor, reservation_id(&reservation)?).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

fn respond(status: StatusCode, event: Event) -> Response {
    let version = format!("\"{}\"", event.version);
    (status, [(ETAG, version)], Json(event)).into_response()
}

async fn create_event<S: Store>(
    State(service): Shared<S>,
    actor: Actor,
    Parameters(NoParameters {}): Parameters<NoParameters>,
    body: Body,
) -> Answer {
    let organizer = actor.only(&[Role::Organizer])?.user;
    let EventToBe { name: EventName(name), quota: Quota(quota) } = body.read()?;
    let event = service.store.create_event(NewEvent { id: None, organizer, name, quota }).await?;
    let location = format!("/api/v1/events/{}", event.id);
    Ok(([(LOCATION, location)], respond(StatusCode::CREATED, event)).into_response())
}

async fn events<S: Store>(
    State(service): Shared<S>,
    Parameters(Page { limit, after }): Parameters<Page>,
) -> Answer {
    let limit = limit.unwrap_or(PAGE_LIMIT_DEFAULT);
    if !(1..=PAGE_LIMIT_MAX).contains(&limit) {
        return Err(Problem::invalid("?limit", "must be a whole number from 1 to 100"));
    }
    let mut events = service.store.events(after.unwrap_or(0), limit + 1).await?;
    let has_more = events.len() > limit;
    events.truncate(limit);
    let next = events.last().filter(|_| has_more).map(|event| event.id.to_string());
    let link = next
        .as_ref()
        .map(|next| [(LINK, format!("</api/v1/events?limit={limit}&after={next}>; rel=\"next\""))]);
    Ok((link, Json(json!({"items": events, "next": next}))).into_response())
}

async fn event<S: Store>(
    State(service): Shared<S>,
    Path(event): Path<String>,
    Parameters(NoParameters {}): Parameters<NoParameters>,
) -> Answer {
    let event = service.store.event(id(&event)?).await?;
    Ok(([(CACHE_CONTROL, "no-store")], respond(StatusCode::OK, event)).into_response())
}

async fn edit_event<S: Store>(
    State(service): Shared<S>,
    actor: Actor,
    Path(event): Path<String>,
    Parameters(NoParameters {}): Parameters<NoParameters>,
    body: Body,
) -> Answer {
    let actor = actor.only(&[Role::Organizer])?;
    let id = id(&event)?;
    let EventChanges { name, quota } = body.read()?;
    let patch = EventPatch { name: name.map(|EventName(name)| name), quota: quota.map(|Quota(quota)| quota) };
    Ok(respond(StatusCode::OK, service.store.edit_event(actor, id, patch).await?))
}

async fn delete_event<S: Store>(
    State(service): Shared<S>,
    actor: Actor,
    Path(event): Path<String>,
    Parameters(Deletion { force }): Parameters<Deletion>,
) -> Answer {
    let actor = actor.only(&[Role::Organizer, Role::Admin])?;
    service.store.delete_event(actor, id(&event)?, force).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn register<S: Store>(
    State(service): Shared<S>,
    Parameters(NoParameters {}): Parameters<NoParameters>,
    body: Body,
) -> Answer {
    let AccountToBe { username: Username(username), password: Password(password), role } = body.read()?;
    if password.eq_ignore_ascii_case(&username) {
        return Err(Problem::invalid("/password", "must not be the username"));
    }
    let role = match role {
        None | Some(NewRole::Customer) => Role::Customer,
        Some(NewRole::Organizer) => Role::Organizer,
    };
    // Checked first, to save the hash if the name is taken.
    if service.store.account(&username).await?.is_some() {
        return Err(Refusal::UsernameTaken.into());
    }
    let password_hash = service.passwords.hash(password).await;
    let account = service.store.create_account(NewAccount { username, role, password_hash }).await?;
    Ok((StatusCode::CREATED, [(LOCATION, "/api/v1/users/me")], Json(account)).into_response())
}

async fn log_in<S: Store>(
    State(service): Shared<S>,
    Parameters(NoParameters {}): Parameters<NoParameters>,
    body: Body,
) -> Answer {
    let Credentials { username, password } = body.read()?;
    let account = service.store.account(&username.to_ascii_lowercase()).await?;
    let hash = account.as_ref().map(|account: &Account| account.password_hash.clone());
    let right = service.passwords.verify(password, hash).await;
    let Some(account) = account.filter(|_| right) else {
        return Err(Problem::wrong_credentials());
    };
    let session = json!({
        "token": service.tokens.issue(&account),
        "token_type": "Bearer",
        "expires_in": TOKEN_LIFE_SECONDS,
        "user": account,
    });
    Ok((StatusCode::CREATED, [(CACHE_CONTROL, "no-store")], Json(session)).into_response())
}

async fn live<S: Store>(State(service): Shared<S>) -> Response {
    Json(json!({"status": "live", "boot_id": service.boot_id})).into_response()
}

async fn ready<S: Store>(State(service): Shared<S>) -> Answer {
    if service.draining.load(Ordering::Relaxed) {
        return Err(Problem::not_ready(&service.boot_id));
    }
    Ok(Json(json!({"status": "ready", "boot_id": service.boot_id})).into_response())
}

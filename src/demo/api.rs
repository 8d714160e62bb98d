//! Typed functions for the calls of the HTTP API that the demonstration makes.

use std::net::SocketAddr;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use shards::ids::{EventId, ReservationId};

use super::DemoError;
use super::client::{Client, Request};

/// The password of all demonstration users.
pub(super) const PASSWORD: &str = "boxoffice-demo";

pub(super) const CUSTOMERS: [&str; 3] = ["cust1", "cust2", "cust3"];

const ONE_TICKET: &str = r#"{"quantity":1}"#;

/// The tickets of each request with a key, and of no other request: so the proof can count what these requests made.
pub(super) const KEYED_TICKETS: u64 = 2;

const KEYED: &str = r#"{"quantity":2}"#;

/// The maximum number of items of a page.
pub(super) const PAGE_LIMIT: usize = 100;

/// The ticket counts of an event.
#[derive(Debug, Clone, Copy, Deserialize)]
pub(super) struct Event {
    pub id: EventId,
    pub quota: u64,
    pub reserved: u64,
    pub held: u64,
    pub remaining: u64,
}

#[derive(Deserialize)]
pub(super) struct Reservation {
    pub id: String,
    pub quantity: u64,
    pub status: String,
}

#[derive(Deserialize)]
pub(super) struct Page {
    pub items: Vec<Reservation>,
    /// The cursor of the next page.
    pub next: Option<String>,
}

#[derive(Deserialize)]
struct Session {
    token: String,
}

/// The server's answer to a buyer.
pub(super) enum Reserved {
    Acknowledged(ReservationId),
    SoldOut,
    /// 503: the server has done nothing.
    Overloaded,
}

/// One connection to the server.
pub(super) struct Api {
    client: Client,
}

impl Api {
    pub(super) fn connect(address: SocketAddr) -> Result<Api, DemoError> {
        let client = Client::connect(address);
        let client =
            client.map_err(|source| DemoError::Http { action: format!("connect to {address}"), source })?;
        Ok(Api { client })
    }

    pub(super) fn populate(&mut self, quota: u32) -> Result<(), DemoError> {
        self.call("create the demonstration data", &Request::get(&format!("/api/v1/pop?quota={quota}"), None))
            .map(|_: serde_json::Value| ())
    }

    /// Logs in and returns the token.
    pub(super) fn log_in(&mut self, username: &str) -> Result<String, DemoError> {
        let body = serde_json::json!({ "username": username, "password": PASSWORD }).to_string();
        let request = Request::post("/api/v1/sessions", None, &body);
        let session: Session = self.call(&format!("log in as {username}"), &request)?;
        Ok(session.token)
    }

    pub(super) fn log_in_customers(&mut self) -> Result<Vec<String>, DemoError> {
        CUSTOMERS.iter().map(|customer| self.log_in(customer)).collect()
    }

    pub(super) fn create_event(&mut self, token: &str, name: &str, quota: u32) -> Result<EventId, DemoError> {
        let body = serde_json::json!({ "name": name, "quota": quota }).to_string();
        let event: Event =
            self.call("create an event", &Request::post("/api/v1/events", Some(token), &body))?;
        Ok(event.id)
    }

    pub(super) fn event(&mut self, event: EventId) -> Result<Event, DemoError> {
        self.call("view an event", &Request::get(&format!("/api/v1/events/{event}"), None))
    }

    pub(super) fn reservations(
        &mut self,
        token: &str,
        event: EventId,
        after: Option<&str>,
    ) -> Result<Page, DemoError> {
        let mut path = format!("/api/v1/events/{event}/reservations?limit={PAGE_LIMIT}");
        if let Some(after) = after {
            path.push_str("&after=");
            path.push_str(after);
        }
        self.call("list an event's reservations", &Request::get(&path, Some(token)))
    }

    /// Reserves one ticket.
    pub(super) fn reserve(&mut self, token: &str, event: EventId) -> Result<Reserved, DemoError> {
        let path = format!("/api/v1/events/{event}/reservations");
        self.buy("reserve a ticket", &Request::post(&path, Some(token), ONE_TICKET))
    }

    /// Reserves [`KEYED_TICKETS`]. A second request with the same key gets the answer of the first.
    pub(super) fn reserve_with_key(
        &mut self,
        token: &str,
        event: EventId,
        key: &str,
    ) -> Result<Reserved, DemoError> {
        let path = format!("/api/v1/events/{event}/reservations");
        let request = Request { key: Some(key), ..Request::post(&path, Some(token), KEYED) };
        self.buy("reserve tickets with a key", &request)
    }

    /// Holds one ticket, for the usual time.
    pub(super) fn hold(&mut self, token: &str, event: EventId) -> Result<Reserved, DemoError> {
        let path = format!("/api/v1/events/{event}/holds");
        self.buy("hold a ticket", &Request::post(&path, Some(token), ONE_TICKET))
    }

    /// Makes a hold a reservation.
    pub(super) fn confirm(&mut self, token: &str, hold: ReservationId) -> Result<(), DemoError> {
        let path = format!("/api/v1/holds/{hold}/confirm");
        self.call("confirm a hold", &Request::post(&path, Some(token), "{}")).map(|_: Reservation| ())
    }

    fn buy(&mut self, action: &str, request: &Request<'_>) -> Result<Reserved, DemoError> {
        let response = self.client.send(request);
        let response = response.map_err(|source| DemoError::Http { action: action.to_owned(), source })?;
        let unexpected = || unexpected(action, response.status, response.body);
        match response.status {
            201 => {
                let id = serde_json::from_slice(response.body)
                    .ok()
                    .and_then(|reservation: Reservation| reservation.id.parse().ok());
                id.map(Reserved::Acknowledged).ok_or_else(unexpected)
            }
            409 if response.body.windows(8).any(|part| part == b"sold-out") => Ok(Reserved::SoldOut),
            503 => Ok(Reserved::Overloaded),
            _ => Err(unexpected()),
        }
    }

    fn call<T: DeserializeOwned>(&mut self, action: &str, request: &Request<'_>) -> Result<T, DemoError> {
        let response = self.client.send(request);
        let response = response.map_err(|source| DemoError::Http { action: action.to_owned(), source })?;
        let body = if matches!(response.status, 200 | 201) {
            serde_json::from_slice(response.body).ok()
        } else {
            None
        };
        body.ok_or_else(|| unexpected(action, response.status, response.body))
    }
}

fn unexpected(action: &str, status: u16, body: &[u8]) -> DemoError {
    DemoError::Unexpected {
        action: action.to_owned(),
        status,
        body: String::from_utf8_lossy(body).into_owned(),
    }
}

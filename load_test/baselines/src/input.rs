//! What clients send: tokens, JSON bodies, and the queries of addresses.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{FromRequest, FromRequestParts, Query, Request};
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE};
use axum::http::request::Parts;
use axum::response::IntoResponse;
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer};

use crate::api::Service;
use crate::domain::{Actor, Role, Store};
use crate::problem::Problem;

/// As boxoffice's limits.
const USERNAME_CHARS: std::ops::RangeInclusive<usize> = 3..=64;
const PASSWORD_CHARS: std::ops::RangeInclusive<usize> = 8..=128;
const EVENT_NAME_CHARS: std::ops::RangeInclusive<usize> = 1..=200;

impl Actor {
    /// # Errors
    ///
    /// 403, for another role than these.
    pub(crate) fn only(self, allowed: &[Role]) -> Result<Actor, Problem> {
        if allowed.contains(&self.role) { Ok(self) } else { Err(Problem::forbidden(self.role, allowed)) }
    }
}

impl<S: Store> FromRequestParts<Arc<Service<S>>> for Actor {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, service: &Arc<Service<S>>) -> Result<Actor, Problem> {
        let authorization = parts.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        authorization.and_then(|value| service.tokens.verify(value)).ok_or_else(Problem::unauthorized)
    }
}

/// A body that is not looked at before it is known who sends it.
pub(crate) struct Body {
    content_type: Option<String>,
    bytes: Bytes,
}

impl<S: Send + Sync> FromRequest<S> for Body {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Body, Problem> {
        let content_type = request.headers().get(CONTENT_TYPE);
        // The usual one is not worth a copy.
        let content_type = content_type
            .filter(|value| *value != "application/json")
            .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
        let bytes = Bytes::from_request(request, state).await.map_err(|rejection: BytesRejection| {
            if rejection.into_response().status() == 413 {
                return Problem::content_too_large();
            }
            Problem::invalid("", "it broke off; send all of it")
        })?;
        Ok(Body { content_type, bytes })
    }
}

impl Body {
    /// # Errors
    ///
    /// 415 when it says that it is something else than JSON, 400 when it is not, 422 when it breaks a rule.
    pub(crate) fn read<T: DeserializeOwned>(&self) -> Result<T, Problem> {
        if let Some(content_type) = &self.content_type {
            let media = content_type.split(';').next().unwrap_or("").trim().to_ascii_lowercase();
            let is_json = media == "application/json"
                || (media.starts_with("application/") && media.ends_with("+json"));
            if !is_json {
                return Err(Problem::unsupported_media_type(&media));
            }
        }
        serde_json::from_slice(&self.bytes).map_err(|failure| match failure.is_data() {
            true => self.broken_rule::<T>(),
            false => Problem::malformed_json(&failure),
        })
    }

    /// Reads it once more, to say where.
    fn broken_rule<T: DeserializeOwned>(&self) -> Problem {
        let deserializer = &mut serde_json::Deserializer::from_slice(&self.bytes);
        let Err(error) = serde_path_to_error::deserialize::<_, T>(deserializer) else {
            return Problem::invalid("", "it breaks a rule");
        };
        let path = error.path().to_string();
        let text = error.inner().to_string();
        let detail = text.rsplit_once(" at line ").map_or(&*text, |(detail, _)| detail);
        match &*path {
            "." => Problem::invalid("", detail),
            path => Problem::invalid(&format!("/{path}"), detail),
        }
    }
}

/// The query of an address.
pub(crate) struct Parameters<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Parameters<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Parameters<T>, Problem> {
        let read = Query::<T>::try_from_uri(&parts.uri);
        read.map(|Query(parameters)| Parameters(parameters)).map_err(|rejection| {
            let text = rejection.body_text();
            Problem::invalid("?", text.rsplit_once(": ").map_or(&*text, |(_, detail)| detail))
        })
    }
}

/// A text with a rule.
macro_rules! text {
    ($(#[doc = $doc:literal])* $name:ident, $check:expr) => {
        $(#[doc = $doc])*
        pub(crate) struct $name(pub(crate) String);

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<$name, D::Error> {
                let check: fn(String) -> Result<String, String> = $check;
                check(String::deserialize(deserializer)?).map($name).map_err(D::Error::custom)
            }
        }
    };
}

text! {
    /// Case folded.
    Username, |text| {
        if !USERNAME_CHARS.contains(&text.chars().count()) {
            return Err("must have 3 to 64 characters".to_owned());
        }
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        if !text.bytes().all(allowed) {
            return Err("may only have letters a to z, digits, '.', '_' and '-'".to_owned());
        }
        Ok(text.to_ascii_lowercase())
    }
}

text! {
    /// Of a new account.
    Password, |text| match PASSWORD_CHARS.contains(&text.chars().count()) {
        true => Ok(text),
        false => Err("must have 8 to 128 characters".to_owned()),
    }
}

text! {
    /// What an event is called.
    EventName, |text| {
        let good = EVENT_NAME_CHARS.contains(&text.chars().count()) && !text.chars().any(char::is_control);
        let rule = "must be a string of 1 to 200 characters, without control characters";
        if good { Ok(text) } else { Err(rule.to_owned()) }
    }
}

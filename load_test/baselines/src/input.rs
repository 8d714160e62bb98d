//! Input from clients: tokens, JSON bodies and query parameters.

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

/// The limits on texts, as in boxoffice.
const USERNAME_CHARS: std::ops::RangeInclusive<usize> = 3..=64;
const PASSWORD_CHARS: std::ops::RangeInclusive<usize> = 8..=128;
const EVENT_NAME_CHARS: std::ops::RangeInclusive<usize> = 1..=200;

impl Actor {
    /// Checks the role of the account.
    ///
    /// # Errors
    ///
    /// 403 if the role is not allowed.
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

/// A request body, which is parsed after authentication.
pub(crate) struct Body {
    content_type: Option<String>,
    bytes: Bytes,
}

impl<S: Send + Sync> FromRequest<S> for Body {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Body, Problem> {
        let content_type = request.headers().get(CONTENT_TYPE);
        // The usual media type is compared without a copy.
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
    /// Parses the body.
    ///
    /// # Errors
    ///
    /// 415 if its Content-Type is not JSON, 400 if it is invalid JSON, 422 if it violates a rule.
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

    /// Parses the body again to find the position of the error.
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

/// Query parameters.
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

/// A text that is checked by a rule.
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
    /// The username, in lower case.
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
    /// The password of a new account.
    Password, |text| match PASSWORD_CHARS.contains(&text.chars().count()) {
        true => Ok(text),
        false => Err("must have 8 to 128 characters".to_owned()),
    }
}

text! {
    /// The name of an event.
    EventName, |text| {
        let good = EVENT_NAME_CHARS.contains(&text.chars().count()) && !text.chars().any(char::is_control);
        let rule = "must be a string of 1 to 200 characters, without control characters";
        if good { Ok(text) } else { Err(rule.to_owned()) }
    }
}

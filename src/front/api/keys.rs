//! API keys: make, list and end one's own, as an organizer.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Value, json};
use shards::api_keys::{ApiKey, ApiKeyName, ApiKeyView, Scope, Scopes};
use shards::command::{EndApiKey, MakeApiKey};
use shards::ids::{ApiKeyNumber, Role, Timestamp, UserId, Username};
use shards::limits::API_KEY_NAME_CHARS_MAX;
use shards::outcome::AccountView;

use super::Common;
use super::context::RequestContext;
use super::endpoint::{Access, Endpoint, Header, KeyUse, Success, Tag, Takes};
use super::input::{Member, NoBody, NoParameter, NoQuery, Nullable, body};
use super::output::json_response;
use super::work::Work;
use crate::client::Shards;
use crate::front::api_keys::Secret;
use crate::front::auth::{Credential, Identity};
use crate::front::http::parse::Method;
use crate::front::http::write::Response;
use crate::front::problem::{FieldErrors, Problem, ScopeName};
use crate::front::rfc3339::Rfc3339;
use crate::logging::rationed;
use crate::random;

/// An API key, without its secret.
#[derive(Serialize, JsonSchema)]
struct Key {
    id: ApiKeyNumber,
    name: Box<str>,
    /// What it may be used for.
    scopes: Vec<ScopeName>,
    created_at: Rfc3339,
    /// Null if it does not end by itself.
    expires_at: Option<Rfc3339>,
    /// To the minute. Null if it was not used since the server started.
    last_used_at: Option<Rfc3339>,
}

/// An API key that was just made.
#[derive(Serialize, JsonSchema)]
struct NewKey {
    /// For `Authorization: Bearer SECRET`. It is shown this once, and not kept.
    secret: String,
    #[serde(flatten)]
    key: Key,
}

/// All API keys of an organizer.
#[derive(Serialize, JsonSchema)]
struct Keys {
    items: Vec<Key>,
}

body! {
    /// An API key to be.
    struct KeyRequest {
        /// What it is for, in words for its organizer.
        name: Name,
        /// What it may be used for: at least one scope, none twice.
        scopes: ScopeList,
        /// When it ends by itself, if it does.
        expires_at: Option<Nullable<Rfc3339>>,
    }
    example { "name": "Shop", "scopes": ["events:read", "sell"], "expires_at": "2027-01-01T00:00:00Z" }
}

#[derive(JsonSchema)]
#[schemars(inline)]
struct Name(#[schemars(with = "String", length(min = 1, max = API_KEY_NAME_CHARS_MAX))] ApiKeyName);

impl Member for Name {
    fn from_json(value: &Value) -> Result<Name, String> {
        ApiKeyName::new(&String::from_json(value)?).map(Name).map_err(|error| error.to_string())
    }
}

#[derive(JsonSchema)]
#[schemars(inline)]
struct ScopeList(
    #[schemars(with = "Vec<Scope>", length(min = 1, max = Scope::ALL.len()), extend("uniqueItems" = true))]
    Scopes,
);

impl Member for ScopeList {
    fn from_json(value: &Value) -> Result<ScopeList, String> {
        let rule = || {
            let names: Vec<&str> = Scope::ALL.iter().map(|scope| scope.as_str()).collect();
            format!("must be a list of one or more of {names:?}, none twice")
        };
        let items = value.as_array().filter(|items| !items.is_empty()).ok_or_else(rule)?;
        let scopes = items.iter().map(|item| item.as_str().and_then(Scope::from_name));
        let scopes: Scopes = scopes.collect::<Option<_>>().ok_or_else(rule)?;
        if scopes.iter().count() < items.len() {
            return Err(rule());
        }
        Ok(ScopeList(scopes))
    }
}

impl Key {
    fn of(view: ApiKeyView, common: &Common) -> Key {
        let ApiKeyView { organizer, number, key, created_at } = view;
        let ApiKey { name, scopes, secret_hash: _, username: _, account_version: _, ends_at } = key;
        let last_use = common.key_uses.last(organizer, number);
        Key {
            id: number,
            name,
            scopes: scopes.iter().map(ScopeName::from).collect(),
            created_at: Rfc3339(created_at),
            expires_at: ends_at.map(Rfc3339),
            last_used_at: last_use.map(|seconds| Rfc3339(Timestamp(seconds * 1000))),
        }
    }
}

fn example() -> Value {
    json!({
        "id": 3,
        "name": "Shop",
        "scopes": ["events:read", "sell"],
        "created_at": "2026-03-01T09:00:00.000Z",
        "expires_at": null,
        "last_used_at": null,
    })
}

fn new_example() -> Value {
    let mut key = example();
    key["secret"] = json!("box_12_3_7n42DGM5Tflk9n8mt7Fhc7000000");
    key
}

pub(super) static CREATE: Endpoint = Endpoint {
    id: "createKey",
    method: Method::Post,
    path: "/api/v1/keys",
    access: Access::Only(&[Role::Organizer], KeyUse::Never),
    handler: &Takes(create),
    writes: true,
    headers: &[],
    tag: Tag::Accounts,
    summary: "Make an API key",
    about: "For a back end of yours. It stands for you wherever you may do something and its scopes name that: \
            `events:read` shows the reservations of your events, `events:write` makes, edits and deletes events, \
            `sell` sells and cancels. It ends when you end it, at `expires_at`, and with every change of your \
            password or role. An account has at most 100.",
    successes: &[Success::json::<NewKey>(201, "The key, with its secret.", new_example)
        .with(&[Header::location("/api/v1/keys/3"), Header::NO_STORE])],
    problems: &[],
};

fn create(
    context: &RequestContext<'_>,
    _: NoParameter,
    _: NoQuery,
    KeyRequest { name: Name(name), scopes: ScopeList(scopes), expires_at }: KeyRequest,
) -> Result<Work, Problem> {
    let ends_at = expires_at.and_then(|Nullable(time)| time).map(|Rfc3339(time)| time);
    if ends_at.is_some_and(|end| end.0 / 1000 <= context.api.unix_time()) {
        return Err(Problem::invalid(&FieldErrors::of("/expires_at", "must be later than now")));
    }
    let sender = TokenOf::of(context.identity_without_key()?)?;
    let address = context.address_for_log();
    let (shards, common) = (context.api.shards.clone(), Arc::clone(&context.api.common));
    Ok(Work::future(async move {
        let TokenOf { organizer, .. } = sender;
        let kept = shards.api_keys(organizer).await?;
        // Asked after the keys: what is of another version now has ended for good.
        let (username, account_version) = sender.account(&shards).await?;
        let over = kept.iter().filter(|one| one.key.account_version != account_version);
        let over = over.map(|one| one.number).collect();
        let secret = Secret::new(u128::from_le_bytes(random::bytes()));
        let secret_hash = secret.hash();
        let key = ApiKey { name: name.into_inner(), scopes, secret_hash, username, account_version, ends_at };
        let made = *shards.make_api_key(MakeApiKey { organizer, key, over }).await?;
        let number = made.number;
        rationed!(info, user = %organizer, key = %number, %address, "an API key was made");
        let made = NewKey { secret: secret.key(organizer, number), key: Key::of(made, &common) };
        Ok(json_response(201, &made)
            .with("Location", format!("/api/v1/keys/{number}"))
            .with("Cache-Control", "no-store".to_owned()))
    }))
}

/// The account of a request's token, which has to stand when its keys are read or made.
struct TokenOf {
    organizer: UserId,
    username: Username,
    version: u64,
}

impl TokenOf {
    fn of(identity: &Identity) -> Result<TokenOf, Problem> {
        let Identity { actor, username, credential } = identity;
        let Credential::Token { version } = *credential else { return Err(Problem::not_with_a_key()) };
        Ok(TokenOf { organizer: actor.user, username: username.clone(), version })
    }

    /// The account's username, and the version of its API keys.
    ///
    /// # Errors
    ///
    /// 401, when the account has changed since the token was issued: what is made with it must not outlive it.
    async fn account(self, shards: &Shards) -> Result<(Username, u64), Problem> {
        let TokenOf { organizer, username, version } = self;
        let account = shards.account(username).await?;
        let is_same = |account: &AccountView| {
            account.id == organizer && account.token_version == version && !account.removed
        };
        let account = account.filter(|account| is_same(account)).ok_or_else(Problem::bad_token)?;
        Ok((account.username, account.key_version))
    }
}

pub(super) static LIST: Endpoint = Endpoint {
    id: "listKeys",
    method: Method::Get,
    path: "/api/v1/keys",
    access: Access::Only(&[Role::Organizer], KeyUse::Never),
    handler: &Takes(list),
    writes: false,
    headers: &[],
    tag: Tag::Accounts,
    summary: "List one's API keys",
    about: "Those that were not ended, by id, all at once; those after their `expires_at`, too.",
    successes: &[Success::json::<Keys>(200, "The keys.", || json!({ "items": [example()] }))],
    problems: &[],
};

fn list(context: &RequestContext<'_>, _: NoParameter, _: NoQuery, _: NoBody) -> Result<Work, Problem> {
    let sender = TokenOf::of(context.identity_without_key()?)?;
    let (shards, common) = (context.api.shards.clone(), Arc::clone(&context.api.common));
    Ok(Work::future(async move {
        let mut kept = shards.api_keys(sender.organizer).await?;
        let (_, account_version) = sender.account(&shards).await?;
        kept.retain(|one| one.key.account_version == account_version);
        let items = kept.into_iter().map(|view| Key::of(view, &common)).collect();
        Ok(json_response(200, &Keys { items }))
    }))
}

pub(super) static END: Endpoint = Endpoint {
    id: "endKey",
    method: Method::Delete,
    path: "/api/v1/keys/{key}",
    access: Access::Only(&[Role::Organizer], KeyUse::Never),
    handler: &Takes(end),
    writes: true,
    headers: &[],
    tag: Tag::Accounts,
    summary: "End an API key",
    about: "After the answer, no request with the key begins any more. A repeat does nothing.",
    successes: &[Success::empty(204, "It has ended.")],
    problems: &[],
};

fn end(context: &RequestContext<'_>, number: ApiKeyNumber, _: NoQuery, _: NoBody) -> Result<Work, Problem> {
    let organizer = context.actor().user;
    let address = context.address_for_log();
    let (shards, common) = (context.api.shards.clone(), Arc::clone(&context.api.common));
    Ok(Work::future(async move {
        shards.end_api_key(EndApiKey { organizer, number }).await?;
        common.key_uses.forget(organizer, number);
        rationed!(info, user = %organizer, key = %number, %address, "an API key was ended");
        Ok(Response::empty(204))
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_are_read_from_a_list_of_names() {
        let read = |value: Value| ScopeList::from_json(&value).map(|ScopeList(scopes)| scopes);
        let both = [Scope::EventsRead, Scope::Sell].into_iter().collect();
        assert_eq!(read(json!(["sell", "events:read"])), Ok(both));
        for wrong in
            [json!([]), json!("sell"), json!(["sell", "sell"]), json!(["buy"]), json!([1]), json!(null)]
        {
            assert!(read(wrong.clone()).is_err_and(|rule| rule.contains("\"events:write\"")), "{wrong}");
        }
    }
}

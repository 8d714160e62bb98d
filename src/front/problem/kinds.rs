//! The table of problems: for each kind its status and texts, and the members that it adds to the body.

use std::num::NonZeroU64;

use schemars::{Schema, SchemaGenerator};
use shards::ids::{OrderId, ReservationId};

use super::{FieldErrors, Recovery, RefusedItem, ScopeName};
use crate::account_limits::AccountLimit;
use crate::front::rfc3339::Rfc3339;

macro_rules! kinds {
    ($($kind:ident $slug:literal $status:literal $title:literal
        $([$member:ident: $type:ty, $about:literal])*
        $({$optional:ident: $optional_type:ty, $optional_about:literal})?
        $explanation:literal)*) => {
        /// The kind of a problem: what `type` points to.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Kind { $($kind),* }

        impl Kind {
            pub const ALL: &[Kind] = &[$(Kind::$kind),*];

            pub fn slug(self) -> &'static str {
                match self { $(Kind::$kind => $slug),* }
            }

            pub fn status(self) -> u16 {
                match self { $(Kind::$kind => $status),* }
            }

            pub fn title(self) -> &'static str {
                match self { $(Kind::$kind => $title),* }
            }

            /// What the problem means, and what to change.
            pub fn explanation(self) -> &'static str {
                match self { $(Kind::$kind => $explanation),* }
            }

            /// The members that this kind adds to the four of all problems.
            pub fn members(self) -> &'static [ExtensionMember] {
                match self {
                    $(Kind::$kind => &[
                        $(ExtensionMember {
                            name: stringify!($member),
                            about: $about,
                            required: true,
                            schema: SchemaGenerator::subschema_for::<$type>,
                        },)*
                        $(ExtensionMember {
                            name: stringify!($optional),
                            about: $optional_about,
                            required: false,
                            schema: SchemaGenerator::subschema_for::<$optional_type>,
                        },)?
                    ],)*
                }
            }
        }
    };
}

/// A member that a kind of problem has beside `type`, `title`, `status` and `detail` (RFC 9457 section 3.2).
pub struct ExtensionMember {
    pub name: &'static str,
    pub about: &'static str,
    pub required: bool,
    pub schema: fn(&mut SchemaGenerator) -> Schema,
}

kinds! {
    MalformedRequest "malformed-request" 400 "The request is not valid HTTP"
        "The bytes could be read in more than one way, or not at all. The connection is closed, and nothing after this request was run. Use a client that speaks HTTP/1.1 as RFC 9112 says."
    MalformedJson "malformed-json" 400 "The body is not JSON"
        "The body has to be one JSON text (RFC 8259) in UTF-8. The detail says where reading it failed."
    UnclearClientAddress "unclear-client-address" 400 "The proxy does not say who the client is"
        "Wrong passwords are counted by the client's address, which a proxy in front of the server has to name in X-Forwarded-For or Forwarded (RFC 7239). The detail says what it wrote instead. Nothing was done. If you send one of these headers yourself, leave it out; otherwise tell whoever runs the proxy."
    Unauthorized "unauthorized" 401 "A valid token is needed"
        "Log in with POST /api/v1/sessions and send the token as 'Authorization: Bearer TOKEN'. Tokens end after some hours; then log in again. An API key ends when its organizer ends it, at its 'expires_at', and with every change of the organizer's account; then a new one is needed."
    WrongCredentials "wrong-credentials" 401 "Username or password is wrong"
        "No account has this username and password; which of the two is wrong is not said. Correct them, or register with POST /api/v1/users."
    Forbidden "forbidden" 403 "Your role may not do this"
        "Customers reserve, organizers manage and sell their own events, admins manage all events and accounts. The detail says what this request needs. Log in with an account that may. Accounts and API keys themselves are managed with a token, not with an API key."
    MissingScope "missing-scope" 403 "The API key lacks a scope"
        [scope: ScopeName, "The scope that the request needs."]
        "An API key can do what its scopes name, and only where its organizer could; 'scope' says which one this request needs. Nothing was done. Use a key that has it: an organizer makes one with POST /api/v1/keys. The scopes of a key do not change."
    RegistrationClosed "registration-closed" 403 "Such accounts are not made by registration"
        "Whoever runs the server decides who may register (--registration): the detail says who. Nothing was done. An admin can make every account with POST /api/v1/users and their token: ask one."
    NotYours "not-yours" 403 "This event is another organizer's"
        "Only its organizer and admins may change an event or see its reservations. Log in as its organizer; if that was you, the event was handed over to another."
    SalesNotOpen "sales-not-open" 403 "The event is not on sale yet"
        [opens_at: Rfc3339, "When the sale starts."]
        "The event's organizer has set a start of sales (sales_start), and the server's clock is before it. Nothing was done; try again from 'opens_at' on. The organizer can change it."
    SalesClosed "sales-closed" 403 "The event is no longer on sale"
        "The event's organizer has set an end of sales (sales_end), and it has come. Nothing was done. What you hold can still be confirmed, and what you have be given back. The organizer can change the end."
    NotFound "not-found" 404 "There is no such thing"
        "Nothing with this address exists, or it is not yours to see. Check the address, and whose token you send."
    ReceiverNotFound "receiver-not-found" 404 "No customer has this name"
        "Tickets are transferred to the username of an account whose role is customer, and which is not removed. Nothing was done. Check the name with whoever is to have the tickets."
    MethodNotAllowed "method-not-allowed" 405 "This address does not take this method"
        "Use one of the methods that the Allow header names."
    NotAcceptable "not-acceptable" 406 "Only JSON is served here"
        "The Accept header excludes application/json. Add it, or leave the header out."
    RequestTimeout "request-timeout" 408 "The request took too long to come"
        "A head has to be whole some seconds after its first byte, and a body has to keep up a modem's pace. Nothing was done; send the request again."
    SoldOut "sold-out" 409 "Not enough tickets are left"
        [remaining: u32, "Tickets that are left."]
        "The event has fewer tickets left than were asked for; 'remaining' says how many. Ask for fewer, or try again when others cancel."
    ReservationLimit "reservation-limit" 409 "A reservation of this event has fewer tickets"
        [allowed: u32, "The most tickets of a reservation of this event."]
        "The event's organizer limits the tickets of a reservation (max_per_reservation); 'allowed' says to how many. All or nothing: none was reserved. Ask for at most that many."
    CustomerLimit "customer-limit" 409 "A customer of this event has fewer tickets"
        [allowed: u32, "How many more tickets of this event the customer may have now; 0 for none."]
        "The event's organizer limits the tickets that a customer has, over all live reservations and holds of the event (max_per_customer); 'allowed' says how many more there may be. All or nothing: none was reserved. Ask for at most that many, or give others back first."
    QuotaBelowCommitted "quota-below-committed" 409 "More tickets are reserved and held than the new quota"
        [committed: u32, "Tickets that are reserved or held: the least that the quota can be."]
        "A quota cannot fall below what is reserved and held already; 'committed' says how many that is. Set it to at least that."
    HasReservations "has-reservations" 409 "The event has live reservations or holds"
        "Deleting the event would cancel them. Add '?force=true' to do so."
    ReservationCancelled "reservation-cancelled" 409 "The reservation is cancelled"
        "It has no tickets any more, so none can be given back. GET /api/v1/reservations/{reservation} shows it; for new tickets, reserve again."
    HoldExpired "hold-expired" 409 "The time of the hold is over"
        "It was not confirmed before 'expires_at', and its tickets are for sale again. Nothing was done. Hold or reserve tickets again."
    HoldNotConfirmed "hold-not-confirmed" 409 "The reservation is a hold"
        "A hold is not transferred. Confirm it with POST /api/v1/holds/{reservation}/confirm, and transfer it then; or release it, and have the other hold. Nothing was done."
    HoldReleased "hold-released" 409 "The hold was given up"
        "It was released, the reservation that it became was cancelled, or its event was deleted. It has no tickets any more. Nothing was done. GET /api/v1/reservations/{reservation} shows it; for new tickets, hold or reserve again."
    HoldConfirmed "hold-confirmed" 409 "The hold has been confirmed"
        "It is a reservation now, or was one from the start, so it is not released, or confirmed with another number of tickets. Nothing was done. Give tickets back with PATCH, or all with DELETE, of /api/v1/reservations/{reservation}; more tickets need another reservation."
    OrderRefused "order-refused" 409 "Not all tickets of the order can be had"
        [items: Vec<RefusedItem>, "Each item that cannot be had, with why: the members of the problem that a reservation of it alone would have."]
        "All or nothing: nothing was done. 'items' has every event of the order whose tickets cannot be had, and why. Order without these, or change what their problems say."
    OrderPartsGone "order-parts-gone" 409 "The order has lost some of its tickets"
        [parts: Vec<ReservationId>, "The reservations of the order that are cancelled."]
        "All or nothing: nothing was confirmed. 'parts' has the holds of the order that were released alone, or whose event was deleted. Release the order with DELETE /api/v1/orders/{order}, and order again what you still want."
    OrderBusy "order-busy" 409 "The order is just being confirmed"
        "Another request is confirming this order. Nothing was done for this one; try again after 'Retry-After' seconds."
    PartOfOrder "part-of-order" 409 "The hold is a part of an order"
        [order: OrderId, "The order."]
        "The holds of an order are confirmed together, with POST /api/v1/orders/{order}/confirm, and are not changed before. Nothing was done. Alone, each can only be released, whole."
    OrderInDoubt "order-in-doubt" 409 "An order is not decided yet"
        "Tickets are set aside for an order of several events, and it is not certain yet whether the order is placed or confirmed. Nothing was done; try again after 'Retry-After' seconds."
    KeyInFlight "key-in-flight" 409 "The first request with this key is not answered yet"
        "An order with this Idempotency-Key is just being placed. Nothing was done for this request; send it again after 'Retry-After' seconds: then it has the answer of the first one."
    UsernameTaken "username-taken" 409 "The username is taken"
        "Usernames are unique, whatever their case. Choose another."
    LastAdmin "last-admin" 409 "The last admin stays an admin"
        "Without an admin nobody could make one again but who has the server's data directory. Make another account an admin first."
    EventExists "event-exists" 409 "Other events exist already"
        "The demonstration data is made on an empty server only. Start one with a fresh data directory."
    EventDeleted "event-deleted" 410 "The event was deleted"
        "It will not come back; its reservations are cancelled, and can still be seen by those who could see them before. GET /api/v1/events lists the events that are left."
    VersionMismatch "version-mismatch" 412 "The event has another version" [etag: String, "The event's ETag now."]
        "The event's ETag is none of those in If-Match, or is there as a weak one (W/), which a proxy can have made of it. Usually someone has edited the event since it was read. Nothing was done. Read the event again, and decide anew."
    ContentTooLarge "content-too-large" 413 "The body is too large"
        "No request of this API needs more than 64 KiB. Send less."
    UriTooLong "uri-too-long" 414 "The request target is too long"
        "No address of this API needs more than 8 KiB. Send a shorter one."
    UnsupportedMediaType "unsupported-media-type" 415 "Only JSON is taken here"
        "Send the body as 'Content-Type: application/json'."
    UnsupportedContentEncoding "unsupported-content-encoding" 415 "Bodies are taken without a coding only"
        "The Content-Encoding header says that the body is compressed. Send it as it is, without that header."
    ExpectationFailed "expectation-failed" 417 "The Expect header asks for something unknown"
        "Expect '100-continue', or leave the header out."
    UnsupportedHeader "unsupported-header" 422 "A header asks for what this request does not do"
        "Few requests do what If-Match and Idempotency-Key ask for, and none that changes something does what If-None-Match asks for. A request that relies on one of them elsewhere is refused, since doing it without could do what the client wanted to prevent. The detail says where the header works; elsewhere, leave it out."
    KeyReused "key-reused" 422 "The idempotency key was used for another request"
        "Your account sent this Idempotency-Key before, to the same address and with another body. Nothing was done. Use a new key, such as a random UUID, for each new request, and the same key only to send the same request again."
    Invalid "invalid" 422 "The request breaks a rule"
        [errors: FieldErrors, "What is wrong: the first 20 broken rules."]
        {more: NonZeroU64, "How many other rules are broken. Left out if 'errors' names all."}
        "Each entry of 'errors' names a member of the body by a JSON pointer, a query parameter by '?name', or a header by 'Name:', and says what it has to be."
    TooManyAttempts "too-many-attempts" 429 "Too many failed logins"
        "The password of this account was guessed at too often, from this address or from many. This guess was not looked at; try again after 'Retry-After' seconds. Logging in from an address that succeeded before is not slowed by what others do."
    TooManyRegistrations "too-many-registrations" 429 "Too many registrations from this address"
        "As many accounts were registered from your address (of IPv6, its /64) as the server allows in an hour; attempts with a username that was taken count, too. Nothing was done; try again after 'Retry-After' seconds. If many people share the address, whoever runs the server can allow more with --registrations-per-hour; behind a proxy, the server has to be told to trust the proxy's word on addresses."
    AccountLimit "account-limit" 429 "The account has reached a limit"
        [limit: AccountLimit, "`changes`: requests that change something, other than reserving and holding, in a time. `events`: events that the account created, deleted ones included. `reservations`: reservations and holds of the account, or those that it made for others, cancelled and expired ones included. `api_keys`: API keys of the account that are not ended."]
        "The server limits what one account makes, so that none takes the memory and the disk of all. Nothing was done; 'limit' says which limit it was. If it is 'changes', try again after 'Retry-After' seconds, and more slowly. If it is 'api_keys', end keys that are no longer used. The others do not go away by waiting, deleting or cancelling: ask whoever runs the server for a higher limit. The detail names the option."
    TooManyKeys "too-many-keys" 429 "Too many idempotency keys"
        "The server keeps each Idempotency-Key for a day, and has as many of your account as it may keep where this one would be: 1000 for an event and others that are kept with it. Nothing was done. Send the request without a key, or try again after 'Retry-After' seconds, when older keys may be forgotten."
    HeadersTooLarge "headers-too-large" 431 "The request's headers are too large"
        "Unless the server was told otherwise: send at most 64 fields, and 16 KiB in all."
    NotImplemented "not-implemented" 501 "The method is unknown"
        "Use one of the methods of RFC 9110, PATCH or QUERY."
    Overloaded "overloaded" 503 "The server is overloaded: nothing was done"
        "More requests are in flight than can be answered soon. Nothing was done for this one; try again after 'Retry-After' seconds."
    TooManyConnections "too-many-connections" 503 "All connections are taken"
        "The server holds as many connections as it may, or few are left and your address has so many that these are for others. Nothing was done; try again after 'Retry-After' seconds, and keep fewer connections open."
    NotReady "not-ready" 503 "The server is not ready"
        [boot_id: String, "Of this start of the server; the next one has another."]
        "It is about to stop. Nothing was done; try again after 'Retry-After' seconds."
    Starting "starting" 503 "The server is starting"
        [boot_id: String, "Of this start of the server; the next one has another."]
        [recovery: Recovery, "How far it has come."]
        "It reads its log, and serves requests when it has read all of it. Nothing was done; try again after 'Retry-After' seconds."
    LogUnreadable "log-unreadable" 503 "The log cannot be read"
        "The records that were asked for are no longer in memory, and reading them from the log has failed; the server's own log says why. Everything else works. Tell whoever runs the server, and try again after 'Retry-After' seconds."
    LogLocked "log-locked" 503 "Another program has locked the log: nothing was done"
        "The server can change nothing until that program, such as a shell or a backup on the server's machine, ends its transaction on a log file; the server notices this by itself within a second. Nothing was done; reading works meanwhile. Tell whoever runs the server, whose log names the file, and try again after 'Retry-After' seconds."
    NoRoomForKeys "no-room-for-keys" 503 "No more idempotency keys can be kept: nothing was done"
        "The server keeps as many idempotency keys as it may, and forgets none before its time. Nothing was done. Keys that it has work as before. Send the request without a key, or try again after 'Retry-After' seconds; whoever runs the server can allow more with --max-idempotency-keys."
    VersionNotSupported "version-not-supported" 505 "This version of HTTP is not spoken here"
        "Use HTTP/1.1 or HTTP/1.0."
    IdsUsedUp "ids-used-up" 507 "No id is left"
        "Ids are numbers up to 4294967295, none is used twice, and the last one of this kind was given out. Nothing was done; everything else works. More events or accounts need a server with a new data directory: tell whoever runs this one. More reservations need another event."
    LogFull "log-full" 507 "The disk of the log is full: nothing was done"
        "The server can change nothing until there is room on its disk again, which it notices by itself within a second. Nothing was done; reading works meanwhile. Tell whoever runs the server, and try again after 'Retry-After' seconds."
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slugs_are_unique() {
        let mut slugs: Vec<_> = Kind::ALL.iter().map(|kind| kind.slug()).collect();
        slugs.sort_unstable();
        slugs.dedup();
        assert_eq!(slugs.len(), Kind::ALL.len());
    }
}

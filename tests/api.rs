//! The HTTP API, route by route: authorization, responses and problems.

mod support;

use std::collections::{BTreeMap, HashSet};
use std::thread;
use std::time::Duration;

use boxoffice::front::http::parse::Method;
use boxoffice::front::router::{ROUTES, Routed, find};
use serde_json::{Value, json};
use support::api_keys::make_key;
use support::client::{Answer, Client, request};
use support::holds::hold;
use support::random::Random;
use support::server::Server;
use support::{PASSWORD, Stage, all_items, create_event, metrics_once, number, reserve, text};
use tempfile::tempdir;

/// The expected status for each role. The placeholders are filled with new items for each request:
/// `{event}` an event of org1, `{sold}` an event with two tickets reserved by cust1, `{deleted}` a
/// deleted event, `{reservation}` a reservation of cust1, `{hold}` a hold of cust1 with two tickets,
/// `{shop}` and `{shop-hold}` the same for a ref of org1, `{cancelled}` a cancelled one, `{orphaned}`
/// one whose event was deleted, `{order}` and `{held-order}` orders of cust1, `{shop-order}` one of org1, `{user}` an account, `{org2}` the id of org2, `{removed}` a removed
/// account, `{fresh}` an unused name.
///
/// Columns: method, path, body, then the status without a token and for cust1, cust2, org1, org2,
/// admin, and for API keys of org1 with the scopes `events:read`, `events:write` and `sell`.
const AUTHORIZATION: &str = r#"
POST   /api/v1/users                          {"username":"{fresh}","password":"boxoffice-demo"}  201 201 201 201 201 201  403 403 403
POST   /api/v1/sessions                       {"username":"cust3","password":"boxoffice-demo"}    201 201 201 201 201 201  201 201 201
GET    /api/v1/users/me                       -                401 200 200 200 200 200  200 200 200
GET    /api/v1/users?limit=3                  -                401 403 403 403 403 200  403 403 403
PUT    /api/v1/users/me/password              {"current":"boxoffice-demo"}  401 422 422 422 422 422  403 403 403
PUT    /api/v1/users/me/password              {"current":"not-the-one","new":"a-good-password"}  401 401 401 401 401 401  403 403 403
PUT    /api/v1/users/me/password              {"current":"boxoffice-demo","new":"password"}  401 422 422 422 422 422  403 403 403
PUT    /api/v1/users/{user}/password          {"new":"a-good-password"}  401 403 403 403 403 204  403 403 403
PUT    /api/v1/users/{user}/password          {"new":"password"}  401 403 403 403 403 422  403 403 403
PUT    /api/v1/users/{user}/password          {"current":"boxoffice-demo","new":"a-good-password"}  401 403 403 403 403 422  403 403 403
PUT    /api/v1/users/{removed}/password       {"new":"a-good-password"}  401 403 403 403 403 404  403 403 403
PUT    /api/v1/users/999999/password          {"new":"a-good-password"}  401 403 403 403 403 404  403 403 403
DELETE /api/v1/users/{user}/sessions          -                401 403 403 403 403 204  403 403 403
DELETE /api/v1/users/{removed}/sessions       -                401 403 403 403 403 404  403 403 403
DELETE /api/v1/users/999999/sessions          -                401 403 403 403 403 404  403 403 403
DELETE /api/v1/users/me/sessions              -                401 403 403 403 403 404  403 403 403
GET    /api/v1/users?username=cust1           -                401 403 403 403 403 200  403 403 403
GET    /api/v1/users?username=no              -                401 403 403 403 403 422  403 403 403
GET    /api/v1/users/{user}                   -                401 403 403 403 403 200  403 403 403
GET    /api/v1/users/{removed}                -                401 403 403 403 403 404  403 403 403
GET    /api/v1/users/999999                   -                401 403 403 403 403 404  403 403 403
GET    /api/v1/keys                           -                401 403 403 200 200 403  403 403 403
POST   /api/v1/keys                           {"name":"Shop","scopes":["sell"]}  401 403 403 201 201 403  403 403 403
POST   /api/v1/keys                           {"name":"","scopes":["sell"]}      401 403 403 422 422 403  403 403 403
POST   /api/v1/keys                           {"name":"Shop","scopes":[]}        401 403 403 422 422 403  403 403 403
POST   /api/v1/keys                           {"name":"Shop","scopes":["admin"]} 401 403 403 422 422 403  403 403 403
POST   /api/v1/keys                           {"name":"Shop","scopes":["sell"],"expires_at":"2020-01-01T00:00:00Z"}  401 403 403 422 422 403  403 403 403
POST   /api/v1/keys                           {"name":"Shop","scopes":["sell"],"organizer":3}  401 403 403 422 422 403  403 403 403
DELETE /api/v1/keys/{key}                     -                401 403 403 204 404 403  403 403 403
DELETE /api/v1/keys/999999                    -                401 403 403 404 404 403  403 403 403
DELETE /api/v1/keys/me                        -                401 403 403 404 404 403  403 403 403
PATCH  /api/v1/users/{user}                   {"role":"organizer"}  401 403 403 403 403 200  403 403 403
PATCH  /api/v1/users/{user}                   {"role":"admin"}      401 403 403 403 403 200  403 403 403
PATCH  /api/v1/users/me                       {"role":"admin"}      405 405 405 405 405 405  405 405 405
PATCH  /api/v1/users/{removed}                {"role":"customer"}   401 403 403 403 403 404  403 403 403
PATCH  /api/v1/users/999999                   {"role":"customer"}   401 403 403 403 403 404  403 403 403
DELETE /api/v1/users/{user}                   -                401 403 403 403 403 204  403 403 403
DELETE /api/v1/users/{removed}                -                401 403 403 403 403 204  403 403 403
DELETE /api/v1/users/me                       -                405 405 405 405 405 405  405 405 405
DELETE /api/v1/users/999999                   -                401 403 403 403 403 404  403 403 403
GET    /api/v1/events                         -                200 200 200 200 200 200  200 200 200
GET    /api/v1/events?organizer=me            -                401 200 200 200 200 200  200 403 403
POST   /api/v1/events                         {"name":"A","quota":5}  401 403 403 201 201 403  403 201 403
GET    /api/v1/events/{event}                 -                200 200 200 200 200 200  200 200 200
GET    /api/v1/events/{deleted}               -                410 410 410 410 410 410  410 410 410
GET    /api/v1/events/{event}/availability    -                200 200 200 200 200 200  200 200 200
GET    /api/v1/events/{deleted}/availability  -                410 410 410 410 410 410  410 410 410
GET    /api/v1/events/999999/availability     -                404 404 404 404 404 404  404 404 404
GET    /api/v1/availability?ids={event},{deleted},999999  -    200 200 200 200 200 200  200 200 200
GET    /api/v1/events/{sold}/changes          -                401 403 403 200 403 200  200 403 403
GET    /api/v1/events/{sold}/changes?after=3&limit=2&wait=0  -  401 403 403 200 403 200  200 403 403
GET    /api/v1/events/{deleted}/changes       -                401 403 403 200 403 200  200 403 403
GET    /api/v1/events/999999/changes          -                401 403 403 404 404 404  404 403 403
GET    /api/v1/events/{sold}/changes?after=-1    -             401 403 403 422 422 422  422 403 403
GET    /api/v1/events/{sold}/changes?limit=101   -             401 403 403 422 422 422  422 403 403
GET    /api/v1/events/{sold}/changes?wait=31     -             401 403 403 422 422 422  422 403 403
GET    /api/v1/changes                        -                401 403 403 200 200 403  200 403 403
GET    /api/v1/changes?after=0&limit=2&wait=0 -                401 403 403 200 200 403  200 403 403
GET    /api/v1/changes?after=256              -                401 403 403 422 422 403  422 403 403
GET    /api/v1/events/{deleted}/availability/stream  -        410 410 410 410 410 410  410 410 410
GET    /api/v1/availability/stream?ids={deleted},999999  -    404 404 404 404 404 404  404 404 404
GET    /api/v1/events/999999                  -                404 404 404 404 404 404  404 404 404
PATCH  /api/v1/events/{event}                 {"quota":5}      401 403 403 200 403 200  403 200 403
PATCH  /api/v1/events/{event}                 {"name":"B"}     401 403 403 200 403 200  403 200 403
PATCH  /api/v1/events/{sold}                  {"quota":1}      401 403 403 409 403 409  403 409 403
PATCH  /api/v1/events/{deleted}               {"quota":5}      401 403 403 410 410 410  403 410 403
PATCH  /api/v1/events/999999                  {"quota":5}      401 403 403 404 404 404  403 404 403
DELETE /api/v1/events/{event}                 -                401 403 403 204 403 204  403 204 403
DELETE /api/v1/events/{event}?force=true      -                401 403 403 204 403 204  403 204 403
DELETE /api/v1/events/{sold}                  -                401 403 403 409 403 409  403 409 403
DELETE /api/v1/events/{sold}?force=false      -                401 403 403 409 403 409  403 409 403
DELETE /api/v1/events/{sold}?force=true       -                401 403 403 204 403 204  403 204 403
DELETE /api/v1/events/{deleted}               -                401 403 403 410 410 410  403 410 403
DELETE /api/v1/events/999999                  -                401 403 403 404 404 404  403 404 403
GET    /api/v1/events/{sold}/reservations     -                401 403 403 200 403 200  200 403 403
GET    /api/v1/events/{deleted}/reservations  -                401 403 403 200 403 200  200 403 403
GET    /api/v1/events/999999/reservations     -                401 403 403 404 404 404  404 403 403
POST   /api/v1/events/{event}/reservations    {"quantity":1}   401 201 201 403 403 403  403 403 403
POST   /api/v1/events/{sold}/reservations     {"quantity":99}  401 409 409 403 403 403  403 403 403
POST   /api/v1/events/{deleted}/reservations  {"quantity":1}   401 410 410 403 403 403  403 403 403
POST   /api/v1/events/999999/reservations     {"quantity":1}   401 404 404 403 403 403  403 403 403
POST   /api/v1/events/{event}/reservations    {"quantity":1,"customer_ref":"c-7"} 401 403 403 201 403 403  403 403 201
POST   /api/v1/events/{event}/reservations    {"quantity":1,"kind":"guest"} 401 403 403 201 403 403  403 403 201
POST   /api/v1/events/{event}/reservations    {"quantity":1,"kind":"block"} 401 403 403 201 403 403  403 403 201
POST   /api/v1/events/{event}/reservations    {"quantity":1,"kind":"sale"} 401 422 422 422 422 403  403 403 422
POST   /api/v1/events/{event}/reservations    {"quantity":1,"customer_ref":""} 401 422 422 422 422 403  403 403 422
POST   /api/v1/events/{event}/reservations    {"quantity":1,"customer_ref":null} 401 422 422 422 422 403  403 403 422
POST   /api/v1/events/{event}/reservations    {"quantity":1,"kind":"guest","customer_ref":"c-7"} 401 403 403 422 422 403  403 403 422
POST   /api/v1/events/{sold}/reservations     {"quantity":99,"customer_ref":"c-7"} 401 403 403 409 403 403  403 403 409
POST   /api/v1/events/{sold}/reservations     {"quantity":99,"kind":"block"} 401 403 403 409 403 403  403 403 409
POST   /api/v1/events/{deleted}/reservations  {"quantity":1,"customer_ref":"c-7"} 401 403 403 410 410 403  403 403 410
POST   /api/v1/events/999999/reservations     {"quantity":1,"customer_ref":"c-7"} 401 403 403 404 404 403  403 403 404
GET    /api/v1/events/{sold}/reservations?customer_ref=c-7 -              401 403 403 200 403 200  200 403 403
GET    /api/v1/events/{sold}/reservations?customer_ref= -              401 403 403 422 422 422  422 403 403
GET    /api/v1/reservations/{shop}            -              401 404 404 200 404 200  200 403 403
DELETE /api/v1/reservations/{shop}            -              401 404 404 204 404 204  403 403 204
PATCH  /api/v1/reservations/{shop}            {"quantity":1} 401 404 404 200 404 200  403 403 200
GET    /api/v1/reservations                   -                401 200 200 200 200 200  200 403 403
GET    /api/v1/reservations/{reservation}     -                401 200 404 200 404 200  200 403 403
GET    /api/v1/reservations/{cancelled}       -                401 200 404 200 404 200  200 403 403
GET    /api/v1/reservations/999999-1          -                401 404 404 404 404 404  404 403 403
DELETE /api/v1/reservations/{reservation}     -              401 204 404 204 404 204  403 403 204
DELETE /api/v1/reservations/{cancelled}       -              401 204 404 204 404 204  403 403 204
DELETE /api/v1/reservations/999999-1          -                401 404 404 404 404 404  403 403 404
GET    /api/v1/reservations/{orphaned}        -                401 200 404 200 404 200  200 403 403
DELETE /api/v1/reservations/{orphaned}        -              401 204 404 204 404 204  403 403 204
PATCH  /api/v1/reservations/{reservation}     {"quantity":1} 401 200 404 200 404 200  403 403 200
PATCH  /api/v1/reservations/{reservation}     {"quantity":2} 401 422 404 422 404 422  403 403 422
PATCH  /api/v1/reservations/{reservation}     {"quantity":0}   401 422 422 422 422 422  403 403 422
PATCH  /api/v1/reservations/{reservation}     {}               401 422 422 422 422 422  403 403 422
PATCH  /api/v1/reservations/{reservation}     {"quantity":1,"status":"cancelled"}  401 422 422 422 422 422  403 403 422
PATCH  /api/v1/reservations/{cancelled}       {"quantity":1} 401 409 404 409 404 409  403 403 409
PATCH  /api/v1/reservations/{orphaned}        {"quantity":1} 401 409 404 409 404 409  403 403 409
PATCH  /api/v1/reservations/999999-1          {"quantity":1}   401 404 404 404 404 404  403 403 404
POST   /api/v1/events/{event}/holds           {"quantity":1}   401 201 201 403 403 403  403 403 403
POST   /api/v1/events/{event}/holds           {"quantity":11}  401 409 409 403 403 403  403 403 403
POST   /api/v1/events/{event}/holds           {"quantity":1,"ttl_seconds":9} 401 422 422 422 422 403  403 403 422
POST   /api/v1/events/{event}/holds           {"quantity":1,"customer":2} 401 422 422 422 422 403  403 403 422
POST   /api/v1/events/{event}/holds           {"quantity":1,"status":"held"} 401 422 422 422 422 403  403 403 422
POST   /api/v1/events/{deleted}/holds         {"quantity":1}   401 410 410 403 403 403  403 403 403
POST   /api/v1/events/999999/holds            {"quantity":1}   401 404 404 403 403 403  403 403 403
POST   /api/v1/events/{event}/holds           {"quantity":1,"customer_ref":"c-7"} 401 403 403 201 403 403  403 403 201
POST   /api/v1/events/{event}/holds           {"quantity":1,"kind":"guest"} 401 403 403 201 403 403  403 403 201
POST   /api/v1/events/{event}/holds           {"quantity":1,"kind":"block"} 401 403 403 201 403 403  403 403 201
POST   /api/v1/events/{deleted}/holds         {"quantity":1,"kind":"block"} 401 403 403 410 410 403  403 403 410
POST   /api/v1/holds/{shop-hold}/confirm      -              401 404 404 200 404 403  403 403 200
POST   /api/v1/holds/{shop-hold}/confirm      {"quantity":1} 401 404 404 200 404 403  403 403 200
DELETE /api/v1/holds/{shop-hold}              -              401 404 404 204 404 204  403 403 204
DELETE /api/v1/reservations/{shop-hold}       -              401 404 404 204 404 204  403 403 204
GET    /api/v1/events/{event}/holds           -                405 405 405 405 405 405  405 405 405
GET    /api/v1/reservations/{hold}            -                401 200 404 200 404 200  200 403 403
POST   /api/v1/holds/{hold}/confirm           -                401 200 404 403 404 403  403 403 403
POST   /api/v1/holds/{hold}/confirm           {}               401 200 404 403 404 403  403 403 403
POST   /api/v1/holds/{hold}/confirm           {"quantity":1}   401 200 404 403 404 403  403 403 403
POST   /api/v1/holds/{hold}/confirm           {"quantity":3}   401 422 404 403 404 403  403 403 403
POST   /api/v1/holds/{hold}/confirm           {"quantity":0}   401 422 422 422 422 422  403 403 422
POST   /api/v1/holds/{hold}/confirm           {"ttl_seconds":60}  401 422 422 422 422 422  403 403 422
POST   /api/v1/holds/{reservation}/confirm    -                401 200 404 403 404 403  403 403 403
POST   /api/v1/holds/{cancelled}/confirm      -                401 409 404 403 404 403  403 403 403
POST   /api/v1/holds/{orphaned}/confirm       -                401 409 404 403 404 403  403 403 403
POST   /api/v1/holds/999999-1/confirm         -                401 404 404 404 404 404  403 403 404
POST   /api/v1/holds/{event}/confirm          -                401 404 404 404 404 404  403 403 404
GET    /api/v1/holds/{hold}/confirm           -                405 405 405 405 405 405  405 405 405
DELETE /api/v1/holds/{hold}                   -              401 204 404 204 404 204  403 403 204
DELETE /api/v1/holds/{reservation}            -              401 409 404 409 404 409  403 403 409
DELETE /api/v1/holds/{cancelled}              -              401 204 404 204 404 204  403 403 204
DELETE /api/v1/holds/{orphaned}               -              401 204 404 204 404 204  403 403 204
DELETE /api/v1/holds/999999-1                 -                401 404 404 404 404 404  403 403 404
GET    /api/v1/holds/{hold}                   -                405 405 405 405 405 405  405 405 405
DELETE /api/v1/reservations/{hold}            -              401 204 404 204 404 204  403 403 204
PATCH  /api/v1/reservations/{hold}            {"quantity":1} 401 200 404 200 404 200  403 403 200
POST   /api/v1/reservations/cancel            {"ids":["{reservation}"]}  401 200 200 200 200 200  403 403 200
POST   /api/v1/reservations/cancel            {"ids":[]}       401 422 422 422 422 422  403 403 422
POST   /api/v1/reservations/cancel            {"ids":[1]}      401 422 422 422 422 422  403 403 422
GET    /api/v1/reservations/cancel            -                405 405 405 405 405 405  405 405 405
POST   /api/v1/orders                         {"items":[{"event":{event},"quantity":1}]}  401 201 201 403 403 403  403 403 403
POST   /api/v1/orders                         {"items":[{"event":{event},"quantity":1}],"ttl_seconds":60}  401 201 201 403 403 403  403 403 403
POST   /api/v1/orders                         {"items":[{"event":{event},"quantity":1}],"customer_ref":"c-7"}  401 403 403 201 409 403  403 403 201
POST   /api/v1/orders                         {"items":[{"event":{event},"quantity":1}],"kind":"guest"}  401 403 403 201 409 403  403 403 201
POST   /api/v1/orders                         {"items":[{"event":{event},"quantity":11}]}  401 409 409 403 403 403  403 403 403
POST   /api/v1/orders                         {"items":[{"event":{deleted},"quantity":1}]}  401 409 409 403 403 403  403 403 403
POST   /api/v1/orders                         {"items":[{"event":999999,"quantity":1}]}  401 409 409 403 403 403  403 403 403
POST   /api/v1/orders                         {"items":[]}     401 422 422 422 422 403  403 403 422
GET    /api/v1/orders                         -                401 200 200 200 200 200  200 403 403
GET    /api/v1/orders/{order}                 -                401 200 404 404 404 200  404 403 403
GET    /api/v1/orders/{shop-order}            -                401 404 404 200 404 200  200 403 403
GET    /api/v1/orders/999999-1                -                401 404 404 404 404 404  404 403 403
POST   /api/v1/orders/{order}/confirm         -                401 200 404 404 404 403  403 403 404
POST   /api/v1/orders/{held-order}/confirm    -                401 200 404 404 404 403  403 403 404
POST   /api/v1/orders/{shop-order}/confirm    -                401 404 404 200 404 403  403 403 200
POST   /api/v1/orders/999999-1/confirm        -                401 404 404 404 404 404  403 403 404
GET    /api/v1/orders/{order}/confirm         -                405 405 405 405 405 405  405 405 405
DELETE /api/v1/orders/{order}                 -                401 204 404 404 404 204  403 403 404
DELETE /api/v1/orders/{held-order}            -                401 204 404 404 404 204  403 403 404
DELETE /api/v1/orders/{shop-order}            -                401 404 404 204 404 204  403 403 204
DELETE /api/v1/orders/999999-1                -                401 404 404 404 404 404  403 403 404
POST   /api/v1/reservations/{reservation}/transfer {"to":{"username":"cust2"}} 401 200 404 200 404 403  403 403 200
POST   /api/v1/reservations/{reservation}/transfer {"to":{"username":"CUST2"},"quantity":1} 401 200 404 200 404 403  403 403 200
POST   /api/v1/reservations/{reservation}/transfer {"to":{"username":"cust1"}} 401 200 404 200 404 403  403 403 200
POST   /api/v1/reservations/{reservation}/transfer {"to":{"username":"cust2"},"quantity":2} 401 422 404 422 404 403  403 403 422
POST   /api/v1/reservations/{reservation}/transfer {"to":{"username":"nobody-here"}} 401 404 404 404 404 403  403 403 404
POST   /api/v1/reservations/{reservation}/transfer {"to":{"username":"org2"}} 401 404 404 404 404 403  403 403 404
POST   /api/v1/reservations/{reservation}/transfer {"to":{"username":"x"}} 401 422 422 422 422 403  403 403 422
POST   /api/v1/reservations/{reservation}/transfer {"to":{"customer_ref":"c-7"}} 401 403 403 200 404 403  403 403 200
POST   /api/v1/reservations/{reservation}/transfer {"to":{"username":"cust2","customer_ref":"c-7"}} 401 422 422 422 422 403  403 403 422
POST   /api/v1/reservations/{reservation}/transfer {"to":{"user":2}} 401 422 422 422 422 403  403 403 422
POST   /api/v1/reservations/{reservation}/transfer {"to":"cust2"} 401 422 422 422 422 403  403 403 422
POST   /api/v1/reservations/{reservation}/transfer {"quantity":1} 401 422 422 422 422 403  403 403 422
POST   /api/v1/reservations/{shop}/transfer   {"to":{"customer_ref":"c-8"}} 401 403 403 200 404 403  403 403 200
POST   /api/v1/reservations/{shop}/transfer   {"to":{"username":"cust2"},"quantity":1} 401 404 404 201 404 403  403 403 201
POST   /api/v1/reservations/{hold}/transfer   {"to":{"username":"cust2"}} 401 409 404 409 404 403  403 403 409
POST   /api/v1/reservations/{cancelled}/transfer {"to":{"username":"cust2"}} 401 409 404 409 404 403  403 403 409
POST   /api/v1/reservations/{orphaned}/transfer {"to":{"username":"cust2"}} 401 409 404 409 404 403  403 403 409
POST   /api/v1/reservations/999999-1/transfer {"to":{"username":"cust2"}} 401 404 404 404 404 403  403 403 404
GET    /api/v1/reservations/{reservation}/transfer -              405 405 405 405 405 405  405 405 405
GET    /api/v1/events/{reservation}           -                404 404 404 404 404 404  404 404 404
PATCH  /api/v1/events/{reservation}           {"quota":5}      401 403 403 404 404 404  403 404 403
DELETE /api/v1/events/{reservation}           -                401 403 403 404 404 404  403 404 403
GET    /api/v1/reservations/{event}           -                401 404 404 404 404 404  404 403 403
DELETE /api/v1/reservations/{event}           -                401 404 404 404 404 404  403 403 404
POST   /api/v1/events/{reservation}/reservations {"quantity":1} 401 404 404 404 404 403  403 403 404
GET    /api/v1/events/{reservation}/reservations  -            401 403 403 404 404 404  404 403 403
PATCH  /api/v1/users/{reservation}            {"role":"customer"}  401 403 403 403 403 404  403 403 403
DELETE /api/v1/users/{reservation}            -                401 403 403 403 403 404  403 403 403
POST   /api/v1/users                          {"username":"{fresh}","password":"boxoffice-demo","role":"admin"}  403 403 403 403 403 201  403 403 403
POST   /api/v1/users                          {"username":"{fresh}","password":"boxoffice-demo","id":1}  422 422 422 422 422 422  422 422 422
POST   /api/v1/users                          {"username":"{fresh}","password":"boxoffice-demo","ver":"0"}  422 422 422 422 422 422  422 422 422
POST   /api/v1/sessions                       {"username":"cust3","password":"boxoffice-demo","role":"admin"}  422 422 422 422 422 422  422 422 422
PATCH  /api/v1/users/{user}                   {"role":"customer","username":"admin"}  401 403 403 403 403 422  403 403 403
PATCH  /api/v1/users/{user}                   {"role":"customer","password":"boxoffice-demo"}  401 403 403 403 403 422  403 403 403
POST   /api/v1/events                         {"name":"A","quota":5,"organizer":2}  401 403 403 422 422 403  403 422 403
POST   /api/v1/events                         {"name":"A","quota":5,"id":1}  401 403 403 422 422 403  403 422 403
POST   /api/v1/events                         {"name":"A","quota":5,"reserved":1}  401 403 403 422 422 403  403 422 403
PATCH  /api/v1/events/{event}                 {"organizer":{org2}}  401 403 403 200 403 200  403 200 403
PATCH  /api/v1/events/{deleted}               {"organizer":{org2}}  401 403 403 410 410 410  403 410 403
PATCH  /api/v1/events/999999                  {"organizer":{org2}}  401 403 403 404 404 404  403 404 403
PATCH  /api/v1/events/{event}                 {"organizer":{user}}  401 403 403 422 403 422  403 422 403
PATCH  /api/v1/events/{event}                 {"organizer":"me"}    401 403 403 422 422 422  403 422 403
PATCH  /api/v1/events/{event}                 {"status":"deleted"}  401 403 403 422 422 422  403 422 403
POST   /api/v1/events/{event}/reservations    {"quantity":1,"customer":2} 401 422 422 422 422 403  403 403 422
POST   /api/v1/events/{event}/reservations    {"quantity":1,"status":"confirmed"} 401 422 422 422 422 403  403 403 422
POST   /api/v1/events/{event}/reservations    {"quantity":1,"id":"1-1"} 401 422 422 422 422 403  403 403 422
GET    /api/v1/reservations?customer=2        -                401 422 422 422 422 422  422 403 403
GET    /api/v1/events?organizer=2             -                422 422 422 422 422 422  422 422 422
GET    /api/v1/pop                            -                304 304 304 304 304 304  304 304 304
GET    /livez                                 -                200 200 200 200 200 200  200 200 200
GET    /readyz                                -                200 200 200 200 200 200  200 200 200
GET    /metrics                               -                200 200 200 200 200 200  200 200 200
GET    /openapi.json                          -                200 200 200 200 200 200  200 200 200
GET    /                                      -                200 200 200 200 200 200  200 200 200
GET    /docs                                  -                200 200 200 200 200 200  200 200 200
GET    /docs/start.js                         -                200 200 200 200 200 200  200 200 200
GET    /docs/none                             -                404 404 404 404 404 404  404 404 404
GET    /problems                              -                200 200 200 200 200 200  200 200 200
GET    /problems/sold-out                     -                200 200 200 200 200 200  200 200 200
GET    /problems/none                         -                404 404 404 404 404 404  404 404 404
GET    /api/v1/nothing                        -                404 404 404 404 404 404  404 404 404
PUT    /api/v1/events/{event}                 {}               405 405 405 405 405 405  405 405 405
DELETE /api/v1/sessions                       -                401 204 204 204 204 204  403 403 403
"#;

/// A quota above what any row sells.
const QUOTA: u64 = 10;

/// Replaces the placeholders with new items.
fn fill(stage: &Stage, row: &str, fresh: &mut usize) -> String {
    let mut filled = row.to_owned();
    let mut put = |name: &str, make: &mut dyn FnMut() -> String| {
        if filled.contains(name) {
            filled = filled.replace(name, &make());
        }
    };
    put("{event}", &mut || stage.event(QUOTA).to_string());
    put("{sold}", &mut || {
        let event = stage.event(QUOTA);
        stage.reservation(event, 2);
        event.to_string()
    });
    put("{deleted}", &mut || {
        let event = stage.event(QUOTA);
        stage.org1.delete(&format!("/api/v1/events/{event}")).expect(204);
        event.to_string()
    });
    put("{reservation}", &mut || stage.reservation(stage.event(QUOTA), 1));
    put("{hold}", &mut || hold(&stage.cust1, stage.event(QUOTA), &json!({ "quantity": 2 })));
    let sell = |path: &str| {
        let path = format!("/api/v1/events/{}/{path}", stage.event(QUOTA));
        let body = json!({ "quantity": 2, "customer_ref": "c-7" });
        text(&stage.org1.post(&path, &body).expect(201).json(), "id").to_owned()
    };
    put("{shop}", &mut || sell("reservations"));
    put("{shop-hold}", &mut || sell("holds"));
    let order = |client: &Client, member: &str, value: Value| {
        let mut body = json!({ "items": [{ "event": stage.event(QUOTA), "quantity": 2 }] });
        body[member] = value;
        text(&client.post("/api/v1/orders", &body).expect(201).json(), "id").to_owned()
    };
    put("{held-order}", &mut || order(&stage.cust1, "ttl_seconds", json!(60)));
    put("{order}", &mut || {
        let body = json!({ "items": [{ "event": stage.event(QUOTA), "quantity": 2 }] });
        text(&stage.cust1.post("/api/v1/orders", &body).expect(201).json(), "id").to_owned()
    });
    put("{shop-order}", &mut || order(&stage.org1, "customer_ref", json!("c-7")));
    put("{cancelled}", &mut || {
        let reservation = stage.reservation(stage.event(QUOTA), 1);
        stage.cust1.delete(&format!("/api/v1/reservations/{reservation}")).expect(204);
        reservation
    });
    put("{orphaned}", &mut || {
        let event = stage.event(QUOTA);
        let reservation = stage.reservation(event, 1);
        stage.org1.delete(&format!("/api/v1/events/{event}?force=true")).expect(204);
        reservation
    });
    let new_user = |name: String| {
        let body = json!({ "username": name, "password": PASSWORD });
        number(&stage.anyone.post("/api/v1/users", &body).expect(201).json(), "id").to_string()
    };
    put("{user}", &mut || {
        *fresh += 1;
        new_user(format!("user-{fresh}"))
    });
    put("{key}", &mut || make_key(&stage.org1, &["sell"]).id.to_string());
    put("{org2}", &mut || number(&stage.org2.get("/api/v1/users/me").expect(200).json(), "id").to_string());
    put("{removed}", &mut || {
        *fresh += 1;
        let user = new_user(format!("user-{fresh}"));
        stage.admin.delete(&format!("/api/v1/users/{user}")).expect(204);
        user
    });
    put("{fresh}", &mut || {
        *fresh += 1;
        format!("fresh-{fresh}")
    });
    filled
}

#[test]
fn every_route_for_every_role() {
    let data = tempdir().unwrap();
    let stage = Stage::open(data.path(), 2);
    let keys = ["events:read", "events:write", "sell"].map(|scope| make_key(&stage.org1, &[scope]));
    let roles = [
        ("nobody", &stage.anyone),
        ("cust1", &stage.cust1),
        ("cust2", &stage.cust2),
        ("org1", &stage.org1),
        ("org2", &stage.org2),
        ("admin", &stage.admin),
        ("a key to read", &keys[0].client),
        ("a key to write", &keys[1].client),
        ("a key to sell", &keys[2].client),
    ];
    let mut fresh = 0;
    let mut wrong = Vec::new();
    let mut untested: HashSet<_> = ROUTES.iter().map(|route| (route.method.as_str(), route.path)).collect();
    let mut kinds = BTreeMap::new();
    let mut not_found = None;
    let mut cells = 0;
    for row in AUTHORIZATION.lines().filter(|row| !row.is_empty()) {
        let columns: Vec<&str> = row.split_whitespace().collect();
        let [method, path, body, ref statuses @ ..] = columns[..] else { panic!("{row}") };
        let body = if body == "-" { "" } else { body };
        let parsed = [Method::Get, Method::Post, Method::Put, Method::Patch, Method::Delete];
        let parsed = parsed.into_iter().find(|known| known.as_str() == method).expect(row);
        if let Routed::To { endpoint, .. } = find(parsed, path.split('?').next().expect(row)) {
            untested.remove(&(method, endpoint.path));
        }
        assert_eq!(statuses.len(), roles.len(), "{row}");
        for ((role, client), status) in roles.iter().zip(statuses) {
            let path = fill(&stage, path, &mut fresh);
            let body = fill(&stage, body, &mut fresh);
            // Headers that could override the method or the path are ignored.
            let overrides = [
                ("x-http-method-override", "DELETE"),
                ("x-method-override", "DELETE"),
                ("x-http-method", "DELETE"),
                ("x-original-url", "/api/v1/events"),
                ("x-rewrite-url", "/api/v1/events"),
            ];
            let answer = client.send(method, &path, &overrides, &body);
            cells += 1;
            if answer.status.to_string() != **status {
                wrong.push(format!("{role}: {row}\n  got {} {}", answer.status, answer.text()));
            } else if answer.status >= 400 {
                check_headers(&answer);
                let body = answer.json();
                if answer.status == 404 && body["type"] != "/problems/receiver-not-found" {
                    // A missing item and an item of another account give the same body.
                    assert_eq!(*not_found.get_or_insert_with(|| body.clone()), body, "{role}: {row}");
                }
                kinds.insert(text(&body, "type").to_owned(), number(&body, "status"));
            }
        }
    }
    println!("{cells} cells");
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
    assert!(untested.is_empty(), "routes without a row: {untested:?}");
    assert!(kinds.len() >= 9, "{kinds:?}");
    check_pages(&stage.anyone, &kinds);
}

/// Checks the headers of a refusal.
fn check_headers(answer: &Answer) {
    assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{answer:?}");
    let challenge = (answer.status == 401).then_some("Bearer");
    assert_eq!(answer.header("www-authenticate"), challenge, "{answer:?}");
    assert_eq!(answer.header("allow").is_some(), answer.status == 405, "{answer:?}");
    assert_eq!(
        answer.header("retry-after").is_some(),
        [429, 503, 507].contains(&answer.status),
        "{answer:?}"
    );
}

/// Checks that every `type` is the address of a page that explains the problem.
fn check_pages(client: &Client, kinds: &BTreeMap<String, u64>) {
    for (address, status) in kinds {
        let page = client.get(address).expect(200);
        assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"), "{address}");
        let mentions = [address.as_str(), &format!("Status {status}")];
        assert!(mentions.iter().all(|text| page.text().contains(text)), "{address}: {}", page.text());
    }
}

/// A row: the client, method, path and body, and the expected problem with its extension members.
type ProblemRow<'a> = (&'a Client, &'a str, &'a str, &'a str, u16, &'a str, Value);

#[test]
fn problems_have_a_type_and_their_members() {
    let data = tempdir().unwrap();
    let stage = Stage::open(data.path(), 2);
    let event = stage.event(QUOTA);
    stage.reservation(event, 7);
    let path = &format!("/api/v1/events/{event}");
    let buy = &format!("{path}/reservations");
    let forced = &format!("{path}?force=1");
    let before_all = &format!("{buy}?after=0");
    let patched = &format!("{path}?y=1");
    let errors = |rows: &[(&str, &str)]| {
        let list: Vec<Value> =
            rows.iter().map(|(pointer, detail)| json!({ "pointer": pointer, "detail": detail })).collect();
        json!({ "errors": list })
    };
    let tickets = "must be a whole number from 1 to 10000000";
    let quota = "must be a whole number from 0 to 10000000";
    let name = "must have 1 to 200 characters";
    let Stage { anyone, org1, org2, cust1, .. } = &stage;
    let rows: Vec<ProblemRow> = vec![
        (cust1, "POST", buy, "{\"quantity\":4}", 409, "sold-out", json!({ "remaining": 3 })),
        (org1, "PATCH", path, "{\"quota\":6}", 409, "quota-below-committed", json!({ "committed": 7 })),
        (org1, "DELETE", path, "", 409, "has-reservations", json!({})),
        (org2, "PATCH", path, "{\"quota\":9}", 403, "not-yours", json!({})),
        (cust1, "PATCH", path, "{\"quota\":9}", 403, "forbidden", json!({})),
        (anyone, "PATCH", path, "{\"quota\":9}", 401, "unauthorized", json!({})),
        (anyone, "GET", "/api/v1/events/0", "", 404, "not-found", json!({})),
        (anyone, "GET", "/api/v1/events/01", "", 404, "not-found", json!({})),
        (anyone, "GET", "/api/v1/events/x", "", 404, "not-found", json!({})),
        (anyone, "GET", "/api/v1/events/-1", "", 404, "not-found", json!({})),
        (anyone, "GET", "/api/v1/events/18446744073709551617", "", 404, "not-found", json!({})),
        (cust1, "GET", "/api/v1/reservations/1", "", 404, "not-found", json!({})),
        (cust1, "GET", "/api/v1/reservations/1-0", "", 404, "not-found", json!({})),
        // If several parts are wrong, one is reported; which one depends on the endpoint.
        (
            anyone,
            "GET",
            "/api/v1/events/x?y=1",
            "",
            422,
            "invalid",
            errors(&[("?y", "is not known here (known: none)")]),
        ),
        (cust1, "GET", "/api/v1/reservations/1-0?y=1", "", 404, "not-found", json!({})),
        (cust1, "POST", "/api/v1/events/x/reservations?y=1", "{", 404, "not-found", json!({})),
        (org1, "PATCH", patched, "{", 422, "invalid", errors(&[("?y", "is not known here (known: none)")])),
        (anyone, "GET", "/api/v1/events/", "", 404, "not-found", json!({})),
        (anyone, "POST", "/livez", "{}", 405, "method-not-allowed", json!({})),
        (cust1, "POST", buy, "{\"quantity\":0}", 422, "invalid", errors(&[("/quantity", tickets)])),
        (
            cust1,
            "POST",
            buy,
            "{\"a~b/c\":1}",
            422,
            "invalid",
            errors(&[
                ("/quantity", "is missing"),
                ("/a~0b~1c", "is not known here (known: quantity, customer_ref, kind)"),
            ]),
        ),
        (
            org1,
            "POST",
            "/api/v1/events",
            "{\"name\":\"\",\"quota\":-1,\"place\":\"x\"}",
            422,
            "invalid",
            errors(&[
                ("/name", name),
                ("/quota", quota),
                (
                    "/place",
                    "is not known here (known: name, quota, venue, max_per_reservation, max_per_customer, \
                     sales_start, sales_end)",
                ),
            ]),
        ),
        (cust1, "POST", buy, "[1]", 422, "invalid", errors(&[("", "must be a JSON object")])),
        (
            cust1,
            "POST",
            buy,
            "{\"quantity\":1,\"quantity\":2}",
            422,
            "invalid",
            errors(&[("/quantity", "is there twice")]),
        ),
        (
            cust1,
            "POST",
            "/api/v1/orders",
            "{\"items\":[{\"event\":1,\"event\":2,\"quantity\":1}]}",
            422,
            "invalid",
            errors(&[("", "has an object in it with a member that is there twice")]),
        ),
        (
            anyone,
            "GET",
            "/api/v1/events?limit=0",
            "",
            422,
            "invalid",
            errors(&[("?limit", "must be a whole number from 1 to 100")]),
        ),
        (
            org1,
            "GET",
            before_all,
            "",
            422,
            "invalid",
            errors(&[("?after", "must be the `next` of an earlier page")]),
        ),
        (
            anyone,
            "GET",
            "/api/v1/events?after=x&page=2&organizer=ada",
            "",
            422,
            "invalid",
            errors(&[
                ("?organizer", "must be `me`"),
                ("?after", "must be the `next` of an earlier page"),
                ("?page", "is not known here (known: organizer, limit, after)"),
            ]),
        ),
        (org1, "DELETE", forced, "", 422, "invalid", errors(&[("?force", "must be true or false")])),
    ];
    for (client, method, path, body, status, slug, members) in &rows {
        let problem = client.send(method, path, &[], body).problem(*status, slug);
        let mut wanted = problem.clone();
        for name in ["remaining", "committed", "errors"] {
            wanted.as_object_mut().unwrap().remove(name);
        }
        wanted.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        assert_eq!(problem, wanted, "{method} {path} {body}");
    }
    let kinds = rows.iter().map(|row| (format!("/problems/{}", row.5), u64::from(row.4)));
    check_pages(anyone, &kinds.collect());
    assert_eq!(number(&stage.seen(event), "reserved"), 7, "a refused request changed something");
}

/// A request with many errors gets the first ones and the number of the others, not a long answer.
#[test]
fn lists_of_errors_are_bounded() {
    let server = Server::start(tempdir().unwrap().path(), &["--storage", "memory", "--shards", "1"]);
    let client = server.client();
    let unknown = |count: usize| (0..count).map(|number| format!("x{number}"));
    let query = |count| format!("/api/v1/events?{}", unknown(count).collect::<Vec<_>>().join("&"));
    let body = |count| {
        let members = unknown(count).map(|name| (name, json!([1, 2])));
        Value::Object(members.collect()).to_string()
    };
    // A body without a username and a password breaks two more rules.
    let rows = [
        ("GET", query(20), String::new(), 20, json!(null), "20 rules are broken: 'errors' names each."),
        ("GET", query(21), String::new(), 20, json!(1), "21 rules are broken: 'errors' names the first 20."),
        (
            "GET",
            query(1300),
            String::new(),
            20,
            json!(1280),
            "1300 rules are broken: 'errors' names the first 20.",
        ),
        (
            "POST",
            "/api/v1/sessions".to_owned(),
            body(18),
            20,
            json!(null),
            "20 rules are broken: 'errors' names each.",
        ),
        (
            "POST",
            "/api/v1/sessions".to_owned(),
            body(100),
            20,
            json!(82),
            "102 rules are broken: 'errors' names the first 20.",
        ),
        (
            "POST",
            "/api/v1/sessions".to_owned(),
            body(101),
            1,
            json!(null),
            "The body has more than 100 members.",
        ),
        (
            "POST",
            "/api/v1/sessions".to_owned(),
            body(4000),
            1,
            json!(null),
            "The body has more than 100 members.",
        ),
    ];
    let slashes = json!({ "username": "ada", "password": PASSWORD, "/".repeat(60_000): 1 }).to_string();
    let answer = client.send("POST", "/api/v1/sessions", &[], &slashes);
    let pointer = format!("/{}~…", "~1".repeat(49));
    let unknown = "is not known here (known: username, password)";
    let problem = answer.problem(422, "invalid");
    assert_eq!(problem["errors"], json!([{ "pointer": pointer, "detail": unknown }]));
    assert_eq!(problem["detail"], format!("{pointer}: {unknown}"));
    for (method, path, body, count, more, detail) in rows {
        let answer = client.send(method, &path, &[], &body);
        assert!(answer.body.len() < 4096, "{} bytes for {detail}", answer.body.len());
        let problem = answer.problem(422, "invalid");
        assert_eq!(problem["errors"].as_array().unwrap().len(), count, "{problem}");
        assert_eq!((&problem["more"], problem["detail"].as_str().unwrap()), (&more, detail));
    }
}

/// Valid and invalid texts for a quantity and a quota.
#[test]
fn tickets_are_whole_numbers() {
    let data = tempdir().unwrap();
    let stage = Stage::open(data.path(), 2);
    let event = stage.event(10_000_000);
    let buy = format!("/api/v1/events/{event}/reservations");
    let path = format!("/api/v1/events/{event}");
    // The text, the status as a quantity, the status as a quota.
    let rows = [
        ("1", 201, 200),
        // Other notations of the same number.
        ("1.0", 201, 200),
        ("1e0", 201, 200),
        ("0.1e1", 201, 200),
        ("100000000000000000000000000e-26", 201, 200),
        ("0.00000000000000000000000001E+26", 201, 200),
        ("1.0000000000000000000000000000", 201, 200),
        ("0e99999999999999999999", 422, 200),
        ("0", 422, 200),
        ("-0", 422, 200),
        ("-1", 422, 422),
        ("1.5", 422, 422),
        // Of 64 bits, a floating-point number is 1 or 10000000.
        ("0.9999999999999999999999", 422, 422),
        ("1.0000000000000000000001", 422, 422),
        ("10000000.0000000000000001", 422, 422),
        ("9999999999999999999999e-22", 422, 422),
        ("1e-1", 422, 422),
        ("10e-2", 422, 422),
        ("1e99999999999999999999", 422, 422),
        ("1e-99999999999999999999", 422, 422),
        ("10000000.5", 422, 422),
        ("10000001", 422, 422),
        ("4294967296", 422, 422),
        ("4294967297", 422, 422),
        ("9223372036854775808", 422, 422),
        ("18446744073709551615", 422, 422),
        ("18446744073709551617", 422, 422),
        ("99999999999999999999999999999999", 422, 422),
        ("1e400", 422, 422),
        ("-1e400", 422, 422),
        ("null", 422, 422),
        ("true", 422, 422),
        ("\"1\"", 422, 422),
        ("\"\"", 422, 422),
        ("[1]", 422, 422),
        ("{}", 422, 422),
        ("+1", 400, 400),
        ("01", 400, 400),
        (".5", 400, 400),
        ("1.", 400, 400),
        ("0x1", 400, 400),
        ("NaN", 400, 400),
        ("Infinity", 400, 400),
        ("", 400, 400),
        ("1,", 400, 400),
    ];
    let mut wrong = Vec::new();
    for (text, quantity, quota) in rows {
        let sold = stage.cust1.send("POST", &buy, &[], &format!("{{\"quantity\":{text}}}"));
        if sold.status == 201 {
            let path = format!("/api/v1/reservations/{}", support::text(&sold.json(), "id"));
            stage.cust1.delete(&path).expect(204);
        }
        let edited = stage.org1.send("PATCH", &path, &[], &format!("{{\"quota\":{text}}}"));
        if (sold.status, edited.status) != (quantity, quota) {
            wrong.push(format!("{text}: {} {}", sold.status, edited.status));
        }
    }
    assert_eq!(wrong, Vec::<String>::new());

    // One reservation can take all tickets of the largest event; then none is left.
    stage.org1.patch(&path, &json!({ "quota": 10_000_000 })).expect(200);
    let all = stage.reservation(event, 10_000_000);
    let none = stage.cust1.post(&buy, &json!({ "quantity": 1 })).problem(409, "sold-out");
    assert_eq!(none["remaining"], 0);
    assert_eq!(number(&stage.seen(event), "reserved"), 10_000_000);
    stage.cust1.delete(&format!("/api/v1/reservations/{all}")).expect(204);
    assert_eq!(number(&stage.seen(event), "remaining"), 10_000_000);
}

/// A row: headers, a body, and the expected status.
type HeadersRow<'a> = (&'a [(&'a str, &'a str)], &'a str, u16);

#[test]
fn bodies_are_json_objects() {
    let data = tempdir().unwrap();
    let stage = Stage::open(data.path(), 2);
    let event = stage.event(1000);
    let buy = format!("/api/v1/events/{event}/reservations");
    let good = "{\"quantity\":1}";
    let deep = format!("{{\"quantity\":{}1{}}}", "[".repeat(500), "]".repeat(500));
    let rows: [HeadersRow; 38] = [
        (&[], good, 201),
        (&[("content-type", "application/json")], good, 201),
        (&[("content-type", "Application/JSON; charset=utf-8")], good, 201),
        (&[("content-type", "application/merge-patch+json")], good, 201),
        (&[("content-type", "text/plain")], good, 415),
        (&[("content-type", "application/xml")], good, 415),
        (&[("content-type", "application/x-www-form-urlencoded")], "quantity=1", 415),
        (&[("content-type", "application/jsonx")], good, 415),
        (&[("content-type", "json")], good, 415),
        (&[("accept", "*/*")], good, 201),
        (&[("accept", "application/json")], good, 201),
        (&[("accept", "text/html, application/*;q=0.5")], good, 201),
        (&[("accept", "text/html")], good, 406),
        (&[("accept", "text/html"), ("accept", "application/json")], good, 201),
        (&[("accept", ""), ("accept", "text/html, image/png"), ("accept", "*/*;q=0.1")], good, 201),
        (&[("accept", "text/html"), ("accept", "image/png")], good, 406),
        (&[("accept", " , ")], good, 201),
        (&[("accept", "application/json;q=0")], good, 406),
        (&[], " \r\n\t{ \"quantity\" : 1 } ", 201),
        (&[], "{\"quantity\":1}x", 400),
        (&[], "{\"quantity\":1}{}", 400),
        (&[], "{\"quantity\":1", 400),
        (&[], "{\"quantity\":1,}", 400),
        (&[], "{'quantity':1}", 400),
        (&[], "{quantity:1}", 400),
        (&[], "\u{feff}{\"quantity\":1}", 400),
        (&[], "quantity=1", 400),
        (&[], "", 400),
        (&[], &deep, 422),
        (&[], "{\"quantity\":[1}", 400),
        (&[], "{\"quantity\":\"\\ud800\"}", 400),
        (&[], "1e400", 422),
        (&[], "[1e400]", 422),
        (&[], "{\"quantity\":1,\"event\":1}", 422),
        (&[], "{\"Quantity\":1}", 422),
        (&[], "{}", 422),
        (&[], "null", 422),
        (&[], "\"quantity\"", 422),
    ];
    let mut sold = 0;
    for (headers, body, status) in rows {
        let answer = stage.cust1.send("POST", &buy, headers, body);
        assert_eq!(answer.status, status, "{headers:?} {body:.60}: {}", answer.text());
        sold += u64::from(status == 201);
        match status {
            400 => _ = answer.problem(400, "malformed-json"),
            406 => _ = answer.problem(406, "not-acceptable"),
            415 => _ = answer.problem(415, "unsupported-media-type"),
            422 => _ = answer.problem(422, "invalid"),
            _ => {}
        }
    }
    assert_eq!(number(&stage.seen(event), "reserved"), sold);
}

#[test]
fn a_venue_is_given_changed_removed_and_kept_over_a_restart() {
    let data = tempdir().unwrap();
    let stage = Stage::open(data.path(), 2);
    let create = |venue: Value| {
        stage.org1.post("/api/v1/events", &json!({ "name": "Opening", "quota": 5, "venue": venue }))
    };
    assert_eq!(create(Value::Null).expect(201).json()["venue"], Value::Null);
    let made = create(json!("Main hall")).expect(201).json();
    assert_eq!(made["venue"], "Main hall");
    let path = format!("/api/v1/events/{}", made["id"]);
    // An edit of the venue alone is an edit, and edits of others leave it alone.
    let steps = [
        (json!({ "venue": "Small hall" }), json!("Small hall"), "\"2\""),
        (json!({ "venue": "Small hall" }), json!("Small hall"), "\"2\""),
        (json!({ "quota": 7 }), json!("Small hall"), "\"3\""),
        (json!({ "venue": null }), Value::Null, "\"4\""),
        (json!({ "venue": null }), Value::Null, "\"4\""),
        (json!({ "venue": "☂".repeat(200) }), json!("☂".repeat(200)), "\"5\""),
    ];
    for (patch, venue, version) in steps {
        let edited = stage.org1.patch(&path, &patch).expect(200);
        assert_eq!((&edited.json()["venue"], edited.header("etag")), (&venue, Some(version)), "{patch}");
        assert_eq!(stage.anyone.get(&path).expect(200).json(), edited.json());
    }
    for wrong in [json!(""), json!(" "), json!("a\nb"), json!("x".repeat(201)), json!(1), json!(["x"])] {
        let problem = create(wrong.clone()).problem(422, "invalid");
        assert_eq!(problem["errors"][0]["pointer"], "/venue", "{wrong}");
        stage.org1.patch(&path, &json!({ "venue": wrong })).problem(422, "invalid");
    }
    let before = stage.anyone.get(&path).expect(200).json();
    stage.server.kill();
    let server = Server::start(data.path(), &["--shards", "1"]);
    assert_eq!(server.client().get(&path).expect(200).json(), before);
    let listed = all_items(&server.client(), "/api/v1/events", 100);
    assert!(listed.contains(&before));
}

#[test]
fn answers_have_the_headers_that_clients_need() {
    let data = tempdir().unwrap();
    let stage = Stage::open(data.path(), 2);
    let made = stage.org1.post("/api/v1/events", &json!({ "name": "Opening", "quota": 5 })).expect(201);
    let event = made.json();
    let path = format!("/api/v1/events/{}", event["id"]);
    assert_eq!(made.header("location"), Some(&*path));
    let me = stage.org1.get("/api/v1/users/me").expect(200).json();
    assert_eq!(event["organizer"], me["id"]);
    let members: Vec<&str> = event.as_object().unwrap().keys().map(String::as_str).collect();
    for member in [
        "id",
        "name",
        "organizer",
        "quota",
        "venue",
        "max_per_reservation",
        "max_per_customer",
        "sales_start",
        "sales_end",
        "reserved",
        "held",
        "remaining",
        "created_at",
        "updated_at",
    ] {
        assert!(members.contains(&member), "no {member}: {event}");
    }
    for member in ["created_at", "updated_at"] {
        let at = text(&event, member);
        assert!(at.len() == "2026-01-01T00:00:00.000Z".len() && at.ends_with('Z'), "not RFC 3339 UTC: {at}");
    }

    // The ETag is the version of the editable members, which sales do not change.
    let version = |answer: &Answer| answer.header("etag").expect("an ETag").to_owned();
    let first = version(&made);
    let seen = stage.anyone.get(&path).expect(200);
    assert_eq!(seen.header("cache-control"), Some("no-store"));
    assert_eq!(version(&seen), first);
    stage.reservation(number(&event, "id"), 2);
    assert_eq!(version(&stage.anyone.get(&path)), first);
    let unchanged = stage.anyone.send("GET", &path, &[("if-none-match", &first)], "");
    assert_eq!(number(&unchanged.expect(200).json(), "reserved"), 2);
    let edited = stage.org1.patch(&path, &json!({ "name": "Première", "quota": 7 })).expect(200);
    assert_ne!(version(&edited), first);
    assert_eq!(version(&stage.anyone.get(&path)), version(&edited));
    assert_eq!((edited.json()["name"].as_str(), number(&edited.json(), "remaining")), (Some("Première"), 5));
    support::check_sums(&edited.json());

    let sold = stage.cust1.post(&format!("{path}/reservations"), &json!({ "quantity": 1 })).expect(201);
    let reservation = sold.json();
    let address = format!("/api/v1/reservations/{}", text(&reservation, "id"));
    assert_eq!(sold.header("location"), Some(&*address));
    assert_eq!(stage.cust1.get(&address).expect(200).json(), reservation);
    assert_eq!((&reservation["event"], &reservation["quantity"]), (&event["id"], &json!(1)));
    assert_eq!(reservation["status"], "confirmed");

    let session = json!({ "username": "cust1", "password": PASSWORD });
    let session = stage.anyone.post("/api/v1/sessions", &session).expect(201);
    assert_eq!(session.header("cache-control"), Some("no-store"));
    assert_eq!(session.json()["token_type"], "Bearer");
    assert_eq!(session.json()["expires_in"], 12 * 60 * 60);

    let rows = [
        ("PUT", "/api/v1/events", "GET, HEAD, POST"),
        ("DELETE", "/api/v1/users", "GET, HEAD, POST"),
        ("PUT", &path, "DELETE, GET, HEAD, PATCH"),
        ("PATCH", "/api/v1/reservations", "GET, HEAD"),
        ("DELETE", "/metrics", "GET, HEAD"),
    ];
    for (method, path, allowed) in rows {
        let answer = stage.org1.send(method, path, &[], "").expect(405);
        let mut methods: Vec<&str> = answer.header("allow").unwrap().split(", ").collect();
        methods.sort_unstable();
        assert_eq!(methods.join(", "), allowed, "{method} {path}");
    }

    // HEAD has the headers of GET, except for these, and no body.
    for path in [&*path, "/api/v1/events", "/livez", "/api/v1/nothing", "/problems/sold-out"] {
        let headers = |answer: &Answer| {
            let all =
                answer.headers.iter().filter(|(name, _)| !["date", "x-request-id"].contains(&name.as_str()));
            all.cloned().collect::<Vec<_>>()
        };
        let (got, head) = (stage.anyone.get(path), stage.anyone.send("HEAD", path, &[], ""));
        assert_eq!((head.status, headers(&head)), (got.status, headers(&got)), "{path}");
        assert!(head.body.is_empty() && !got.body.is_empty(), "{path}");
    }
}

#[test]
fn requests_have_ids() {
    let server = Server::start(tempdir().unwrap().path(), &["--storage", "memory"]);
    let client = server.client();
    let long = "x".repeat(64);
    for own in ["a", "req-1_2.3:4", "0123456789abcdef", &long] {
        let answer = client.send("GET", "/livez", &[("x-request-id", own)], "");
        assert_eq!(answer.header("x-request-id"), Some(own));
    }
    let mut seen = HashSet::new();
    let too_long = "x".repeat(65);
    for own in ["", "a b", "a;b", "a\"b", "<a>", &too_long] {
        for path in ["/livez", "/nothing"] {
            let answer = client.send("GET", path, &[("x-request-id", own)], "");
            let id = answer.header("x-request-id").expect("every answer has an id").to_owned();
            assert!(!id.is_empty() && id != own, "{own:?} was taken");
            assert!(seen.insert(id.clone()), "{id} was given twice");
        }
    }
}

/// Checks that a list has the wanted items once and in order, with pages of several sizes.
fn check_list(client: &Client, path: &str, wanted: &[Value]) {
    for limit in [1, 7, 100] {
        let ids: Vec<Value> = all_items(client, path, limit).iter().map(|item| item["id"].clone()).collect();
        assert_eq!(ids, wanted, "{path} by {limit}");
    }
}

#[test]
fn lists_have_every_item_once_in_order() {
    let data = tempdir().unwrap();
    let stage = Stage::open(data.path(), 3);
    let mut of = [vec![json!(1), json!(2)], vec![json!(3), json!(4)]];
    let mut all: Vec<Value> = (1..=4).map(|id| json!(id)).collect();
    for index in 0..57 {
        let (organizer, list) = if index % 3 == 0 { (&stage.org2, 1) } else { (&stage.org1, 0) };
        let event = json!(create_event(organizer, 100));
        of[list].push(event.clone());
        all.push(event);
    }
    for event in [all[10].clone(), all[60].clone()] {
        stage.admin.delete(&format!("/api/v1/events/{event}")).expect(204);
        for list in of.iter_mut().chain([&mut all]) {
            list.retain(|other| *other != event);
        }
    }
    check_list(&stage.anyone, "/api/v1/events", &all);
    check_list(&stage.org1, "/api/v1/events?organizer=me", &of[0]);
    check_list(&stage.org2, "/api/v1/events?organizer=me", &of[1]);
    check_list(&stage.cust1, "/api/v1/events?organizer=me", &[]);
    for event in all_items(&stage.anyone, "/api/v1/events", 100) {
        support::check_sums(&event);
    }
    let by_default = stage.anyone.get("/api/v1/events").expect(200).json();
    assert_eq!(by_default["items"].as_array().unwrap().len(), 50);

    // Ordered by event, then number, independent of the order in which they were made.
    let mut mine = Vec::new();
    for round in 0..3 {
        for event in all.iter().rev().step_by(5) {
            let event = event.as_u64().unwrap();
            mine.push((event, round, json!(stage.reservation(event, 1))));
            reserve(&stage.cust2, event, 1);
        }
    }
    mine.sort_by_key(|(event, round, _)| (*event, *round));
    let ids: Vec<Value> = mine.iter().map(|(_, _, id)| id.clone()).collect();
    check_list(&stage.cust1, "/api/v1/reservations", &ids);
    let (event, ..) = mine[0];
    let listed = all_items(&stage.admin, &format!("/api/v1/events/{event}/reservations"), 4);
    assert_eq!(listed.len(), 6, "two of each round");
    let numbers: Vec<u64> =
        listed.iter().map(|item| text(item, "id").rsplit_once('-').unwrap().1.parse().unwrap()).collect();
    assert!(numbers.is_sorted_by(|before, after| before < after), "{numbers:?}");
}

#[test]
fn a_reservation_of_another_account_looks_like_a_missing_one() {
    let data = tempdir().unwrap();
    let stage = Stage::open(data.path(), 2);
    let event = stage.event(QUOTA);
    let reservation = stage.reservation(event, 1);
    let none = format!("/api/v1/reservations/{event}-999");
    let path = format!("/api/v1/reservations/{reservation}");
    for method in ["GET", "DELETE"] {
        let foreign = stage.cust2.send(method, &path, &[], "");
        let missing = stage.cust2.send(method, &none, &[], "");
        assert_eq!(foreign.json(), missing.json(), "{method}");
        foreign.problem(404, "not-found");
    }
    let foreign = stage.org2.get(&path).expect(404).json();
    assert_eq!(foreign, stage.org2.get(&none).expect(404).json());
    assert_eq!(number(&stage.seen(event), "reserved"), 1);
}

#[test]
fn tickets_are_released_once() {
    let data = tempdir().unwrap();
    let stage = Stage::open(data.path(), 2);
    let event = stage.event(QUOTA);
    let path = format!("/api/v1/events/{event}");
    let [first, second, third] = [2, 3, 4].map(|quantity| stage.reservation(event, quantity));
    let address = |id: &str| format!("/api/v1/reservations/{id}");
    let sums = || {
        let seen = stage.seen(event);
        (number(&seen, "reserved"), number(&seen, "remaining"))
    };
    assert_eq!(sums(), (9, 1));
    for _ in 0..3 {
        stage.cust1.delete(&address(&first)).expect(204);
        assert_eq!(sums(), (7, 3));
    }
    stage.admin.delete(&address(&second)).expect(204);
    stage.cust1.delete(&address(&second)).expect(204);
    assert_eq!(sums(), (4, 6));
    let gone = stage.cust1.get(&address(&first)).expect(200).json();
    assert_eq!((gone["status"].as_str(), number(&gone, "quantity")), (Some("cancelled"), 2));
    assert!(gone["cancelled_at"].is_string());

    // A quota can be lowered to the number of sold tickets and raised again.
    stage.org1.patch(&path, &json!({ "quota": 3 })).problem(409, "quota-below-committed");
    stage.org1.patch(&path, &json!({ "quota": 4 })).expect(200);
    assert_eq!(sums(), (4, 0));
    let refused = stage.cust2.post(&format!("{path}/reservations"), &json!({ "quantity": 1 }));
    assert_eq!(refused.problem(409, "sold-out")["remaining"], 0);
    stage.org1.patch(&path, &json!({ "quota": 6 })).expect(200);
    let refused = stage.cust2.post(&format!("{path}/reservations"), &json!({ "quantity": 3 }));
    assert_eq!(refused.problem(409, "sold-out")["remaining"], 2, "all or nothing");
    assert_eq!(sums(), (4, 2));

    stage.org1.delete(&path).problem(409, "has-reservations");
    stage.org1.delete(&format!("{path}?force=true")).expect(204);
    stage.anyone.get(&path).problem(410, "event-deleted");
    let cancelled = stage.cust1.get(&address(&third)).expect(200).json();
    assert_eq!(cancelled["status"], "cancelled", "with its event");
    stage.cust1.delete(&address(&third)).expect(204);
    let listed = stage.anyone.get("/api/v1/events").expect(200).json();
    assert!(listed["items"].as_array().unwrap().iter().all(|item| item["id"] != event));
    let empty = stage.event(0);
    stage.org1.delete(&format!("/api/v1/events/{empty}")).expect(204);
}

#[test]
fn names_have_rules() {
    let server = Server::start(tempdir().unwrap().path(), &["--storage", "memory", "--shards", "2"]);
    let client = server.client();
    let text = |length: usize| "a".repeat(length);
    let (a64, a65, a128, a129) = (text(64), text(65), text(128), text(129));
    let password = PASSWORD;
    let rows: [(Value, u16); 33] = [
        (json!({ "username": "abc", "password": password }), 201),
        (json!({ "username": a64, "password": password }), 201),
        (json!({ "username": "a.b_c-9", "password": password }), 201),
        (json!({ "username": "Grace", "password": password }), 201),
        (json!({ "username": "grace", "password": password }), 409),
        (json!({ "username": "GRACE", "password": "another password" }), 409),
        (json!({ "username": "ab", "password": password }), 422),
        (json!({ "username": "", "password": password }), 422),
        (json!({ "username": a65, "password": password }), 422),
        (json!({ "username": "a b c", "password": password }), 422),
        (json!({ "username": " abc", "password": password }), 422),
        (json!({ "username": "abc\n", "password": password }), 422),
        (json!({ "username": "abc\u{0}", "password": password }), 422),
        (json!({ "username": "a@example.com", "password": password }), 422),
        (json!({ "username": "zoë", "password": password }), 422),
        (json!({ "username": "\u{430}\u{434}\u{430}", "password": password }), 422),
        (json!({ "username": 12345, "password": password }), 422),
        (json!({ "username": null, "password": password }), 422),
        (json!({ "password": password }), 422),
        (json!({ "username": "p-8", "password": "8 bytes." }), 201),
        (json!({ "username": "p-128", "password": a128 }), 201),
        (json!({ "username": "p-utf8", "password": "ééééé \"\\" }), 201),
        (json!({ "username": "p-nul", "password": "ééééé\u{0} \"\\" }), 422),
        (json!({ "username": "p-7", "password": "7 bytes" }), 422),
        (json!({ "username": "p-129", "password": a129 }), 422),
        (json!({ "username": "p-none", "password": "" }), 422),
        (json!({ "username": "p-null", "password": null }), 422),
        (json!({ "username": "p-missing" }), 422),
        (json!({ "username": "r-customer", "password": password, "role": "customer" }), 201),
        (json!({ "username": "r-organizer", "password": password, "role": "organizer" }), 201),
        (json!({ "username": "r-admin", "password": password, "role": "admin" }), 403),
        (json!({ "username": "r-null", "password": password, "role": null }), 422),
        (json!({ "username": "r-other", "password": password, "role": "Organizer" }), 422),
    ];
    for (body, status) in rows {
        let answer = client.post("/api/v1/users", &body);
        assert_eq!(answer.status, status, "{body}: {}", answer.text());
        if status == 201 {
            let user = answer.json();
            let role = body["role"].as_str().unwrap_or("customer");
            assert_eq!(user["role"], role);
            let username = body["username"].as_str().unwrap().to_lowercase();
            assert_eq!(user["username"], username);
            assert!(answer.header("location").is_some() && user.get("password").is_none(), "{answer:?}");
            let me = client.log_in(body["username"].as_str().unwrap(), body["password"].as_str().unwrap());
            assert_eq!(me.get("/api/v1/users/me").expect(200).json(), user);
        }
    }

    let organizer = client.log_in("r-organizer", password);
    let event = |name: &Value| organizer.post("/api/v1/events", &json!({ "name": name, "quota": 1 })).status;
    let (n200, n201) = (json!("é".repeat(200)), json!("é".repeat(201)));
    let rows = [
        (json!("x"), 201),
        (n200, 201),
        (n201, 422),
        (json!(""), 422),
        (json!("   "), 422),
        (json!("a\nb"), 422),
        (json!("\u{0}"), 422),
        (json!("<script>alert(\"1\")</script> & \u{1f39f}"), 201),
        (json!(7), 422),
        (json!(null), 422),
    ];
    for (name, status) in rows {
        assert_eq!(event(&name), status, "{name}");
    }
    // What is wrong with a name or a venue is said.
    for (text, said) in [
        (json!("   "), "white space"),
        (json!("a\u{200b}b"), "U+200B"),
        (json!("tickets \u{202e}eerf"), "U+202E"),
        (json!("\u{3164}"), "U+3164"),
        (json!("a\u{378}"), "U+0378"),
        (json!(""), "1 to 200 characters"),
        (json!(7), "a string"),
    ] {
        for body in [json!({ "name": text, "quota": 1 }), json!({ "name": "x", "quota": 1, "venue": text })] {
            let problem = organizer.post("/api/v1/events", &body).problem(422, "invalid");
            let detail = problem["errors"][0]["detail"].as_str().unwrap();
            assert!(detail.contains(said), "{body}: {detail}");
        }
    }
    for text in
        ["👩\u{200d}👩\u{200d}👧 ❤\u{fe0f} 🥳", "می\u{200c}خواهم", "क्\u{200d}ष", "שלום", "cafe\u{301}"]
    {
        let body = json!({ "name": text, "quota": 1, "venue": text });
        let made = organizer.post("/api/v1/events", &body).expect(201).json();
        assert_eq!((made["name"].as_str(), made["venue"].as_str()), (Some(text), Some(text)));
    }
}

#[test]
fn failed_logins_and_invalid_tokens_give_no_reason() {
    let server = Server::start(tempdir().unwrap().path(), &["--storage", "memory", "--shards", "2"]);
    let client = server.client();
    let ada = client.sign_up("ada", "customer");
    let log_in = |username: &str, password: &str| {
        client.post("/api/v1/sessions", &json!({ "username": username, "password": password }))
    };
    log_in("ADA", PASSWORD).expect(201);
    let long = "x".repeat(129);
    let wrong = log_in("ada", "a wrong password");
    for other in [
        log_in("nobody", PASSWORD),
        log_in("not a name", PASSWORD),
        log_in("ada", ""),
        log_in("", ""),
        log_in("ada", &long),
    ] {
        assert_eq!(other.json(), wrong.json());
        assert_eq!(other.header("www-authenticate"), Some("Bearer"));
        assert_eq!(other.status, 401);
    }
    wrong.problem(401, "wrong-credentials");

    // RFC 6750 section 3: an error code for a bad token, and none without a token, or with another scheme.
    let challenge = |authorization: &str| {
        let is_bearer = authorization.starts_with("Bearer ");
        Some(if is_bearer { "Bearer error=\"invalid_token\"" } else { "Bearer" })
    };
    // The body is the same for every kind of invalid token.
    let good = ada.token.clone().unwrap();
    let missing = client.get("/api/v1/users/me").problem(401, "unauthorized");
    let (head, signature) = good.rsplit_once('.').unwrap();
    let flipped = if signature.starts_with('A') { "B" } else { "A" };
    let rows = [
        "Bearer".to_owned(),
        "Bearer x".to_owned(),
        format!("Bearer {head}."),
        format!("Bearer {head}.{flipped}{}", &signature[1..]),
        format!("Bearer {good}x"),
        format!("Basic {good}"),
        good.clone(),
        format!("Bearer {}", "a".repeat(5000)),
    ];
    for authorization in rows {
        let answer = client.send("GET", "/api/v1/users/me", &[("authorization", &authorization)], "");
        assert_eq!(answer.header("www-authenticate"), challenge(&authorization), "{authorization:.60}");
        assert_eq!(answer.problem(401, "unauthorized"), missing, "{authorization:.60}");
    }
    let lower = format!("bearer {good}");
    client.send("GET", "/api/v1/users/me", &[("authorization", &lower)], "").expect(200);
    // Where no token is required, an invalid one is ignored.
    let bad = [("authorization", "Bearer x")];
    client.send("GET", "/api/v1/events", &bad, "").expect(200);
    client.send("GET", "/api/v1/events?organizer=me", &bad, "").problem(401, "unauthorized");
}

/// Checks that all accounts and events of the demonstration exist.
fn check_demonstration(server: &Server, quota: u64) {
    let anyone = server.client();
    let rows = [
        ("admin", "admin"),
        ("org1", "organizer"),
        ("org2", "organizer"),
        ("cust1", "customer"),
        ("cust2", "customer"),
        ("cust3", "customer"),
    ];
    let mut ids = BTreeMap::new();
    for (username, role) in rows {
        let me = anyone.log_in(username, PASSWORD).get("/api/v1/users/me").expect(200).json();
        assert_eq!((text(&me, "username"), text(&me, "role")), (username, role));
        ids.insert(username, number(&me, "id"));
    }
    let events = all_items(&anyone, "/api/v1/events", 100);
    let found: Vec<_> = events
        .iter()
        .map(|event| (number(event, "id"), number(event, "organizer"), number(event, "quota")))
        .collect();
    let wanted = [(1, "org1"), (2, "org1"), (3, "org2"), (4, "org2")];
    assert_eq!(found, wanted.map(|(event, organizer)| (event, ids[organizer], quota)));
}

#[test]
fn the_demonstration_data_is_made_once() {
    let data = tempdir().unwrap();
    let arguments = ["--demo", "--shards", "2"];
    let server = Server::start(data.path(), &["--shards", "2"]);
    server.client().get("/api/v1/pop").problem(404, "not-found");
    drop(server);

    let server = Server::start(data.path(), &arguments);
    server.client().get("/api/v1/pop?quota=10000001").problem(422, "invalid");
    server.client().get("/api/v1/pop?quota=x").problem(422, "invalid");
    let made = server.client().get("/api/v1/pop?quota=250").expect(200).json();
    assert_eq!(made["events"], json!([1, 2, 3, 4]));
    server.client().get("/api/v1/pop?quota=250").expect(304);
    server.client().get("/api/v1/pop").expect(304);
    check_demonstration(&server, 250);
    let organizer = server.client().log_in("org1", PASSWORD);
    assert_eq!(create_event(&organizer, 1), 5);
    organizer.delete("/api/v1/events/2").expect(204);
    server.client().get("/api/v1/pop").expect(304);
    let another = server.client().sign_up("grace", "organizer");
    let id = number(&another.get("/api/v1/users/me").expect(200).json(), "id");
    organizer.patch("/api/v1/events/1", &json!({ "organizer": id })).expect(200);
    server.client().get("/api/v1/pop").expect(304);
    server.client().get("/api/v1/events/2").problem(410, "event-deleted");
    server.kill();
    Server::start(data.path(), &arguments).client().get("/api/v1/pop").expect(304);

    // In a directory that already has events, nothing is created.
    let other = tempdir().unwrap();
    let server = Server::start(other.path(), &["--shards", "2"]);
    let organizer = server.client().sign_up("grace", "organizer");
    let event = create_event(&organizer, 1);
    drop(server);
    let server = Server::start(other.path(), &arguments);
    server.client().get("/api/v1/pop").problem(409, "event-exists");
    let log_in = json!({ "username": "cust1", "password": PASSWORD });
    server.client().post("/api/v1/sessions", &log_in).expect(401);
    assert_eq!(all_items(&server.client(), "/api/v1/events", 100).len(), 1);
    server.client().get(&format!("/api/v1/events/{event}")).expect(200);
    drop(server);
    let empty = tempdir().unwrap();
    let server = Server::start(empty.path(), &arguments);
    server.client().get("/api/v1/pop").expect(200);
    check_demonstration(&server, 10_000);
}

/// After a kill during the creation, the next call creates the rest.
#[test]
fn interrupted_demonstration_data_is_completed() {
    let mut random = Random::seeded();
    let mut cut = 0;
    for _ in 0..8 {
        let data = tempdir().unwrap();
        let server = Server::start(data.path(), &["--demo", "--shards", "2"]);
        let mut wire = server.wire();
        wire.send("GET /api/v1/pop HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        // Six passwords take some 20 ms each.
        thread::sleep(Duration::from_millis(random.within(5, 250)));
        server.kill();
        let answered = wire.answer().ok().flatten().is_some();
        let server = Server::start(data.path(), &["--demo", "--shards", "3"]);
        let status = server.client().get("/api/v1/pop").status;
        assert!(status == 304 || status == 200 && !answered, "{status}, answered before: {answered}");
        cut += usize::from(status == 200);
        check_demonstration(&server, 10_000);
        server.client().get("/api/v1/pop").expect(304);
    }
    println!("{cut} of 8 were interrupted");
}

/// Parses the samples of a document in Prometheus' text format, by name and labels.
fn samples(page: &str) -> BTreeMap<String, u64> {
    let mut types = HashSet::new();
    let mut samples = BTreeMap::new();
    for line in page.lines() {
        if let Some(comment) = line.strip_prefix("# ") {
            let mut words = comment.split(' ');
            let (kind, name) = (words.next().expect("a keyword"), words.next().expect("a name"));
            if kind == "TYPE" {
                assert!(types.insert(name.to_owned()), "two types: {line}");
                assert!(["counter", "gauge", "histogram"].contains(&words.next().expect("a type")), "{line}");
            } else {
                assert_eq!(kind, "HELP", "{line}");
            }
            continue;
        }
        let (name, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no sample: {line:?}"));
        let name_alone = name.split('{').next().expect("a name");
        let parts = ["_bucket", "_sum", "_count"].into_iter();
        let of_histogram = parts.filter_map(|part| name_alone.strip_suffix(part));
        let mut named = [name_alone].into_iter().chain(of_histogram);
        assert!(named.any(|name| types.contains(name)), "no type before {line}");
        let value = value.parse().unwrap_or_else(|_| panic!("no number: {line}"));
        assert!(samples.insert(name.to_owned(), value).is_none(), "twice: {line}");
    }
    assert!(page.ends_with('\n'));
    samples
}

#[test]
fn metrics_count() {
    let data = tempdir().unwrap();
    let stage = Stage::open(data.path(), 3);
    let answer = stage.anyone.get("/metrics").expect(200);
    assert!(answer.header("content-type").unwrap().starts_with("text/plain; version=0.0.4"));
    let sums = ["boxoffice_events 4", "boxoffice_accounts 6", "boxoffice_tickets_quota 40000"];
    let (before, _) = metrics_once(&stage.anyone, &sums);
    let before = samples(&before);
    assert_eq!(before["boxoffice_tickets_reserved"], 0);
    let event = stage.event(50);
    let reservation = stage.reservation(event, 20);
    stage.reservation(event, 5);
    stage.cust1.delete(&format!("/api/v1/reservations/{reservation}")).expect(204);
    stage.anyone.get("/api/v1/nothing").expect(404);
    let sums = ["boxoffice_events 5", "boxoffice_tickets_quota 40050", "boxoffice_tickets_reserved 5"];
    let (after, reads) = metrics_once(&stage.anyone, &sums);
    let after = samples(&after);
    let rise = |name: &str| after[name] - before[name];
    assert_eq!(rise("boxoffice_records_total"), 4);
    assert!((1..=4).contains(&rise("boxoffice_commits_total")));
    // Includes the requests for the metrics: the first response was counted after it was rendered.
    assert_eq!(rise("boxoffice_http_requests_total"), 5 + reads);
    assert_eq!(rise("boxoffice_http_responses_total{class=\"2xx\"}"), 4 + reads);
    assert_eq!(rise("boxoffice_http_responses_total{class=\"4xx\"}"), 1);
    assert_eq!(rise("boxoffice_http_responses_total{class=\"5xx\"}"), 0);
    assert!(after["boxoffice_connections"] >= 1);
    assert!(after["boxoffice_connections_accepted_total"] >= after["boxoffice_connections"]);
    assert_eq!(after["boxoffice_log_lines_lost_total"], 0);
    // To OpenMetrics, `x_total` is a sample of the family `x`.
    for counter in after.keys().filter_map(|name| name.strip_suffix("_total")) {
        assert!(!after.contains_key(counter), "two metrics are of the family {counter}");
    }
}

/// A browser gets links, and a program the same in a header (RFC 8631).
#[test]
fn the_first_page_leads_on() {
    let data = tempdir().unwrap();
    let server = Server::start(data.path(), &["--shards", "1"]);
    let client = server.client();
    let page = client.get("/").expect(200);
    assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
    let links: Vec<&str> =
        page.text().split("<a href=\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    assert_eq!(links, ["/docs", "/openapi.json", "/problems", "/livez", "/readyz", "/metrics"]);
    let header = page.header("link").expect("links for programs");
    for relation in
        ["</openapi.json>; rel=\"service-desc\"", "</docs>; rel=\"service-doc\"", "rel=\"status\""]
    {
        assert!(header.contains(relation), "{relation} is not in {header}");
    }
    for link in links {
        assert!(client.get(link).expect(200).body.ends_with(b"\n"), "{link} has no newline at its end");
    }
}

/// Requests that arrive in one segment share commits, up to `--max-batch`.
#[test]
fn max_batch_bounds_the_changes_of_a_commit() {
    for (batch_max, commits) in [("1", 12..=12), ("5", 3..=12), ("65536", 1..=12)] {
        let data = tempdir().unwrap();
        let stage =
            Stage::on(Server::start(data.path(), &["--demo", "--shards", "1", "--max-batch", batch_max]));
        let commits_so_far =
            || samples(stage.anyone.get("/metrics").expect(200).text())["boxoffice_commits_total"];
        let event = stage.event(12);
        let path = format!("/api/v1/events/{event}/reservations");
        let sale = request("POST", &path, stage.cust1.token.as_deref(), "", "{\"quantity\":1}");
        let before = commits_so_far();
        let mut wire = stage.server.wire();
        wire.send(sale.repeat(12)).expect("the server reads");
        (0..12).for_each(|_| assert_eq!(wire.next().status, 201));
        let made = commits_so_far() - before;
        assert!(commits.contains(&made), "{made} commits of at most {batch_max}");
    }
}

#[test]
fn each_start_has_a_boot_id() {
    let data = tempdir().unwrap();
    let mut seen = HashSet::new();
    for _ in 0..2 {
        let server = Server::start(data.path(), &["--shards", "2"]);
        let client = server.client();
        let live = client.get("/livez").expect(200).json();
        let ready = client.get("/readyz").expect(200).json();
        assert_eq!((text(&live, "status"), text(&ready, "status")), ("live", "ready"));
        assert_eq!(live["boot_id"], ready["boot_id"]);
        assert!(seen.insert(text(&live, "boot_id").to_owned()), "the same as before");
    }
}

//! Around the API: health and metrics. Their answers need no core, so that any thread can give them.

use std::ptr;
use std::sync::atomic::Ordering;

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Value, json};

use super::Common;
use super::context::RequestContext;
use super::endpoint::{Access, Endpoint, Success, Tag, Takes};
use super::input::{AnyQuery, NoBody, NoParameter, NoQuery, check_unsupported};
use super::output::json_response;
use super::work::Work;
use crate::front::contract;
use crate::front::http::parse::{Method, Request};
use crate::front::http::write::{METRICS as METRICS_MEDIA, Response};
use crate::front::problem::Problem;
use crate::front::router::{Routed, find, normalized};

/// Whether the server can be asked.
#[derive(Serialize, JsonSchema)]
struct Health {
    status: &'static str,
    /// Random, new with every start.
    boot_id: String,
}

/// The answer to a request for health or metrics; `None` to any other request. `common` is missing while the
/// server starts: it is alive then, and nothing else is known.
pub(in crate::front) fn answer_without_core(
    request: &Request<'_>,
    boot_id: &str,
    common: Option<&Common>,
) -> Option<Result<Response, Problem>> {
    let path = normalized(request.path);
    let Routed::To { endpoint, parameter: _ } = find(request.method, &path) else { return None };
    // What a core would refuse is left to a core.
    let has_query = request.query.is_some() && endpoint.handler.checks_query();
    if has_query || !request.body.is_empty() || check_unsupported(request, endpoint).is_err() {
        return None;
    }
    let result = match common {
        _ if ptr::eq(endpoint, &LIVE) => Ok(health(boot_id, "live")),
        Some(common) if ptr::eq(endpoint, &READY) => readiness(common),
        Some(common) if ptr::eq(endpoint, &METRICS) => Ok(page_of_metrics(common)),
        Some(_) | None => return None,
    };
    contract::check(endpoint, &result);
    Some(result)
}

fn health(boot_id: &str, status: &'static str) -> Response {
    json_response(200, &Health { status, boot_id: boot_id.to_owned() })
}

fn readiness(common: &Common) -> Result<Response, Problem> {
    if common.draining.load(Ordering::Relaxed) {
        return Err(Problem::not_ready(&common.boot_id));
    }
    Ok(health(&common.boot_id, "ready"))
}

fn page_of_metrics(common: &Common) -> Response {
    Response::new(200, METRICS_MEDIA, common.metrics.render().into_bytes())
}

fn example(status: &str) -> Value {
    json!({ "status": status, "boot_id": "5f2b8c90aa41d7e3" })
}

pub(super) static LIVE: Endpoint = Endpoint {
    id: "live",
    method: Method::Get,
    path: "/livez",
    access: Access::Anyone,
    handler: &Takes(live),
    writes: false,
    headers: &[],
    tag: Tag::Server,
    summary: "Is the process alive",
    about: "The process runs. It may still be starting, or wait for its disk.",
    successes: &[Success::json::<Health>(200, "It is.", || example("live"))],
    problems: &[],
};

fn live(context: &RequestContext<'_>, _: NoParameter, _: AnyQuery, _: NoBody) -> Result<Work, Problem> {
    Ok(Work::Ready(health(&context.api.common.boot_id, "live")))
}

pub(super) static READY: Endpoint = Endpoint {
    id: "ready",
    method: Method::Get,
    path: "/readyz",
    access: Access::Anyone,
    handler: &Takes(ready),
    writes: false,
    headers: &[],
    tag: Tag::Server,
    summary: "Does the server take work",
    about: "It has recovered, and is not about to stop.",
    successes: &[Success::json::<Health>(200, "It does.", || example("ready"))],
    problems: &[],
};

fn ready(context: &RequestContext<'_>, _: NoParameter, _: AnyQuery, _: NoBody) -> Result<Work, Problem> {
    readiness(&context.api.common).map(Work::Ready)
}

pub(super) static METRICS: Endpoint = Endpoint {
    id: "metrics",
    method: Method::Get,
    path: "/metrics",
    access: Access::Anyone,
    handler: &Takes(metrics),
    writes: false,
    headers: &[],
    tag: Tag::Server,
    summary: "Metrics",
    about: "In Prometheus' text format. Those of events, accounts and tickets are of a moment ago.",
    successes: &[Success::text("The metrics.", METRICS_MEDIA, "boxoffice_events 4\n")],
    problems: &[],
};

fn metrics(context: &RequestContext<'_>, _: NoParameter, _: NoQuery, _: NoBody) -> Result<Work, Problem> {
    Ok(Work::Ready(page_of_metrics(&context.api.common)))
}

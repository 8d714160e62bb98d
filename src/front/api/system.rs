//! Around the API: health and metrics.

use std::sync::atomic::Ordering;

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Value, json};

use super::Api;
use super::context::RequestContext;
use super::endpoint::{Access, Endpoint, Success, Tag, Takes};
use super::input::{AnyQuery, NoBody, NoParameter, NoQuery};
use super::output::json_response;
use super::work::Work;
use crate::front::http::parse::Method;
use crate::front::http::write::{METRICS as METRICS_MEDIA, Response};
use crate::front::problem::Problem;

/// Whether the server can be asked.
#[derive(Serialize, JsonSchema)]
struct Health {
    status: &'static str,
    /// Random, new with every start.
    boot_id: String,
}

fn health(api: &Api, status: &'static str) -> Work {
    Work::Ready(json_response(200, &Health { status, boot_id: api.common.boot_id.clone() }))
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
    about: "The process runs, and the core that has this connection serves.",
    successes: &[Success::json::<Health>(200, "It is.", || example("live"))],
    problems: &[],
};

fn live(context: &RequestContext<'_>, _: NoParameter, _: AnyQuery, _: NoBody) -> Result<Work, Problem> {
    Ok(health(context.api, "live"))
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
    let common = &context.api.common;
    if common.draining.load(Ordering::Relaxed) {
        return Err(Problem::not_ready(&common.boot_id));
    }
    Ok(health(context.api, "ready"))
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
    about: "In Prometheus' text format.",
    successes: &[Success::text("The metrics.", METRICS_MEDIA, "boxoffice_events 4\n")],
    problems: &[],
};

fn metrics(context: &RequestContext<'_>, _: NoParameter, _: NoQuery, _: NoBody) -> Result<Work, Problem> {
    let shards = context.api.shards.clone();
    let metrics = context.api.common.metrics;
    Ok(Work::future(async move {
        // An overloaded server reports its own counters all the same.
        let totals = shards.totals().await.ok();
        let page = metrics.render(totals.as_ref()).into_bytes();
        Ok(Response::new(200, METRICS_MEDIA, page))
    }))
}

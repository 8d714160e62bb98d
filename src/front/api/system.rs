//! Around the API: health and metrics.

use std::sync::atomic::Ordering;

use schemars::JsonSchema;
use serde::Serialize;

use super::input::no_query;
use super::output::json_response;
use super::work::Work;
use super::{Api, Call};
use crate::front::http::write::{METRICS, Response};
use crate::front::problem::Problem;

/// Whether the server can be asked.
#[derive(Serialize, JsonSchema)]
pub(in crate::front) struct Health {
    status: &'static str,
    /// Random, new with every start.
    boot_id: String,
}

fn health(api: &Api, status: &'static str) -> Work {
    let body = Health { status, boot_id: api.common.boot_id.clone() };
    Work::Ready(json_response(200, &body))
}

/// The process runs and this core serves.
pub(super) fn live(api: &Api, _call: &Call<'_>) -> Result<Work, Problem> {
    Ok(health(api, "live"))
}

/// The server takes work: recovered, and not about to stop.
pub(super) fn ready(api: &Api, _call: &Call<'_>) -> Result<Work, Problem> {
    if api.common.draining.load(Ordering::Relaxed) {
        return Err(Problem::not_ready(&api.common.boot_id));
    }
    Ok(health(api, "ready"))
}

pub(super) fn metrics(api: &Api, call: &Call<'_>) -> Result<Work, Problem> {
    no_query(call.request)?;
    let shards = api.shards.clone();
    let metrics = api.common.metrics;
    Ok(Work::future(async move {
        // An overloaded server is not asked for more, and says the more of itself.
        let totals = shards.totals().await.ok();
        let page = metrics.render(totals.as_ref()).into_bytes();
        Ok(Response::new(200, METRICS, page))
    }))
}

//! Around the API: health, metrics, and the pages that explain problems.

use std::sync::atomic::Ordering;

use serde_json::json;

use super::input::Query;
use super::{Answer, Api, Call, json_response};
use crate::front::http::write::Response;
use crate::front::problem::{Kind, Problem};

/// The process runs and this core serves.
pub(super) fn live(api: &Api, _call: &Call<'_>) -> Answer {
    let body = json!({ "status": "live", "boot_id": api.common.boot_id });
    Ok(Box::pin(async move { Ok(json_response(200, &body)) }))
}

/// The server takes work: recovered, and not about to stop.
pub(super) fn ready(api: &Api, _call: &Call<'_>) -> Answer {
    if api.common.draining.load(Ordering::Relaxed) {
        let problem = Problem::unavailable(Kind::NotReady);
        return Err(problem.extend("boot_id", json!(api.common.boot_id)));
    }
    let body = json!({ "status": "ready", "boot_id": api.common.boot_id });
    Ok(Box::pin(async move { Ok(json_response(200, &body)) }))
}

pub(super) fn metrics(api: &Api, call: &Call<'_>) -> Answer {
    Query::read(call.request).finish()?;
    let shards = api.shards.clone();
    let metrics = api.common.metrics;
    Ok(Box::pin(async move {
        // An overloaded server is not asked for more, and says the more of itself.
        let totals = shards.totals().await.ok();
        let page = metrics.render(totals.as_ref()).into_bytes();
        Ok(Response::new(200, "text/plain; version=0.0.4; charset=utf-8", page))
    }))
}

pub(super) fn problem_page(call: &Call<'_>) -> Answer {
    let kind = Kind::ALL.iter().find(|kind| kind.slug() == call.parameter);
    let kind = *kind.ok_or_else(|| Problem::plain(Kind::NotFound))?;
    let (title, status, explanation) = (kind.title(), kind.status(), kind.explanation());
    let page = format!(
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>{title}</title>\n\
         <h1>{title}</h1>\n<p>Status {status}, type <code>/problems/{slug}</code>.</p>\n<p>{explanation}</p>\n</html>\n",
        slug = kind.slug(),
        explanation = explanation.replace('&', "&amp;").replace('<', "&lt;"),
    );
    let response = Response::new(200, "text/html; charset=utf-8", page.into_bytes());
    let response = response.with("Content-Security-Policy", "default-src 'none'".to_owned());
    Ok(Box::pin(async move { Ok(response) }))
}

//! Debug builds hold the head of each answer of an endpoint against the contract: status, media type,
//! names of headers. They also check that a body ends its last line.

use super::problems;
use crate::front::api::Endpoint;
use crate::front::http::body::Body;
use crate::front::http::write::{JAVASCRIPT, Response};
use crate::front::problem::Problem;

/// Panics in debug builds when the contract does not have such an answer.
pub(crate) fn check(endpoint: &Endpoint, result: &Result<Response, Problem>) {
    if cfg!(debug_assertions) {
        match result {
            Ok(response) => check_response(endpoint, response),
            Err(problem) => check_problem(endpoint, problem),
        }
    }
}

fn check_problem(endpoint: &Endpoint, problem: &Problem) {
    let kind = problem.kind();
    let documented = problems::of(endpoint).any(|one| one == kind);
    assert!(documented, "{} answered {kind:?}, which its contract does not have", endpoint.id);
    let names = |problem: &Problem| problem.headers().map(|(name, _)| name).collect::<Vec<_>>();
    assert_eq!(names(problem), names(&kind.example()), "headers of {kind:?}");
}

fn check_response(endpoint: &Endpoint, response: &Response) {
    let fits = endpoint.successes.iter().any(|success| {
        let has_header = |name| success.headers.iter().any(|header| header.name == name);
        success.status == response.status
            && success.content.as_ref().map(|content| content.media) == response.content_type
            && response.headers.iter().all(|(name, _)| has_header(*name))
    });
    assert!(
        fits,
        "{} answered {} {:?}, which its contract does not have",
        endpoint.id, response.status, response.headers
    );
    if let Body::Whole(body) = &response.body
        // Scripts are for browsers, and one of them comes from elsewhere.
        && response.content_type != Some(JAVASCRIPT)
        && !response.headers.iter().any(|(name, _)| *name == "Content-Encoding")
    {
        assert!(
            body.is_empty() || body.ends_with(b"\n"),
            "a body of {} has no newline at its end",
            endpoint.id
        );
    }
}

//! The pages about problems, which the `type` of an error points to.

use std::fmt::Write;

use crate::front::contract;
use crate::front::problem::Kind;

/// The page that lists all kinds of problems.
pub(super) fn list() -> String {
    let mut body =
        "<p>What the <code>type</code> of an error can be. <a href=\"/docs\">The API</a> says which \
                    request can be answered with which.</p>\n<table>\n"
            .to_owned();
    for kind in Kind::ALL {
        let (status, slug, title) = (kind.status(), kind.slug(), escape(kind.title()));
        put(
            &mut body,
            format_args!("<tr><td>{status}<td><a href=\"/problems/{slug}\">{slug}</a><td>{title}\n"),
        );
    }
    html("Problems", &(body + "</table>\n"))
}

/// The page that explains a kind of problem.
pub(super) fn page(kind: Kind) -> String {
    let example = kind.example();
    let mut body = String::new();
    let (status, slug) = (kind.status(), kind.slug());
    put(&mut body, format_args!("<p>Status {status}, type <code>/problems/{slug}</code>.</p>\n"));
    put(&mut body, format_args!("<p>{}</p>\n<h2>Example</h2>\n<pre>", escape(kind.explanation())));
    put(&mut body, format_args!("HTTP/1.1 {status}\nContent-Type: application/problem+json\n"));
    for (name, value) in example.headers() {
        put(&mut body, format_args!("{name}: {}\n", escape(value)));
    }
    let json = serde_json::to_string_pretty(&example.body()).expect("a problem always has a JSON form");
    put(&mut body, format_args!("\n{}</pre>\n", escape(&json)));
    for member in kind.members() {
        put(&mut body, format_args!("<p><code>{}</code>: {}</p>\n", member.name, escape(member.about)));
    }
    let mut requests = contract::endpoints_with(kind).peekable();
    if requests.peek().is_none() {
        body += "<p>Any request can be answered so.</p>\n";
    } else {
        body += "<h2>Where it occurs</h2>\n<ul>\n";
        for endpoint in requests {
            let (method, path) = (endpoint.method.as_str(), endpoint.path);
            put(&mut body, format_args!("<li><code>{method} {path}</code>\n"));
        }
        body += "</ul>\n";
    }
    body += "<p><a href=\"/problems\">All problems</a>, <a href=\"/docs\">the API</a></p>\n";
    html(kind.title(), &body)
}

fn html(title: &str, body: &str) -> String {
    let title = escape(title);
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<title>{title}</title>\n\
         <link rel=\"icon\" href=\"data:,\">\n<link rel=\"stylesheet\" href=\"/docs/pages.css\">\n\
         <h1>{title}</h1>\n{body}</html>\n"
    )
}

fn put(body: &mut String, part: std::fmt::Arguments<'_>) {
    body.write_fmt(part).expect("a string takes everything");
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

//! What people read: the contract, its viewer, and a page for each problem. All
//! of it comes out of the binary, is made once, and needs nothing from elsewhere.

use std::borrow::Cow;
use std::fmt::Write;
use std::io::Read;
use std::sync::LazyLock;

use flate2::read::GzDecoder;
use sha2::{Digest, Sha256};

use super::Call;
use super::input::lists;
use super::work::Work;
use crate::front::contract;
use crate::front::http::parse::Request;
use crate::front::http::write::{CSS, HTML, JAVASCRIPT, JSON, PLAIN, Response};
use crate::front::problem::{Kind, Problem};

/// Scripts and styles are files of this server, and nothing is inline. `data:` is for the icons
/// in the viewer's own style sheet.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
                      connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// A file that does not change while the server runs.
struct File {
    content_type: &'static str,
    plain: Cow<'static, [u8]>,
    /// The same with gzip, where that is what the binary has.
    gzip: Option<&'static [u8]>,
    /// Weak, since both forms have it.
    tag: String,
}

impl File {
    fn new(content_type: &'static str, plain: impl Into<Cow<'static, [u8]>>) -> File {
        let plain = plain.into();
        let hash = Sha256::digest(&plain);
        let tag = hash[..8].iter().fold("W/\"".to_owned(), |tag, byte| format!("{tag}{byte:02x}")) + "\"";
        File { content_type, plain, gzip: None, tag }
    }

    fn gzip(content_type: &'static str, gzip: &'static [u8]) -> File {
        let mut plain = Vec::new();
        GzDecoder::new(gzip).read_to_end(&mut plain).expect("the files of the binary are whole");
        File { gzip: Some(gzip), ..File::new(content_type, plain) }
    }

    fn respond(&'static self, request: &Request<'_>) -> Response {
        let known =
            |tags: &str| tags.split(',').any(|tag| matches!(tag.trim(), "*") || tag.trim() == self.tag);
        if request.headers("if-none-match").any(known) {
            return Response::empty(304)
                .with("ETag", self.tag.clone())
                .with("Cache-Control", "no-cache".to_owned())
                .with("Vary", "Accept-Encoding".to_owned());
        }
        let takes_gzip = lists(request, "accept-encoding", &["gzip", "x-gzip", "*"]);
        let (body, encoding) = match self.gzip {
            Some(gzip) if takes_gzip => (gzip, Some("gzip")),
            _ => (&*self.plain, None),
        };
        let mut response = Response::new(200, self.content_type, body)
            .with("ETag", self.tag.clone())
            .with("Cache-Control", "no-cache".to_owned())
            .with("Vary", "Accept-Encoding".to_owned())
            .with("Content-Security-Policy", POLICY.to_owned())
            .with("X-Content-Type-Options", "nosniff".to_owned());
        if let Some(encoding) = encoding {
            response = response.with("Content-Encoding", encoding.to_owned());
        }
        response
    }
}

fn answer(call: &Call<'_>, file: &'static File) -> Result<Work, Problem> {
    Ok(Work::Ready(file.respond(call.request)))
}

pub(super) fn contract(call: &Call<'_>) -> Result<Work, Problem> {
    static FILE: LazyLock<File> = LazyLock::new(|| File::new(JSON, contract::document()));
    answer(call, &FILE)
}

pub(super) fn docs(call: &Call<'_>) -> Result<Work, Problem> {
    static FILE: LazyLock<File> =
        LazyLock::new(|| File::new(HTML, include_bytes!("../docs/index.html").as_slice()));
    answer(call, &FILE)
}

/// Swagger UI, as `src/front/docs/fetch` puts it there, and what is ours around it.
static DOCS_FILES: [(&str, LazyLock<File>); 7] = [
    (
        "swagger-ui-bundle.js",
        LazyLock::new(|| File::gzip(JAVASCRIPT, include_bytes!("../docs/swagger-ui-bundle.js.gz"))),
    ),
    // Named in the first line of the bundle.
    (
        "swagger-ui-bundle.js.LICENSE.txt",
        LazyLock::new(|| File::new(PLAIN, include_bytes!("../docs/swagger-ui-bundle-LICENSES").as_slice())),
    ),
    (
        "swagger-ui-LICENSE",
        LazyLock::new(|| File::new(PLAIN, include_bytes!("../docs/swagger-ui-LICENSE").as_slice())),
    ),
    (
        "swagger-ui-NOTICE",
        LazyLock::new(|| File::new(PLAIN, include_bytes!("../docs/swagger-ui-NOTICE").as_slice())),
    ),
    ("swagger-ui.css", LazyLock::new(|| File::gzip(CSS, include_bytes!("../docs/swagger-ui.css.gz")))),
    ("start.js", LazyLock::new(|| File::new(JAVASCRIPT, include_bytes!("../docs/start.js").as_slice()))),
    ("pages.css", LazyLock::new(|| File::new(CSS, include_bytes!("../docs/pages.css").as_slice()))),
];

pub(in crate::front) fn docs_file_names() -> Vec<&'static str> {
    DOCS_FILES.iter().map(|(name, _)| *name).collect()
}

pub(super) fn docs_file(call: &Call<'_>) -> Result<Work, Problem> {
    let found = DOCS_FILES.iter().find(|(name, _)| *name == call.parameter);
    let (_, file) = found.ok_or_else(|| Problem::plain(Kind::NotFound))?;
    answer(call, file)
}

pub(super) fn problem_list(call: &Call<'_>) -> Result<Work, Problem> {
    static FILE: LazyLock<File> = LazyLock::new(|| page("Problems", &list_of_problems()));
    answer(call, &FILE)
}

pub(super) fn problem(call: &Call<'_>) -> Result<Work, Problem> {
    static FILES: LazyLock<Vec<(&str, File)>> = LazyLock::new(|| {
        Kind::ALL.iter().map(|&kind| (kind.slug(), page(kind.title(), &explained(kind)))).collect()
    });
    let found = FILES.iter().find(|(slug, _)| *slug == call.parameter);
    let (_, file) = found.ok_or_else(|| Problem::plain(Kind::NotFound))?;
    answer(call, file)
}

fn page(title: &str, body: &str) -> File {
    let title = escape(title);
    let page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<title>{title}</title>\n\
         <link rel=\"icon\" href=\"data:,\">\n<link rel=\"stylesheet\" href=\"/docs/pages.css\">\n\
         <h1>{title}</h1>\n{body}</html>\n"
    );
    File::new(HTML, page.into_bytes())
}

fn list_of_problems() -> String {
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
    body + "</table>\n"
}

fn explained(kind: Kind) -> String {
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
    if let Some(member) = kind.member() {
        put(&mut body, format_args!("<p><code>{}</code>: {}</p>\n", member.name, escape(member.about)));
    }
    let mut requests = contract::operations_with(kind).peekable();
    if requests.peek().is_none() {
        body += "<p>Any request can be answered so.</p>\n";
    } else {
        body += "<h2>Where it occurs</h2>\n<ul>\n";
        for route in requests {
            put(&mut body, format_args!("<li><code>{} {}</code>\n", route.method.as_str(), route.path));
        }
        body += "</ul>\n";
    }
    body + "<p><a href=\"/problems\">All problems</a>, <a href=\"/docs\">the API</a></p>\n"
}

fn put(body: &mut String, part: std::fmt::Arguments<'_>) {
    body.write_fmt(part).expect("a string takes everything");
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

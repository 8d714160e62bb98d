//! What people read: the contract, its viewer, and pages about problems. All of it comes out of the
//! binary, is made once, and needs nothing from elsewhere.

use std::borrow::Cow;
use std::io::Read;
use std::sync::LazyLock;

use flate2::read::GzDecoder;
use schemars::JsonSchema;
use serde_json::json;
use sha2::{Digest, Sha256};

use super::context::RequestContext;
use super::endpoint::{Access, Endpoint, Handler, Header, RequestHeader, Success, Tag, Takes};
use super::input::{AnyQuery, FromPath, KnownTags, NoBody, NoParameter, PathParameter, lists};
use super::problem_pages;
use super::work::Work;
use crate::front::contract;
use crate::front::http::parse::{Method, Request};
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
        if KnownTags::read(request).has(&self.tag) {
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

const TAG: Header = Header {
    name: "ETag",
    about: "The version of this file, for If-None-Match.",
    example: "W/\"8d1f03a2c4e5b697\"",
};
const REVALIDATE: Header = Header {
    name: "Cache-Control",
    about: "The file may be kept, and is to be asked for again with If-None-Match.",
    example: "no-cache",
};
const VARY: Header =
    Header { name: "Vary", about: "What the encoding depends on.", example: "Accept-Encoding" };
const CONTENT_POLICY: Header = Header {
    name: "Content-Security-Policy",
    about: "Everything that the page needs comes from this server.",
    example: "default-src 'none'; style-src 'self'",
};
const WHOLE: &[Header] = &[
    TAG,
    REVALIDATE,
    Header { name: "Content-Encoding", about: "gzip, for clients that take it.", example: "gzip" },
    VARY,
    CONTENT_POLICY,
    Header { name: "X-Content-Type-Options", about: "The type is what is said.", example: "nosniff" },
];

/// A response with a whole file.
const fn whole(media: &'static str, example: &'static str) -> Success {
    Success::text("The file.", media, example).with(WHOLE)
}

const UNCHANGED: Success =
    Success::empty(304, "It is what the client has already.").with(&[TAG, REVALIDATE, VARY]);

const HTML_EXAMPLE: &str = "<!doctype html>";

/// The endpoint of one file, or of several that a path parameter tells apart.
const fn file_endpoint(
    id: &'static str,
    path: &'static str,
    handler: &'static dyn Handler,
    [summary, about]: [&'static str; 2],
    successes: &'static [Success],
) -> Endpoint {
    Endpoint {
        id,
        method: Method::Get,
        path,
        access: Access::Anyone,
        handler,
        writes: false,
        headers: &[RequestHeader::IF_NONE_MATCH],
        tag: Tag::Server,
        summary,
        about,
        successes,
        problems: &[],
    }
}

fn answer(context: &RequestContext<'_>, file: &'static File) -> Result<Work, Problem> {
    Ok(Work::Ready(file.respond(context.request)))
}

/// Where programs find the contract, its page, and the health of the server (RFC 8631).
const LINKS: Header = Header {
    name: "Link",
    about: "The contract, its page, and whether the server takes work.",
    example: "</openapi.json>; rel=\"service-desc\", </docs>; rel=\"service-doc\", </readyz>; rel=\"status\"",
};

pub(super) static HOME: Endpoint = Endpoint {
    id: "home",
    method: Method::Get,
    path: "/",
    access: Access::Anyone,
    handler: &Takes(home),
    writes: false,
    headers: &[],
    tag: Tag::Server,
    summary: "What is where",
    about: "A page with links, for people. The header `Link` has the same for programs.",
    successes: &[Success::text("The page.", HTML, HTML_EXAMPLE).with(&[LINKS, CONTENT_POLICY])],
    problems: &[],
};

fn home(_: &RequestContext<'_>, _: NoParameter, _: AnyQuery, _: NoBody) -> Result<Work, Problem> {
    let page = Response::new(200, HTML, include_bytes!("../docs/home.html").as_slice())
        .with(LINKS.name, LINKS.example.to_owned())
        .with(CONTENT_POLICY.name, POLICY.to_owned());
    Ok(Work::Ready(page))
}

pub(super) static CONTRACT: Endpoint = file_endpoint(
    "contract",
    "/openapi.json",
    &Takes(contract),
    ["This document", "OpenAPI 3.1, made from the router's table."],
    &[Success::json::<OpenApi>(200, "The file.", || json!({ "openapi": "3.1.1" })).with(WHOLE), UNCHANGED],
);

/// This document, as far as it says of itself.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "it is a schema alone")]
struct OpenApi {
    /// The version of the OpenAPI specification.
    openapi: String,
}

fn contract(context: &RequestContext<'_>, _: NoParameter, _: AnyQuery, _: NoBody) -> Result<Work, Problem> {
    static FILE: LazyLock<File> = LazyLock::new(|| File::new(JSON, contract::document()));
    answer(context, &FILE)
}

pub(super) static DOCS: Endpoint = file_endpoint(
    "docs",
    "/docs",
    &Takes(docs),
    ["This document in a browser", "Shows it, and lets one try it."],
    &[whole(HTML, HTML_EXAMPLE), UNCHANGED],
);

fn docs(context: &RequestContext<'_>, _: NoParameter, _: AnyQuery, _: NoBody) -> Result<Work, Problem> {
    static FILE: LazyLock<File> =
        LazyLock::new(|| File::new(HTML, include_bytes!("../docs/index.html").as_slice()));
    answer(context, &FILE)
}

pub(super) static DOCS_FILE: Endpoint = file_endpoint(
    "docsFile",
    "/docs/{file}",
    &Takes(docs_file),
    ["What the pages need", "Styles and scripts."],
    &[
        whole(JAVASCRIPT, "\"use strict\";"),
        whole(CSS, "body { margin: 0 }"),
        whole(PLAIN, "Copyright"),
        UNCHANGED,
    ],
);

/// Swagger UI, as `src/front/docs/fetch` puts it there, and our own files around it.
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

/// A file that the pages need, by its name.
struct DocsFile(&'static File);

impl FromPath for DocsFile {
    const PARAMETER: Option<PathParameter> = Some(PathParameter {
        name: "file",
        about: "The file's name.",
        schema: || {
            let names: Vec<&str> = DOCS_FILES.iter().map(|(name, _)| *name).collect();
            json!({ "type": "string", "enum": names })
        },
    });

    fn read(text: &str) -> Option<DocsFile> {
        DOCS_FILES.iter().find(|(name, _)| *name == text).map(|(_, file)| DocsFile(file))
    }
}

fn docs_file(
    context: &RequestContext<'_>,
    DocsFile(file): DocsFile,
    _: AnyQuery,
    _: NoBody,
) -> Result<Work, Problem> {
    answer(context, file)
}

pub(super) static PROBLEM_LIST: Endpoint = file_endpoint(
    "problemList",
    "/problems",
    &Takes(problem_list),
    ["All kinds of problems", "A page that lists what an error's `type` can be."],
    &[whole(HTML, HTML_EXAMPLE), UNCHANGED],
);

fn problem_list(
    context: &RequestContext<'_>,
    _: NoParameter,
    _: AnyQuery,
    _: NoBody,
) -> Result<Work, Problem> {
    static FILE: LazyLock<File> = LazyLock::new(|| File::new(HTML, problem_pages::list().into_bytes()));
    answer(context, &FILE)
}

pub(super) static PROBLEM_PAGE: Endpoint = file_endpoint(
    "problemPage",
    "/problems/{name}",
    &Takes(problem_page),
    [
        "What a problem means",
        "The page that an error's `type` points to: what it means, what to change, and an example.",
    ],
    &[whole(HTML, HTML_EXAMPLE), UNCHANGED],
);

/// The page of a problem, by the last part of its `type`.
struct ProblemPage(&'static File);

impl FromPath for ProblemPage {
    const PARAMETER: Option<PathParameter> = Some(PathParameter {
        name: "name",
        about: "The last part of a problem's `type`.",
        schema: || {
            let slugs: Vec<&str> = Kind::ALL.iter().map(|kind| kind.slug()).collect();
            json!({ "type": "string", "enum": slugs })
        },
    });

    fn read(text: &str) -> Option<ProblemPage> {
        static FILES: LazyLock<Vec<(&str, File)>> = LazyLock::new(|| {
            let page = |kind| File::new(HTML, problem_pages::page(kind).into_bytes());
            Kind::ALL.iter().map(|&kind| (kind.slug(), page(kind))).collect()
        });
        FILES.iter().find(|(slug, _)| *slug == text).map(|(_, file)| ProblemPage(file))
    }
}

fn problem_page(
    context: &RequestContext<'_>,
    ProblemPage(file): ProblemPage,
    _: AnyQuery,
    _: NoBody,
) -> Result<Work, Problem> {
    answer(context, file)
}

//! Ceilings: two fast HTTP servers that do no work. The address of a reservation reads its body and
//! returns a constant response of the same length as boxoffice's: status, headers, JSON. There are no
//! tokens, events or tickets, and nothing is stored.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::thread;

use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};

const RESERVE: &str = "/api/v1/events/{event}/reservations";
const LOCATION: &str = "/api/v1/reservations/1-1";
const REQUEST_ID: (&str, &str) = ("X-Request-Id", "1941c3d0-1");
const RESERVATION: &str = r#"{"id":"1-1","event":1,"customer":4,"quantity":1,"status":"confirmed","created_at":"2026-01-01T12:00:00.000Z"}"#;
const LIVE: &str = r#"{"status":"live","boot_id":"0000000000000000"}"#;
const READY: &str = r#"{"status":"ready","boot_id":"0000000000000000"}"#;
const JSON: &str = "application/json";

/// Runs actix-web until SIGTERM or SIGINT.
///
/// # Errors
///
/// When the address cannot be had.
pub(crate) fn actix(listen: SocketAddr, workers: usize) -> io::Result<()> {
    use actix_web::rt::System;
    use actix_web::web::{Bytes, get, post};
    use actix_web::{App, HttpResponse, HttpServer};

    let json = |status: &'static str| async move { HttpResponse::Ok().content_type(JSON).body(status) };
    let server = HttpServer::new(move || {
        App::new()
            .route(
                RESERVE,
                post().to(async |_body: Bytes| {
                    HttpResponse::Created()
                        .insert_header(REQUEST_ID)
                        .content_type(JSON)
                        .insert_header(("Location", LOCATION))
                        .body(RESERVATION)
                }),
            )
            .route("/livez", get().to(move || json(LIVE)))
            .route("/readyz", get().to(move || json(READY)))
    });
    exit_on_signal()?;
    System::new().block_on(async move {
        let server = server.workers(workers).disable_signals().bind(listen)?;
        announce(server.addrs()[0])?;
        server.run().await
    })
}

/// Runs ntex on tokio until SIGTERM or SIGINT.
///
/// # Errors
///
/// When the address cannot be had.
pub(crate) fn ntex(listen: SocketAddr, workers: usize) -> io::Result<()> {
    use ntex::util::Bytes;
    use ntex::web::{App, HttpResponse, HttpServer, get, post};

    // ntex does not return the port that it has bound.
    let listener = std::net::TcpListener::bind(listen)?;
    let address = listener.local_addr()?;
    exit_on_signal()?;
    let system = ntex::rt::System::new("constant-ntex", ntex::rt::DefaultRuntime);
    system.block_on(async move {
        let server = HttpServer::new(async || {
            App::new()
                .route(
                    RESERVE,
                    post().to(async |_body: Bytes| {
                        HttpResponse::Created()
                            .header(REQUEST_ID.0, REQUEST_ID.1)
                            .content_type(JSON)
                            .header("Location", LOCATION)
                            .body(RESERVATION)
                    }),
                )
                .route("/livez", get().to(async || HttpResponse::Ok().content_type(JSON).body(LIVE)))
                .route("/readyz", get().to(async || HttpResponse::Ok().content_type(JSON).body(READY)))
        });
        let server = server.workers(workers).disable_signals().listen(listener)?;
        announce(address)?;
        server.run().await
    })
}

/// Exits at once on a signal: nothing has to be finished, and open connections do not delay the end.
fn exit_on_signal() -> io::Result<()> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let (mut terminate, mut interrupt) = {
        let _entered = runtime.enter();
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?)
    };
    let wait = move || {
        runtime.block_on(async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        });
        std::process::exit(0)
    };
    thread::Builder::new().name("signals".to_owned()).spawn(wait).map(drop)
}

/// Prints the address on standard output.
pub(crate) fn announce(address: SocketAddr) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "listening on http://{address}")?;
    out.flush()
}

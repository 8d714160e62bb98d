//! `boxoffice demo`: the main job in one command. Sells over HTTP, kills the
//! server while it sells, starts it again and proves that nothing was lost.
//!
//! Owns the order of the steps. Knows the server only from outside: as a
//! program to start and an address to ask.

mod api;
mod buyers;
mod client;
mod error;
mod interrupt;
mod proof;
mod report;
mod server;

use std::io::{self, Write};
use std::path::Path;
use std::thread;
use std::time::Duration;

use clap::builder::RangedU64ValueParser;
use shards::ids::EventId;
use shards::limits::{QUOTA_MAX, SHARD_COUNT_MAX};

pub use error::DemoError;

use api::Api;
use buyers::{Crowd, Sale};
use interrupt::{Interrupt, POLL};
use proof::Proof;
use report::Recovery;
use server::Server;

/// What `boxoffice demo` can be told.
#[derive(Debug, Clone, clap::Args)]
pub struct DemoOptions {
    /// How long to sell before the server is killed
    #[arg(long, default_value_t = 5, value_name = "S", value_parser = clap::value_parser!(u64).range(1..=600))]
    pub seconds: u64,

    /// End after the proof, instead of leaving the server running until Ctrl-C
    #[arg(long)]
    pub exit: bool,

    /// Shards of the server [default: the CPUs]
    #[arg(long, value_name = "N", value_parser = RangedU64ValueParser::<usize>::new().range(1..=SHARD_COUNT_MAX as u64))]
    pub shards: Option<usize>,
}

/// Concurrent buyers, a thread and a connection each: as many as the load test has connections.
const BUYER_COUNT: usize = 80;

/// The events of the demonstration data.
const EVENTS: [EventId; 4] = [EventId(1), EventId(2), EventId(3), EventId(4)];

/// Few enough to be gone in a moment, many enough that all buyers fight for them.
const RUSH_QUOTA: u32 = 1000;

/// Runs the demonstration, until Ctrl-C unless told otherwise.
///
/// The server and the temporary directory are gone when this returns.
///
/// # Errors
///
/// When something could not be done, when a signal came before the proof was
/// complete, and when the proof failed.
pub fn run(options: DemoOptions) -> Result<(), DemoError> {
    let interrupt = Interrupt::watch()?;
    let directory =
        tempfile::Builder::new().prefix("boxoffice-demo-").tempdir().map_err(DemoError::Directory)?;
    // The server, which writes there, has ended when this returns.
    let shown = show(&options, directory.path(), &interrupt);
    let closed = directory.close().map_err(DemoError::Directory);
    shown.and(closed)
}

fn show(options: &DemoOptions, directory: &Path, interrupt: &Interrupt) -> Result<(), DemoError> {
    say(&format!("1. A server starts, with its data in {}", directory.display()))?;
    if report::is_in_memory(directory) {
        say("   That directory is in memory, where a commit costs nothing: set TMPDIR to one on a disk.")?;
    }
    let server = Server::start(directory, options.shards, interrupt)?;
    say(&format!("   {}", server.announcement))?;
    let mut api = Api::connect(server.address)?;
    api.populate(QUOTA_MAX)?;
    let tokens = api.log_in_customers()?;

    let seconds = options.seconds;
    say(&format!("\n2. {BUYER_COUNT} buyers reserve, then the server is killed (SIGKILL) while they do"))?;
    let crowd = Crowd { buyer_count: BUYER_COUNT, tokens: &tokens, interrupt };
    let (sale, killed_at) = crowd.buy_until_killed(server, &EVENTS, Duration::from_secs(seconds))?;

    say("\n3. The server starts again, on the same data")?;
    let mut server = Server::start(directory, options.shards, interrupt)?;
    let mut api = Api::connect(server.address)?;
    api.event(EVENTS[0])?;
    let recovery = Recovery { took: killed_at.elapsed(), announcement: &server.announcement };
    say(&format!("   {}", server.announcement))?;

    say("\n4. Every acknowledged reservation is looked for, over HTTP")?;
    let admin = api.log_in("admin")?;
    let books = proof::read_books(server.address, &admin, &EVENTS, sale.acknowledged.len(), interrupt)?;
    let proof = Proof::of(&sale, &books);
    say(&report::table(&sale, &proof, &recovery))?;
    proof.verdict()?;

    say(&format!("\n5. The same buyers rush for an event of {RUSH_QUOTA} tickets"))?;
    let tokens = api.log_in_customers()?;
    let (rush, proof) = rush(&server, &mut api, &tokens, &admin, interrupt)?;
    say(&report::rush(&rush, &proof))?;
    proof.verdict()?;

    say(report::VERDICT)?;
    say(&report::about_this_machine())?;
    if !options.exit {
        say(&report::try_it(&server))?;
        wait(&mut server, interrupt)?;
    }
    server.stop()
}

/// An event that sells out: of all who want a ticket, exactly as many as there are get one.
fn rush(
    server: &Server,
    api: &mut Api,
    tokens: &[String],
    admin: &str,
    interrupt: &Interrupt,
) -> Result<(Sale, Proof), DemoError> {
    let organizer = api.log_in("org1")?;
    let event = api.create_event(&organizer, "The rush", RUSH_QUOTA)?;
    let crowd = Crowd { buyer_count: BUYER_COUNT, tokens, interrupt };
    let sale = crowd.buy_until_sold_out(server.address, event)?;
    let books = proof::read_books(server.address, admin, &[event], sale.acknowledged.len(), interrupt)?;
    let proof = Proof::of_sold_out(&sale, &books);
    Ok((sale, proof))
}

/// Until Ctrl-C.
fn wait(server: &mut Server, interrupt: &Interrupt) -> Result<(), DemoError> {
    while !interrupt.came() {
        if server.has_ended() {
            return Err(server.ended());
        }
        thread::sleep(POLL);
    }
    say("")
}

fn say(text: &str) -> Result<(), DemoError> {
    let mut out = io::stdout().lock();
    writeln!(out, "{text}").and_then(|()| out.flush()).map_err(DemoError::Output)
}

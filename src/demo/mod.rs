//! `boxoffice demo`: sells over HTTP, kills the server during the sale, restarts it, and proves
//! that nothing was lost.
//!
//! Owns the order of the steps. Uses the server only from outside: as a child process and over
//! HTTP.

mod api;
mod buyers;
mod client;
mod error;
mod interrupt;
mod progress;
mod proof;
mod report;
mod retries;
mod server;

use std::io::{self, Write};
use std::path::Path;
use std::thread;
use std::time::Duration;

use clap::builder::RangedU64ValueParser;
use shards::ids::EventId;
use shards::limits::{QUOTA_MAX, SHARD_COUNT_MAX};

pub(crate) use error::DemoError;

use api::Api;
use buyers::{Buyers, Sale};
use interrupt::{Interrupt, POLL};
use proof::Proof;
use report::Recovery;
use server::Server;

/// The options of `boxoffice demo`.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct DemoOptions {
    /// Seconds of selling before the server is killed
    #[arg(long, default_value_t = 5, value_name = "S", value_parser = clap::value_parser!(u64).range(1..=600))]
    pub seconds: u64,

    /// Exit after the proof, instead of keeping the server running until Ctrl-C
    #[arg(long)]
    pub exit: bool,

    /// Number of shards of the server [default: the CPUs]
    #[arg(long, value_name = "N", value_parser = RangedU64ValueParser::<usize>::new().range(1..=SHARD_COUNT_MAX as u64))]
    pub shards: Option<usize>,
}

/// The number of concurrent buyers, each with a thread and a connection: as many connections as
/// the load test has.
const BUYER_COUNT: usize = 80;

/// The events of the demonstration data.
const EVENTS: [EventId; 4] = [EventId(1), EventId(2), EventId(3), EventId(4)];

/// The quota of the event that sells out: small enough to sell out at once, large enough that all
/// buyers compete for it.
const RUSH_QUOTA: u32 = 1000;

/// Runs the demonstration. Without `exit`, it returns only after Ctrl-C.
///
/// The server has ended and the temporary directory is removed when this returns.
///
/// # Errors
///
/// When a step failed, when a signal arrived before the proof was complete, and when the proof
/// failed.
pub(crate) fn run(options: DemoOptions) -> Result<(), DemoError> {
    let interrupt = Interrupt::watch()?;
    let directory =
        tempfile::Builder::new().prefix("boxoffice-demo-").tempdir().map_err(DemoError::Directory)?;
    // `run_steps` stops the server, so nothing writes to the directory while it is removed.
    let result = run_steps(&options, directory.path(), &interrupt);
    let removed = directory.close().map_err(DemoError::Directory);
    result.and(removed)
}

fn run_steps(options: &DemoOptions, directory: &Path, interrupt: &Interrupt) -> Result<(), DemoError> {
    print(&format!("1. Start a server with its data in {}", directory.display()))?;
    if report::is_in_memory(directory) {
        print("   This directory is in memory, where a sync costs nothing; set TMPDIR to one on a disk.")?;
    }
    let server = Server::start(directory, options.shards, interrupt)?;
    print(&format!("   {}", server.announcement))?;
    let mut api = Api::connect(server.address)?;
    api.populate(QUOTA_MAX)?;
    let tokens = api.log_in_customers()?;

    let seconds = options.seconds;
    print(&format!(
        "\n2. {BUYER_COUNT} buyers reserve tickets, then the server is killed (SIGKILL) under load\n   {}",
        report::WAYS
    ))?;
    let buyers = Buyers { count: BUYER_COUNT, tokens: &tokens, interrupt };
    let (mut sale, killed_at) = buyers.buy_until_killed(server, &EVENTS, Duration::from_secs(seconds))?;

    print("\n3. Restart the server on the same data")?;
    let mut server = Server::start(directory, options.shards, interrupt)?;
    let mut api = Api::connect(server.address)?;
    api.event(EVENTS[0])?;
    let recovery = Recovery { took: killed_at.elapsed(), announcement: &server.announcement };
    print(&format!("   {}", server.announcement))?;

    print("\n4. Confirm the holds that the kill left open, and send every request with a key again")?;
    let retries = retries::retry(server.address, &tokens, &mut sale)?;
    print(&report::retries(&retries))?;

    print("\n5. Look up every acknowledged reservation over HTTP")?;
    let admin = api.log_in("admin")?;
    let listings = proof::read_listings(server.address, &admin, &EVENTS, sale.acknowledged.len(), interrupt)?;
    let proof = Proof::of(&sale, &listings).with_retries(&retries);
    print(&report::table(&sale, &proof, &recovery))?;
    proof.verdict()?;

    print(&format!("\n6. The same buyers compete for an event of {RUSH_QUOTA} tickets"))?;
    let tokens = api.log_in_customers()?;
    let (rush, proof) = rush(&server, &mut api, &tokens, &admin, interrupt)?;
    print(&report::rush(&rush, &proof))?;
    proof.verdict()?;

    print(report::VERDICT)?;
    print(&report::about_this_machine())?;
    if !options.exit {
        print(&report::try_it(&server))?;
        wait(&mut server, interrupt)?;
    }
    server.stop()
}

/// Sells out an event and checks that exactly its quota was sold.
fn rush(
    server: &Server,
    api: &mut Api,
    tokens: &[String],
    admin: &str,
    interrupt: &Interrupt,
) -> Result<(Sale, Proof), DemoError> {
    let organizer = api.log_in("org1")?;
    let event = api.create_event(&organizer, "The rush", RUSH_QUOTA)?;
    let buyers = Buyers { count: BUYER_COUNT, tokens, interrupt };
    let sale = buyers.buy_until_sold_out(server.address, event)?;
    let listings = proof::read_listings(server.address, admin, &[event], sale.acknowledged.len(), interrupt)?;
    let proof = Proof::of_sold_out(&sale, &listings);
    Ok((sale, proof))
}

/// Waits for Ctrl-C.
fn wait(server: &mut Server, interrupt: &Interrupt) -> Result<(), DemoError> {
    while !interrupt.is_set() {
        if server.has_ended() {
            return Err(server.ended());
        }
        thread::sleep(POLL);
    }
    print("")
}

fn print(text: &str) -> Result<(), DemoError> {
    let mut out = io::stdout().lock();
    writeln!(out, "{text}").and_then(|()| out.flush()).map_err(DemoError::Output)
}

//! The texts of the demonstration's results.

use std::fmt::Write as _;
use std::path::Path;
use std::thread;
use std::time::Duration;

use indicatif::HumanCount;

use super::api::{CUSTOMERS, PASSWORD};
use super::buyers::Sale;
use super::proof::Proof;
use super::retries::Retries;
use super::server::Server;

/// The recovery after the kill.
pub(super) struct Recovery<'a> {
    /// The time from the kill to the first response.
    pub took: Duration,
    /// The line that the restarted server printed.
    pub announcement: &'a str,
}

/// What the buyers do.
pub(super) const WAYS: &str = "One in eight holds each ticket and confirms it; one in eight buys two at a time, each request\n   with a key";

pub(super) fn retries(retries: &Retries) -> String {
    let Retries { confirmed, sent_again, answered_late, differing } = retries;
    format!(
        "   {} holds confirmed\n   {} requests sent again: {} got their first answer again, {} had none before the kill",
        HumanCount(*confirmed),
        HumanCount(*sent_again),
        HumanCount(sent_again - answered_late - differing.len() as u64),
        HumanCount(*answered_late),
    )
}

/// Formats all figures, one per line.
pub(super) fn table(sale: &Sale, proof: &Proof, recovery: &Recovery<'_>) -> String {
    let per_second = sale.sold as f64 / sale.took.as_secs_f64();
    let reported = recovery.announcement.split(", ").find(|part| part.starts_with("recovered "));
    let reported = reported.map_or_else(String::new, |part| format!("; the server reports: {part}"));
    let late = proof.recorded.saturating_sub(proof.found);
    let count = |count: u64| HumanCount(count).to_string();
    let rows = [
        ("sold", count(sale.sold), format!("  reservations in {:.1} s", sale.took.as_secs_f64())),
        ("per second", count(per_second as u64), String::new()),
        ("latency p50", latency(sale, 0.50), String::new()),
        ("latency p99", latency(sale, 0.99), String::new()),
        (
            "recovered in",
            format!("{} ms", recovery.took.as_millis()),
            format!("  from the kill to the first response{reported}"),
        ),
        (
            "acknowledged",
            count(proof.acknowledged),
            "  answered before the kill, or when tried again after it".to_owned(),
        ),
        ("found again", count(proof.found), "  of these, after the restart".to_owned()),
        (
            "unanswered",
            count(proof.unanswered),
            format!("  in flight when the server was killed; {late} of them were recorded"),
        ),
        ("oversold", count(proof.oversold), String::new()),
        ("overloaded", count(sale.overloaded), "  answered with 503, nothing done".to_owned()),
    ];
    let mut table = String::new();
    for (name, value, remark) in rows {
        if name != "overloaded" || sale.overloaded > 0 {
            write!(table, "\n   {name:<13}{value:>12}{remark}").expect("writing to a String does not fail");
        }
    }
    table
}

fn latency(sale: &Sale, share: f64) -> String {
    let latencies = &sale.latencies_us;
    let index = ((latencies.len() as f64 * share) as usize).min(latencies.len().saturating_sub(1));
    latencies.get(index).map_or_else(|| "-".to_owned(), |&us| format!("{:.2} ms", f64::from(us) / 1000.0))
}

pub(super) fn rush(sale: &Sale, proof: &Proof) -> String {
    format!(
        "   {} tickets sold in {} ms, {} oversold; {} buyers then got the answer \"sold out\"",
        HumanCount(proof.acknowledged),
        sale.took.as_millis(),
        HumanCount(proof.oversold),
        HumanCount(sale.sold_out),
    )
}

pub(super) const VERDICT: &str = "\n   Proved: every acknowledged reservation is recorded, every acknowledged hold could be\n   \
     confirmed, no ticket was sold twice, no request that was sent again took effect\n   \
     twice, and no reservation is recorded that no buyer requested.";

pub(super) fn about_this_machine() -> String {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let cores = if cores == 1 { "one core".to_owned() } else { format!("{cores} cores") };
    format!(
        "   The figures are for this machine, with the buyers on the same {cores} as the server:\n   \
         they include the cost of the client."
    )
}

/// Formats commands that can be pasted into a POSIX shell.
pub(super) fn try_it(server: &Server) -> String {
    let api = format!("http://{}/api/v1", server.address);
    let json = "-H 'Content-Type: application/json'";
    let auth = "-H \"Authorization: Bearer $TOKEN\"";
    let customer = CUSTOMERS[0];
    let part = |name| format!("sed 's/.*\"{name}\":\"\\([^\"]*\\)\".*/\\1/'");
    let (token, id) = (part("token"), part("id"));
    format!(
        "\nThe server keeps running until Ctrl-C. To log in, reserve, view the event, and cancel:\n\n\
         TOKEN=$(curl -s {json} -d '{{\"username\":\"{customer}\",\"password\":\"{PASSWORD}\"}}' {api}/sessions | {token})\n\
         RESERVED=$(curl -s {json} {auth} -d '{{\"quantity\":2}}' {api}/events/1/reservations); echo \"$RESERVED\"\n\
         curl -s -w '\\n' {api}/events/1\n\
         curl -s -i -X DELETE {auth} {api}/reservations/$(echo \"$RESERVED\" | {id})\n"
    )
}

/// Returns true if the files of a directory are in memory only.
pub(super) fn is_in_memory(directory: &Path) -> bool {
    /// The magic numbers of tmpfs and ramfs, from statfs(2).
    const IN_MEMORY: [i64; 2] = [0x0102_1994, 0x8584_58f6];
    rustix::fs::statfs(directory).is_ok_and(|filesystem| IN_MEMORY.contains(&filesystem.f_type))
}

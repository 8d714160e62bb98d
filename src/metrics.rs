//! Metrics. Each core writes its own counters; rendering sums them over the cores, and asks none of them.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use shards::log::{Hindrance, Reader, RollbackCause, Upkeep};
use shards::outcome::Totals;

use crate::account_limits::AccountLimit;
use crate::logging;

/// A counter or a gauge, written by one core and readable by all.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub fn add(&self, amount: u64) {
        // There is one writer, so a load and a store suffice, without a locked instruction.
        self.0.store(self.0.load(Ordering::Relaxed) + amount, Ordering::Relaxed);
    }

    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A histogram of durations, written by one core and readable by all.
#[derive(Debug, Default)]
pub struct Histogram {
    /// Observations per bucket; the last bucket is for those above every bound.
    counts: [Counter; BUCKET_BOUNDS_MS.len() + 1],
    sum_us: Counter,
}

/// The inclusive upper bounds of the buckets.
const BUCKET_BOUNDS_MS: [u64; 8] = [1, 2, 5, 10, 25, 50, 100, 1000];

impl Histogram {
    /// Records `count` observations of the same duration.
    pub fn observe(&self, took: Duration, count: u64) {
        let us = took.as_micros() as u64;
        let bucket = BUCKET_BOUNDS_MS.partition_point(|&bound_ms| bound_ms * 1000 < us);
        self.counts[bucket].add(count);
        self.sum_us.add(us * count);
    }
}

/// The metrics of one core. Aligned so that cores share no cache line: to 128 bytes, because the
/// CPU fetches lines in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct CoreMetrics {
    pub connections_opened: Counter,
    pub connections_closed: Counter,
    /// Connections refused because all places were taken, or because their address had its share.
    pub refused_all_taken: Counter,
    pub refused_share: Counter,
    /// Connections closed to make room for others: before their first byte, between requests, or
    /// during a live stream.
    pub closed_silent: Counter,
    pub closed_idle: Counter,
    pub closed_live: Counter,
    pub requests: Counter,
    /// Responses, indexed by the first digit of the status; 0 and 1 are unused.
    pub responses: [Counter; 6],
    pub overloaded: Counter,
    /// The time from reading a request until its 503 was written to the socket.
    pub refusal_time: Histogram,
    /// Requests refused because of a limit of their account, by limit.
    pub account_limits: [Counter; AccountLimit::ALL.len()],
    /// Requests refused because a key could not be kept: of this account, or at all.
    pub keys_refused_account: Counter,
    pub keys_refused_all: Counter,
    pub commits: Counter,
    pub records: Counter,
    /// 1 while the disk of the shard's log is full, else 0.
    pub log_full: Counter,
    /// 1 while another program locks the shard's log, else 0.
    pub log_locked: Counter,
    /// The latest upkeep of the shard's log.
    pub upkeep: Mutex<Upkeep>,
    /// The difference between the wall clock and the time of this core's records.
    pub clock_difference_ms: Counter,
    /// Sums over the shard, as they were when they were last published.
    events: Counter,
    accounts: Counter,
    tickets_quota: Counter,
    tickets_reserved: Counter,
    tickets_held: Counter,
    idempotency_keys: Counter,
}

impl CoreMetrics {
    /// Counts a response.
    pub fn answered(&self, status: u16) {
        self.responses[usize::from(status / 100)].add(1);
        if status == 503 {
            self.overloaded.add(1);
        }
    }

    /// Makes the sums over the shard readable by all, so that nobody has to ask the shard, which may wait for its
    /// disk.
    pub fn publish(&self, totals: Totals) {
        let Totals { events, accounts, admins: _, quota, reserved, held, keys } = totals;
        self.events.set(events);
        self.accounts.set(accounts);
        self.tickets_quota.set(quota);
        self.tickets_reserved.set(reserved);
        self.tickets_held.set(held);
        self.idempotency_keys.set(keys);
    }

    /// Shows why the shard's log takes no records, if it takes none.
    pub(crate) fn show_read_only(&self, cause: Option<RollbackCause>) {
        self.log_full.set((cause == Some(RollbackCause::NoRoom)).into());
        self.log_locked.set((cause == Some(RollbackCause::Locked)).into());
    }
}

#[derive(Debug)]
pub struct Metrics {
    pub cores: Vec<CoreMetrics>,
    /// What the standby thread did.
    pub standby: CoreMetrics,
    /// Cores that are stalled, as the standby thread sees it.
    pub stalled: Counter,
}

impl Metrics {
    pub fn new(core_count: usize) -> Metrics {
        Metrics {
            cores: (0..core_count).map(|_| CoreMetrics::default()).collect(),
            standby: CoreMetrics::default(),
            stalled: Counter::default(),
        }
    }

    fn sum(&self, counter: impl Fn(&CoreMetrics) -> &Counter) -> u64 {
        self.cores.iter().chain([&self.standby]).map(|core| counter(core).get()).sum()
    }

    /// Renders a Prometheus histogram, whose buckets are cumulative.
    fn render_histogram(
        &self,
        text: &mut Exposition,
        name: &str,
        help: &str,
        histogram: impl Fn(&CoreMetrics) -> &Histogram,
    ) {
        text.head(name, "histogram", help);
        let mut total = 0;
        for bucket in 0..=BUCKET_BOUNDS_MS.len() {
            total += self.sum(|core| &histogram(core).counts[bucket]);
            match BUCKET_BOUNDS_MS.get(bucket) {
                Some(&ms) => {
                    text.line(format_args!("{name}_bucket{{le=\"{}\"}} {total}", ms as f64 / 1000.0));
                }
                None => text.line(format_args!("{name}_bucket{{le=\"+Inf\"}} {total}")),
            }
        }
        let sum_us = self.sum(|core| &histogram(core).sum_us);
        text.line(format_args!("{name}_sum {}", sum_us as f64 / 1e6));
        text.line(format_args!("{name}_count {total}"));
    }

    /// Renders the sizes of the logs' journals, and who keeps them large.
    fn render_journals(&self, text: &mut Exposition) {
        let upkeep = |core: &CoreMetrics| core.upkeep.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let journals: Vec<Upkeep> = self.cores.iter().map(upkeep).collect();
        let name = "boxoffice_journal_bytes";
        text.head(name, "gauge", "Size of a log's journal when it was last written back.");
        for Upkeep { journal, journal_bytes, .. } in journals.iter().filter(|one| !one.journal.is_empty()) {
            text.line(format_args!("{name}{{file=\"{}\"}} {journal_bytes}", file_name(journal)));
        }
        let name = "boxoffice_journal_readers";
        text.head(
            name,
            "gauge",
            "Processes that keep a journal from being written back. pid 0: not visible.",
        );
        for Upkeep { journal, hindrance, .. } in &journals {
            let Some(Hindrance::Readers(readers)) = hindrance else { continue };
            for Reader { pid, name: process } in readers {
                let (file, pid) = (file_name(journal), pid.unwrap_or(0));
                let process = process.as_deref().unwrap_or_default();
                let labels = format_args!("file=\"{file}\",pid=\"{pid}\",process=\"{process}\"");
                text.line(format_args!("{name}{{{labels}}} 1"));
            }
        }
    }

    /// Renders all metrics in the text format of Prometheus, version 0.0.4.
    pub fn render(&self) -> String {
        let mut text = Exposition(String::with_capacity(2048));
        let opened = self.sum(|core| &core.connections_opened);
        let closed = self.sum(|core| &core.connections_closed);
        text.metric("boxoffice_connections_accepted_total", "counter", "Connections accepted.", opened);
        text.metric("boxoffice_connections", "gauge", "Connections open.", opened.saturating_sub(closed));
        let name = "boxoffice_connections_refused_total";
        text.head(
            name,
            "counter",
            "Connections answered 503: all places taken, or the address has its share.",
        );
        let (all, share) = (self.sum(|core| &core.refused_all_taken), self.sum(|core| &core.refused_share));
        text.line(format_args!("{name}{{cause=\"all_taken\"}} {all}"));
        text.line(format_args!("{name}{{cause=\"address_share\"}} {share}"));
        let name = "boxoffice_connections_closed_total";
        text.head(
            name,
            "counter",
            "Connections closed to make room: never sent a byte, idle between requests, or live streams.",
        );
        let (silent, idle) = (self.sum(|core| &core.closed_silent), self.sum(|core| &core.closed_idle));
        text.line(format_args!("{name}{{state=\"silent\"}} {silent}"));
        text.line(format_args!("{name}{{state=\"idle\"}} {idle}"));
        text.line(format_args!("{name}{{state=\"live\"}} {}", self.sum(|core| &core.closed_live)));
        let requests = self.sum(|core| &core.requests);
        text.metric("boxoffice_http_requests_total", "counter", "Requests read.", requests);
        text.head("boxoffice_http_responses_total", "counter", "Responses by class of status.");
        for class in 2..=5 {
            let count = self.sum(|core| &core.responses[class]);
            text.line(format_args!("boxoffice_http_responses_total{{class=\"{class}xx\"}} {count}"));
        }
        let overloaded = self.sum(|core| &core.overloaded);
        text.metric("boxoffice_overloaded_total", "counter", "Requests refused, nothing done.", overloaded);
        self.render_histogram(
            &mut text,
            "boxoffice_refusal_seconds",
            "From reading a request until its 503 was handed to the socket.",
            |core| &core.refusal_time,
        );
        let name = "boxoffice_account_limits_total";
        text.head(name, "counter", "Requests refused because their account has reached a limit, by limit.");
        for limit in AccountLimit::ALL {
            let count = self.sum(|core| &core.account_limits[limit as usize]);
            text.line(format_args!("{name}{{limit=\"{}\"}} {count}", limit.as_str()));
        }
        let name = "boxoffice_idempotency_keys_refused_total";
        text.head(name, "counter", "Requests refused because their key could not be kept, by limit.");
        let (account, all) =
            (self.sum(|core| &core.keys_refused_account), self.sum(|core| &core.keys_refused_all));
        text.line(format_args!("{name}{{limit=\"account\"}} {account}"));
        text.line(format_args!("{name}{{limit=\"all\"}} {all}"));
        text.metric("boxoffice_commits_total", "counter", "Durable commits.", self.sum(|core| &core.commits));
        text.metric("boxoffice_records_total", "counter", "Records logged.", self.sum(|core| &core.records));
        let full = self.sum(|core| &core.log_full);
        text.metric("boxoffice_logs_full", "gauge", "Shards that change nothing: no room on disk.", full);
        let locked = self.sum(|core| &core.log_locked);
        let help = "Shards that change nothing: another program has locked their log.";
        text.metric("boxoffice_logs_locked", "gauge", help, locked);
        self.render_journals(&mut text);
        let help = "Log lines that nobody read: standard error was closed or full.";
        text.metric("boxoffice_log_lines_lost_total", "counter", help, logging::lines_lost());
        let off_ms = self.cores.iter().map(|core| core.clock_difference_ms.get()).max().unwrap_or(0);
        let name = "boxoffice_clock_difference_seconds";
        text.head(name, "gauge", "Between the wall clock and the times of sales, which follow it slowly.");
        text.line(format_args!("{name} {}", off_ms as f64 / 1e3));
        let help = "Cores that do not run although a connection waits for them.";
        text.metric("boxoffice_cores_stalled", "gauge", help, self.stalled.get());
        let events = self.sum(|core| &core.events);
        text.metric("boxoffice_events", "gauge", "Events that are not deleted.", events);
        text.metric("boxoffice_accounts", "gauge", "Accounts.", self.sum(|core| &core.accounts));
        let quota = self.sum(|core| &core.tickets_quota);
        text.metric("boxoffice_tickets_quota", "gauge", "Tickets of all events.", quota);
        let reserved = self.sum(|core| &core.tickets_reserved);
        text.metric("boxoffice_tickets_reserved", "gauge", "Tickets reserved.", reserved);
        let held = self.sum(|core| &core.tickets_held);
        text.metric("boxoffice_tickets_held", "gauge", "Tickets of live holds.", held);
        let keys = self.sum(|core| &core.idempotency_keys);
        text.metric("boxoffice_idempotency_keys", "gauge", "Idempotency keys that are kept.", keys);
        text.0
    }
}

fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// A document in the text exposition format of Prometheus.
struct Exposition(String);

impl Exposition {
    fn metric(&mut self, name: &str, kind: &str, help: &str, value: u64) {
        self.head(name, kind, help);
        self.line(format_args!("{name} {value}"));
    }

    fn head(&mut self, name: &str, kind: &str, help: &str) {
        self.line(format_args!("# HELP {name} {help}"));
        self.line(format_args!("# TYPE {name} {kind}"));
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        writeln!(self.0, "{line}").expect("writing to a String does not fail");
    }
}

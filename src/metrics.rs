//! Counters. Each core writes its own, whoever asks adds them up.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};

use shards::outcome::Totals;

/// A count or a gauge, written by one core, read by all.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub fn add(&self, amount: u64) {
        // One writer: a load and a store, without a locked instruction.
        self.0.store(self.0.load(Ordering::Relaxed) + amount, Ordering::Relaxed);
    }

    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Cores do not share cache lines; 128 bytes, since they are fetched in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct CoreMetrics {
    pub connections_opened: Counter,
    pub connections_closed: Counter,
    pub requests: Counter,
    /// By the first digit of the status, 1xx unused.
    pub responses: [Counter; 6],
    pub overloaded: Counter,
    pub commits: Counter,
    pub records: Counter,
    /// 1 while the shard's log has no room.
    pub log_full: Counter,
}

#[derive(Debug)]
pub struct Metrics {
    pub cores: Vec<CoreMetrics>,
}

impl Metrics {
    pub fn new(core_count: usize) -> Metrics {
        Metrics { cores: (0..core_count).map(|_| CoreMetrics::default()).collect() }
    }

    fn sum(&self, counter: impl Fn(&CoreMetrics) -> &Counter) -> u64 {
        self.cores.iter().map(|core| counter(core).get()).sum()
    }

    /// In Prometheus' text format, version 0.0.4.
    pub fn render(&self, totals: &Totals) -> String {
        let mut page = Page(String::with_capacity(2048));
        let opened = self.sum(|core| &core.connections_opened);
        let closed = self.sum(|core| &core.connections_closed);
        page.metric("boxoffice_connections_total", "counter", "Connections accepted.", opened);
        page.metric("boxoffice_connections", "gauge", "Connections open.", opened.saturating_sub(closed));
        let requests = self.sum(|core| &core.requests);
        page.metric("boxoffice_http_requests_total", "counter", "Requests read.", requests);
        page.head("boxoffice_http_responses_total", "counter", "Responses by class of status.");
        for class in 2..=5 {
            let count = self.sum(|core| &core.responses[class]);
            page.line(format_args!("boxoffice_http_responses_total{{class=\"{class}xx\"}} {count}"));
        }
        let overloaded = self.sum(|core| &core.overloaded);
        page.metric("boxoffice_overloaded_total", "counter", "Requests refused, nothing done.", overloaded);
        page.metric("boxoffice_commits_total", "counter", "Durable commits.", self.sum(|core| &core.commits));
        page.metric("boxoffice_records_total", "counter", "Records logged.", self.sum(|core| &core.records));
        let full = self.sum(|core| &core.log_full);
        page.metric("boxoffice_logs_full", "gauge", "Shards that change nothing: no room on disk.", full);
        page.metric("boxoffice_events", "gauge", "Events that are not deleted.", totals.events);
        page.metric("boxoffice_accounts", "gauge", "Accounts.", totals.accounts);
        page.metric("boxoffice_tickets_quota", "gauge", "Tickets of all events.", totals.quota);
        page.metric("boxoffice_tickets_reserved", "gauge", "Tickets reserved.", totals.reserved);
        page.0
    }
}

struct Page(String);

impl Page {
    fn metric(&mut self, name: &str, kind: &str, help: &str, value: u64) {
        self.head(name, kind, help);
        self.line(format_args!("{name} {value}"));
    }

    fn head(&mut self, name: &str, kind: &str, help: &str) {
        self.line(format_args!("# HELP {name} {help}"));
        self.line(format_args!("# TYPE {name} {kind}"));
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        writeln!(self.0, "{line}").expect("a string takes everything");
    }
}

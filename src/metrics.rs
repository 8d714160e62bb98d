//! Counters. Each core writes its own, whoever asks adds them up.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

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

/// How long something took, in steps; written by one core, read by all.
#[derive(Debug, Default)]
pub struct Durations {
    /// By the first step that is long enough; the last is for what none is.
    counts: [Counter; DURATION_STEPS_MS.len() + 1],
    sum_us: Counter,
}

const DURATION_STEPS_MS: [u64; 8] = [1, 2, 5, 10, 25, 50, 100, 1000];

impl Durations {
    /// Something that took as long `count` times.
    pub fn observe(&self, took: Duration, count: u64) {
        let us = took.as_micros() as u64;
        let step = DURATION_STEPS_MS.partition_point(|&most_ms| most_ms * 1000 < us);
        self.counts[step].add(count);
        self.sum_us.add(us * count);
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
    /// From reading a request until its 503 was handed to the socket.
    pub refusal_time: Durations,
    pub commits: Counter,
    pub records: Counter,
    /// 1 while the shard's log has no room.
    pub log_full: Counter,
    /// By which the wall clock differs from the time of this core's records.
    pub clock_difference_ms: Counter,
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

    /// As a Prometheus histogram: each bucket counts what took no longer.
    fn render_durations(
        &self,
        page: &mut Page,
        name: &str,
        help: &str,
        durations: impl Fn(&CoreMetrics) -> &Durations,
    ) {
        page.head(name, "histogram", help);
        let mut total = 0;
        for step in 0..=DURATION_STEPS_MS.len() {
            total += self.sum(|core| &durations(core).counts[step]);
            match DURATION_STEPS_MS.get(step) {
                Some(&ms) => {
                    page.line(format_args!("{name}_bucket{{le=\"{}\"}} {total}", ms as f64 / 1000.0));
                }
                None => page.line(format_args!("{name}_bucket{{le=\"+Inf\"}} {total}")),
            }
        }
        let sum_us = self.sum(|core| &durations(core).sum_us);
        page.line(format_args!("{name}_sum {}", sum_us as f64 / 1e6));
        page.line(format_args!("{name}_count {total}"));
    }

    /// In Prometheus' text format, version 0.0.4. Without `totals` their lines are left out.
    pub fn render(&self, totals: Option<&Totals>) -> String {
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
        self.render_durations(
            &mut page,
            "boxoffice_refusal_seconds",
            "From reading a request until its 503 was handed to the socket.",
            |core| &core.refusal_time,
        );
        page.metric("boxoffice_commits_total", "counter", "Durable commits.", self.sum(|core| &core.commits));
        page.metric("boxoffice_records_total", "counter", "Records logged.", self.sum(|core| &core.records));
        let full = self.sum(|core| &core.log_full);
        page.metric("boxoffice_logs_full", "gauge", "Shards that change nothing: no room on disk.", full);
        let off_ms = self.cores.iter().map(|core| core.clock_difference_ms.get()).max().unwrap_or(0);
        let name = "boxoffice_clock_difference_seconds";
        page.head(name, "gauge", "Between the wall clock and the times of sales, which follow it slowly.");
        page.line(format_args!("{name} {}", off_ms as f64 / 1e3));
        if let Some(totals) = totals {
            page.metric("boxoffice_events", "gauge", "Events that are not deleted.", totals.events);
            page.metric("boxoffice_accounts", "gauge", "Accounts.", totals.accounts);
            page.metric("boxoffice_tickets_quota", "gauge", "Tickets of all events.", totals.quota);
            page.metric("boxoffice_tickets_reserved", "gauge", "Tickets reserved.", totals.reserved);
        }
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

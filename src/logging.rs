//! The log on standard error. No line of it waits for whoever reads it, or ends the process: what the reader does
//! not take is lost, and counted.

use std::io::{self, IsTerminal, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{LazyLock, OnceLock};
use std::time::Instant;

use clap::ValueEnum;
use jiff::Timestamp;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::json;
use tracing_subscriber::Registry;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::reload::{self, Handle};
use tracing_subscriber::util::SubscriberInitExt;

/// The bytes that a pipe takes at once when it polls as writable: PIPE_BUF of pipe(7).
const PIPE_BYTES: usize = 4096;

/// Lines that were lost or cut, since standard error took no more.
static LINES_LOST: AtomicU64 = AtomicU64::new(0);

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    Human,
    Json,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

impl From<LogLevel> for LevelFilter {
    fn from(level: LogLevel) -> LevelFilter {
        match level {
            LogLevel::Error => LevelFilter::ERROR,
            LogLevel::Warn => LevelFilter::WARN,
            LogLevel::Info => LevelFilter::INFO,
            LogLevel::Debug => LevelFilter::DEBUG,
            LogLevel::Trace => LevelFilter::TRACE,
        }
    }
}

/// Changes the level of the log that was started.
static LEVEL: OnceLock<Handle<LevelFilter, Registry>> = OnceLock::new();

/// Starts logging. Called once.
pub(crate) fn start(format: LogFormat, level: LogLevel) {
    let (filter, handle) = reload::Layer::new(LevelFilter::from(level));
    let log = tracing_subscriber::registry().with(filter);
    let lines = tracing_subscriber::fmt::layer().with_writer(|| LogWriter).log_internal_errors(false);
    match format {
        LogFormat::Human => {
            // https://no-color.org: set, and not empty.
            let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
            let is_colored = io::stderr().is_terminal() && !no_color;
            log.with(lines.with_ansi(is_colored).with_target(false)).init();
        }
        LogFormat::Json => log.with(lines.json()).init(),
    }
    // There is none before.
    let _ = LEVEL.set(handle);
}

/// Logs from now on from this level on.
pub(crate) fn set_level(level: LogLevel) {
    if let Some(handle) = LEVEL.get() {
        // It fails only if there is no log any more.
        let _ = handle.reload(LevelFilter::from(level));
    }
}

/// Reports why the process ends, at every level.
pub(crate) fn report(format: LogFormat, text: &str) {
    write_line(line_at(format, text, Some(Timestamp::now())).as_bytes());
}

/// A line that says why the process ends, to be written later, so that it has no time.
pub(crate) fn line(format: LogFormat, text: &str) -> String {
    line_at(format, text, None)
}

fn line_at(format: LogFormat, text: &str, now: Option<Timestamp>) -> String {
    match format {
        LogFormat::Human => format!("{text}\n"),
        LogFormat::Json => {
            let mut line = json!({ "level": "ERROR", "fields": { "message": text } });
            if let Some(now) = now {
                line["timestamp"] = now.to_string().into();
            }
            format!("{line}\n")
        }
    }
}

/// Writes a line without a lock or an allocation. It may get between the parts of another one.
pub(crate) fn write_in_signal_handler(line: &[u8]) {
    let stderr = rustix::stdio::stderr();
    if takes_more(stderr) {
        let _ = rustix::io::write(stderr, &line[..line.len().min(PIPE_BYTES)]);
    }
}

/// The number of lines that were lost.
pub(crate) fn lines_lost() -> u64 {
    LINES_LOST.load(Ordering::Relaxed)
}

/// Gets each line as a whole.
struct LogWriter;

impl Write for LogWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        write_line(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn write_line(line: &[u8]) {
    // The lock keeps other threads from filling the pipe between the poll and the write.
    let mut stderr = io::stderr().lock();
    for part in line.chunks(PIPE_BYTES) {
        if !takes_more(stderr.as_fd()) || stderr.write_all(part).is_err() {
            LINES_LOST.fetch_add(1, Ordering::Relaxed);
            return;
        }
    }
}

/// Whether a write would not wait: false for a pipe that is full, or whose reader has gone.
fn takes_more(stderr: BorrowedFd<'_>) -> bool {
    let mut polled = [PollFd::from_borrowed_fd(stderr, PollFlags::OUT)];
    poll(&mut polled, Some(&Timespec::default())).is_ok() && polled[0].revents().contains(PollFlags::OUT)
}

/// Bounds how often a line is logged that clients can cause: at most [`Ration::LINES`] in [`Ration::SECONDS`].
/// What is left out is counted, and the next line says how much it was.
pub(crate) struct Ration {
    /// The number of the latest window, and in the low byte the lines that were logged in it.
    window: AtomicU64,
    left_out: AtomicU64,
}

impl Ration {
    /// Enough to see who does what; a flood of one kind of line adds some 10 MB a day.
    const LINES: u64 = 10;
    const SECONDS: u64 = 10;

    pub(crate) const fn new() -> Ration {
        Ration { window: AtomicU64::new(0), left_out: AtomicU64::new(0) }
    }

    /// `None` if the line is to be left out, else the number of those that were left out before it.
    pub(crate) fn take(&self) -> Option<u64> {
        static START: LazyLock<Instant> = LazyLock::new(Instant::now);
        self.take_at(START.elapsed().as_secs())
    }

    fn take_at(&self, seconds: u64) -> Option<u64> {
        let window = (seconds / Ration::SECONDS) << 8;
        let next = |now: u64| match now {
            now if now & !0xff < window => Some(window + 1),
            now if now & 0xff < Ration::LINES => Some(now + 1),
            _ => None,
        };
        match self.window.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next) {
            Ok(_) => Some(self.left_out.swap(0, Ordering::Relaxed)),
            Err(_) => {
                self.left_out.fetch_add(1, Ordering::Relaxed);
                None
            }
        }
    }
}

/// Logs a line that clients can cause, at a bounded rate for each place of the code. Takes a level, and what the
/// macro of that level takes. Names accounts by their ids: what somebody typed as a name may be a password.
macro_rules! rationed {
    ($level:ident, $($line:tt)+) => {{
        static RATION: $crate::logging::Ration = $crate::logging::Ration::new();
        if let Some(left_out) = RATION.take() {
            let left_out = (left_out > 0).then_some(left_out);
            tracing::$level!(left_out, $($line)+);
        }
    }};
}
pub(crate) use rationed;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_a_few_lines_and_a_count() {
        let ration = Ration::new();
        for window in 1..4 {
            let seconds = window * Ration::SECONDS;
            let before = if window == 1 { 0 } else { 990 };
            assert_eq!(ration.take_at(seconds), Some(before), "the line says what was left out");
            let more = (1..1000).filter(|_| ration.take_at(seconds + Ration::SECONDS - 1).is_some());
            assert_eq!(more.count() as u64, Ration::LINES - 1);
        }
    }
}

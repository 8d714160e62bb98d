//! When a batch is committed: at once, or after more requests have joined it.
//!
//! Clients that are answered together ask again together. A commit that starts without those that are on
//! their way makes them wait for the commit after it, and clients settle into two halves that take turns:
//! each commit then carries half of what the disk could do.

use std::time::Duration;

/// A commit that waits for its disk less than this is made where the shard runs: handing it to another
/// thread and hearing back costs as much CPU, and makes the core sleep and wake in between.
/// `benches/README.md` has the figures.
const INLINE_COMMIT_MAX: Duration = Duration::from_micros(400);

/// The longest wait for requests, however slow the disk is: one stall must not make the next clients wait.
const GATHER_MAX: Duration = Duration::from_millis(5);

/// After so many commits that waited for nobody, one waits, to see whether that has become worth it.
const COMMITS_ALONE_MAX: u32 = 16;

/// What is made of a slow disk.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// A commit that waits longer for its disk is made on another thread.
    inline_commit_max: Duration,
    /// How long a commit waits at most for more requests.
    gather_max: Duration,
    /// After so many commits that waited for nobody, one waits.
    pub(crate) commits_alone_max: u32,
}

impl Pace {
    pub const USUAL: Pace = Pace {
        inline_commit_max: INLINE_COMMIT_MAX,
        gather_max: GATHER_MAX,
        commits_alone_max: COMMITS_ALONE_MAX,
    };
    /// Commits at once and in place, however slow the disk is: for an owner that does nothing else.
    pub const AT_ONCE: Pace =
        Pace { inline_commit_max: Duration::MAX, gather_max: Duration::ZERO, ..Pace::USUAL };
}

/// How a commit waits for more requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gather {
    /// Give every task one turn, and look once for what has come; the disk is fast.
    Once,
    /// Sleep until something comes, at most until this time; the disk is slow.
    Until(Duration),
}

#[derive(Debug)]
pub(super) struct Batching {
    pace: Pace,
    /// Moving average of how long a commit waits for its disk.
    disk_wait: Duration,
    gathering: Gathering,
    /// Requests answered by the latest commit.
    answered: usize,
    /// Requests taken in since.
    came: usize,
    /// Clients asked again at once when a commit last waited for them.
    come_back: bool,
    /// Commits since then.
    commits_alone: u32,
}

/// Of the batch that is open.
#[derive(Debug, Clone, Copy)]
enum Gathering {
    NotBegun,
    /// For as long as there is news.
    WhileNews {
        until: Duration,
        news: bool,
    },
    /// Until as many came as were answered.
    ForAnswered {
        until: Duration,
    },
}

impl Batching {
    pub(super) fn new(pace: Pace) -> Batching {
        Batching {
            pace,
            disk_wait: Duration::ZERO,
            gathering: Gathering::NotBegun,
            answered: 0,
            came: 0,
            come_back: false,
            commits_alone: 0,
        }
    }

    pub(super) fn count_request(&mut self) {
        self.came += 1;
    }

    /// How the open batch waits for more requests; `None` when it is to be committed. To be asked anew
    /// after each [`Batching::gathered`].
    pub(super) fn gather(&mut self, elapsed: Duration, batch_is_full: bool) -> Option<Gather> {
        if matches!(self.gathering, Gathering::NotBegun) {
            self.gathering = self.begin(elapsed)?;
        }
        match self.gathering {
            Gathering::NotBegun => None,
            Gathering::WhileNews { until, news } => {
                (news && !batch_is_full && elapsed < until).then_some(Gather::Once)
            }
            Gathering::ForAnswered { until } => {
                if self.came < self.answered && !batch_is_full && elapsed < until {
                    return Some(Gather::Until(until));
                }
                self.come_back = self.came * 4 >= self.answered * 3;
                self.commits_alone = 0;
                None
            }
        }
    }

    fn begin(&mut self, elapsed: Duration) -> Option<Gathering> {
        if !self.disk_is_slow() {
            let until = elapsed + (self.disk_wait * 2).min(self.pace.gather_max);
            return Some(Gathering::WhileNews { until, news: true });
        }
        if !self.come_back && self.commits_alone < self.pace.commits_alone_max {
            self.commits_alone += 1;
            return None;
        }
        Some(Gathering::ForAnswered { until: elapsed + (self.disk_wait / 2).min(self.pace.gather_max) })
    }

    pub(super) fn gathered(&mut self, came: bool) {
        if let Gathering::WhileNews { news, .. } = &mut self.gathering {
            *news = came;
        }
    }

    /// Commits are made on another thread.
    pub(super) fn disk_is_slow(&self) -> bool {
        self.disk_wait > self.pace.inline_commit_max
    }

    pub(super) fn committed(&mut self, records: usize, waited: Duration) {
        self.disk_wait = (self.disk_wait * 7 + waited) / 8;
        (self.answered, self.came) = (records, 0);
        self.gathering = Gathering::NotBegun;
    }

    pub(super) fn rolled_back(&mut self) {
        self.gathering = Gathering::NotBegun;
    }
}

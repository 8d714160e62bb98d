//! The decision when to commit a batch: at once, or after more requests have joined it.
//!
//! Clients that are answered together send their next requests together. If a commit starts before these
//! have arrived, they wait for the commit after it. Clients then settle into two alternating halves, and
//! each commit carries half a batch.

use std::time::Duration;

/// The longest disk wait for which the shard's own thread commits. For a shorter wait, another thread would
/// cost as much CPU time as the wait takes, and the core would sleep and wake in between.
/// `benches/README.md` has the figures.
const INLINE_COMMIT_MAX: Duration = Duration::from_micros(400);

/// The longest wait for requests, however slow the disk is, so that one stall of the disk does not make the
/// next commits wait long.
const GATHER_MAX: Duration = Duration::from_millis(5);

/// The most commits in a row that do not wait for requests. The next one waits, to test whether that pays.
pub(super) const COMMITS_ALONE_MAX: u32 = 16;

/// The limits by which a shard adapts to the speed of its disk.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// The longest disk wait for which the owner's thread commits.
    inline_commit_max: Duration,
    /// The longest time that a commit waits for more requests.
    gather_max: Duration,
    /// The most commits in a row that do not wait for requests.
    pub(crate) commits_alone_max: u32,
}

impl Pace {
    pub const USUAL: Pace = Pace {
        inline_commit_max: INLINE_COMMIT_MAX,
        gather_max: GATHER_MAX,
        commits_alone_max: COMMITS_ALONE_MAX,
    };
    /// Commits at once and on the owner's thread, however slow the disk is: for an owner without other work.
    pub const AT_ONCE: Pace =
        Pace { inline_commit_max: Duration::MAX, gather_max: Duration::ZERO, ..Pace::USUAL };
}

/// How a commit waits for more requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gather {
    /// Let every task run once, and poll once for network events. Used if the disk is fast.
    Once,
    /// Sleep until a request or a network event comes, at most until this time. Used if the disk is slow.
    Until(Duration),
}

#[derive(Debug)]
pub(super) struct Batching {
    pace: Pace,
    /// Moving average of the time that a commit waits for its disk.
    disk_wait: Duration,
    gathering: Gathering,
    /// The records of the latest commit, which is about the number of requests that it answered.
    answered: usize,
    /// The requests taken in since the latest commit.
    came: usize,
    /// Whether clients sent their next requests in time when a commit last waited for them.
    come_back: bool,
    /// The commits since a commit last waited.
    commits_alone: u32,
}

/// How the open batch gathers requests.
#[derive(Debug, Clone, Copy)]
enum Gathering {
    NotBegun,
    /// Gathers for as long as each turn brings news: a request or a network event.
    WhileNews {
        until: Duration,
        news: bool,
    },
    /// Gathers until as many requests have come as the latest commit answered.
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

    /// Returns how the open batch waits for more requests; `None` if it is to be committed now. Called again
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

    pub(super) fn gathered(&mut self, news_came: bool) {
        if let Gathering::WhileNews { news, .. } = &mut self.gathering {
            *news = news_came;
        }
    }

    /// Whether commits are made on another thread.
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

//! Bugs to be planted, so that the simulation shows that it finds them. Each is
//! made where the simulation joins the domain's parts, none in these parts.

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Plant {
    /// Answers go out when a batch is handed to the log, not when it is durable.
    AnswerBeforeCommit,
    /// A read is not held for what it saw.
    AnswerReadsAtOnce,
    /// A rejection is not held for what it saw.
    AnswerRejectionsAtOnce,
    /// Two answers go to each other's askers.
    SwapAnswers,
    /// The mesh delivers a request twice.
    DeliverTwice,
    /// A full log is taken for a commit.
    TakeFullForDone,
    /// A commit of which nobody knows what is on disk is taken back, as if none of it was.
    TakeUnknownForFull,
    /// A log that says that it had no room keeps the batch all the same.
    FullLogKeepsBatch,
    /// What a full log takes back is not all that had no room.
    KeepLastOfRolledBack,
    /// What a killed process was writing reaches the file after the next start.
    OldEpochWrites,
    /// Recovery goes on behind a gap.
    IgnoreGaps,
    /// Recovery takes no notice of how far a file was committed.
    IgnoreMarks,
    /// A file is marked before the batch is in it.
    MarkBeforeCommit,
    /// Recovery goes on behind a wrong checksum.
    IgnoreChecksums,
    /// Recovery applies file after file, not epoch after epoch.
    ReplayByFile,
    /// Recovery gives records to the shard that owned their slot before this start.
    RouteByOldCount,
    /// Recovery leaves cancellations out.
    ForgetCancels,
    /// Recovery forgets how late it was in each slot.
    ForgetTimes,
    /// After a start ids are counted from 1 again.
    ForgetIds,
}

impl Plant {
    pub(super) const ALL: [Plant; 19] = [
        Plant::AnswerBeforeCommit,
        Plant::AnswerReadsAtOnce,
        Plant::AnswerRejectionsAtOnce,
        Plant::SwapAnswers,
        Plant::DeliverTwice,
        Plant::TakeFullForDone,
        Plant::TakeUnknownForFull,
        Plant::FullLogKeepsBatch,
        Plant::KeepLastOfRolledBack,
        Plant::OldEpochWrites,
        Plant::IgnoreGaps,
        Plant::IgnoreMarks,
        Plant::MarkBeforeCommit,
        Plant::IgnoreChecksums,
        Plant::ReplayByFile,
        Plant::RouteByOldCount,
        Plant::ForgetCancels,
        Plant::ForgetTimes,
        Plant::ForgetIds,
    ];
}

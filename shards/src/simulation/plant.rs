//! Planted bugs, which show what the simulation finds. Each lies where the simulation joins the parts of
//! the domain, none in these parts.

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Plant {
    /// Replies leave when their batch is given to the log, not when it is durable.
    AnswerBeforeCommit,
    /// The reply to a query leaves before the records that it saw are durable.
    AnswerReadsAtOnce,
    /// A rejection leaves before the records that it saw are durable.
    AnswerRejectionsAtOnce,
    /// Those who wait for news of an event get it before it is durable.
    WakeBeforeCommit,
    /// News that comes between an answer and the next question for news is missed.
    MissNews,
    /// Those who wait for news get what was to be committed, though it was undone.
    ShowUndoneNews,
    /// Those who wait for news are told that there is none, before their time is over.
    EndWatchesEarly,
    /// Two replies are swapped.
    SwapAnswers,
    /// The position of an event is shown as one more than that of its last record.
    ShowNextPosition,
    /// The mesh delivers a request twice.
    DeliverTwice,
    /// The mesh leaves out the versions of an event for which a change is meant.
    ChangeAnyVersion,
    /// The mesh leaves out how many tickets of a hold a confirmation keeps.
    ConfirmAll,
    /// The mesh delivers a query over all slots to another shard than the one that was asked.
    AskAnotherShard,
    /// The list of an organizer's events leaves out those that were handed over to the organizer.
    ListByFirstOrganizer,
    /// A batch that had no room counts as committed.
    TakeFullForDone,
    /// A commit with an unknown result is rolled back, as if nothing of it were on disk.
    TakeUnknownForFull,
    /// A log reports that it had no room, and stores the batch all the same.
    FullLogKeepsBatch,
    /// A batch that found the log locked counts as committed.
    TakeLockedForDone,
    /// A log reports that it is locked, and stores the batch all the same.
    LockedLogKeepsBatch,
    /// A rollback leaves out the last record.
    KeepLastOfRolledBack,
    /// A batch of a killed process reaches the file after the next start.
    OldEpochWrites,
    /// A start that found no room starts its epoch later, whatever another process has written since it read.
    ClaimWithoutCheck,
    /// A shard takes in more requests than its driver asked for.
    TakeInTooMany,
    /// A core that sleeps is not woken when its log is done.
    LoseSignalOfLog,
    /// A core that sleeps is not woken at the time that its driver named.
    IgnoreDeadline,
    /// A core ends holds only when requests come.
    EndHoldsForRequestsOnly,
    /// A core takes in queries with the time just before a deadline, in the millisecond of the deadline.
    HoldsEndLateForReaders,
    /// A core takes in confirmations with the time just before a deadline, for a second.
    ConfirmTooLate,
    /// Deadlines follow the wall clock.
    DeadlinesByWallClock,
    /// A log does not report that a reader keeps its journal from being emptied.
    HindranceUntold,
    /// Recovery continues after a gap.
    IgnoreGaps,
    /// Recovery ignores the marks of the last committed rows.
    IgnoreMarks,
    /// A file is marked before the batch is in it.
    MarkBeforeCommit,
    /// Recovery continues after a wrong checksum.
    IgnoreChecksums,
    /// Recovery continues after a time that went back without a record.
    IgnoreTimes,
    /// Recovery applies files one after the other, instead of epochs.
    ReplayByFile,
    /// Recovery gives records to the shard that owned their slot before this start.
    RouteByOldCount,
    /// Recovery leaves out cancellations.
    ForgetCancels,
    /// Recovery leaves out the tickets that parts of reservations gave back.
    ForgetReductions,
    /// Recovery takes holds for reservations.
    HoldsBecomeReservations,
    /// Recovery leaves out the ends of holds at their deadlines.
    ForgetExpiries,
    /// Recovery applies the ends of holds at their deadlines twice.
    ExpireTwice,
    /// Recovery leaves out the time that holds got at starts.
    ForgetExtensions,
    /// Recovery applies twice what gives up a hold.
    ReleaseTwice,
    /// Recovery leaves events with the organizers who created them.
    ForgetHandOvers,
    /// Recovery leaves out the ends of an account's tokens.
    ForgetEndsOfTokens,
    /// Recovery leaves out API keys.
    ForgetApiKeys,
    /// Recovery leaves out the ends of API keys, so that they work again.
    ForgetEndsOfApiKeys,
    /// A core goes on taking an API key that was ended.
    EndedApiKeyWorks,
    /// Recovery leaves out the keys of requests.
    ForgetKeys,
    /// Recovery leaves out the generations of keys.
    ForgetGenerations,
    /// The clock by which keys are forgotten runs three times too fast.
    AgeKeysTooFast,
    /// The content of requests with keys is not compared.
    IgnoreFingerprints,
    /// A key's answer shows the reservation as it is now.
    ReplayThePresent,
    /// A rejection is given again to the next request with its key.
    KeepRejections,
    /// Recovery loses the time of each slot's last record.
    ForgetTimes,
    /// Shards are told the latest time so far, when the clock is far behind it.
    KeepLatestTime,
    /// After a start, new ids begin at 1 again.
    ForgetIds,
    /// A start does not tell the shards how many reservations an account may have.
    ForgetAccountLimit,
    /// A shard refuses an account's last reservation.
    AccountLimitTooLow,
    /// The limit of a customer's tickets ignores those that the customer has.
    ForgetTickets,
    /// The limit of a customer's tickets ignores those of refs.
    ForgetTicketsOfRefs,
    /// The limit of a reservation's tickets is one for tickets that are set aside, too.
    LimitBlocks,
    /// Recovery gives the tickets of one ref to another.
    MixUpRefs,
    /// The list of a ref's reservations has all of the event.
    IgnoreRef,
    /// The mesh leaves out how many tickets a transfer gives.
    TransferAll,
    /// Recovery leaves out transfers of whole reservations.
    ForgetTransfers,
    /// Recovery gives the receiver of a part nothing.
    LoseTransferredPart,
    /// Recovery leaves the giver of a part all tickets.
    DoubleTransferredPart,
    /// The list of a customer's reservations has those that the customer gave away.
    ListGivenAway,
    /// The limit of an event ignores the tickets that the customer holds.
    ForgetHeldTickets,
    /// The limit of a customer's tickets counts those of all events.
    CountAllEvents,
    /// A sale starts and ends a millisecond late.
    WindowLate,
    /// A sale starts and ends by a clock that does not follow the wall clock.
    WindowBySteadyClock,
    /// Recovery leaves out the limits and windows of events.
    ForgetRules,
    /// A list of an event's reservations goes on one reservation too late.
    SkipReservation,
    /// A list of an event's reservations has those with other statuses, too.
    IgnoreStatuses,
    /// The changes of an event are shown before they are durable.
    ShowChangesEarly,
    /// The changes of an event leave one out.
    SkipChange,
    /// The changes of an event in memory are others than those in the log.
    MixUpChanges,
    /// The changes of an event end where those in memory begin.
    ForgetOldChanges,
    /// Removed accounts have no usernames in lists.
    ForgetRemovedNames,
    /// A coordinator takes the refusal of an event for its part.
    CommitWithoutParts,
    /// The limit of a customer's tickets ignores those of refs when an organizer orders.
    ForgetOrderedForRefs,
    /// A list of the orders for a ref has all of the account.
    IgnoreRefOfOrders,
    /// The mesh takes the ref out of what is asked of an event for an order.
    OrderForGuests,
    /// The mesh asks events for an order in the name of their organizers.
    OrderForAnyOrganizer,
    /// Nobody tells prepared parts that an attempt has failed.
    ForgetAborts,
    /// A part that waits to hear ends by itself.
    DecideAlone,
    /// A part of an attempt that failed is confirmed.
    SellAborted,
    /// A part hears of the order that its owner placed last, whatever attempt it was prepared for.
    CommitAnyPart,
    /// A coordinator takes what it has sent to a part for done.
    SettleEarly,
    /// A coordinator takes each part for locked.
    IgnoreLocks,
    /// Recovery leaves out that parts are locked.
    ForgetLocks,
    /// Recovery leaves out parts that are prepared, and what becomes of them.
    ForgetPrepared,
    /// Recovery leaves out that parts end with their orders.
    ForgetPartEnds,
    /// Recovery leaves out that the time of an order is over.
    ForgetOrderExpiries,
    /// Recovery takes each order for one that owes nothing.
    ForgetOrderDebts,
}

impl Plant {
    pub(super) const ALL: [Plant; 98] = [
        Plant::AnswerBeforeCommit,
        Plant::AnswerReadsAtOnce,
        Plant::AnswerRejectionsAtOnce,
        Plant::WakeBeforeCommit,
        Plant::MissNews,
        Plant::ShowUndoneNews,
        Plant::EndWatchesEarly,
        Plant::SwapAnswers,
        Plant::ShowNextPosition,
        Plant::DeliverTwice,
        Plant::ChangeAnyVersion,
        Plant::ConfirmAll,
        Plant::AskAnotherShard,
        Plant::ListByFirstOrganizer,
        Plant::TakeFullForDone,
        Plant::TakeUnknownForFull,
        Plant::FullLogKeepsBatch,
        Plant::TakeLockedForDone,
        Plant::LockedLogKeepsBatch,
        Plant::KeepLastOfRolledBack,
        Plant::OldEpochWrites,
        Plant::ClaimWithoutCheck,
        Plant::TakeInTooMany,
        Plant::LoseSignalOfLog,
        Plant::IgnoreDeadline,
        Plant::EndHoldsForRequestsOnly,
        Plant::HoldsEndLateForReaders,
        Plant::ConfirmTooLate,
        Plant::DeadlinesByWallClock,
        Plant::HindranceUntold,
        Plant::IgnoreGaps,
        Plant::IgnoreMarks,
        Plant::MarkBeforeCommit,
        Plant::IgnoreChecksums,
        Plant::IgnoreTimes,
        Plant::ReplayByFile,
        Plant::RouteByOldCount,
        Plant::ForgetCancels,
        Plant::ForgetReductions,
        Plant::HoldsBecomeReservations,
        Plant::ForgetExpiries,
        Plant::ExpireTwice,
        Plant::ForgetExtensions,
        Plant::ReleaseTwice,
        Plant::ForgetHandOvers,
        Plant::ForgetEndsOfTokens,
        Plant::ForgetApiKeys,
        Plant::ForgetEndsOfApiKeys,
        Plant::EndedApiKeyWorks,
        Plant::ForgetKeys,
        Plant::ForgetGenerations,
        Plant::AgeKeysTooFast,
        Plant::IgnoreFingerprints,
        Plant::ReplayThePresent,
        Plant::KeepRejections,
        Plant::ForgetTimes,
        Plant::KeepLatestTime,
        Plant::ForgetIds,
        Plant::ForgetAccountLimit,
        Plant::AccountLimitTooLow,
        Plant::ForgetTickets,
        Plant::ForgetTicketsOfRefs,
        Plant::LimitBlocks,
        Plant::MixUpRefs,
        Plant::IgnoreRef,
        Plant::TransferAll,
        Plant::ForgetTransfers,
        Plant::LoseTransferredPart,
        Plant::DoubleTransferredPart,
        Plant::ListGivenAway,
        Plant::ForgetHeldTickets,
        Plant::CountAllEvents,
        Plant::WindowLate,
        Plant::WindowBySteadyClock,
        Plant::ForgetRules,
        Plant::SkipReservation,
        Plant::IgnoreStatuses,
        Plant::ShowChangesEarly,
        Plant::SkipChange,
        Plant::MixUpChanges,
        Plant::ForgetOldChanges,
        Plant::ForgetRemovedNames,
        Plant::CommitWithoutParts,
        Plant::ForgetOrderedForRefs,
        Plant::IgnoreRefOfOrders,
        Plant::OrderForGuests,
        Plant::OrderForAnyOrganizer,
        Plant::ForgetAborts,
        Plant::DecideAlone,
        Plant::SellAborted,
        Plant::CommitAnyPart,
        Plant::SettleEarly,
        Plant::IgnoreLocks,
        Plant::ForgetLocks,
        Plant::ForgetPrepared,
        Plant::ForgetPartEnds,
        Plant::ForgetOrderExpiries,
        Plant::ForgetOrderDebts,
    ];
}

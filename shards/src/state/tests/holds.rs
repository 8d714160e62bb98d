//! The rules of holds, as tables. `held 3 until 10001` is in milliseconds after the first step.

use super::table::check;

#[test]
fn a_hold_takes_tickets_until_it_is_confirmed_or_given_up() {
    check(
        "event 5 -> ok | a hold 3 10 -> ok | view -> 0+3/5 v1 | totals -> 0+3 of 5 | b reserve 3 -> sold-out 2 | b hold 3 10 -> sold-out 2 | a see 1 -> held 3 until 10001 | a mine -> 1 of 1 | a confirm 1 -> ok | view -> 3/5 v1 | totals -> 3 of 5 | a see 1 -> confirmed 3 | a cancel 1 -> ok | view -> 0/5 v1",
    );
    check(
        "event 5 -> ok | a hold 3 10 -> ok | a release 1 -> ok | view -> 0/5 v1 | a see 1 -> cancelled 3 | a release 1 -> same | a cancel 1 -> same | a confirm 1 -> hold-released | a reduce 1 1 -> was-cancelled | view -> 0/5 v1",
    );
    // A cancellation of a hold gives it up.
    check("event 5 -> ok | a hold 3 10 -> ok | a cancel 1 -> ok | a release 1 -> same | view -> 0/5 v1");
    check("event 0 -> ok | a hold 1 10 -> sold-out 0");
    check("a hold 1 10 -> no-event | event 5 -> ok | o delete -> ok | a hold 1 10 -> deleted");
}

#[test]
fn a_hold_is_confirmed_whole_or_in_part() {
    check(
        "event 5 -> ok | a hold 4 10 -> ok | a confirm 1 5 -> has 4 | a confirm 1 3 -> ok | view -> 3/5 v1 | b reserve 2 -> ok | view -> 5/5 v1 | a see 1 -> confirmed 3",
    );
    // A repetition changes nothing; another quantity is refused, also the one of the hold.
    check(
        "event 5 -> ok | a hold 4 10 -> ok | a confirm 1 3 -> ok | a confirm 1 3 -> confirmed 3 | a confirm 1 -> confirmed 3 | a confirm 1 4 -> hold-confirmed 3 | a confirm 1 2 -> hold-confirmed 3 | a release 1 -> hold-confirmed 3 | wait 10 -> ok | expire -> same | a confirm 1 3 -> confirmed 3 | view -> 3/5 v1",
    );
    // What was never held is as what was confirmed.
    check(
        "event 5 -> ok | a reserve 2 -> ok | a confirm 1 -> confirmed 2 | a confirm 1 2 -> confirmed 2 | a confirm 1 1 -> hold-confirmed 2 | a release 1 -> hold-confirmed 2 | a cancel 1 -> ok | a confirm 1 -> hold-released | a release 1 -> same",
    );
    check(
        "event 5 -> ok | a hold 4 10 -> ok | a reduce 1 3 -> ok | view -> 0+3/5 v1 | a reduce 1 3 -> held 3 until 10001 | a reduce 1 4 -> has 3 | a confirm 1 4 -> has 3 | a confirm 1 -> ok | a reduce 1 1 -> ok | a confirm 1 3 -> hold-confirmed 1 | view -> 1/5 v1",
    );
}

#[test]
fn a_hold_is_its_buyers() {
    check(
        "event 5 -> ok | a hold 1 10 -> ok | b confirm 1 -> no-reservation | o confirm 1 -> not-your-reservation | p confirm 1 -> no-reservation | z confirm 1 -> not-your-reservation | a confirm 2 -> no-reservation | a confirm 0 -> no-reservation | a-organizer confirm 1 -> ok",
    );
    check(
        "event 5 -> ok | a hold 1 10 -> ok | b release 1 -> no-reservation | p release 1 -> no-reservation | a release 2 -> no-reservation | b-organizer release 1 -> no-reservation | z release 1 -> ok | a hold 1 10 -> ok | o release 2 -> ok",
    );
}

#[test]
fn holds_are_over_at_their_deadlines() {
    // The steps are at 0, 1, 2 ... milliseconds; the hold of the second ends at 10001.
    check(
        "event 5 -> ok | a hold 3 10 -> ok | expire -> same | wait 9 -> ok | expire -> same | wait 0 -> ok | a see 1 -> held 3 until 10001 | a confirm 1 2 -> ok | view -> 2/5 v1",
    );
    check(
        "event 5 -> ok | a hold 3 10 -> ok | b hold 1 20 -> ok | wait 9 -> ok | wait 1 -> ok | expire -> ok | expire -> same | view -> 0+1/5 v1 | totals -> 0+1 of 5 | o reservations -> 1 of 2 | a see 1 -> expired 3 until 10001 | b see 2 -> held 1 until 20002 | a confirm 1 -> hold-expired | a confirm 1 1 -> hold-expired | a reduce 1 1 -> hold-expired | a release 1 -> same | a cancel 1 -> same | view -> 0+1/5 v1 | b reserve 4 -> ok | b confirm 2 -> ok | view -> 5/5 v1 | wait 20 -> ok | expire -> same",
    );
    // One record ends many, in part reduced, confirmed or given up; and later holds go on.
    check(
        "event 9 -> ok | a hold 3 10 -> ok | a hold 2 10 -> ok | b hold 1 11 -> ok | b hold 1 10 -> ok | a reduce 1 2 -> ok | a confirm 2 1 -> ok | b release 4 -> ok | view -> 1+3/9 v1 | wait 10 -> ok | expire -> ok | view -> 1+1/9 v1 | a hold 2 10 -> ok | wait 1 -> ok | expire -> ok | view -> 1+2/9 v1 | o reservations -> 2 of 5 | wait 10 -> ok | expire -> ok | view -> 1/9 v1",
    );
}

#[test]
fn events_with_holds_are_edited_and_deleted() {
    check(
        "event 5 -> ok | a hold 2 10 -> ok | b reserve 1 -> ok | o quota 2 -> below 3 | o quota 3 -> ok | b reserve 1 -> sold-out 0 | z hand p -> ok | totals -> 1+2 of 3 | p delete -> has 1+2 | p delete force -> ok | totals -> 0 of 0 | a see 1 -> cancelled 2 | a confirm 1 -> hold-released | a release 1 -> same | wait 10 -> ok | expire -> same | a see 1 -> cancelled 2 | p reservations -> 0 of 2",
    );
    // What had expired before stays so.
    check(
        "event 5 -> ok | a hold 2 10 -> ok | a hold 1 20 -> ok | wait 10 -> ok | expire -> ok | o delete -> has 0+1 | o delete force -> ok | a see 1 -> expired 2 until 10001 | a confirm 1 -> hold-expired | a see 2 -> cancelled 1 | a confirm 2 -> hold-released",
    );
    check("event 5 -> ok | a hold 2 10 -> ok | wait 10 -> ok | expire -> ok | o delete -> ok");
}

#[test]
fn a_start_gives_holds_more_time() {
    // At least a minute from then: also those whose time was over while nobody could record it.
    check(
        "event 9 -> ok | a hold 1 10 -> ok | a hold 2 600 -> ok | b reserve 1 -> ok | wait 30 -> ok | start -> ok | a see 1 -> held 1 until 90005 | a see 2 -> held 2 until 600002 | view -> 1+3/9 v1 | expire -> same | wait 60 -> ok | expire -> ok | view -> 1+2/9 v1",
    );
    // Each start again; and no longer than the longest hold.
    check(
        "event 9 -> ok | a hold 1 10 -> ok | start -> ok | a see 1 -> held 1 until 60002 | wait 10 -> ok | start -> ok | a see 1 -> held 1 until 70005 | b hold 1 1800 -> ok | start -> ok | b see 2 -> held 1 until 1810007 | a confirm 1 -> ok | start -> ok | view -> 1+1/9 v1",
    );
    // What is over, given up or deleted does not come back.
    check(
        "event 9 -> ok | a hold 1 10 -> ok | a hold 2 20 -> ok | a hold 3 20 -> ok | a release 3 -> ok | wait 10 -> ok | expire -> ok | start -> ok | view -> 0+2/9 v1 | a see 1 -> expired 1 until 10001 | a see 2 -> held 2 until 70007 | o delete force -> ok | start -> ok | a see 2 -> cancelled 2 | a see 1 -> expired 1 until 10001",
    );
}

#[test]
fn live_holds_count_for_a_customers_limit() {
    let begin = "event 9 -> ok | o rule customer 4 -> ok | a hold 1 10 -> ok | a hold 2 20 -> ok";
    for rest in [
        "a reserve 2 -> 1 more | a hold 2 10 -> 1 more | a reserve 1 -> ok | a hold 1 10 -> 0 more",
        // A part that is not confirmed, or given back, is free again; the rest counts as before.
        "a hold 1 10 -> ok | a hold 1 10 -> 0 more | a confirm 2 1 -> ok | a hold 2 10 -> 1 more | a reduce 2 1 -> confirmed 1 | a hold 1 30 -> ok | a reserve 1 -> 0 more | a release 1 -> ok | a reserve 1 -> ok",
        "a reserve 1 -> ok | a reduce 2 1 -> ok | a reserve 2 -> 1 more | a confirm 2 -> ok | a reserve 1 -> ok | a cancel 2 -> ok | a reserve 2 -> 1 more",
        // What is over is free with its record, and only then.
        "a reserve 1 -> ok | wait 10 -> ok | a reserve 1 -> 0 more | expire -> ok | a reserve 2 -> 1 more | a hold 1 10 -> ok | a reserve 1 -> 0 more | wait 10 -> ok | expire -> ok | a reserve 4 -> 3 more | a reserve 3 -> ok",
        // A start moves deadlines, of what is live alone.
        "a reserve 2 -> 1 more | wait 10 -> ok | expire -> ok | start -> ok | a reserve 3 -> 2 more | a hold 1 10 -> ok | wait 10 -> ok | expire -> ok | a reserve 3 -> 2 more | start -> ok | a confirm 2 -> ok | a reserve 2 -> ok | wait 60 -> ok | a reserve 1 -> 0 more",
        // The limit goes and comes while there are holds.
        "a reserve 2 -> 1 more | o rule customer none -> ok | a hold 3 10 -> ok | wait 10 -> ok | o rule customer 6 -> ok | a reserve 1 -> 0 more | expire -> ok | a reserve 5 -> 4 more | a reserve 4 -> ok | o delete force -> ok",
    ] {
        check(&format!("{begin} | {rest}"));
    }
}

/// Only the sale itself is bound to the time and the limits of the event.
#[test]
fn holds_are_confirmed_whatever_the_rules_are_now() {
    check(
        "event 9 -> ok | a hold 3 60 -> ok | o rule reservation 1 -> ok | o rule customer 1 -> ok | o quota 3 -> ok | a confirm 1 -> ok | a see 1 -> confirmed 3",
    );
}

/// A request with a key has its first answer, whatever became of the hold.
#[test]
fn keys_of_holds_and_confirmations_have_their_first_answers() {
    let begin = "event 9 -> ok | a hold 3 10 key 1 -> ok | a hold 3 10 key 1 -> again held 3 until 10001";
    for rest in [
        // Confirmed in part, reduced and cancelled.
        "a confirm 1 2 key 2 -> ok | a confirm 1 2 key 2 -> again confirmed 2 | a hold 3 10 key 1 -> again held 3 until 10001 | view -> 2/9 v1 | a confirm 1 3 key 2 -> reused | a reduce 1 1 -> ok | a confirm 1 2 key 2 -> again confirmed 2 | a cancel 1 -> ok | a confirm 1 2 key 2 -> again confirmed 2 | a confirm 1 2 -> hold-released | a hold 3 10 key 1 -> again held 3 until 10001 | view -> 0/9 v1",
        // A confirmation that changes nothing keeps its key, too.
        "a confirm 1 -> ok | a confirm 1 key 2 -> ok | a reduce 1 1 -> ok | a confirm 1 key 2 -> again confirmed 3 | a confirm 1 -> confirmed 1 | view -> 1/9 v1",
        // Over, and a refusal is not kept.
        "wait 10 -> ok | expire -> ok | a hold 3 10 key 1 -> again held 3 until 10001 | view -> 0/9 v1 | a confirm 1 key 2 -> hold-expired | a hold 1 10 key 2 -> ok | a hold 1 10 key 2 -> again held 1 until 20008 | view -> 0+1/9 v1",
        // A start gave it more time.
        "wait 20 -> ok | start -> ok | a see 1 -> held 3 until 80004 | a hold 3 10 key 1 -> again held 3 until 10001 | a confirm 1 key 2 -> ok | start -> ok | a confirm 1 key 2 -> again confirmed 3 | a hold 3 10 key 1 -> again held 3 until 10001 | view -> 3/9 v1",
        // Given up, or deleted with its event.
        "a release 1 -> ok | a hold 3 10 key 1 -> again held 3 until 10001 | a confirm 1 key 2 -> hold-released | a hold 2 10 -> ok | o delete force -> ok | a hold 3 10 key 1 -> again held 3 until 10001 | a confirm 2 key 2 -> hold-released | a hold 1 10 key 2 -> deleted",
    ] {
        check(&format!("{begin} | {rest}"));
    }
}

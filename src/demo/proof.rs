//! The proof: compares what the server has recorded, read page by page over HTTP, with the answers
//! that the buyers got.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use shards::ids::{EventId, ReservationId};

use super::DemoError;
use super::api::{Api, Event, KEYED_TICKETS};
use super::buyers::Sale;
use super::interrupt::{Interrupt, POLL};
use super::progress::{self, Progress};
use super::retries::Retries;

/// One event as the server reports it.
pub(super) struct Listing {
    event: Event,
    /// The confirmed reservations.
    reservations: Vec<ReservationId>,
    /// The number of tickets of the confirmed reservations.
    tickets: u64,
    /// The number of confirmed reservations with as many tickets as only requests with a key ask for.
    keyed: u64,
    /// The live holds.
    holds: u64,
    /// The number of tickets of the live holds.
    held: u64,
}

/// The result of the comparison.
#[derive(Debug, Default)]
pub(super) struct Proof {
    pub acknowledged: u64,
    /// The number of acknowledged reservations that are recorded.
    pub found: u64,
    pub recorded: u64,
    pub unanswered: u64,
    /// The number of tickets sold beyond the quotas.
    pub oversold: u64,
    /// The failed checks; empty if the proof succeeded.
    pub violations: Vec<String>,
}

impl Proof {
    pub(super) fn of(sale: &Sale, listings: &[Listing]) -> Proof {
        let mut recorded: Vec<ReservationId> =
            listings.iter().flat_map(|listing| &listing.reservations).copied().collect();
        let listed_count = recorded.len();
        recorded.sort_unstable();
        recorded.dedup();
        let mut proof = Proof {
            acknowledged: sale.acknowledged.len() as u64,
            found: sale.acknowledged.iter().filter(|id| recorded.binary_search(id).is_ok()).count() as u64,
            recorded: recorded.len() as u64,
            unanswered: sale.unanswered,
            oversold: listings
                .iter()
                .map(|listing| (listing.tickets + listing.held).saturating_sub(listing.event.quota))
                .sum(),
            violations: Vec::new(),
        };
        proof.require(listed_count == recorded.len(), || "a reservation is listed twice".to_owned());
        proof.check_reservations(sale, &recorded);
        // Each of these requests has its answer, from before the kill or after it.
        let (sent, made) =
            (sale.keyed.len() as u64, listings.iter().map(|listing| listing.keyed).sum::<u64>());
        proof.require(made == sent, || {
            format!("{sent} requests with a key, some sent twice, made {made} reservations")
        });
        let holds = listings.iter().map(|listing| listing.holds).sum::<u64>();
        proof.require(holds <= sale.unanswered_holds, || {
            format!(
                "{holds} holds are live, but only {} requests to hold had no answer",
                sale.unanswered_holds
            )
        });
        for listing in listings {
            proof.check_listing(listing);
        }
        proof
    }

    /// Also checks that every ticket was sold.
    pub(super) fn of_sold_out(sale: &Sale, listings: &[Listing]) -> Proof {
        let mut proof = Proof::of(sale, listings);
        for Listing { event, .. } in listings {
            proof.require(event.remaining == 0, || {
                format!("event {} was reported sold out with {} tickets left", event.id, event.remaining)
            });
        }
        proof
    }

    /// Also checks what the buyers found when they tried again.
    pub(super) fn with_retries(mut self, retries: &Retries) -> Proof {
        self.violations.extend(retries.differing.iter().cloned());
        self
    }

    /// Returns an error with all violations if there are any.
    pub(super) fn verdict(&self) -> Result<(), DemoError> {
        let violations = self.violations.clone();
        if violations.is_empty() { Ok(()) } else { Err(DemoError::Disproved { violations }) }
    }

    fn check_reservations(&mut self, sale: &Sale, recorded: &[ReservationId]) {
        if let Some(lost) = sale.acknowledged.iter().find(|id| recorded.binary_search(id).is_err()) {
            let count = self.acknowledged - self.found;
            self.violations.push(format!("{count} acknowledged reservations are lost, for example {lost}"));
        }
        // The ids are sorted, so equal ones are adjacent.
        if let Some(twice) = sale.acknowledged.windows(2).find(|pair| pair[0] == pair[1]) {
            self.violations.push(format!("two buyers got the same reservation {}", twice[0]));
        }
        let Proof { acknowledged, recorded, unanswered, .. } = *self;
        self.require((acknowledged..=acknowledged + unanswered).contains(&recorded), || {
            format!(
                "{recorded} reservations are recorded, not {acknowledged} to {}",
                acknowledged + unanswered
            )
        });
    }

    fn check_listing(&mut self, listing: &Listing) {
        let Event { id, quota, reserved, held, remaining } = listing.event;
        let Listing { tickets, held: held_tickets, .. } = *listing;
        self.require(reserved <= quota, || format!("event {id} has sold {reserved} of {quota} tickets"));
        self.require(quota == reserved + held + remaining, || {
            format!(
                "event {id}: quota {quota}, but {reserved} reserved + {held} held + {remaining} remaining"
            )
        });
        self.require(reserved == tickets, || {
            format!("event {id} reports {reserved} reserved tickets, but its confirmed reservations have {tickets}")
        });
        self.require(held == held_tickets, || {
            format!("event {id} reports {held} held tickets, but its live holds have {held_tickets}")
        });
    }

    fn require(&mut self, holds: bool, violation: impl FnOnce() -> String) {
        if !holds {
            self.violations.push(violation());
        }
    }
}

/// Reads the events with their reservations, one thread per event. The progress bar is full at
/// `expected` reservations.
pub(super) fn read_listings(
    address: SocketAddr,
    admin: &str,
    events: &[EventId],
    expected: usize,
    interrupt: &Interrupt,
) -> Result<Vec<Listing>, DemoError> {
    let read = AtomicU64::new(0);
    thread::scope(|scope| {
        let mut readers = Vec::new();
        for &event in events {
            let read = &read;
            let reader = move || read_listing(address, admin, event, read, interrupt);
            let name = format!("reader-{event}");
            let reader = thread::Builder::new().name(name).spawn_scoped(scope, reader);
            readers.push(reader.map_err(DemoError::Thread)?);
        }
        let progress = Progress::new(expected as u64);
        while readers.iter().any(|reader| !reader.is_finished()) {
            let count = read.load(Ordering::Relaxed);
            progress.show(count, progress::looked_up(count));
            thread::sleep(POLL / 10);
        }
        drop(progress);
        readers.into_iter().map(|reader| reader.join().expect("a reader does not panic")).collect()
    })
}

fn read_listing(
    address: SocketAddr,
    admin: &str,
    event: EventId,
    read: &AtomicU64,
    interrupt: &Interrupt,
) -> Result<Listing, DemoError> {
    let mut api = Api::connect(address)?;
    let mut listing = Listing {
        event: api.event(event)?,
        reservations: Vec::new(),
        tickets: 0,
        keyed: 0,
        holds: 0,
        held: 0,
    };
    let mut after = None;
    loop {
        interrupt.check()?;
        let page = api.reservations(admin, event, after.as_deref())?;
        read.fetch_add(page.items.len() as u64, Ordering::Relaxed);
        for reservation in &page.items {
            match reservation.status.as_str() {
                "confirmed" => {
                    listing.tickets += reservation.quantity;
                    listing.keyed += u64::from(reservation.quantity == KEYED_TICKETS);
                    // An invalid id is skipped: if it stands for an acknowledged one, that one is missing.
                    listing.reservations.extend(reservation.id.parse::<ReservationId>());
                }
                "held" => {
                    listing.holds += 1;
                    listing.held += reservation.quantity;
                }
                _ => {}
            }
        }
        match page.next {
            Some(next) => after = Some(next),
            None => return Ok(listing),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::buyers::KeyedRequest;
    use super::*;

    const QUOTA: u64 = 3;

    fn ids(numbers: &[u32]) -> Vec<ReservationId> {
        numbers.iter().map(|&number| ReservationId { event: EventId(1), number }).collect()
    }

    /// Checks the violations for an event of three tickets, given the acknowledged and the recorded
    /// reservations and the reserved count that the event reports.
    #[track_caller]
    fn check(acknowledged: &[u32], unanswered: u64, recorded: &[u32], reserved: u64, violations: &[&str]) {
        let sale = Sale { acknowledged: ids(acknowledged), unanswered, ..Sale::default() };
        let remaining = QUOTA.saturating_sub(reserved);
        let event = Event { id: EventId(1), quota: QUOTA, reserved, held: 0, remaining };
        let tickets = recorded.len() as u64;
        let listing = Listing { event, reservations: ids(recorded), tickets, keyed: 0, holds: 0, held: 0 };
        let proof = Proof::of(&sale, &[listing]);
        assert_eq!(proof.violations.len(), violations.len(), "{:?}", proof.violations);
        for (found, wanted) in proof.violations.iter().zip(violations) {
            assert!(found.contains(wanted), "{found:?} does not contain {wanted:?}");
        }
    }

    #[test]
    fn violations_are_found() {
        check(&[], 0, &[], 0, &[]);
        check(&[1, 2, 3], 0, &[1, 2, 3], 3, &[]);
        check(&[1, 3], 1, &[1, 2, 3], 3, &[]);
        check(&[1, 2], 2, &[1, 2], 2, &[]);
        check(
            &[1, 2],
            0,
            &[1],
            1,
            &["1 acknowledged reservations are lost, for example 1-2", "1 reservations are recorded"],
        );
        check(&[1, 2], 1, &[1, 3], 2, &["lost, for example 1-2"]);
        check(&[1, 1], 0, &[1], 1, &["the same reservation 1-1", "1 reservations are recorded"]);
        check(&[1], 0, &[1, 2], 2, &["2 reservations are recorded, not 1 to 1"]);
        check(&[1], 1, &[1], 2, &["2 reserved tickets, but its confirmed reservations have 1"]);
        check(&[1, 2, 3, 4], 0, &[1, 2, 3, 4], 4, &["has sold 4 of 3", "quota 3, but 4 reserved"]);
        check(&[1, 2], 0, &[1, 2, 2], 3, &["listed twice"]);
    }

    /// Checks the violations for an event with live holds, given the requests to hold without an answer and the
    /// held count that the event reports.
    #[track_caller]
    fn check_holds(unanswered_holds: u64, holds: u64, held: u64, violations: &[&str]) {
        let sale = Sale { unanswered_holds, ..Sale::default() };
        let event = Event { id: EventId(1), quota: QUOTA, reserved: 0, held, remaining: QUOTA - held };
        let listing = Listing { event, reservations: Vec::new(), tickets: 0, keyed: 0, holds, held: holds };
        let retries = Retries { differing: vec!["another answer".to_owned()], ..Retries::default() };
        let proof = Proof::of(&sale, &[listing]).with_retries(&retries);
        let all = violations.iter().chain(&["another answer"]);
        assert_eq!(proof.violations.len(), violations.len() + 1, "{:?}", proof.violations);
        for (found, wanted) in proof.violations.iter().zip(all) {
            assert!(found.contains(wanted), "{found:?} does not contain {wanted:?}");
        }
    }

    /// A request with a key that buys twice is found, also if other requests had no answer, so that one of these could
    /// have made a reservation more.
    #[test]
    fn a_key_that_buys_twice_is_found() {
        for (sent, made, is_found) in [(1, 1, false), (1, 2, true), (1, 0, true), (0, 0, false), (0, 1, true)]
        {
            let key = |_| KeyedRequest { key: String::new(), event: EventId(1), token: 0, answer: None };
            let keyed: Vec<KeyedRequest> = (0..sent).map(key).collect();
            let sale = Sale { acknowledged: ids(&[1]), unanswered: 2, keyed, ..Sale::default() };
            let event = Event { id: EventId(1), quota: QUOTA, reserved: 2, held: 0, remaining: 1 };
            let reservations = ids(&[1, 2]);
            let listing = Listing { event, reservations, tickets: 2, keyed: made, holds: 0, held: 0 };
            let violations = Proof::of(&sale, &[listing]).violations;
            assert_eq!(violations.len(), usize::from(is_found), "{violations:?}");
            let wanted = format!("{sent} requests with a key, some sent twice, made {made} reservations");
            assert!(!is_found || violations[0] == wanted, "{violations:?}");
        }
    }

    #[test]
    fn violations_of_holds_and_retries_are_found() {
        check_holds(0, 0, 0, &[]);
        check_holds(2, 2, 2, &[]);
        check_holds(2, 1, 1, &[]);
        check_holds(1, 2, 2, &["2 holds are live, but only 1"]);
        check_holds(2, 1, 2, &["2 held tickets, but its live holds have 1"]);
    }
}

//! The proof: what the server has recorded, read page by page over HTTP,
//! against what the buyers were told.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use shards::ids::{EventId, ReservationId};

use super::DemoError;
use super::api::{Api, Event};
use super::buyers::Sale;
use super::interrupt::{Interrupt, POLL};
use super::report::{self, Progress};

/// All that the server says about one event.
pub(super) struct Book {
    event: Event,
    /// The confirmed ones.
    reservations: Vec<ReservationId>,
    tickets: u64,
}

/// What came out.
#[derive(Debug, Default)]
pub(super) struct Proof {
    pub acknowledged: u64,
    /// Of the acknowledged ones.
    pub found: u64,
    pub recorded: u64,
    pub unanswered: u64,
    /// Tickets beyond the quotas.
    pub oversold: u64,
    /// Empty when everything holds.
    pub violations: Vec<String>,
}

impl Proof {
    pub(super) fn of(sale: &Sale, books: &[Book]) -> Proof {
        let mut recorded: Vec<ReservationId> =
            books.iter().flat_map(|book| &book.reservations).copied().collect();
        let listed_count = recorded.len();
        recorded.sort_unstable();
        recorded.dedup();
        let mut proof = Proof {
            acknowledged: sale.acknowledged.len() as u64,
            found: sale.acknowledged.iter().filter(|id| recorded.binary_search(id).is_ok()).count() as u64,
            recorded: recorded.len() as u64,
            unanswered: sale.unanswered,
            oversold: books.iter().map(|book| book.tickets.saturating_sub(book.event.quota)).sum(),
            violations: Vec::new(),
        };
        proof.demand(listed_count == recorded.len(), || "a reservation is listed twice".to_owned());
        proof.check_reservations(sale, &recorded);
        for book in books {
            proof.check_book(book);
        }
        proof
    }

    /// Also that not one ticket was left.
    pub(super) fn of_sold_out(sale: &Sale, books: &[Book]) -> Proof {
        let mut proof = Proof::of(sale, books);
        for Book { event, .. } in books {
            proof.demand(event.remaining == 0, || {
                format!("event {} was called sold out with {} tickets left", event.id, event.remaining)
            });
        }
        proof
    }

    /// # Errors
    ///
    /// Unless everything holds.
    pub(super) fn verdict(&self) -> Result<(), DemoError> {
        let violations = self.violations.clone();
        if violations.is_empty() { Ok(()) } else { Err(DemoError::Disproved { violations }) }
    }

    fn check_reservations(&mut self, sale: &Sale, recorded: &[ReservationId]) {
        if let Some(lost) = sale.acknowledged.iter().find(|id| recorded.binary_search(id).is_err()) {
            let count = self.acknowledged - self.found;
            self.violations.push(format!("{count} acknowledged reservations are lost, {lost} is one"));
        }
        // The ids are sorted, so that equal ones are neighbours.
        if let Some(twice) = sale.acknowledged.windows(2).find(|pair| pair[0] == pair[1]) {
            self.violations.push(format!("two buyers were promised the same reservation {}", twice[0]));
        }
        let Proof { acknowledged, recorded, unanswered, .. } = *self;
        self.demand((acknowledged..=acknowledged + unanswered).contains(&recorded), || {
            format!("{recorded} are recorded, not {acknowledged} to {}", acknowledged + unanswered)
        });
    }

    fn check_book(&mut self, book: &Book) {
        let Event { id, quota, reserved, held, remaining } = book.event;
        let tickets = book.tickets;
        self.demand(reserved <= quota, || format!("event {id} has sold {reserved} of {quota} tickets"));
        self.demand(quota == reserved + held + remaining, || {
            format!(
                "event {id}: quota {quota}, but {reserved} reserved + {held} held + {remaining} remaining"
            )
        });
        self.demand(reserved == tickets, || {
            format!("event {id} says {reserved} reserved, its confirmed reservations have {tickets}")
        });
    }

    fn demand(&mut self, holds: bool, violation: impl FnOnce() -> String) {
        if !holds {
            self.violations.push(violation());
        }
    }
}

/// Reads the events' books side by side. `expected` reservations fill the progress bar.
pub(super) fn read_books(
    address: SocketAddr,
    admin: &str,
    events: &[EventId],
    expected: usize,
    interrupt: &Interrupt,
) -> Result<Vec<Book>, DemoError> {
    let read = AtomicU64::new(0);
    thread::scope(|scope| {
        let mut readers = Vec::new();
        for &event in events {
            let read = &read;
            let reader = move || read_book(address, admin, event, read, interrupt);
            let name = format!("reader-{event}");
            let reader = thread::Builder::new().name(name).spawn_scoped(scope, reader);
            readers.push(reader.map_err(DemoError::Thread)?);
        }
        let progress = Progress::new(expected as u64);
        while readers.iter().any(|reader| !reader.is_finished()) {
            let count = read.load(Ordering::Relaxed);
            progress.show(count, report::looked_up(count));
            thread::sleep(POLL / 10);
        }
        drop(progress);
        readers.into_iter().map(|reader| reader.join().expect("a reader does not panic")).collect()
    })
}

fn read_book(
    address: SocketAddr,
    admin: &str,
    event: EventId,
    read: &AtomicU64,
    interrupt: &Interrupt,
) -> Result<Book, DemoError> {
    let mut api = Api::connect(address)?;
    let mut book = Book { event: api.event(event)?, reservations: Vec::new(), tickets: 0 };
    let mut after = None;
    loop {
        interrupt.check()?;
        let page = api.reservations(admin, event, after.as_deref())?;
        read.fetch_add(page.items.len() as u64, Ordering::Relaxed);
        for reservation in page.items.iter().filter(|reservation| reservation.status == "confirmed") {
            book.tickets += reservation.quantity;
            // An id that is none of ours cannot be an acknowledged one: that one is then missed.
            book.reservations.extend(reservation.id.parse::<ReservationId>());
        }
        match page.next {
            Some(next) => after = Some(next),
            None => return Ok(book),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUOTA: u64 = 3;

    fn ids(numbers: &[u32]) -> Vec<ReservationId> {
        numbers.iter().map(|&number| ReservationId { event: EventId(1), number }).collect()
    }

    /// One event of three tickets: who was promised what, what is recorded, and what the event says.
    #[track_caller]
    fn check(acknowledged: &[u32], unanswered: u64, recorded: &[u32], reserved: u64, violations: &[&str]) {
        let sale = Sale { acknowledged: ids(acknowledged), unanswered, ..Sale::default() };
        let remaining = QUOTA.saturating_sub(reserved);
        let event = Event { id: EventId(1), quota: QUOTA, reserved, held: 0, remaining };
        let book = Book { event, reservations: ids(recorded), tickets: recorded.len() as u64 };
        let proof = Proof::of(&sale, &[book]);
        assert_eq!(proof.violations.len(), violations.len(), "{:?}", proof.violations);
        for (found, wanted) in proof.violations.iter().zip(violations) {
            assert!(found.contains(wanted), "{found:?} does not say {wanted:?}");
        }
    }

    #[test]
    fn proof_finds_what_is_wrong() {
        check(&[], 0, &[], 0, &[]);
        check(&[1, 2, 3], 0, &[1, 2, 3], 3, &[]);
        check(&[1, 3], 1, &[1, 2, 3], 3, &[]);
        check(&[1, 2], 2, &[1, 2], 2, &[]);
        check(&[1, 2], 0, &[1], 1, &["1 acknowledged reservations are lost, 1-2", "1 are recorded"]);
        check(&[1, 2], 1, &[1, 3], 2, &["lost, 1-2"]);
        check(&[1, 1], 0, &[1], 1, &["the same reservation 1-1", "1 are recorded"]);
        check(&[1], 0, &[1, 2], 2, &["2 are recorded, not 1 to 1"]);
        check(&[1], 1, &[1], 2, &["2 reserved, its confirmed reservations have 1"]);
        check(&[1, 2, 3, 4], 0, &[1, 2, 3, 4], 4, &["has sold 4 of 3", "quota 3, but 4 reserved"]);
        check(&[1, 2], 0, &[1, 2, 2], 3, &["listed twice"]);
    }
}

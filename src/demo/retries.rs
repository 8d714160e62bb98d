//! What buyers do after the restart: they confirm the holds that the kill left open, and send every request
//! with a key again.

use std::net::SocketAddr;
use std::thread;

use shards::ids::ReservationId;

use super::DemoError;
use super::api::{Api, Reserved};
use super::buyers::{KeyedRequest, Sale};

/// What the buyers found after the restart.
#[derive(Debug, Default)]
pub(super) struct Retries {
    /// The holds that were confirmed.
    pub confirmed: u64,
    /// The requests with a key that were sent again.
    pub sent_again: u64,
    /// The requests among them that had no answer before the kill.
    pub answered_late: u64,
    /// The requests that got another answer than the first time.
    pub differing: Vec<String>,
}

/// Confirms the open holds of a sale and sends its requests with keys again, one thread a customer. Their
/// reservations are acknowledged then.
///
/// # Errors
///
/// When a hold that was acknowledged cannot be confirmed, or a request is refused.
pub(super) fn retry(address: SocketAddr, tokens: &[String], sale: &mut Sale) -> Result<Retries, DemoError> {
    let mut retries = Retries::default();
    let mut api = Api::connect(address)?;
    for hold in std::mem::take(&mut sale.holds) {
        api.confirm(&tokens[hold.token], hold.reservation)?;
        sale.acknowledged.push(hold.reservation);
        retries.confirmed += 1;
    }
    let keyed = &sale.keyed;
    let answers = thread::scope(|scope| {
        let customers = tokens.iter().enumerate().map(|(token, bearer)| {
            let requests = keyed.iter().filter(move |request| request.token == token);
            let send = move || send_again(address, bearer, requests);
            thread::Builder::new().spawn_scoped(scope, send).map_err(DemoError::Thread)
        });
        let customers: Vec<_> = customers.collect::<Result<_, _>>()?;
        let answers =
            customers.into_iter().map(|customer| customer.join().expect("a customer does not panic"));
        answers.collect::<Result<Vec<_>, _>>()
    })?;
    for (request, reservation) in answers.into_iter().flatten() {
        retries.sent_again += 1;
        match request.answer {
            None => {
                retries.answered_late += 1;
                sale.acknowledged.push(reservation);
            }
            Some(first) if first == reservation => {}
            Some(first) => retries.differing.push(format!(
                "the request with the key {} got reservation {first}, and {reservation} when it was sent again",
                request.key
            )),
        }
    }
    sale.acknowledged.sort_unstable();
    Ok(retries)
}

/// Sends requests again. Returns each with its reservation.
fn send_again<'a>(
    address: SocketAddr,
    bearer: &str,
    requests: impl Iterator<Item = &'a KeyedRequest>,
) -> Result<Vec<(&'a KeyedRequest, ReservationId)>, DemoError> {
    let mut api = Api::connect(address)?;
    let answer =
        |request: &'a KeyedRequest| match api.reserve_with_key(bearer, request.event, &request.key)? {
            Reserved::Acknowledged(reservation) => Ok((request, reservation)),
            Reserved::SoldOut | Reserved::Overloaded => Err(DemoError::Refused { key: request.key.clone() }),
        };
    requests.map(answer).collect()
}

//! Holds: made, seen, and waited for.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::client::Client;
use super::{number, text};

/// The shortest time of a hold.
pub(crate) const SHORTEST: Duration = Duration::from_secs(10);

/// How much later than its deadline the end of a hold may show on a busy machine.
pub(crate) const MARGIN: Duration = Duration::from_secs(5);

/// Makes a hold and returns its id. `body` has the quantity, and the time if it matters.
pub(crate) fn hold(customer: &Client, event: u64, body: &Value) -> String {
    let made = customer.post(&format!("/api/v1/events/{event}/holds"), body).expect(201).json();
    assert_eq!(made["status"], "held", "{made}");
    text(&made, "id").to_owned()
}

/// The tickets of an event: reserved, held, remaining.
pub(crate) fn tickets(client: &Client, event: u64) -> [u64; 3] {
    let seen = client.get(&format!("/api/v1/events/{event}")).expect(200).json();
    ["reserved", "held", "remaining"].map(|member| number(&seen, member))
}

/// Reads a hold of the shortest time until it has expired.
pub(crate) fn wait_for_end(client: &Client, id: &str) -> Value {
    let until = Instant::now() + SHORTEST + MARGIN;
    loop {
        let now = client.get(&format!("/api/v1/reservations/{id}")).expect(200).json();
        if now["status"] == "expired" {
            return now;
        }
        assert!(now["status"] == "held" && Instant::now() < until, "{now}");
        thread::sleep(Duration::from_millis(50));
    }
}

//! Reservations as CSV (RFC 4180), safe to open with a spreadsheet.

use super::EventReservation;
use crate::front::api::reservations::Reservation;

/// The line of names.
pub(super) const HEADER: &[u8] =
    b"id,event,customer,customer_name,customer_ref,kind,quantity,status,created_at,expires_at,cancelled_at,order\r\n";

pub(super) const EXAMPLE: &str = "id,event,customer,customer_name,customer_ref,kind,quantity,status,created_at,expires_at,cancelled_at,order\r\n\
    7-42,7,31,ada,,sale,2,confirmed,2026-03-02T12:00:00.017Z,,,\r\n";

pub(super) fn append_row(item: &EventReservation, text: &mut Vec<u8>) {
    let EventReservation { reservation, customer_name } = item;
    let &Reservation {
        id,
        event,
        customer,
        ref customer_ref,
        kind,
        quantity,
        status,
        created_at,
        expires_at,
        order,
        cancelled_at,
    } = reservation;
    let mut digits = itoa::Buffer::new();
    // These have no character that means something in CSV or to a spreadsheet.
    text.extend_from_slice(id.to_text().as_bytes());
    text.push(b',');
    text.extend_from_slice(digits.format(event.0).as_bytes());
    text.push(b',');
    if let Some(customer) = customer {
        text.extend_from_slice(digits.format(customer.0).as_bytes());
    }
    text.push(b',');
    append_cell(customer_name.as_ref().map_or("", |name| name.as_str()), text);
    text.push(b',');
    append_cell(customer_ref.as_ref().map_or("", |customer_ref| customer_ref.as_str()), text);
    text.push(b',');
    text.extend_from_slice(kind.as_str().as_bytes());
    text.push(b',');
    text.extend_from_slice(digits.format(quantity).as_bytes());
    text.push(b',');
    text.extend_from_slice(status.as_str().as_bytes());
    text.push(b',');
    text.extend_from_slice(&created_at.text());
    for time in [expires_at, cancelled_at] {
        text.push(b',');
        if let Some(time) = time {
            text.extend_from_slice(&time.text());
        }
    }
    text.push(b',');
    if let Some(order) = order {
        text.extend_from_slice(order.to_string().as_bytes());
    }
    text.extend_from_slice(b"\r\n");
}

/// Appends a text that somebody chose. An apostrophe is put in front of what a spreadsheet would run as a formula; and
/// of an apostrophe, so that one that was put there can be told.
fn append_cell(cell: &str, text: &mut Vec<u8>) {
    let guard = if cell.starts_with(['=', '+', '-', '@', '\t', '\r', '\'']) { "'" } else { "" };
    let is_quoted = cell.contains(['"', ',', '\r', '\n']);
    if is_quoted {
        text.push(b'"');
    }
    text.extend_from_slice(guard.as_bytes());
    for byte in cell.bytes() {
        if byte == b'"' {
            text.push(b'"');
        }
        text.push(byte);
    }
    if is_quoted {
        text.push(b'"');
    }
}

#[cfg(test)]
mod tests {
    use shards::command::{CustomerRef, SaleKind};
    use shards::ids::{EventId, OrderId, ReservationId, Timestamp, UserId, Username};
    use shards::outcome::ReservationStatus;

    use super::*;
    use crate::front::rfc3339::Rfc3339;

    #[test]
    fn cells_are_quoted_and_are_no_formulas() {
        for (cell, written) in [
            ("", ""),
            ("ada", "ada"),
            ("a b", "a b"),
            ("a,b", "\"a,b\""),
            ("say \"hi\"", "\"say \"\"hi\"\"\""),
            ("two\r\nlines", "\"two\r\nlines\""),
            ("two\nlines", "\"two\nlines\""),
            ("=1+1", "'=1+1"),
            ("+1", "'+1"),
            ("-ada", "'-ada"),
            ("@sum", "'@sum"),
            ("\tada", "'\tada"),
            ("\rada", "\"'\rada\""),
            ("=a,\"b\"", "\"'=a,\"\"b\"\"\""),
            ("a=1", "a=1"),
            ("'=1", "''=1"),
            ("'", "''"),
            ("é-", "é-"),
        ] {
            let mut text = Vec::new();
            append_cell(cell, &mut text);
            assert_eq!(str::from_utf8(&text), Ok(written), "{cell:?}");
        }
    }

    #[test]
    fn a_row_has_a_cell_for_each_name() {
        let at = Rfc3339(Timestamp(1_772_452_800_017));
        let reservation = || Reservation {
            id: ReservationId { event: EventId(7), number: 42 },
            event: EventId(7),
            customer: Some(UserId(31)),
            customer_ref: None,
            kind: SaleKind::Sale,
            quantity: 2,
            status: ReservationStatus::Cancelled,
            created_at: at,
            expires_at: None,
            order: Some(OrderId { user: UserId(31), number: 5 }),
            cancelled_at: Some(at),
        };
        for (name, written) in [(Username::new("-ada").ok(), "'-ada"), (None, "")] {
            let mut text = Vec::new();
            let reservation = reservation();
            append_row(&EventReservation { reservation, customer_name: name }, &mut text);
            let row = format!(
                "7-42,7,31,{written},,sale,2,cancelled,2026-03-02T12:00:00.017Z,,2026-03-02T12:00:00.017Z,31-5\r\n"
            );
            assert_eq!(str::from_utf8(&text), Ok(&*row));
            assert_eq!(row.matches(',').count(), str::from_utf8(HEADER).unwrap().matches(',').count());
        }
        let customer_ref = Some(CustomerRef::new("=1, \"x\"").unwrap());
        let of_ref = Reservation { customer: None, customer_ref, ..reservation() };
        let mut text = Vec::new();
        append_row(&EventReservation { reservation: of_ref, customer_name: None }, &mut text);
        let row = "7-42,7,,,\"'=1, \"\"x\"\"\",sale,2,cancelled,2026-03-02T12:00:00.017Z,,2026-03-02T12:00:00.017Z,31-5\r\n";
        assert_eq!(str::from_utf8(&text), Ok(row));
        assert!(EXAMPLE.as_bytes().starts_with(HEADER));
    }
}

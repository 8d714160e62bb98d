//! The kinds of records, and their numbers on disk.

/// The number of a record's kind on disk, for ever, and its name in the `history` view.
///
/// In a row, 0 and 1 usually take no byte, and all others below 64 take one. The numbers that are reserved
/// for later kinds are listed in `docs/decisions/record-form.md`. A number is never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Kind {
    Held = 0,
    Reserved = 1,
    Cancelled = 2,
    Confirmed = 3,
    Released = 4,
    HoldsExpired = 5,
    HoldsExtended = 6,
    Reduced = 7,
    Transferred = 8,
    PartPrepared = 9,
    PartSettled = 10,
    EventCreated = 16,
    EventEdited = 17,
    EventDeleted = 18,
    EventIdGiven = 19,
    UserCreated = 24,
    PasswordChanged = 25,
    RoleChanged = 26,
    UserRemoved = 27,
    TokensEnded = 28,
    OrderPlaced = 32,
    OrderConfirmed = 33,
    OrderCancelled = 34,
    OrderExpired = 35,
    OrderSettled = 36,
    ApiKeyMade = 40,
    ApiKeyEnded = 41,
    TimeSetBack = 48,
    KeysAged = 49,
    KeyKept = 50,
}

impl Kind {
    pub const ALL: [Kind; 30] = [
        Kind::Held,
        Kind::Reserved,
        Kind::Cancelled,
        Kind::Confirmed,
        Kind::Released,
        Kind::HoldsExpired,
        Kind::HoldsExtended,
        Kind::Reduced,
        Kind::Transferred,
        Kind::PartPrepared,
        Kind::PartSettled,
        Kind::EventCreated,
        Kind::EventEdited,
        Kind::EventDeleted,
        Kind::EventIdGiven,
        Kind::UserCreated,
        Kind::PasswordChanged,
        Kind::RoleChanged,
        Kind::UserRemoved,
        Kind::TokensEnded,
        Kind::OrderPlaced,
        Kind::OrderConfirmed,
        Kind::OrderCancelled,
        Kind::OrderExpired,
        Kind::OrderSettled,
        Kind::ApiKeyMade,
        Kind::ApiKeyEnded,
        Kind::TimeSetBack,
        Kind::KeysAged,
        Kind::KeyKept,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Kind::Held => "held",
            Kind::Reserved => "reserved",
            Kind::Cancelled => "cancelled",
            Kind::Confirmed => "confirmed",
            Kind::Released => "released",
            Kind::HoldsExpired => "holds_expired",
            Kind::HoldsExtended => "holds_extended",
            Kind::Reduced => "reduced",
            Kind::Transferred => "transferred",
            Kind::PartPrepared => "part_prepared",
            Kind::PartSettled => "part_settled",
            Kind::EventCreated => "event_created",
            Kind::EventEdited => "event_edited",
            Kind::EventDeleted => "event_deleted",
            Kind::EventIdGiven => "event_id_given",
            Kind::UserCreated => "user_created",
            Kind::PasswordChanged => "password_changed",
            Kind::RoleChanged => "role_changed",
            Kind::UserRemoved => "user_removed",
            Kind::TokensEnded => "tokens_ended",
            Kind::ApiKeyMade => "api_key_made",
            Kind::ApiKeyEnded => "api_key_ended",
            Kind::OrderPlaced => "order_placed",
            Kind::OrderConfirmed => "order_confirmed",
            Kind::OrderCancelled => "order_cancelled",
            Kind::OrderExpired => "order_expired",
            Kind::OrderSettled => "order_settled",
            Kind::TimeSetBack => "time_set_back",
            Kind::KeysAged => "keys_aged",
            Kind::KeyKept => "key_kept",
        }
    }

    pub(super) fn from_number(number: u8) -> Option<Kind> {
        Kind::ALL.into_iter().find(|&kind| kind as u8 == number)
    }
}

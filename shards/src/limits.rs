//! The limits of the domain, each with its reason.

use std::time::Duration;

/// The number of slots, the unit of ownership and order. With 256, the shares of up to 64 shards differ by at
/// most one slot in four, and the heads of all slots take little memory. Never changes: logs depend on it.
pub const SLOT_COUNT: usize = 256;

/// The most shards. Each has a core, and the largest machines in question have 64.
pub const SHARD_COUNT_MAX: usize = 64;

/// The most tickets of an event. The largest public events had fewer than ten million, and sums of several
/// fit `u32`.
pub const QUOTA_MAX: u32 = 10_000_000;

/// The most reservations of an event, cancelled ones included: all that have a number. They would take 100 GiB of
/// memory. In the tests of this crate it is 8, so that the tables and the simulation reach it.
pub const RESERVATIONS_MAX: u32 = if cfg!(test) { 8 } else { u32::MAX };

/// The most idempotency keys of a customer in a slot, and so in an event: far more than somebody buys in a day. An
/// option of the server limits all keys together, which many accounts could use up. In the tests of this crate it is
/// 2, so that the simulation reaches it.
pub const KEYS_OF_CUSTOMER_MAX: usize = if cfg!(test) { 2 } else { 1000 };

/// The time for which an idempotency key is kept at least.
pub const KEY_KEPT: Duration = Duration::from_hours(24);

/// The time after which the next key of a slot begins a new generation. Keys are forgotten by generations, so they are
/// kept for up to this much longer.
pub const KEY_GENERATION: Duration = Duration::from_hours(1);

/// The most characters of an event's name: it fits one line of a list.
pub const EVENT_NAME_CHARS_MAX: usize = 200;

/// The most API keys of an organizer that are not ended: one for each of its machines and more. In the tests of this
/// crate it is 3, so that the simulation reaches it.
pub const API_KEYS_MAX: usize = if cfg!(test) { 3 } else { 100 };

/// The most characters of an API key's name.
pub const API_KEY_NAME_CHARS_MAX: usize = 64;

/// The most characters of an event's venue: a name and an address.
pub const VENUE_CHARS_MAX: usize = 200;

/// The most characters of a customer's ref: an email address or two UUIDs.
pub const CUSTOMER_REF_CHARS_MAX: usize = 128;

/// The shortest, the longest and the usual time of a hold. A buyer needs some seconds to confirm even what is
/// free, and payments that take longer than half an hour fail.
pub const HOLD_SECONDS_MIN: u32 = 10;
pub const HOLD_SECONDS_MAX: u32 = 30 * 60;
pub const HOLD_SECONDS_DEFAULT: u32 = 10 * 60;

/// The least time that a live hold has left after a start, in milliseconds: its buyer has to notice that the
/// server is there again.
pub const HOLD_MS_AFTER_START: u64 = 60_000;

/// The fewest bytes of a username. There are few shorter ones, and they would be taken at once.
pub const USERNAME_BYTES_MIN: usize = 3;
/// The most bytes of a username, so that it fits a table's column and a token's claim.
pub const USERNAME_BYTES_MAX: usize = 64;

/// The longest name of another issuer: short, since each account of its customers has it.
pub const ISSUER_BYTES_MAX: usize = 32;

/// The longest subject of another issuer's token (OpenID Connect Core 1.0, section 2).
pub const SUBJECT_BYTES_MAX: usize = 255;

/// The most reservations of an event that one question looks at. A question with a filter that few of them fit takes
/// the shard well below a millisecond. In the tests of this crate it is 5, so that the simulation reaches it.
pub const SCANNED_MAX: u32 = if cfg!(test) { 5 } else { 16_384 };

/// The most items of an order, each of another event: a festival's days or a season, and few enough that the messages
/// of an order stay few.
pub const ORDER_ITEMS_MAX: usize = 20;

/// The most orders of a shard that are being placed or confirmed at a time. Each has at most [`ORDER_ITEMS_MAX`]
/// messages on the way. In the tests of this crate it is 4, so that the simulation reaches it.
pub const ORDERS_UNDERWAY_MAX: usize = if cfg!(test) { 4 } else { 1024 };

/// The most items of a list's page: a response usually has some 20 KiB, with the longest texts 200.
pub const PAGE_LIMIT_MAX: usize = 100;
/// The items of a list's page if the client names no limit.
pub const PAGE_LIMIT_DEFAULT: usize = 50;

/// The longest wait of a question for news of an event. Proxies end what is silent for a minute.
pub const WATCH_MAX: Duration = Duration::from_secs(30);

/// The most records of a commit, unless an option says otherwise: as many as a core may have in flight.
pub const COMMIT_RECORDS_MAX: usize = 65_536;

/// The most requests that are taken in at a time. This keeps the CPU time near 1 ms, so that a read does not
/// wait longer for it than for a slow sync of the disk.
pub const BATCH_MAX: usize = 1024;

/// The longest wait of a commit for a log that another program has locked. A statement of a `sqlite3` shell or
/// a checkpoint takes less, and the answers of the shard, reads among them, do not wait longer.
pub const LOCK_WAIT_MAX: Duration = Duration::from_secs(1);

/// The pages of SQLite's journal after which it is written back: 4 MiB at 4 KiB a page, which a restart
/// replays in some 10 ms.
pub const CHECKPOINT_PAGES: u64 = 1024;

/// The size of SQLite's journal above which it is cut. Several times what it has when each checkpoint writes back all
/// of it, since a sync of a file that keeps its size is faster.
pub const JOURNAL_BYTES_MAX: u64 = 16 << 20;

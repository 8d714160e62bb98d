//! Every bound of the domain, with why this number.

/// Slots are the unit of ownership and order. 256 lets 64 shards differ by at
/// most one slot in four, and a slot's head stays cheap to keep for each.
/// Stable on disk for ever.
pub const SLOT_COUNT: usize = 256;

/// One shard a core; the largest machines that this is meant for have 64.
pub const SHARD_COUNT_MAX: usize = 64;

/// The most tickets of one event. The largest public events ever held are
/// below ten million, and sums of it fit `u32` with room.
pub const QUOTA_MAX: u32 = 10_000_000;

/// Characters of an event's name: fits a line of a list.
pub const EVENT_NAME_CHARS_MAX: usize = 200;

/// Characters of an event's venue: a name and an address.
pub const VENUE_CHARS_MAX: usize = 200;

/// Shorter names collide and are squatted upon.
pub const USERNAME_BYTES_MIN: usize = 3;
/// Fits a column, and a token's claim.
pub const USERNAME_BYTES_MAX: usize = 64;

/// Items of one page of a list: one page is one answer of at most some 20 KiB.
pub const PAGE_LIMIT_MAX: usize = 100;
/// What a list gives when it is not told.
pub const PAGE_LIMIT_DEFAULT: usize = 50;

/// Records of one commit, unless it is told otherwise: what one core may have in flight at most.
pub const COMMIT_RECORDS_MAX: usize = 65_536;

/// Commands and queries that are taken in at a time: keeps its CPU time near 1 ms,
/// so that a read behind it does not wait longer than for a slow disk sync.
pub const BATCH_MAX: usize = 1024;

/// Pages of SQLite's journal after which it is written back: 4 MiB at 4 KiB a
/// page, which a restart replays in some 10 ms.
pub const CHECKPOINT_PAGES: u64 = 1024;

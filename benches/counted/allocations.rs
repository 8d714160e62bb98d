//! Counts the allocations of a reservation. SQLite uses another allocator, which is not counted.
#![allow(unsafe_code, reason = "GlobalAlloc is an unsafe trait")]

use std::alloc::{GlobalAlloc, Layout};
use std::sync::atomic::{AtomicU64, Ordering};

use mimalloc::MiMalloc;

mod round_trips;
#[path = "../support/mod.rs"]
mod support;

use round_trips::{in_memory, in_sqlite};

/// The server's allocator, which counts its calls.
struct Counted;

#[global_allocator]
static ALLOCATOR: Counted = Counted;

static CALLS: AtomicU64 = AtomicU64::new(0);

// SAFETY: all arguments are passed unchanged to an allocator.
unsafe impl GlobalAlloc for Counted {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        CALLS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: see above.
        unsafe { MiMalloc.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        CALLS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: see above.
        unsafe { MiMalloc.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        CALLS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: see above.
        unsafe { MiMalloc.realloc(block, layout, size) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: see above.
        unsafe { MiMalloc.dealloc(block, layout) }
    }
}

fn main() {
    let cases = [
        ("memory_1", in_memory(1)),
        ("memory_80", in_memory(80)),
        ("sqlite_1", in_sqlite(1)),
        ("sqlite_80", in_sqlite(80)),
    ];
    for (name, mut round_trips) in cases {
        let before = CALLS.load(Ordering::Relaxed);
        round_trips.run();
        println!("allocations.{name} {}", CALLS.load(Ordering::Relaxed) - before);
    }
}

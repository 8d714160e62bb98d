//! Pseudo-random numbers from a seed.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// SplitMix64 (Steele, Lea and Flood, 2014).
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// Takes the seed from `BOXOFFICE_TEST_SEED`, else from the clock, and prints it, so that a
    /// failure can be reproduced.
    pub(crate) fn seeded() -> Random {
        static CALLS: AtomicU64 = AtomicU64::new(0);
        let given = std::env::var("BOXOFFICE_TEST_SEED").ok();
        let seed =
            given.map(|seed| seed.parse().expect("BOXOFFICE_TEST_SEED is a number")).unwrap_or_else(|| {
                let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
                now.map_or(0, |since| since.as_nanos() as u64) + CALLS.fetch_add(1, Ordering::Relaxed)
            });
        println!("BOXOFFICE_TEST_SEED={seed}");
        Random(seed)
    }

    /// The seed, if no number has been drawn yet.
    pub(crate) fn seed(&self) -> u64 {
        self.0
    }

    /// A uniformly distributed duration of at most `most`.
    pub(crate) fn duration(&mut self, most: Duration) -> Duration {
        Duration::from_micros(self.within(0, most.as_micros() as u64))
    }

    pub(crate) fn pick<T: Copy>(&mut self, among: &[T]) -> T {
        among[self.within(0, among.len() as u64 - 1) as usize]
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A uniformly distributed number from `least` to `most`, both included.
    pub(crate) fn within(&mut self, least: u64, most: u64) -> u64 {
        least + self.next() % (most - least + 1)
    }
}

/// The number of rounds of a test: `usual`, unless the environment variable is set.
pub(crate) fn rounds(variable: &str, usual: u64) -> u64 {
    match std::env::var(variable) {
        Ok(rounds) => rounds.parse().unwrap_or_else(|_| panic!("{variable} must be a number")),
        Err(_) => usual,
    }
}

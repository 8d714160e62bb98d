//! Random bits from the kernel.

/// # Panics
///
/// When the kernel has none, which ends whatever would have been guessable.
pub(crate) fn u64() -> u64 {
    getrandom::u64().expect("the kernel has random bytes")
}

/// # Panics
///
/// As [`u64`].
pub(crate) fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the kernel has random bytes");
    bytes
}

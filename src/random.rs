//! Random bits from the kernel.

/// Returns 64 random bits.
///
/// # Panics
///
/// When the kernel has no random bytes: a predictable secret would be worse than an abort.
pub(crate) fn u64() -> u64 {
    getrandom::u64().expect("the kernel has random bytes")
}

/// Returns `N` random bytes.
///
/// # Panics
///
/// Under the same condition as [`u64`].
pub(crate) fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the kernel has random bytes");
    bytes
}

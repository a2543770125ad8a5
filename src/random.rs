//! The system's random source, asked for in one place.
#![expect(clippy::disallowed_methods, reason = "the one module that reads the system's random source")]

/// Random bytes from the operating system.
///
/// # Panics
/// Where the system has no random source: nothing here could go on safely.
#[must_use]
pub fn bytes<const N: usize>() -> [u8; N] {
    let mut out = [0; N];
    getrandom::fill(&mut out).expect("the operating system gives random bytes");
    out
}

/// A random share from 0 to 1, for waits that are not to end all at once.
#[must_use]
pub fn share() -> f64 {
    f64::from(u16::from_be_bytes(bytes())) / f64::from(u16::MAX)
}

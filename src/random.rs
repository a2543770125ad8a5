//! The system's random source, asked for in one place.
#![expect(clippy::disallowed_methods, reason = "the one module that reads the system's random source")]

use std::cell::RefCell;

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

/// 64 random bits that name something and guard nothing: one question to the system serves many.
///
/// # Panics
/// As [`bytes`].
#[must_use]
pub fn id() -> u64 {
    /// How many a thread takes at once.
    const AT_ONCE: usize = 32;
    thread_local! {
        static IDS: RefCell<Vec<[u8; 8]>> = const { RefCell::new(Vec::new()) };
    }
    IDS.with_borrow_mut(|ids| {
        if ids.is_empty() {
            ids.extend_from_slice(bytes::<{ AT_ONCE * 8 }>().as_chunks().0);
        }
        u64::from_ne_bytes(ids.pop().expect("some were taken just now"))
    })
}

/// A random share from 0 to 1, for waits that are not to end all at once.
#[must_use]
pub fn share() -> f64 {
    f64::from(u16::from_be_bytes(bytes())) / f64::from(u16::MAX)
}

#[cfg(test)]
mod tests {
    #[test]
    fn ids_differ() {
        let ids: std::collections::HashSet<u64> = (0..1000).map(|_| super::id()).collect();
        assert_eq!(ids.len(), 1000);
    }
}

//! Memory for what is secret: wiped when it goes, never swapped and in no core dump where the system allows that.
//!
//! Each value has pages of its own, got from the system and given back to it, so that none of it stays behind in an
//! allocator's free lists. Several values in one page would need `unsafe`; what belongs together shares one instead, as the
//! tables of a scrubber do. A process that is refused locked pages (`RLIMIT_MEMLOCK`) goes on without, and says so once.

use std::ops::{Deref, DerefMut};
use std::sync::Once;

use memmap2::{Advice, MmapMut};
use zeroize::{Zeroize as _, Zeroizing};

/// Bytes that are secret. No `Debug`, no `Clone`; wiped on drop.
pub struct Locked {
    pages: Pages,
    len: usize,
}

enum Pages {
    Own(MmapMut),
    /// The system had none to give.
    Heap(Zeroizing<Box<[u8]>>),
}

impl Locked {
    /// So many zeros, to be filled in place.
    #[must_use]
    pub fn zeroed(len: usize) -> Self {
        let pages = match MmapMut::map_anon(len.max(1)) {
            Ok(map) => {
                // Before the first byte is written.
                set_aside(&map);
                Pages::Own(map)
            }
            Err(_) => Pages::Heap(Zeroizing::new(vec![0; len].into())),
        };
        Self { pages, len }
    }

    /// A copy of bytes, whose owner wipes the original.
    #[must_use]
    pub fn copy_of(bytes: &[u8]) -> Self {
        let mut own = Self::zeroed(bytes.len());
        own.copy_from_slice(bytes);
        own
    }

    /// A copy of pieces, one after the other.
    #[must_use]
    pub fn concat(pieces: &[&[u8]]) -> Self {
        let mut own = Self::zeroed(pieces.iter().map(|piece| piece.len()).sum());
        let mut rest = &mut *own;
        for piece in pieces {
            let (place, after) = rest.split_at_mut(piece.len());
            place.copy_from_slice(piece);
            rest = after;
        }
        own
    }
}

/// Keeps pages out of the swap, of core dumps and of children. Each is done where it can be.
fn set_aside(map: &MmapMut) {
    static REFUSED: Once = Once::new();
    let locked = map.lock();
    let undumped = map.advise(Advice::DontDump);
    let unforked = map.advise(Advice::DontFork);
    if let Err(error) = locked.and(undumped).and(unforked) {
        REFUSED.call_once(|| tracing::warn!("memory for secrets is not kept from the swap or from core dumps: {error}; raise the limit of locked memory (`ulimit -l`, LimitMEMLOCK=)"));
    }
}

impl Deref for Locked {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.pages {
            Pages::Own(map) => &map[..self.len],
            Pages::Heap(bytes) => bytes,
        }
    }
}

impl DerefMut for Locked {
    fn deref_mut(&mut self) -> &mut [u8] {
        match &mut self.pages {
            Pages::Own(map) => &mut map[..self.len],
            Pages::Heap(bytes) => bytes,
        }
    }
}

impl AsRef<[u8]> for Locked {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        self.zeroize();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_holds_what_it_was_given() {
        assert_eq!(&*Locked::copy_of(b"sk-or-v1-test"), b"sk-or-v1-test");
        assert_eq!(&*Locked::concat(&[b"Bearer ", b"", b"sk-or-v1-test"]), b"Bearer sk-or-v1-test");
        assert!(Locked::zeroed(0).is_empty());
        let mut large = Locked::zeroed(3 * 4096 + 1);
        large.fill(7);
        assert!(large.len() == 3 * 4096 + 1 && large.iter().all(|&b| b == 7));
    }

    #[test]
    fn its_pages_are_in_no_core_dump() {
        let own = Locked::copy_of(b"sk-or-v1-test");
        let at = own.as_ptr() as usize;
        let maps = std::fs::read_to_string("/proc/self/smaps").expect("Linux");
        let mut inside = false;
        let flags = maps.lines().find_map(|line| {
            let range = line.split(' ').next().and_then(|word| word.split_once('-'));
            if let Some((Ok(from), Ok(to))) = range.map(|(from, to)| (usize::from_str_radix(from, 16), usize::from_str_radix(to, 16))) {
                inside = (from..to).contains(&at);
            }
            line.strip_prefix("VmFlags: ").filter(|_| inside)
        });
        let flags: Vec<&str> = flags.expect("its mapping").split_ascii_whitespace().collect();
        assert!(flags.contains(&"dd") && flags.contains(&"dc"), "{flags:?}");
    }
}

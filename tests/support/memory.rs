//! What stands in another process's memory, read as a debugger would.

use std::fs::File;
use std::os::unix::fs::FileExt as _;

/// One occurrence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Where it begins.
    pub address: u64,
    /// What the mapping is called: `[heap]`, a file, or nothing.
    pub mapping: String,
    /// Whether its pages are locked.
    pub locked: bool,
    /// Whether they stay out of core dumps, as what is set aside for secrets does.
    pub undumped: bool,
    /// The bytes around it, what is not plain text as dots.
    pub around: String,
}

/// One mapping that can be written.
#[derive(Debug, Default, Clone)]
struct Mapping {
    start: u64,
    end: u64,
    name: String,
    flags: String,
}

/// Whether this process may read others' memory at all.
pub fn readable(pid: u32) -> bool {
    File::open(format!("/proc/{pid}/mem")).is_ok()
}

/// Every occurrence of the bytes in memory that the process has written or may write.
#[track_caller]
pub fn places(pid: u32, needle: &[u8]) -> Vec<Place> {
    let memory = File::open(format!("/proc/{pid}/mem")).unwrap();
    let finder = memchr::memmem::Finder::new(needle);
    let mut out = Vec::new();
    for mapping in mappings(pid) {
        let flag = |word: &str| mapping.flags.split(' ').any(|f| f == word);
        let mut bytes = vec![0; usize::try_from(mapping.end - mapping.start).unwrap()];
        // Pages that are only reserved cannot be read; others may go while it is looked at.
        for (page, chunk) in bytes.chunks_mut(1 << 16).enumerate() {
            let _ = memory.read_at(chunk, mapping.start + (page as u64) * (1 << 16));
        }
        for at in finder.find_iter(&bytes) {
            let around = &bytes[at.saturating_sub(48)..(at + needle.len() + 16).min(bytes.len())];
            out.push(Place {
                address: mapping.start + at as u64,
                mapping: mapping.name.clone(),
                locked: flag("lo"),
                undumped: flag("dd"),
                around: around.iter().map(|&b| if b.is_ascii_graphic() { char::from(b) } else { '.' }).collect(),
            });
        }
    }
    out
}

fn mappings(pid: u32) -> Vec<Mapping> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps")).unwrap();
    let mut out: Vec<Mapping> = Vec::new();
    let mut writable = false;
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        let first = words.next().unwrap_or_default();
        if let Some((start, end)) = first.split_once('-').filter(|_| !first.ends_with(':')) {
            let modes = words.next().unwrap_or_default();
            writable = modes.starts_with("rw");
            if writable {
                let number = |text: &str| u64::from_str_radix(text, 16).unwrap();
                out.push(Mapping { start: number(start), end: number(end), name: words.nth(3).unwrap_or_default().to_owned(), ..Default::default() });
            }
        } else if writable && let (Some(flags), Some(mapping)) = (line.strip_prefix("VmFlags: "), out.last_mut()) {
            mapping.flags = flags.to_owned();
        }
    }
    out
}

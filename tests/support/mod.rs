//! What the tests stand on: homes, a running `serve`, origins that can be scripted, and clients.

pub mod bao;
pub mod clients;
pub mod home;
pub mod memory;
pub mod origin;
pub mod over_h2;
pub mod postgres;
pub mod raw;
pub mod serve;
pub mod wire;
pub mod world;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

pub use bao::{Asked, Bao};
pub use home::{Home, Said};
pub use origin::{Exchange, Origin, Recorded};
pub use raw::Agent;
pub use serve::Serve;
pub use world::World;

/// The binary under test.
pub fn binary() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_keyhatch"))
}

/// The `target` directory, where `tests/run` puts the clients.
pub fn target_dir() -> PathBuf {
    binary().ancestors().nth(2).unwrap().to_path_buf()
}

/// The package's own directory.
pub fn package_dir() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A key that no other test and no other file holds. It looks as OpenRouter's keys do, and has
/// characters which base64, percent and JSON escaping change.
pub fn fresh_key() -> String {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let random = keyhatch::random::bytes::<16>().iter().map(|b| format!("{b:02x}")).collect::<String>();
    format!("sk-or-v1-{random}{:04}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Waits until the thing is so, asking again and again; fails by name after the limit.
#[track_caller]
pub fn within<T>(limit: Duration, what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = probe() {
            return value;
        }
        assert!(start.elapsed() < limit, "not within {limit:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Whether the needle is somewhere in the bytes.
pub fn holds(haystack: &[u8], needle: &str) -> bool {
    memchr::memmem::find(haystack, needle.as_bytes()).is_some()
}

/// Prints that a test cannot be done on this machine, by name, for `tests/run` to list.
pub fn skip(test: &str, why: &str) {
    let line = format!("{test}: {why}\n");
    eprint!("SKIPPED {line}");
    if let Some(path) = std::env::var_os("KEYHATCH_TEST_SKIPPED") {
        let file = std::fs::File::options().create(true).append(true).open(path);
        std::io::Write::write_all(&mut file.unwrap(), line.as_bytes()).unwrap();
    }
}

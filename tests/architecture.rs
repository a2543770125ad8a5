//! The fences: which module may import which, where the dangerous words may stand, how long a file may be.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::support::package_dir;

/// The rings of `src/lib.rs`, from the values up. A module imports from lower rings, and from its own ring only as
/// [`ALSO`] says.
const RINGS: [&[&str]; 5] = [
    &["host", "agent", "credential", "message", "locked"],
    &["policy", "envelope", "session", "audit"],
    &["config", "clock", "random", "environment", "home", "tls", "upstream", "store", "vault", "telemetry", "process"],
    &["proxy", "admin", "server"],
    &["cli", "demo"],
];

/// Imports within a ring that are allowed among edges and servers: from, to. Among values anything goes, and `cli` starts `demo`.
const ALSO: [(&str, &str); 4] = [("vault", "store"), ("upstream", "tls"), ("server", "proxy"), ("server", "admin")];

/// What every edge may ask: the time, randomness, the environment.
const ASKED_BY_ALL: [&str; 3] = ["clock", "random", "environment"];

/// The files that call `expose()`: where a plaintext leaves its type. Whoever adds one says why in the review.
const EXPOSING: &[&str] = &[
    // Tokens of agents: printed once, sent over admin.sock, put into an environment, compared, hashed.
    "src/admin/client.rs",
    "src/admin/socket.rs",
    "src/cli/agent/mod.rs",
    "src/cli/run/own.rs",
    "src/cli/session.rs",
    "src/server/discovered.rs",
    // What replicas share: read from Vault, derived from, used as a key.
    "src/server/signing.rs",
    // Fields that are no secret, and that only with `discover_fields`.
    "src/vault/hashicorp/answers.rs",
    // The one place that makes a header's value of a secret, and the one that looks for it in answers.
    "src/credential/injection.rs",
    "src/message/scrub/mod.rs",
    // What is typed or read goes to the key derivation.
    "src/cli/credential/rotate.rs",
    "src/envelope/header.rs",
    "src/envelope/key.rs",
    "src/home/key_file.rs",
    "src/home/unlock.rs",
    // What is sent to Vault: the token in its header, secret ids, JWTs, what transit encrypts.
    "src/vault/hashicorp.rs",
    "src/vault/hashicorp/call.rs",
    // Sealing and opening: the CA's key, the store's items, the credentials.
    "src/tls/outside.rs",
    "src/tls/state.rs",
    "src/vault/local/credentials.rs",
    "src/vault/local/items.rs",
    "src/vault/local/seal.rs",
    "src/vault/local/search.rs",
];

struct Source {
    path: PathBuf,
    name: String,
    /// Without comments, strings kept.
    text: String,
}

fn sources(dir: &str) -> Vec<Source> {
    let root = package_dir().join(dir);
    let mut out = Vec::new();
    let mut todo = vec![root];
    while let Some(dir) = todo.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                todo.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                let text = text.lines().filter(|l| !l.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
                let name = path.strip_prefix(package_dir()).unwrap().to_string_lossy().into_owned();
                out.push(Source { path, name, text });
            }
        }
    }
    out.sort_by(|a, b| a.name.cmp(&b.name));
    out
}

/// What of a file is not its tests.
fn without_tests(source: &Source) -> &str {
    if is_test_file(Path::new(&source.name)) {
        return "";
    }
    // An inline module of tests ends its file, by this house's habit; `mod tests;` is a file of its own.
    let inline = |at: usize| source.text[at..].lines().nth(1).is_some_and(|l| l.starts_with("mod ") && l.ends_with('{'));
    let cut = source.text.match_indices("\n#[cfg(test)]\n").map(|(at, _)| at + 1).find(|at| inline(*at));
    &source.text[..cut.unwrap_or(source.text.len())]
}

fn is_test_file(path: &Path) -> bool {
    path.components().any(|c| c.as_os_str() == "tests" || c.as_os_str() == "acceptance")
        || path.file_stem().is_some_and(|s| s.to_string_lossy().ends_with("tests") || s.to_string_lossy().starts_with("test"))
}

/// The module of the crate that a file of `src` belongs to.
fn module(source: &Source) -> String {
    let rest = source.name.strip_prefix("src/").unwrap();
    rest.split(['/', '.']).next().unwrap().to_owned()
}

fn ring(module: &str) -> Option<usize> {
    RINGS.iter().position(|ring| ring.contains(&module))
}

/// The modules that a text names as `crate::module`, also in groups: `use crate::{a, b::{c, d}}`.
fn imports(text: &str) -> BTreeSet<String> {
    let word = |rest: &str| rest.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let mut out = BTreeSet::new();
    for (at, found) in text.match_indices("crate::") {
        let rest = &text[at + found.len()..];
        let Some(group) = rest.strip_prefix('{') else {
            out.insert(word(rest));
            continue;
        };
        // The first word of each item of the outermost group.
        let (mut depth, mut begins) = (0, true);
        for (at, c) in group.char_indices() {
            if begins && depth == 0 {
                out.insert(word(&group[at..]));
            }
            begins = c == ',';
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                _ => {}
            }
        }
    }
    out.retain(|m| ring(m).is_some());
    out
}

#[test]
fn every_module_has_its_ring() {
    let declared = std::fs::read_to_string(package_dir().join("src/lib.rs")).unwrap();
    let declared = declared.lines().filter_map(|l| l.strip_prefix("pub mod ")?.strip_suffix(';')).map(str::to_owned).collect::<BTreeSet<_>>();
    let placed = RINGS.iter().flat_map(|r| r.iter()).map(|m| (*m).to_owned()).collect::<BTreeSet<_>>();
    assert_eq!(declared, placed);
}

#[test]
fn imports_go_down_only() {
    let mut wrong = Vec::new();
    for source in sources("src") {
        let own = module(&source);
        let Some(ring_of_own) = ring(&own) else { continue };
        for other in imports(without_tests(&source)) {
            if other == own {
                continue;
            }
            let ring_of_other = ring(&other).unwrap();
            let same_ring = ring_of_other == ring_of_own
                && (ring_of_own < 2 || ring_of_own == 4 || ALSO.contains(&(own.as_str(), other.as_str())) || ASKED_BY_ALL.contains(&other.as_str()));
            let allowed = ring_of_other < ring_of_own || same_ring;
            if !allowed {
                wrong.push(format!("{}: {own} (ring {ring_of_own}) names crate::{other} (ring {ring_of_other})", source.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_values_and_decisions_touch_nothing_of_the_world() {
    let banned = [
        "tokio::",
        "std::fs",
        "std::net::Tcp",
        "std::net::Udp",
        "std::env",
        "std::process",
        "std::thread",
        "rusqlite",
        "getrandom",
        "Instant::now",
        "SystemTime",
        "Timestamp::now",
    ];
    let mut wrong = Vec::new();
    for source in sources("src") {
        // The HTTP/1 head reader works on buffers; the rest of `message` likewise.
        if ring(&module(&source)).is_some_and(|r| r < 2) {
            let text = without_tests(&source);
            wrong.extend(banned.iter().filter(|b| text.contains(**b)).map(|b| format!("{}: {b}", source.name)));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn cryptography_is_named_in_the_envelope_only() {
    for (word, place) in [
        ("aes_gcm", "src/envelope/"),
        ("argon2", "src/envelope/"),
        ("rusqlite", "src/store/"),
        ("getrandom::", "src/random.rs"),
        ("Timestamp::now", "src/clock.rs"),
    ] {
        for source in sources("src") {
            let named = without_tests(&source).lines().any(|l| l.contains(word) && !l.contains(&format!("\"{word}")));
            assert!(!named || source.name.starts_with(place), "{} names {word}", source.name);
        }
    }
}

#[test]
fn one_file_speaks_to_vault() {
    for source in sources("src") {
        let text = without_tests(&source);
        let named = ["vaultrs", "rustify", "reqwest"].into_iter().find(|w| text.contains(&format!("{w}::")) || text.contains(&format!("use {w}")));
        assert!(named.is_none() || source.name == "src/vault/hashicorp.rs", "{} names {named:?}", source.name);
    }
}

#[test]
fn plaintexts_are_exposed_where_it_is_known() {
    let calling = sources("src").into_iter().filter(|s| without_tests(s).contains(".expose()")).map(|s| s.name).collect::<BTreeSet<_>>();
    let listed = EXPOSING.iter().map(|p| (*p).to_owned()).collect::<BTreeSet<_>>();
    let (new, gone) = (calling.difference(&listed).collect::<Vec<_>>(), listed.difference(&calling).collect::<Vec<_>>());
    assert!(new.is_empty() && gone.is_empty(), "not on the list: {new:?}; on it without need: {gone:?}");
}

#[test]
fn no_file_is_too_long() {
    for dir in ["src", "tests", "benches", "fuzz"] {
        if !package_dir().join(dir).exists() {
            continue;
        }
        for source in sources(dir) {
            let lines = std::fs::read_to_string(&source.path).unwrap().lines().count();
            assert!(lines <= 500, "{} has {lines} lines", source.name);
        }
    }
}

#[test]
fn outside_tests_nothing_unwraps_or_is_left_undone() {
    let mut wrong = Vec::new();
    for source in sources("src") {
        let text = without_tests(&source);
        for word in [".unwrap()", "todo!(", "unimplemented!(", "dbg!(", "println!(", "(being built)"] {
            if text.contains(word) {
                wrong.push(format!("{}: {word}", source.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_reader_of_imports_sees_them() {
    let seen = imports("use crate::{clock, host::{self, Host}, policy::Permit};\nuse crate::store::Database;\nlet x = crate::random::bytes::<4>();");
    for name in ["clock", "host", "policy", "store", "random"] {
        assert!(seen.contains(name), "{name} in {seen:?}");
    }
}

//! The database file with any bytes of it changed: each row is the one that was sealed, or a fault names it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use keyhatch::agent::{AgentName, AgentToken};
use keyhatch::credential::{CredentialName, PathRules, Presentation, Secret, Terms, VaultReference};
use keyhatch::envelope::{UnlockKey, key_file_text};
use keyhatch::host::HostPattern;
use keyhatch::vault::local::{LocalStore, StoreError, StoreState, Stored};

use super::input::Input;

/// The secret before the last rotation, and the present one.
const SECRETS: [&str; 2] = ["sk-or-v1-test-0001", "sk-or-v1-test-0002"];

struct Stage {
    dir: tempfile::TempDir,
    content: Vec<u8>,
    /// Each credential and agent, as it was put in.
    original: BTreeMap<String, String>,
}

fn key() -> UnlockKey {
    UnlockKey::KeyFile { text: key_file_text(&[1; 32]), path: "/k".into() }
}

fn terms(domain: &str) -> Terms {
    Terms {
        presentation: Presentation::Bearer,
        allowed_domains: vec![HostPattern::parse(domain).expect("a pattern")],
        rules: PathRules { allow: vec!["/api/v1/**".to_owned()], ..PathRules::default() },
        auth_headers: vec!["authorization".to_owned()],
        auth_query: Vec::new(),
        provider: None,
        scrub: true,
        allow_plaintext: false,
        enabled: true,
    }
}

static STAGE: LazyLock<Stage> = LazyLock::new(|| {
    // In memory, where the machine has such a place: the file is written anew for each input.
    let memory = Path::new("/dev/shm");
    let dir = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.expect("a directory");
    let path = dir.path().join("store.db");
    let store = LocalStore::create(&path, &key()).expect("made");
    let (alpha, beta) = (CredentialName::parse("alpha").expect("a name"), CredentialName::parse("beta").expect("a name"));
    let agent = AgentName::parse("default").expect("a name");
    store.add_agent(&agent, &AgentToken::from_random(&[1; 32]).digest(), &[]).expect("added");
    let secret = |text: &str| Stored::Secret(Secret::from_opened(text.as_bytes()));
    store.add_credential(&alpha, terms("*.openrouter.ai"), &secret(SECRETS[0]), &[agent]).expect("added");
    store.rotate_credential(&alpha, &secret(SECRETS[1])).expect("rotated");
    let reference = VaultReference::parse("kv/openrouter#key").expect("a reference");
    store.add_credential(&beta, terms("api.example.com"), &Stored::Reference(reference), &[]).expect("added");
    let original = seen(&store.load().expect("loaded"));
    drop(store);
    let content = std::fs::read(&path).expect("read");
    Stage { dir, content, original }
});

/// What a store says of everything in it.
fn seen(state: &StoreState) -> BTreeMap<String, String> {
    let credentials = state.credentials.iter().map(|c| {
        let entry = &c.entry;
        let broken = if entry.broken.is_some() { "broken" } else { "" };
        (format!("credential {}", entry.name), format!("{:?} {} {broken}", entry.terms, entry.version))
    });
    let agents = state.agents.iter().map(|a| (format!("agent {}", a.name), format!("{}", a.grants.len())));
    credentials.chain(agents).collect()
}

/// The input: patches of the file, each a place in two bytes (in steps of the file's size) and a mask; after a zero mask, where to cut it.
pub fn run(data: &[u8]) {
    let stage = &*STAGE;
    let mut content = stage.content.clone();
    let mut input = Input::new(data);
    for _ in 0..8 {
        let place = usize::from(input.byte()) << 16 | usize::from(input.byte()) << 8 | usize::from(input.byte());
        let (mask, place) = (input.byte(), place % content.len());
        if mask == 0 && place > 0 {
            content.truncate(place);
            break;
        }
        content[place] ^= mask;
    }
    // libFuzzer may run several processes; each has a directory of its own.
    let path: PathBuf = stage.dir.path().join("damaged.db");
    for name in ["damaged.db-wal", "damaged.db-shm"] {
        let _ = std::fs::remove_file(stage.dir.path().join(name));
    }
    std::fs::write(&path, &content).expect("written");
    let store = match LocalStore::open(&path, &key()) {
        Ok(store) => store,
        Err(e) => return assert!(!matches!(e, StoreError::Unlock { .. }) && e.to_string().contains("damaged.db"), "{e}"),
    };
    let Ok(state) = store.load() else { return };
    let now = seen(&state);
    for (entry, value) in &stage.original {
        let (_, name) = entry.split_once(' ').expect("a kind and a name");
        let named = state.faults.iter().any(|f| f.name == name || f.what == "table" || f.what == "grant" || f.what == "usage");
        assert!(now.get(entry) == Some(value) || named, "{entry} is {:?}, and no fault names it: {:?}", now.get(entry), state.faults);
    }
    if state.faults.is_empty() {
        let held = store.reveals(&[SECRETS[1].as_bytes()]).expect("a sound store opens");
        assert_eq!(held, [true], "the secret is another one, and no fault says so");
    }
    // Whatever was broken, credentials keep their terms, so that their hosts stay intercepted.
    for (name, domain) in [("alpha", "*.openrouter.ai"), ("beta", "api.example.com")] {
        let entry = state.roster.credentials.iter().find(|c| c.name.as_str() == name).unwrap_or_else(|| panic!("{name} is lost"));
        assert_eq!(entry.terms, terms(domain));
    }
}

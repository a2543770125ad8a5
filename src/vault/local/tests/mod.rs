//! The store under test, and under attack. Stores here are sealed by a key file, since Argon2id at the least cost
//! that is taken would slow every one of thousands of openings.

mod attack;
mod change;
mod crash;
mod flip;
mod lifecycle;
mod references;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::{LocalStore, LocalVault, StoreState, Stored};
use crate::agent::{AgentName, AgentToken, TokenDigest};
use crate::credential::{CredentialName, PathRules, Presentation, Secret, Terms, VaultReference};
use crate::envelope::{UnlockKey, key_file_text};
use crate::host::HostPattern;
use crate::policy::Permit;
use crate::vault::{CredentialSource as _, Fetched, Sources, Unavailable};

pub(super) const SECRET_A: &str = "sk-or-v1-test-aaaaaaaaaaaaaaaa";
pub(super) const SECRET_B: &str = "sk-or-v1-test-bbbbbbbbbbbbbbbb";
pub(super) const PLACE: &str = "secret/team-x/openrouter#api_key";

pub(super) fn key(byte: u8) -> UnlockKey {
    UnlockKey::KeyFile { text: key_file_text(&[byte; 32]), path: "/keys/key".into() }
}

/// As Vault gives one: what it wrapped stands in the store's header, the bytes do not.
pub(super) fn transit_key(byte: u8) -> UnlockKey {
    let plain = Secret::from_opened(&[byte; 32]);
    UnlockKey::Transit { key: "transit/keyhatch".into(), ciphertext: "vault:v1:bWFkZSB1cA==".into(), plain }
}

pub(super) fn credential(name: &str) -> CredentialName {
    CredentialName::parse(name).expect("a name")
}

pub(super) fn agent(name: &str) -> AgentName {
    AgentName::parse(name).expect("a name")
}

pub(super) fn secret(text: &str) -> Secret {
    Secret::from_opened(text.as_bytes())
}

pub(super) fn stored(text: &str) -> Stored {
    Stored::Secret(secret(text))
}

pub(super) fn reference(text: &str) -> Stored {
    Stored::Reference(VaultReference::parse(text).expect("a reference"))
}

pub(super) fn token(byte: u8) -> TokenDigest {
    AgentToken::from_random(&[byte; 32]).digest()
}

pub(super) fn terms(domain: &str) -> Terms {
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

/// A throw-away store: credentials `alpha` (granted to both agents, rotated once), `beta` (granted to `default`) and
/// `vaulted` (granted to `ci`, moved from Vault to the store and back), agents `default` and `ci`.
pub(super) struct Fixture {
    dir: tempfile::TempDir,
}

impl Fixture {
    pub(super) fn new() -> Self {
        let out = Self { dir: tempfile::tempdir().expect("temp dir") };
        let store = LocalStore::create(&out.path(), &key(1)).expect("created");
        store.add_agent(&agent("default"), &token(1), &[]).expect("added");
        store.add_agent(&agent("ci"), &token(2), &[]).expect("added");
        let both = [agent("default"), agent("ci")];
        store.add_credential(&credential("alpha"), terms("*.openrouter.ai"), &stored(SECRET_B), &both).expect("added");
        store.rotate_credential(&credential("alpha"), &stored(SECRET_A)).expect("rotated");
        store.add_credential(&credential("beta"), terms("api.example.com"), &stored(SECRET_B), &both[..1]).expect("added");
        store.add_credential(&credential("vaulted"), terms("v.example.com"), &reference("kv/old#key"), &both[1..]).expect("added");
        store.rotate_credential(&credential("vaulted"), &stored(SECRET_B)).expect("moved");
        store.rotate_credential(&credential("vaulted"), &reference(PLACE)).expect("moved");
        store.put_item("ca", &secret("a certificate authority")).expect("kept");
        store.save_audit_checkpoint(7, [7; 32]).expect("kept");
        out
    }

    pub(super) fn path(&self) -> PathBuf {
        self.dir.path().join("store.db")
    }

    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(super) fn open(&self) -> LocalStore {
        LocalStore::open(&self.path(), &key(1)).expect("opens")
    }

    /// What anyone who can write the file can do.
    pub(super) fn sql(&self, statements: &str) {
        let db = rusqlite::Connection::open(self.path()).expect("opens");
        db.execute_batch(statements).expect("runs");
    }

    /// A table's rows, to be put back later.
    pub(super) fn keep(&self, table: &str) {
        self.sql(&format!("CREATE TABLE kept_{table} AS SELECT * FROM {table}"));
    }

    pub(super) fn put_back(&self, table: &str, condition: &str) {
        self.sql(&format!("DELETE FROM {table} WHERE {condition}; INSERT INTO {table} SELECT * FROM kept_{table} WHERE {condition}"));
    }
}

/// What fetches from a store, as `serve` has it.
pub(super) struct Opened {
    local: LocalVault,
    sources: Sources,
}

impl Opened {
    pub(super) fn replace(&self, state: &StoreState) {
        self.sources.replace(self.local.cells(state));
    }

    pub(super) fn fetch(&self, permit: &Permit) -> Fetched {
        self.sources.fetch(permit)
    }
}

pub(super) fn loaded(store: &LocalStore) -> (StoreState, Opened) {
    let state = store.load().expect("the rest goes on working");
    let opened = Opened { local: LocalVault::new(store), sources: Sources::default() };
    opened.replace(&state);
    (state, opened)
}

pub(super) fn fetch(vault: &Opened, state: &StoreState, name: &str) -> Result<String, Unavailable> {
    let entry = &state.roster.credentials.iter().find(|c| c.name.as_str() == name).expect("in the roster");
    let Fetched::Now(result) = vault.fetch(&Permit::undecided(entry.id, entry.version)) else { panic!("at once") };
    result.map(|material| material.value().to_str().expect("text").to_owned())
}

/// All that a reader of the store gets to know, by name.
pub(super) fn seen(store: &LocalStore) -> (BTreeMap<String, String>, StoreState) {
    let (state, vault) = loaded(store);
    let mut out = BTreeMap::new();
    for info in &state.credentials {
        let name = info.entry.name.as_str();
        out.insert(format!("credential {name}"), format!("{info:?} {:?}", fetch(&vault, &state, name)));
    }
    for info in &state.agents {
        let token = state.roster.agents.iter().find(|a| a.name == info.name).map(|a| (*a.token.as_bytes(), a.generation));
        out.insert(format!("agent {}", info.name), format!("{info:?} {token:?}"));
    }
    for name in ["ca", "audit-key", "fingerprint-key"] {
        let item = store.item(name).map(|item| item.map(|s| s.expose().to_vec())).map_err(drop);
        out.insert(format!("item {name}"), format!("{item:?}"));
    }
    out.insert("item audit-checkpoint".to_owned(), format!("{:?}", store.audit_checkpoint().map_err(drop)));
    out.insert("grants".to_owned(), format!("{:?}", state.roster.grants));
    (out, state)
}

pub(super) fn names(state: &StoreState) -> Vec<String> {
    state.faults.iter().map(|f| format!("{} {}", f.what, f.name)).collect()
}

pub(super) fn bytes(path: &Path) -> Vec<u8> {
    std::fs::read(path).expect("reads")
}

//! What a request's material costs from the local store and from Vault: it should be the same, for both are memory.
//!
//! The value in Vault is read from a real `bao` (target/venv/bin, where `tests/run` puts it, else `PATH`). Without one the local store
//! alone is measured.
#![allow(clippy::print_stdout, clippy::print_stderr, clippy::disallowed_methods, reason = "a bench talks to a person, and its server is its own")]

use std::hint::black_box;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use http::Method;
use keyhatch::agent::{AgentName, AgentToken};
use keyhatch::credential::{CredentialId, CredentialName, PathRules, Presentation, Secret, Terms, VaultReference};
use keyhatch::envelope::{UnlockKey, key_file_text};
use keyhatch::host::{Authority, HostPattern};
use keyhatch::policy::{AgentEntry, CredentialEntry, Decision, Egress, Facts, Permit, Roster, Route, Scheme, Snapshot};
use keyhatch::vault::hashicorp::{Freshness, HashicorpSource, Login, Vault, VaultSettings, Wanted};
use keyhatch::vault::local::{LocalStore, LocalVault, Stored};
use keyhatch::vault::{CredentialSource as _, Fetched, Sources};

const HOST: &str = "openrouter.ai";
const KEY: &str = "sk-or-v1-bench-0123456789abcdef0123456789abcdef";
const PLACE: &str = "secret/openrouter#api_key";

fn name() -> CredentialName {
    CredentialName::parse("openrouter").expect("a name")
}

fn terms() -> Terms {
    Terms {
        presentation: Presentation::Bearer,
        allowed_domains: vec![HostPattern::parse(HOST).expect("a pattern")],
        rules: PathRules::default(),
        auth_headers: Vec::new(),
        auth_query: Vec::new(),
        provider: None,
        scrub: true,
        allow_plaintext: false,
        enabled: true,
    }
}

fn snapshot(roster: &Roster) -> Snapshot {
    let egress = Egress { allow_by_default: true, allow_hosts: Vec::new(), deny_hosts: Vec::new(), ports: vec![443] };
    Snapshot::compile(roster, egress, 1)
}

/// The leave to use the roster's one credential, decided on as for each request.
fn permit(snapshot: &Snapshot, authority: &Authority) -> Permit {
    let agent = snapshot.agent("default").expect("an agent");
    let Route::Matched(candidates) = snapshot.route(agent, Scheme::Https, authority) else { unreachable!("it matches") };
    match candidates.decide(&Facts { method: &Method::POST, path: "/api/v1/chat/completions", pick: None }) {
        Decision::Inject(permit, ..) => permit,
        _ => unreachable!("it is granted"),
    }
}

/// The fetch alone, and with the decision before it.
fn measure(c: &mut Criterion, source: &str, sources: &Sources, roster: &Roster) {
    let (snapshot, authority) = (snapshot(roster), Authority::parse(HOST, Some(443)).expect("an authority"));
    let known = permit(&snapshot, &authority);
    c.bench_with_input(BenchmarkId::new("fetch", source), &known, |b, known| b.iter(|| fetch(sources, black_box(known))));
    c.bench_with_input(BenchmarkId::new("decide and fetch", source), &authority, |b, authority| {
        b.iter(|| fetch(sources, &permit(&snapshot, black_box(authority))));
    });
}

/// One fetch, as a request does it.
fn fetch(sources: &Sources, permit: &Permit) -> usize {
    match sources.fetch(permit) {
        Fetched::Now(Ok(material)) => material.value().len(),
        Fetched::Now(Err(why)) => panic!("{why}"),
        Fetched::Later(_) => panic!("it is not known yet"),
    }
}

fn local(c: &mut Criterion) {
    let dir = tempfile::tempdir().expect("a directory");
    let unlock = UnlockKey::KeyFile { text: key_file_text(&[7; 32]), path: "/bench".into() };
    let store = LocalStore::create(&dir.path().join("store.db"), &unlock).expect("a store");
    let agent = AgentName::parse("default").expect("a name");
    store.add_agent(&agent, &AgentToken::from_random(&[1; 32]).digest(), &[]).expect("added");
    store.add_credential(&name(), terms(), &Stored::Secret(Secret::from_opened(KEY.as_bytes())), &[agent]).expect("added");
    let state = store.load().expect("loaded");
    let sources = Sources::default();
    sources.replace(LocalVault::new(&store).cells(&state));
    measure(c, "local", &sources, &state.roster);
}

fn remote(c: &mut Criterion) {
    let Some(bao) = Bao::start() else {
        eprintln!("vault: left out, there is no `bao` on this machine (tests/run installs one)");
        return;
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let login = Login::Token(Secret::from_opened(Bao::TOKEN.as_bytes()));
    let settings = VaultSettings::new(bao.address(), login);
    let vault = Vault::new(settings).expect("settings");
    let (secret, agent) = (Secret::from_opened(KEY.as_bytes()), AgentName::parse("default").expect("a name"));
    let written = async {
        // It listens before it serves.
        while vault.create("secret/openrouter", &[("api_key", &secret)]).await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    runtime.block_on(async { tokio::time::timeout(Duration::from_secs(30), written).await }).expect("bao serves");
    let id = CredentialId([1; 16]);
    let roster = Roster {
        credentials: vec![CredentialEntry { id, name: name(), version: 1, terms: terms(), broken: None }],
        agents: vec![AgentEntry { name: agent.clone(), token: AgentToken::from_random(&[1; 32]).digest(), generation: 1 }],
        grants: vec![(agent, id)],
    };
    let freshness = Freshness { refresh: Duration::from_secs(30), max_stale: Duration::from_secs(600) };
    let source = HashicorpSource::new(Arc::clone(&vault), freshness, runtime.handle().clone());
    let reference = VaultReference::parse(PLACE).expect("a reference");
    let sources = Sources::default();
    sources.replace(source.cells(vec![Wanted { id, version: 1, name: name(), reference, presentation: Presentation::Bearer }]));
    runtime.block_on(source.settled(Duration::from_secs(10)));
    let before = vault.stats().reads;
    measure(c, "vault", &sources, &roster);
    println!("reads asked of Vault meanwhile: {}", vault.stats().reads - before);
    runtime.block_on(source.close());
}

/// A dev server for the time of the bench.
struct Bao {
    child: Child,
    port: u16,
}

impl Bao {
    const TOKEN: &str = "bench-root";

    fn start() -> Option<Self> {
        let target = std::env::current_exe().ok()?.ancestors().nth(3).map(|target| target.join("venv/bin/bao"));
        let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/venv/bin/bao");
        let path = std::env::var_os("PATH").unwrap_or_default();
        let on_path = std::env::split_paths(&path).map(|dir| dir.join("bao"));
        let binary: PathBuf = target.into_iter().chain([beside]).chain(on_path).find(|candidate| candidate.is_file())?;
        let port = TcpListener::bind("127.0.0.1:0").ok()?.local_addr().ok()?.port();
        let (listen, root) = (format!("-dev-listen-address=127.0.0.1:{port}"), format!("-dev-root-token-id={}", Self::TOKEN));
        let mut command = Command::new(binary);
        command.args(["server", "-dev", "-dev-no-store-token", &listen, &root]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Some(Self { child: command.spawn().ok()?, port })
    }

    fn address(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

impl Drop for Bao {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

criterion_group!(benches, local, remote);
criterion_main!(benches);

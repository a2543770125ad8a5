//! `[vault] ca` and `signing_key`: what all replicas have in common.

use std::time::{Duration, Instant};

use keyhatch::credential::Secret;
use keyhatch::vault::hashicorp::{Login, Vault, VaultErrorKind, VaultSettings};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair, KeyUsagePurpose};
use serde_json::{Value, json};

use super::fleet::{ALL, Fleet, OPENROUTER, Replica, SOON};
use crate::support::clients::Client;
use crate::support::raw::{Conn, PATIENCE};
use crate::support::{Agent, Bao, Serve, fresh_key, holds, within};

const CA: &str = "secret/keyhatch-ca";
const KEYS: &str = "secret/keyhatch-keys";
/// A root that signs each replica an intermediate.
const SIGNED: &str = "discover = \"secret/keyhatch\"\ndiscover_agents = \"secret/keyhatch-agents\"\n\
    ca = \"pki/root/sign-intermediate\"\nsigning_key = \"secret/keyhatch-keys\"\n";

/// A credential and an agent for it: the agent's token.
fn furnish(bao: &Bao) -> String {
    let token = fresh_key();
    bao.put("secret/keyhatch/openrouter", &[("api_key", &fresh_key())]);
    bao.custom_metadata("secret/keyhatch/openrouter", &[("agents", "builder default")]);
    bao.put("secret/keyhatch-agents/builder", &[("token", &token)]);
    token
}

/// A CA's certificate and key in PEM.
fn another_ca() -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "a CA of the team's own");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

/// How many certificates the proxy presents, and the last one.
fn presented(conn: &Conn) -> (usize, Vec<u8>) {
    let all = conn.stream.conn.peer_certificates().unwrap();
    (all.len(), all.last().unwrap().to_vec())
}

#[track_caller]
fn injected(conn: &mut Conn) {
    assert!(conn.intercepted());
    assert_eq!(conn.get(OPENROUTER, "/api/v1/x").status, 200);
}

#[test]
fn replicas_that_start_at_once_make_one_ca_and_one_key_and_take_one_anothers_sessions() {
    let Some(bao) = Bao::dev("vault::authority::replicas_that_start_at_once_make_one_ca_and_one_key_and_take_one_anothers_sessions") else { return };
    let token = furnish(&bao);
    let mut fleet = Fleet::new(bao, ALL);
    fleet.start(2);
    for entry in [CA, KEYS] {
        assert_eq!(fleet.bao.get(entry)["metadata"]["version"], 1, "{entry} was written once");
    }
    let made = fleet.bao.get(CA)["data"]["certificate"].as_str().unwrap().to_owned();
    let [one, two] = &fleet.replicas[..] else { panic!("two replicas") };
    assert!(one.ca() == made && two.ca() == made, "{made}");
    let makers = [one, two].map(|r| (r.serve.log().contains("made a CA in Vault"), r.serve.log().contains("made the key of session tokens")));
    assert_eq!((makers[0].0 ^ makers[1].0, makers[0].1 ^ makers[1].1), (true, true), "one made each: {makers:?}");
    let private = fleet.bao.get(CA)["data"]["private_key"].as_str().unwrap().lines().nth(1).unwrap().to_owned();
    for replica in [one, two] {
        assert!(!replica.serve.log().contains(&private));
        assert!(replica.home.files().iter().all(|(_, bytes)| !holds(bytes, &private)), "the CA's key is not on disk");
        injected(&mut replica.agent_with("builder", &token).open("openrouter.ai:443"));
    }
    // What `env` prints at one holds at the other, with the one's ca.pem.
    for (here, there) in [(one, two), (two, one)] {
        let url = here.serve.env_for(&here.home, "builder")["HTTPS_PROXY"].clone();
        assert!(!url.contains(&token));
        let mut agent = Agent::from_url(&here.home, &there.serve, &url);
        injected(&mut agent.open("openrouter.ai:443"));
        agent.authorization.push('x');
        assert_eq!(agent.connect("openrouter.ai:443").0.status, 407);
    }
    // A third that comes later finds what is there, though it may write no more.
    let url = one.serve.env_for(&one.home, "builder")["HTTPS_PROXY"].clone();
    fleet.start(1);
    let third = &fleet.replicas[2];
    injected(&mut Agent::from_url(&fleet.replicas[0].home, &third.serve, &url).open("openrouter.ai:443"));
    assert_eq!(fleet.bao.get(CA)["metadata"]["version"], 1);
}

#[tokio::test]
async fn what_is_there_is_left_alone_by_who_may_only_create() {
    let Some(bao) = Bao::dev("vault::authority::what_is_there_is_left_alone_by_who_may_only_create") else { return };
    let fleet = Fleet::new(bao, ALL);
    let own = |text: &str| Secret::from_opened(text.as_bytes());
    let login = Login::Token(own(&fleet.token));
    let settings = VaultSettings::new(fleet.bao.addr(), login);
    let vault = Vault::new(settings).unwrap();
    assert_eq!(vault.create(CA, &[("by", &own("one"))]).await, Ok(true));
    // To this token a 403, for writing what is there is `update`.
    assert_eq!(vault.create(CA, &[("by", &own("two"))]).await, Ok(false));
    assert_eq!(fleet.bao.get(CA)["data"]["by"], "one");
    fleet.bao.delete(CA);
    assert_eq!(vault.create(CA, &[("by", &own("two"))]).await, Ok(false));
    let denied = vault.create("secret/keyhatch/openrouter", &[("by", &own("two"))]).await.unwrap_err();
    assert_eq!(denied.kind, VaultErrorKind::Denied, "{denied}");
}

#[test]
fn another_ca_in_the_entry_is_taken_and_a_bad_one_is_not() {
    let Some(bao) = Bao::dev("vault::authority::another_ca_in_the_entry_is_taken_and_a_bad_one_is_not") else { return };
    furnish(&bao);
    let fleet = Fleet::one(bao, ALL);
    let replica = &fleet.replicas[0];
    let (before, mut open) = (replica.agent(), replica.agent().open("openrouter.ai:443"));
    injected(&mut open);
    let (certificate, key) = another_ca();
    fleet.bao.put(CA, &[("certificate", &certificate), ("private_key", &key)]);
    within(SOON, "the other CA is in ca.pem", || (replica.ca() == certificate).then_some(()));
    within(SOON, "and signs", || replica.agent().try_open("openrouter.ai:443").ok().map(|mut conn| injected(&mut conn)));
    assert!(before.try_open("openrouter.ai:443").is_err(), "who trusts the old one alone is out");
    injected(&mut open);
    let unread = fresh_key();
    fleet.bao.put(CA, &[("certificate", &certificate), ("private_key", &unread)]);
    fleet.reports(&["the last one signs on", "private key is not PEM"]);
    assert!(!replica.serve.log().contains(&unread));
    injected(&mut replica.agent().open("openrouter.ai:443"));
    fleet.bao.delete(CA);
    fleet.reports(&["the last one signs on", "deleted"]);
    let (certificate, key) = another_ca();
    fleet.bao.put(CA, &[("certificate", &certificate), ("private_key", &key)]);
    within(SOON, "the next good one is taken", || (replica.ca() == certificate).then_some(()));
    within(SOON, "all is well", || (!replica.readyz().1.contains("signs on")).then_some(()));
    injected(&mut replica.agent().open("openrouter.ai:443"));
}

#[test]
fn what_is_no_ca_and_no_key_stops_the_start() {
    let Some(bao) = Bao::dev("vault::authority::what_is_no_ca_and_no_key_stops_the_start") else { return };
    furnish(&bao);
    let fleet = Fleet::new(bao, ALL);
    let home = fleet.home();
    let ((certificate, key), (other, _)) = (another_ca(), another_ca());
    let put = |path: &str, fields: &[(&str, &str)]| {
        fleet.bao.put(path, fields);
    };
    let stops_with = |code: i32, words: &[&str]| {
        let said = home.say(&["serve"], "");
        said.expect_error(code);
        assert!(words.iter().all(|w| said.stderr.contains(w)), "{words:?} in {said:?}");
        assert!(!said.stderr.contains(key.lines().nth(1).unwrap()), "{said:?}");
    };
    let stops = |words: &[&str]| stops_with(2, words);
    put(CA, &[("certificate", &certificate)]);
    stops(&["vault.ca", CA, "no field `private_key`"]);
    put(CA, &[("certificate", &other), ("private_key", &key)]);
    stops(&["vault.ca", CA, "not its certificate's"]);
    put(CA, &[("certificate", &key), ("private_key", &key)]);
    stops(&["vault.ca", CA, "certificate is not PEM"]);
    fleet.bao.delete(CA);
    stops_with(1, &["vault.ca", CA, "deleted"]);
    put(CA, &[("certificate", &certificate), ("private_key", &key)]);
    put(KEYS, &[("key", "c2hvcnQ=")]);
    stops(&["vault.signing_key", KEYS, "32 bytes in base64", "openssl rand -base64 32"]);
    put(KEYS, &[("other", "x")]);
    stops(&["vault.signing_key", KEYS, "no field `key`"]);
    fleet.bao.purge(KEYS);
    let serve = Serve::start(&home);
    assert_eq!(Replica { serve, home }.ca(), certificate);
}

#[test]
fn a_policy_that_lets_nothing_be_made_stops_the_start_with_the_line_that_lacks() {
    let Some(bao) = Bao::dev("vault::authority::a_policy_that_lets_nothing_be_made_stops_the_start_with_the_line_that_lacks") else { return };
    furnish(&bao);
    let mut fleet = Fleet::new(bao, ALL);
    bao_reads_only(&fleet.bao);
    fleet.token = fleet.bao.token(&["reads"], "1h", None);
    let said = fleet.home().say(&["serve"], "");
    said.expect_error(1);
    for words in
        ["vault.signing_key", "there is nothing at secret/keyhatch-keys", "path \"secret/data/keyhatch-keys\" { capabilities = [\"create\"] }"]
    {
        assert!(said.stderr.contains(words), "{words} in {said:?}");
    }
}

fn bao_reads_only(bao: &Bao) {
    bao.policy("reads", "path \"secret/*\" { capabilities = [\"read\", \"list\"] }");
}

/// A root at `pki/`, whose intermediates live so long at most.
fn engine(bao: &Bao, longest: &str) -> String {
    bao.mount("pki", &json!({ "type": "pki" }));
    let root = json!({ "common_name": "the team's root", "key_type": "ec", "key_bits": 256, "ttl": "700h" });
    let made = bao.api("POST", "pki/root/generate/internal", root);
    bao.api("POST", "sys/mounts/pki/tune", json!({ "max_lease_ttl": longest }));
    made["data"]["certificate"].as_str().unwrap().trim().to_owned()
}

#[test]
fn an_engine_signs_each_replica_an_intermediate_that_real_clients_take() {
    let name = "vault::authority::an_engine_signs_each_replica_an_intermediate_that_real_clients_take";
    let Some(bao) = Bao::dev(name) else { return };
    let token = furnish(&bao);
    let root = engine(&bao, "700h");
    let mut fleet = Fleet::new(bao, SIGNED);
    fleet.start(2);
    let [one, two] = &fleet.replicas[..] else { panic!("two replicas") };
    assert_eq!((one.ca().trim(), two.ca().trim()), (root.as_str(), root.as_str()), "agents trust the root");
    let chains = [one, two].map(|r| {
        let mut conn = r.agent_with("builder", &token).open("openrouter.ai:443");
        injected(&mut conn);
        presented(&conn)
    });
    assert_eq!((chains[0].0, chains[1].0), (2, 2), "the leaf, and what signed it");
    assert_ne!(chains[0].1, chains[1].1, "each has an intermediate of its own");
    let (_, between) = x509_parser::parse_x509_certificate(&chains[0].1).unwrap();
    assert!(between.is_ca() && between.subject().to_string().contains("Keyhatch CA"), "{}", between.subject());

    let env = &one.serve.env;
    let url = "https://openrouter.ai/api/v1/models";
    if let Some(said) = Client::Curl.run(name, env, &["-sS", "--max-time", "20", "-w", "%{http_code}", url]) {
        assert!(said.code == 0 && said.stdout.ends_with("200"), "{said:?}");
    }
    let script = format!("import urllib.request\nprint(urllib.request.urlopen('{url}', timeout=20).status)");
    for python in [Client::Python, Client::Python313] {
        if let Some(said) = python.script(name, env, &script) {
            assert_eq!((said.code, said.stdout.trim()), (0, "200"), "{said:?}");
        }
    }
    let script = format!("const r = await fetch('{url}'); console.log(r.status)");
    if let Some(said) = Client::Node.script(name, env, &script) {
        assert_eq!((said.code, said.stdout.trim()), (0, "200"), "{said:?}");
    }
    assert!(fleet.origin.recorded().iter().all(|r| !r.values("authorization").concat().is_empty()));
}

#[test]
fn an_intermediate_that_lives_for_seconds_is_renewed_in_time() {
    let Some(bao) = Bao::dev("vault::authority::an_intermediate_that_lives_for_seconds_is_renewed_in_time") else { return };
    furnish(&bao);
    engine(&bao, "6s");
    let fleet = Fleet::one(bao, SIGNED);
    let start = Instant::now();
    let (mut seen, mut failed) = (std::collections::BTreeSet::new(), Vec::new());
    // Until the first one is long over: every new connection is taken.
    within(PATIENCE, "the first intermediate is over", || {
        // A client that remembers no session.
        match fleet.agent().try_open("openrouter.ai:443") {
            Ok(mut conn) => {
                seen.insert(presented(&conn).1);
                injected(&mut conn);
            }
            Err(e) => failed.push((start.elapsed(), e.to_string())),
        }
        (start.elapsed() > Duration::from_secs(8)).then_some(())
    });
    assert!(failed.is_empty(), "{failed:?}");
    assert!((2..=12).contains(&seen.len()), "renewed in time, and not at every moment: {}", seen.len());
    // The engine is gone: the last one signs until its end, and that is said.
    fleet.bao.api("DELETE", "sys/mounts/pki", Value::Null);
    fleet.reports(&["the last one signs on"]);
}

#[test]
fn a_start_that_fails_or_is_ended_leaves_no_token_behind() {
    let Some(bao) = Bao::dev("vault::authority::a_start_that_fails_or_is_ended_leaves_no_token_behind") else { return };
    furnish(&bao);
    let fleet = Fleet::new(bao, ALL);
    let (role_id, secret_id) = fleet.bao.approle("keyhatch", &["keyhatch"], "1h", "1h");
    let mut home = fleet.home();
    home.set("VAULT_TOKEN", None);
    let file = home.outside().join("secret-id");
    std::fs::write(&file, secret_id).unwrap();
    let text = std::fs::read_to_string(home.path().join("keyhatch.toml")).unwrap();
    let auth = format!("auth = {{ method = \"approle\", role_id = \"{role_id}\", secret_id_file = \"{}\" }}\ndiscover =", file.display());
    std::fs::write(home.path().join("keyhatch.toml"), text.replacen("discover =", &auth, 1)).unwrap();
    let all_ended = |least: usize| {
        let ends = fleet.bao.asked().iter().filter(|asked| asked.path == "auth/token/revoke-self" && asked.by == "approle").count();
        let logins = fleet.bao.requests("auth/approle/login");
        assert!(logins == ends && logins >= least, "{logins} log-ins, {ends} ended");
    };
    // The CA is malformed: the start fails after the log-in.
    fleet.bao.put(CA, &[("certificate", "x"), ("private_key", "y")]);
    home.say(&["serve"], "").expect_error(2);
    all_ended(1);
    // A listener that is taken is found before Vault is asked; a trust file that is not there after it.
    fleet.bao.purge(CA);
    let good = std::fs::read_to_string(home.path().join("keyhatch.toml")).unwrap();
    let bad = good.replacen("extra_ca_files = [", "extra_ca_files = [\"/nowhere\", ", 1);
    assert_ne!(bad, good);
    std::fs::write(home.path().join("keyhatch.toml"), bad).unwrap();
    let said = home.say(&["serve"], "");
    assert_ne!(said.code, 0, "{said:?}");
    all_ended(1);
    std::fs::write(home.path().join("keyhatch.toml"), good).unwrap();
    // Told to end while it waits.
    fleet.bao.api("POST", "sys/quotas/rate-limit/one", json!({ "path": "secret/data/keyhatch/openrouter", "rate": 1.0, "interval": "1h" }));
    fleet.bao.api_as(fleet.bao.root_token(), "GET", "secret/data/keyhatch/openrouter", &Value::Null);
    let log = home.outside().join("ended.log");
    let out = std::fs::File::create(&log).unwrap();
    let mut child = home.command(&["serve"]).stdin(std::process::Stdio::null()).stdout(std::process::Stdio::null()).stderr(out).spawn().unwrap();
    within(PATIENCE, "serve waits", || std::fs::read_to_string(&log).ok().filter(|l| l.contains("waiting for Vault")));
    rustix::process::kill_process(rustix::process::Pid::from_raw(child.id().cast_signed()).unwrap(), rustix::process::Signal::TERM).unwrap();
    assert!(within(PATIENCE, "serve ends", || child.try_wait().unwrap()).success());
    all_ended(2);
}

#[test]
fn a_ca_that_cannot_be_taken_is_tried_again_and_one_without_its_root_is_warned_about() {
    let Some(bao) = Bao::dev("vault::authority::a_ca_that_cannot_be_taken_is_tried_again_and_one_without_its_root_is_warned_about") else { return };
    furnish(&bao);
    let fleet = Fleet::one(bao, ALL);
    let replica = &fleet.replicas[0];
    let (before, path) = (replica.ca(), replica.home.path().join("ca.pem"));
    // It cannot be written: nothing is changed.
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir_all(path.join("in-the-way")).unwrap();
    let ((root, root_key), (own, key)) = (another_ca(), another_ca());
    fleet.bao.put(CA, &[("certificate", &root), ("private_key", &root_key)]);
    fleet.reports(&["the last one signs on", "ca.pem"]);
    std::fs::remove_dir_all(&path).unwrap();
    within(SOON, "it is taken after all", || std::fs::read_to_string(&path).ok().filter(|pem| *pem == root));
    assert_ne!(before, root);
    within(SOON, "a record of it", || replica.audit().contains("\"ca.change\"").then_some(()));
    assert!(!replica.serve.log().contains("is no root"));
    // An intermediate whose root is left out.
    let intermediate = under(&root, &root_key, &key);
    assert_ne!(intermediate, own);
    fleet.bao.put(CA, &[("certificate", &intermediate), ("private_key", &key)]);
    within(SOON, "it is warned about", || replica.serve.log().contains("is no root").then_some(()));
}

#[test]
fn an_earlier_ca_vouches_for_no_origin() {
    let Some(bao) = Bao::dev("vault::authority::an_earlier_ca_vouches_for_no_origin") else { return };
    furnish(&bao);
    let mut fleet = Fleet::new(bao, ALL);
    let ((first, first_key), (second, second_key), (third, third_key)) = (another_ca(), another_ca(), another_ca());
    fleet.bao.put(CA, &[("certificate", &first), ("private_key", &first_key)]);
    let home = fleet.home();
    let (file, other) = (home.outside().join("first.pem"), home.outside().join("second.pem"));
    std::fs::write(&file, &first).unwrap();
    std::fs::write(&other, &second).unwrap();
    let text = std::fs::read_to_string(home.path().join("keyhatch.toml")).unwrap();
    let both = format!("extra_ca_files = [\"{}\", \"{}\", ", file.display(), other.display());
    std::fs::write(home.path().join("keyhatch.toml"), text.replacen("extra_ca_files = [", &both, 1)).unwrap();
    let left_out = |log: &str, file: &std::path::Path| log.contains(&format!("{} holds the CA of keyhatch", file.display()));
    let mut serve = Serve::start(&home);
    assert!(left_out(&serve.log(), &file) && !left_out(&serve.log(), &other), "{}", serve.log());
    serve.stop();
    // Both starts write the same log.
    let begin = serve.log().len();
    // Replaced while it was down, and while it is up.
    fleet.bao.put(CA, &[("certificate", &second), ("private_key", &second_key)]);
    fleet.replicas.push(Replica { serve: Serve::start(&home), home });
    let log = || fleet.replicas[0].serve.log().split_off(begin);
    assert!(left_out(&log(), &file) && left_out(&log(), &other), "{}", log());
    let before = log().matches("holds the CA of keyhatch").count();
    fleet.bao.put(CA, &[("certificate", &third), ("private_key", &third_key)]);
    within(SOON, "both are left out still", || (log().matches("holds the CA of keyhatch").count() == before + 2).then_some(()));
}

/// A CA of that key which the other signs.
fn under(certificate: &str, signer: &str, key: &str) -> String {
    let issuer = rcgen::Issuer::from_ca_cert_pem(certificate, KeyPair::from_pem(signer).unwrap()).unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "an intermediate");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.signed_by(&KeyPair::from_pem(key).unwrap(), &issuer).unwrap().pem()
}

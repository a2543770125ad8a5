//! The shipped policies: every right in them is needed, none is missing, and none reaches further.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::support::{Bao, package_dir};

/// Something that Keyhatch does, the right that it needs (path in the policy, capability), and what the server answers.
struct Need {
    right: (&'static str, &'static str),
    call: (&'static str, &'static str, Value),
    status: u16,
}

fn need(path: &'static str, capability: &'static str, call: (&'static str, &'static str), body: Value, status: u16) -> Need {
    Need { right: (path, capability), call: (call.0, call.1, body), status }
}

fn reads(path: &'static str) -> Need {
    need(path, "read", ("GET", path), Value::Null, 200)
}

/// What both kinds of set-up need.
fn common() -> Vec<Need> {
    let ciphertext = "vault:v1:AAAA";
    vec![
        reads("auth/token/lookup-self"),
        need("auth/token/renew-self", "update", ("POST", "auth/token/renew-self"), Value::Null, 200),
        need("auth/token/revoke-self", "update", ("POST", "auth/token/revoke-self"), Value::Null, 204),
        need("transit/encrypt/keyhatch", "update", ("POST", "transit/encrypt/keyhatch"), json!({ "plaintext": "AAAA" }), 200),
        // It goes as far as the ciphertext, which is none.
        need("transit/decrypt/keyhatch", "update", ("POST", "transit/decrypt/keyhatch"), json!({ "ciphertext": ciphertext }), 400),
    ]
}

fn named() -> Vec<Need> {
    let mut needs = common();
    needs.extend([reads("secret/data/openrouter"), reads("secret/metadata/openrouter"), reads("kv/openrouter"), reads("database/creds/keyhatch")]);
    // No such lease: the right was there to find that out.
    needs.push(need("sys/leases/renew", "update", ("POST", "sys/leases/renew"), json!({ "lease_id": "database/creds/keyhatch/none" }), 400));
    needs.push(need("sys/leases/revoke", "update", ("POST", "sys/leases/revoke"), json!({ "lease_id": "database/creds/keyhatch/none" }), 204));
    needs
}

fn discovered(csr: &str) -> Vec<Need> {
    let mut needs = common();
    let new = json!({ "data": { "k": "v" }, "options": { "cas": 0 } });
    needs.extend([
        need("secret/metadata/keyhatch/", "list", ("LIST", "secret/metadata/keyhatch"), Value::Null, 200),
        need("secret/metadata/keyhatch-agents/", "list", ("GET", "secret/metadata/keyhatch-agents/?list=true"), Value::Null, 200),
        need("secret/metadata/keyhatch/+", "read", ("GET", "secret/metadata/keyhatch/openrouter"), Value::Null, 200),
        need("secret/metadata/keyhatch-agents/+", "read", ("GET", "secret/metadata/keyhatch-agents/default"), Value::Null, 200),
        need("secret/data/keyhatch/+", "read", ("GET", "secret/data/keyhatch/openrouter"), Value::Null, 200),
        need("secret/data/keyhatch-agents/+", "read", ("GET", "secret/data/keyhatch-agents/default"), Value::Null, 200),
        need("secret/data/keyhatch-ca", "create", ("POST", "secret/data/keyhatch-ca"), new.clone(), 200),
        need("secret/data/keyhatch-keys", "create", ("POST", "secret/data/keyhatch-keys"), new, 200),
        reads("secret/data/keyhatch-ca"),
        reads("secret/data/keyhatch-keys"),
        reads("secret/metadata/keyhatch-ca"),
        reads("secret/metadata/keyhatch-keys"),
        need("pki/root/sign-intermediate", "update", ("POST", "pki/root/sign-intermediate"), json!({ "csr": csr, "common_name": "replica" }), 200),
    ]);
    needs
}

/// The policy with its variants, and its rights one by one.
fn shipped(name: &str) -> (String, BTreeSet<(String, String)>) {
    let text = std::fs::read_to_string(package_dir().join("deploy/vault").join(name)).unwrap().replace("\n#path ", "\npath ");
    let mut rights = BTreeSet::new();
    for rule in text.split("\npath \"").skip(1) {
        let (path, rest) = rule.split_once('"').unwrap();
        let (list, _) = rest.split_once("capabilities = [").unwrap().1.split_once(']').unwrap();
        let new = list.split(',').all(|c| rights.insert((path.to_owned(), c.trim().trim_matches('"').to_owned())));
        assert!(new, "{path} stands once");
    }
    (text, rights)
}

/// The rights but one, as a policy.
fn without(rights: &BTreeSet<(String, String)>, one: (&str, &str)) -> String {
    let paths = rights.iter().map(|(path, _)| path).collect::<BTreeSet<_>>();
    let rule = |path: &str| {
        let left = rights.iter().filter(|(p, c)| p == path && (p.as_str(), c.as_str()) != one).map(|(_, c)| format!("\"{c}\"")).collect::<Vec<_>>();
        (!left.is_empty()).then(|| format!("path \"{path}\" {{ capabilities = [{}] }}\n", left.join(", ")))
    };
    paths.into_iter().filter_map(|path| rule(path)).collect()
}

/// A token with this policy and no other.
fn holder(bao: &Bao, policy: &str) -> String {
    bao.policy("tried", policy);
    let made = bao.api("POST", "auth/token/create", json!({ "policies": ["tried"], "no_default_policy": true }));
    made["auth"]["client_token"].as_str().unwrap().to_owned()
}

/// A server in which everything is there that the policies speak of, but the CA and the keys.
fn furnished(bao: &Bao) {
    for path in ["openrouter", "other", "keyhatch/openrouter", "keyhatch/sub/deep", "keyhatch-agents/default"] {
        bao.put(&format!("secret/{path}"), &[("k", "v")]);
    }
    for mount in ["kv", "database"] {
        bao.mount(mount, &json!({ "type": "kv", "options": { "version": "1" } }));
    }
    for path in ["kv/openrouter", "kv/other", "database/creds/keyhatch"] {
        bao.api("POST", path, json!({ "k": "v" }));
    }
    bao.mount("transit", &json!({ "type": "transit" }));
    bao.api("POST", "transit/keys/keyhatch", Value::Null);
    bao.mount("pki", &json!({ "type": "pki" }));
    bao.api("POST", "pki/root/generate/internal", json!({ "common_name": "root", "key_type": "ec", "key_bits": 256 }));
}

fn every_right_is_needed(bao: &Bao, name: &str, needs: &[Need]) {
    let (text, rights) = shipped(name);
    let wanted = needs.iter().map(|n| (n.right.0.to_owned(), n.right.1.to_owned())).collect::<BTreeSet<_>>();
    assert_eq!(rights, wanted, "{name}: every right has a use, every use a right");
    for need in needs {
        let (method, path, body) = &need.call;
        let refused = bao.api_as(&holder(bao, &without(&rights, need.right)), method, path, body);
        assert_eq!(refused.0, 403, "{name} without {:?}: {method} {path}: {}", need.right, refused.1);
        let (status, answer) = bao.api_as(&holder(bao, &text), method, path, body);
        assert_eq!(status, need.status, "{name}: {method} {path}: {answer}");
    }
}

/// What a token may not do.
fn refused(bao: &Bao, token: &str, paths: &[&str]) {
    for path in paths {
        assert_eq!(bao.capabilities(token, path), ["deny"], "{path}");
    }
}

/// On everyone's path.
const NOBODYS: [&str; 8] = [
    "secret/data/other",
    "secret/metadata/other",
    "secret/metadata/",
    "kv/other",
    "sys/policies/acl/tried",
    "sys/mounts",
    "auth/token/create",
    "transit/keys/keyhatch",
];

#[test]
fn every_right_of_the_policy_is_needed_and_none_reaches_further() {
    let Some(bao) = Bao::dev("every_right_of_the_policy_is_needed_and_none_reaches_further") else { return };
    furnished(&bao);
    every_right_is_needed(&bao, "keyhatch-policy.hcl", &named());
    let token = holder(&bao, &shipped("keyhatch-policy.hcl").0);
    refused(&bao, &token, &NOBODYS);
    refused(&bao, &token, &["secret/data/keyhatch/openrouter", "secret/data/keyhatch-ca", "secret/delete/openrouter", "secret/destroy/openrouter"]);
    assert_eq!(bao.capabilities(&token, "secret/data/openrouter"), ["read"]);
    // Which engine it is needs no right of its own where the path may be read.
    let mount = bao.api_as(&token, "GET", "sys/internal/ui/mounts/secret/openrouter", &Value::Null);
    assert_eq!((mount.0, &mount.1["data"]["options"]["version"]), (200, &json!("2")));
}

#[test]
fn every_right_of_the_discovery_policy_is_needed_and_none_reaches_further() {
    let Some(bao) = Bao::dev("every_right_of_the_discovery_policy_is_needed_and_none_reaches_further") else { return };
    furnished(&bao);
    let key = rcgen::KeyPair::generate().unwrap();
    let csr = rcgen::CertificateParams::new(Vec::new()).unwrap().serialize_request(&key).unwrap().pem().unwrap();
    every_right_is_needed(&bao, "keyhatch-discover-policy.hcl", &discovered(&csr));
    let token = holder(&bao, &shipped("keyhatch-discover-policy.hcl").0);
    refused(&bao, &token, &NOBODYS);
    refused(
        &bao,
        &token,
        &["secret/data/openrouter", "secret/data/keyhatch/sub/deep", "secret/metadata/keyhatch/sub/deep", "secret/metadata/keyhatch-agents/sub/x"],
    );
    assert_eq!(bao.api_as(&token, "LIST", "secret/metadata/keyhatch/sub", &Value::Null).0, 403);
    for path in [
        "secret/data/keyhatch/openrouter",
        "secret/data/keyhatch-agents/default",
        "secret/metadata/keyhatch/openrouter",
        "secret/metadata/keyhatch-ca",
    ] {
        assert_eq!(bao.capabilities(&token, path), ["read"], "{path}");
    }
    for mount in ["secret/keyhatch", "secret/keyhatch-agents", "secret/keyhatch-ca", "secret/keyhatch-keys"] {
        assert_eq!(bao.api_as(&token, "GET", &format!("sys/internal/ui/mounts/{mount}"), &Value::Null).0, 200, "{mount}");
    }
}

#[test]
fn what_one_replica_made_another_cannot_replace() {
    let Some(bao) = Bao::dev("what_one_replica_made_another_cannot_replace") else { return };
    let token = holder(&bao, &shipped("keyhatch-discover-policy.hcl").0);
    let make = |token: &str| bao.api_as(token, "POST", "secret/data/keyhatch-ca", &json!({ "data": { "by": "me" }, "options": { "cas": 0 } }));
    assert_eq!(make(&token).0, 200);
    // The second replica comes too late. To `create` alone this is a 403, for writing what is there is `update`; who has both gets 400.
    assert_eq!(make(&token).0, 403);
    let (status, answer) = make(bao.root_token());
    assert_eq!(status, 400);
    assert!(answer["errors"][0].as_str().unwrap().contains("check-and-set"), "{answer}");
    assert_eq!(bao.get("secret/keyhatch-ca")["metadata"]["version"], 1);
    // A soft-deleted one is still there, a purged one is not.
    bao.delete("secret/keyhatch-ca");
    assert_ne!(make(bao.root_token()).0, 200);
    bao.purge("secret/keyhatch-ca");
    assert_eq!(make(&token).0, 200);
}

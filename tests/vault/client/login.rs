//! The ways to a token: AppRole, wrapped secret ids, JWT, Kubernetes, a file that changes.

use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use keyhatch::vault::hashicorp::{Login, VaultErrorKind};
use rcgen::{KeyPair, SigningKey as _};
use serde_json::{Value, json};

use super::{Stub, failed, file, swap, until, vault};
use crate::support::Bao;

const READ_A: &str = "path \"secret/data/a\" { capabilities = [\"read\"] }";

/// A server with `secret/a` and the policy `one` that reads it.
fn bao(test: &str) -> Option<Bao> {
    let bao = Bao::dev(test)?;
    bao.put("secret/a", &[("key", "sixteen-bytes-long")]);
    bao.policy("one", READ_A);
    Some(bao)
}

fn approle(role_id: &str, secret_id: Option<&Path>, wrapped: bool) -> Login {
    Login::AppRole { mount: "approle".into(), role_id: role_id.into(), secret_id_file: secret_id.map(Into::into), wrapped }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_approle_logs_in_once_for_all_and_ends_its_token() {
    let Some(bao) = bao("an_approle_logs_in_once_for_all_and_ends_its_token") else { return };
    let (role_id, secret_id) = bao.approle("keyhatch", &["one"], "1h", "2h");
    let path = file(&bao, "secret-id", &format!("  {secret_id}\n"));
    let client = vault(&bao, approle(&role_id, Some(&path), false));
    let readers = (0..20).map(|_| {
        let client = Arc::clone(&client);
        tokio::spawn(async move { client.read("secret/a", None).await.map(drop) })
    });
    for reader in readers.collect::<Vec<_>>() {
        reader.await.unwrap().unwrap();
    }
    assert_eq!((bao.requests("auth/approle/login"), client.stats().logins, *client.session().borrow()), (1, 1, 1));
    let info = client.token_info().await.unwrap();
    assert!(info.renewable && info.ttl.is_some_and(|t| t.as_secs() > 3500) && info.policies.contains(&"one".into()), "{info:?}");
    assert_eq!(info.display_name, "approle");

    let revoked = bao.requests("auth/token/revoke-self");
    client.close().await;
    assert_eq!(bao.requests("auth/token/revoke-self"), revoked + 1);
    failed(client.read("secret/a", None).await, VaultErrorKind::Unavailable, &[&secret_id]);
    assert_eq!(bao.requests("auth/approle/login"), 1, "after its end it asks for no further token");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_token_is_replaced_before_anyone_notices() {
    let Some(bao) = bao("a_revoked_token_is_replaced_before_anyone_notices") else { return };
    let (role_id, secret_id) = bao.approle("keyhatch", &["one"], "1h", "2h");
    let client = vault(&bao, approle(&role_id, Some(&file(&bao, "secret-id", &secret_id)), false));
    client.read("secret/a", None).await.unwrap();
    // Once at once after the log-in, then again and again.
    for logins in 2..5 {
        revoke_all(&bao);
        client.read("secret/a", None).await.unwrap();
        assert_eq!(client.stats().logins, logins);
    }
    // A path that is refused for good does not make it log in again and again.
    for _ in 0..5 {
        failed(client.read("secret/b", None).await, VaultErrorKind::Denied, &[&secret_id]);
    }
    assert_eq!(client.stats().logins, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_log_in_says_why() {
    let Some(bao) = bao("a_refused_log_in_says_why") else { return };
    let (role_id, secret_id) = bao.approle("keyhatch", &["one"], "1h", "2h");
    let wrong = file(&bao, "wrong", "11111111-2222-3333-4444-555555555555");
    let client = vault(&bao, approle(&role_id, Some(&wrong), false));
    let said = failed(client.read("secret/a", None).await, VaultErrorKind::LoginRefused, &["11111111-2222-3333-4444-555555555555"]);
    assert!(said.contains("AppRole (auth/approle): invalid role or secret ID"), "{said}");
    assert_eq!((client.stats().logins, client.stats().login_failures), (0, 1));
    // Those who come at once get the same word, and Vault is not asked again.
    failed(client.read("secret/a", None).await, VaultErrorKind::LoginRefused, &[]);
    assert_eq!(bao.requests("auth/approle/login"), 1);
    // The file is read at each log-in.
    swap(&wrong, &secret_id);
    until("the mended file is taken", || async { client.read("secret/a", None).await.ok() }).await;

    let none = bao.dir().join("none");
    let said = failed(vault(&bao, approle(&role_id, Some(&none), false)).read("secret/a", None).await, VaultErrorKind::LoginRefused, &[]);
    assert!(said.contains("the secret id cannot be read from") && said.contains("No such file"), "{said}");
    let login = Login::AppRole { mount: "elsewhere".into(), role_id, secret_id_file: Some(wrong), wrapped: false };
    let said = failed(vault(&bao, login).read("secret/a", None).await, VaultErrorKind::LoginRefused, &[&secret_id]);
    assert!(said.contains("`vault auth list`") || said.contains("permission denied"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_may_ask_for_no_secret_id() {
    let Some(bao) = bao("a_role_may_ask_for_no_secret_id") else { return };
    let (role_id, _) = bao.approle("keyhatch", &["one"], "1h", "2h");
    let role = json!({ "bind_secret_id": false, "token_bound_cidrs": ["127.0.0.1/32"], "token_policies": ["one"] });
    bao.api("POST", "auth/approle/role/keyhatch", role);
    assert!(vault(&bao, approle(&role_id, None, false)).read("secret/a", None).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrapped_secret_id_is_unwrapped_once() {
    let Some(bao) = bao("a_wrapped_secret_id_is_unwrapped_once") else { return };
    let (role_id, _) = bao.approle("keyhatch", &["one"], "1h", "2h");
    let wrapping = bao.wrapped_secret_id("keyhatch");
    let path = file(&bao, "wrapped", &wrapping);
    let client = vault(&bao, approle(&role_id, Some(&path), true));
    client.read("secret/a", None).await.unwrap();
    // A later log-in uses the secret id that is kept; the file may be gone by then.
    for gone in [false, true] {
        if gone {
            std::fs::remove_file(&path).unwrap();
        }
        revoke_all(&bao);
        client.read("secret/a", None).await.unwrap();
    }
    assert_eq!((bao.requests("sys/wrapping/unwrap"), client.stats().logins), (1, 3));

    // Another process finds it used.
    std::fs::write(&path, &wrapping).unwrap();
    let other = vault(&bao, approle(&role_id, Some(&path), true));
    let said = failed(other.read("secret/a", None).await, VaultErrorKind::LoginRefused, &[&wrapping]);
    assert!(said.contains("used before") && said.contains("put a new one there"), "{said}");
    // A new one in the file mends it.
    swap(&path, &bao.wrapped_secret_id("keyhatch"));
    until("the new one is taken", || async { other.read("secret/a", None).await.ok() }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_swapped_wrapping_token_is_not_unwrapped() {
    let Some(bao) = bao("a_swapped_wrapping_token_is_not_unwrapped") else { return };
    let (role_id, secret_id) = bao.approle("keyhatch", &["one"], "1h", "2h");
    // An attacker who saw the secret id wraps it anew.
    let swapped = bao.json(&["write", "-wrap-ttl=5m", "sys/wrapping/wrap", &format!("secret_id={secret_id}")]);
    let wrapping = swapped["wrap_info"]["token"].as_str().unwrap();
    let client = vault(&bao, approle(&role_id, Some(&file(&bao, "wrapped", wrapping)), true));
    let said = failed(client.read("secret/a", None).await, VaultErrorKind::LoginRefused, &[wrapping, &secret_id]);
    assert!(said.contains("made by sys/wrapping/wrap") && said.contains("swapped"), "{said}");
    assert_eq!((bao.requests("sys/wrapping/unwrap"), bao.requests("auth/approle/login")), (0, 0));
}

/// A JWT signed with ES256 (RFC 7515, RFC 7518 section 3.4).
fn jwt(key: &KeyPair, claims: &Value) -> String {
    let encode = |value: &Value| BASE64URL.encode(value.to_string());
    let text = format!("{}.{}", encode(&json!({ "alg": "ES256", "typ": "JWT" })), encode(claims));
    let der = key.sign(text.as_bytes()).unwrap();
    // SEQUENCE { INTEGER r, INTEGER s } becomes r and s of 32 bytes each.
    let (mut rest, mut raw) = (&der[2..], Vec::new());
    for _ in 0..2 {
        let (number, after) = rest[2..].split_at(usize::from(rest[1]));
        let number = &number[number.len().saturating_sub(32)..];
        raw.extend(std::iter::repeat_n(0, 32 - number.len()).chain(number.iter().copied()));
        rest = after;
    }
    format!("{text}.{}", BASE64URL.encode(raw))
}

fn claims(subject: &str) -> Value {
    let now = keyhatch::clock::unix_seconds();
    json!({ "iss": "tests", "aud": ["vault"], "sub": subject, "iat": now, "nbf": now - 5, "exp": now + 600 })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_jwt_logs_in() {
    let Some(bao) = bao("a_jwt_logs_in") else { return };
    let key = KeyPair::generate().unwrap();
    bao.api("POST", "sys/auth/ci/jwt", json!({ "type": "jwt" }));
    bao.api("POST", "auth/ci/jwt/config", json!({ "jwt_validation_pubkeys": [key.public_key_pem()] }));
    let role =
        json!({ "role_type": "jwt", "user_claim": "sub", "bound_audiences": ["vault"], "bound_subject": "keyhatch", "token_policies": ["one"] });
    bao.api("POST", "auth/ci/jwt/role/keyhatch", role);
    let good = jwt(&key, &claims("keyhatch"));
    let path = file(&bao, "jwt", &good);
    let login = || Login::Jwt { mount: "ci/jwt".into(), role: "keyhatch".into(), jwt_file: path.clone() };
    let client = vault(&bao, login());
    assert!(client.read("secret/a", None).await.is_ok());
    assert_eq!(client.stats().logins, 1);

    let wrong = jwt(&key, &claims("another"));
    swap(&path, &wrong);
    let said = failed(vault(&bao, login()).read("secret/a", None).await, VaultErrorKind::LoginRefused, &[&wrong]);
    assert!(said.contains("a JWT (auth/ci/jwt): "), "{said}");
    swap(&path, &jwt(&KeyPair::generate().unwrap(), &claims("keyhatch")));
    failed(vault(&bao, login()).read("secret/a", None).await, VaultErrorKind::LoginRefused, &[]);
    // The token that was got before goes on.
    assert!(client.read("secret/a", None).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn kubernetes_logs_in() {
    let Some(bao) = bao("kubernetes_logs_in") else { return };
    // What stands in for the Kubernetes API answers TokenReviews.
    let api = Stub::start(|request| {
        let good = request.contains("tokenreviews") && request.contains("TokenReview");
        let user = json!({ "username": "system:serviceaccount:default:keyhatch", "uid": "7d3c", "groups": ["system:serviceaccounts"] });
        let status = if good { json!({ "authenticated": true, "user": user }) } else { json!({ "authenticated": false }) };
        Stub::json("201 Created", &json!({ "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "status": status }).to_string())
    });
    let ca = rcgen::generate_simple_self_signed(vec!["kubernetes".into()]).unwrap().cert.pem();
    bao.api("POST", "sys/auth/kubernetes", json!({ "type": "kubernetes" }));
    let config = json!({ "kubernetes_host": api.url(), "disable_local_ca_jwt": true, "kubernetes_ca_cert": ca, "disable_iss_validation": true });
    bao.api("POST", "auth/kubernetes/config", config);
    let role = json!({ "bound_service_account_names": ["keyhatch"], "bound_service_account_namespaces": ["default"], "token_policies": ["one"] });
    bao.api("POST", "auth/kubernetes/role/keyhatch", role);
    let mut claims = claims("system:serviceaccount:default:keyhatch");
    claims["kubernetes.io"] = json!({ "namespace": "default", "serviceaccount": { "name": "keyhatch", "uid": "7d3c" } });
    let path = file(&bao, "jwt", &jwt(&KeyPair::generate().unwrap(), &claims));
    let client = vault(&bao, Login::Jwt { mount: "kubernetes".into(), role: "keyhatch".into(), jwt_file: path });
    client.read("secret/a", None).await.unwrap();
    assert_eq!((client.stats().logins, api.asked()), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_file_is_read_anew_when_it_changes() {
    let Some(bao) = bao("a_token_file_is_read_anew_when_it_changes") else { return };
    let (first, second) = (bao.token(&["one"], "1h", None), bao.token(&["one"], "1h", None));
    let path = file(&bao, "sink", &first);
    let client = vault(&bao, Login::TokenFile(path.clone()));
    let renewal = client.spawn_renewal();
    client.read("secret/a", None).await.unwrap();
    let mut session = client.session();
    assert_eq!(*session.borrow_and_update(), 1);
    // A new token is taken by itself, without a refusal first.
    swap(&path, &second);
    tokio::time::timeout(super::PATIENCE, session.changed()).await.expect("in time").unwrap();
    bao.revoke(&first);
    client.read("secret/a", None).await.unwrap();
    // Rubbish does not replace a good token.
    swap(&path, "s.rubbish");
    until("the rubbish was tried", || async { (client.stats().login_failures > 0).then_some(()) }).await;
    client.read("secret/a", None).await.unwrap();
    assert_eq!(*session.borrow_and_update(), 2);
    renewal.abort();

    // Without the task a refusal has it read.
    let client = vault(&bao, Login::TokenFile(path.clone()));
    failed(client.read("secret/a", None).await, VaultErrorKind::LoginRefused, &["s.rubbish"]);
    swap(&path, &second);
    until("the mended file is taken", || async { client.read("secret/a", None).await.ok() }).await;
    let third = bao.token(&["one"], "1h", None);
    swap(&path, &third);
    bao.revoke(&second);
    client.read("secret/a", None).await.unwrap();
    let revoked = bao.requests("auth/token/revoke-self");
    client.close().await;
    assert_eq!(bao.requests("auth/token/revoke-self"), revoked, "the token is not ours to revoke");
}

/// Has the server forget every token that came of an AppRole.
fn revoke_all(bao: &Bao) {
    for accessor in bao.api("LIST", "auth/token/accessors", Value::Null)["data"]["keys"].as_array().unwrap() {
        let of = bao.api("POST", "auth/token/lookup-accessor", json!({ "accessor": accessor }));
        if of["data"]["display_name"] == "approle" {
            bao.api("POST", "auth/token/revoke-accessor", json!({ "accessor": accessor }));
        }
    }
}

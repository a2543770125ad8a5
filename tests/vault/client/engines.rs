//! Other engines: transit, PKI, and one that leases.

use std::time::Duration;

use keyhatch::credential::Secret;
use keyhatch::vault::hashicorp::{Login, TransitKey, VaultErrorKind};
use rcgen::{CertificateParams, IsCa, KeyPair};
use serde_json::{Value, json};
use x509_parser::prelude::{FromDer as _, Pem, X509Certificate};

use super::{Stub, failed, field, file, root, until, vault};
use crate::support::Bao;

#[tokio::test(flavor = "multi_thread")]
async fn transit_wraps_and_unwraps() {
    let Some(bao) = Bao::dev("transit_wraps_and_unwraps") else { return };
    bao.mount("kms/transit", &json!({ "type": "transit" }));
    for name in ["keyhatch", "other"] {
        bao.api("POST", &format!("kms/transit/keys/{name}"), json!({}));
    }
    let vault = root(&bao);
    let (key, other) = (TransitKey::parse("kms/transit/keyhatch").unwrap(), TransitKey::parse("kms/transit/other").unwrap());
    let plain = keyhatch::random::bytes::<32>();
    let ciphertext = vault.transit_encrypt(&key, &Secret::from_opened(&plain)).await.unwrap();
    assert!(ciphertext.starts_with("vault:v1:"), "{ciphertext}");
    assert!(vault.transit_decrypt(&key, &ciphertext).await.unwrap().expose() == plain);
    failed(vault.transit_decrypt(&other, &ciphertext).await, VaultErrorKind::BadAnswer, &[]);
    bao.api("POST", "kms/transit/keys/keyhatch/rotate", Value::Null);
    assert!(vault.transit_decrypt(&key, &ciphertext).await.unwrap().expose() == plain, "an older key version opens it still");
    let elsewhere = TransitKey::parse("keyhatch").unwrap();
    failed(vault.transit_encrypt(&elsewhere, &Secret::from_opened(&plain)).await, VaultErrorKind::NoMount, &[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn pki_signs_a_ca_that_signs_leaves_alone() {
    let Some(bao) = Bao::dev("pki_signs_a_ca_that_signs_leaves_alone") else { return };
    bao.mount("pki", &json!({ "type": "pki", "config": { "max_lease_ttl": "8760h" } }));
    bao.api("POST", "pki/root/generate/internal", json!({ "common_name": "root of the tests", "ttl": "8760h" }));
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::NoCa;
    let csr = params.serialize_request(&key).unwrap().pem().unwrap();
    let vault = root(&bao);
    let signed = vault.sign_csr("pki/root/sign-intermediate", &csr, "Keyhatch replica", Duration::from_secs(3600)).await.unwrap();
    let pem = |text: &str| Pem::iter_from_buffer(text.as_bytes()).next().unwrap().unwrap().contents;
    let (own, above) = (pem(&signed.certificate), pem(&signed.chain[0]));
    let (own, above) = (X509Certificate::from_der(&own).unwrap().1, X509Certificate::from_der(&above).unwrap().1);
    let constraints = own.basic_constraints().unwrap().unwrap().value.clone();
    assert!(constraints.ca && constraints.path_len_constraint == Some(0), "{constraints:?}");
    assert_eq!(own.subject().to_string(), "CN=Keyhatch replica");
    assert_eq!((own.issuer(), above.subject().to_string().as_str()), (above.subject(), "CN=root of the tests"));
    let life = own.validity().not_after.timestamp() - keyhatch::clock::unix_seconds();
    assert!((3500..=3660).contains(&life), "{life}");
    assert_eq!(signed.chain.len(), 1);
    failed(vault.sign_csr("pki/root/sign-intermediate", "no csr", "x", Duration::from_secs(60)).await, VaultErrorKind::BadAnswer, &[]);
}

/// A mount of the RabbitMQ engine: it needs no more than a server that takes users, which a stub stands in for.
fn leasing(bao: &Bao, ttl: &str) -> Stub {
    let rabbit = Stub::start(|request| {
        let status = if request.starts_with("PUT /api/users/") { "201 Created" } else { "204 No Content" };
        format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
    });
    bao.mount("rabbitmq", &json!({ "type": "rabbitmq" }));
    let connection = json!({ "connection_uri": rabbit.url(), "username": "u", "password": "p", "verify_connection": false });
    bao.api("POST", "rabbitmq/config/connection", connection);
    bao.api("POST", "rabbitmq/config/lease", json!({ "ttl": ttl, "max_ttl": "1h" }));
    bao.api("POST", "rabbitmq/roles/keyhatch", json!({ "tags": "monitoring", "vhosts": "{}" }));
    rabbit
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leased_secret_is_renewed_and_revoked() {
    let Some(bao) = Bao::dev("a_leased_secret_is_renewed_and_revoked") else { return };
    let _rabbit = leasing(&bao, "40s");
    let vault = root(&bao);
    let read = vault.read("rabbitmq/creds/keyhatch", None).await.unwrap();
    let (password, lease) = (field(&read, "password"), read.lease.unwrap());
    assert!(password.len() >= 16 && lease.id.starts_with("rabbitmq/creds/keyhatch/") && lease.renewable, "{lease:?}");
    assert_eq!((lease.duration, read.version), (Duration::from_secs(40), None));
    let renewed = vault.renew_lease(&lease.id).await.unwrap();
    assert!(renewed.id == lease.id && renewed.duration > Duration::from_secs(30), "{renewed:?}");
    vault.revoke_lease(&lease.id).await.unwrap();
    let said = failed(vault.renew_lease(&lease.id).await, VaultErrorKind::BadAnswer, &[&password]);
    assert!(said.contains("lease not found"), "{said}");
    assert_ne!(field(&vault.read("rabbitmq/creds/keyhatch", None).await.unwrap(), "password"), password);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_cannot_be_renewed_is_told_so() {
    let Some(bao) = Bao::dev("a_lease_that_cannot_be_renewed_is_told_so") else { return };
    bao.mount("ssh", &json!({ "type": "ssh" }));
    bao.api("POST", "ssh/roles/otp", json!({ "key_type": "otp", "default_user": "u", "cidr_list": "127.0.0.0/8" }));
    let made = bao.api("POST", "ssh/creds/otp", json!({ "ip": "127.0.0.1" }));
    let id = made["lease_id"].as_str().unwrap();
    let vault = root(&bao);
    let said = failed(vault.renew_lease(id).await, VaultErrorKind::BadAnswer, &[]);
    assert!(said.contains("not renewable"), "{said}");
    vault.revoke_lease(id).await.unwrap();
    // Its credentials are made by a write alone, which no reader of secrets does.
    failed(vault.read("ssh/creds/otp", None).await, VaultErrorKind::BadAnswer, &[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_ends_with_its_token() {
    let Some(bao) = Bao::dev("a_lease_ends_with_its_token") else { return };
    let _rabbit = leasing(&bao, "40s");
    bao.policy("lease", "path \"rabbitmq/creds/keyhatch\" { capabilities = [\"read\"] }");
    let (role_id, secret_id) = bao.approle("keyhatch", &["lease"], "1h", "2h");
    let path = file(&bao, "secret-id", &secret_id);
    let client = vault(&bao, Login::AppRole { mount: "approle".into(), role_id, secret_id_file: Some(path), wrapped: false });
    let lease = client.read("rabbitmq/creds/keyhatch", None).await.unwrap().lease.unwrap();
    assert_eq!(*client.session().borrow(), 1);
    client.close().await;
    until("the lease is over", || async { root(&bao).renew_lease(&lease.id).await.is_err().then_some(()) }).await;
}

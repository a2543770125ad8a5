//! What can be read: both versions of key/value, versions, what is deleted, missing or not mounted, folders, metadata.

use keyhatch::credential::Secret;
use keyhatch::vault::hashicorp::{MountKind, VaultErrorKind};
use serde_json::json;

use super::{failed, field, root};
use crate::support::{Bao, fresh_key};

#[tokio::test(flavor = "multi_thread")]
async fn both_versions_of_key_value_are_told_apart_and_read() {
    let Some(bao) = Bao::dev("both_versions_of_key_value_are_told_apart_and_read") else { return };
    let (new, old) = (fresh_key(), fresh_key());
    bao.mount("old/kv", &json!({ "type": "kv", "options": { "version": "1" } }));
    bao.api("POST", "old/kv/a/openrouter", json!({ "api_key": old, "n": 12 }));
    bao.put("secret/openrouter", &[("api_key", &new)]);
    let vault = root(&bao);
    assert_eq!(vault.mount_of("secret/openrouter").await.unwrap().kind, MountKind::KvV2);
    assert_eq!(vault.mount_of("old/kv/a/openrouter").await.unwrap().kind, MountKind::KvV1);
    assert_eq!(vault.mount_of("auth/token/lookup-self").await.unwrap().path, "auth/token/");

    let read = vault.read("secret/openrouter", None).await.unwrap();
    assert_eq!((field(&read, "api_key"), read.version, read.lease.is_none()), (new, Some(1), true));
    let read = vault.read("old/kv/a/openrouter", None).await.unwrap();
    assert_eq!((field(&read, "api_key"), field(&read, "n"), read.version, read.lease.is_none()), (old, "12".into(), None, true));
    assert_eq!(read.fields.names().collect::<Vec<_>>(), ["api_key", "n"]);
    let said = failed(vault.read("old/kv/a/openrouter", Some(2)).await, VaultErrorKind::Settings, &[]);
    assert!(said.contains("no versions"), "{said}");

    // A mount is asked for once: two of key/value, one of the tokens.
    assert_eq!(bao.requests("sys/internal/ui/mounts"), 3, "{:?}", bao.asked());
    assert_eq!(vault.stats().reads, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_can_be_pinned_and_a_deleted_one_is_not_a_missing_one() {
    let Some(bao) = Bao::dev("a_version_can_be_pinned_and_a_deleted_one_is_not_a_missing_one") else { return };
    let vault = root(&bao);
    bao.put("secret/a", &[("key", "one-1111111111111111")]);
    bao.put("secret/a", &[("key", "two-2222222222222222")]);
    let read = vault.read("secret/a", Some(1)).await.unwrap();
    assert_eq!((field(&read, "key"), read.version), ("one-1111111111111111".into(), Some(1)));
    let said = failed(vault.read("secret/a", Some(9)).await, VaultErrorKind::NotFound, &[]);
    assert!(said.contains("no version 9"), "{said}");

    bao.delete("secret/a");
    let said = failed(vault.read("secret/a", None).await, VaultErrorKind::Deleted, &["two-2222222222222222"]);
    assert!(said.contains("secret/a is deleted") && said.contains("vault kv undelete"), "{said}");
    assert_eq!(vault.read("secret/a", Some(1)).await.unwrap().version, Some(1), "the pinned one is still there");
    let metadata = vault.metadata("secret/a").await.unwrap();
    assert_eq!((metadata.version, metadata.gone), (2, true));
    bao.undelete("secret/a", 2);
    assert_eq!(field(&vault.read("secret/a", None).await.unwrap(), "key"), "two-2222222222222222");
    assert!(!vault.metadata("secret/a").await.unwrap().gone);
    bao.destroy("secret/a", 2);
    failed(vault.read("secret/a", None).await, VaultErrorKind::Deleted, &[]);
    assert!(vault.metadata("secret/a").await.unwrap().gone);
    failed(vault.read("secret/a", Some(2)).await, VaultErrorKind::Deleted, &[]);

    let said = failed(vault.read("secret/nothing", None).await, VaultErrorKind::NotFound, &[]);
    assert_eq!(said, "Vault has nothing at secret/data/nothing");
    failed(vault.metadata("secret/nothing").await, VaultErrorKind::NotFound, &[]);
    let said = failed(vault.read("elsewhere/a", None).await, VaultErrorKind::NoMount, &[]);
    assert!(said.contains("mounted at elsewhere/") && said.contains("`vault secrets list`"), "{said}");
    failed(vault.read("secret", None).await, VaultErrorKind::Settings, &[]);
    for bad in ["", "secret/../sys/seal", "/secret/a", "secret//a"] {
        failed(vault.read(bad, None).await, VaultErrorKind::Settings, &[]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_changes_is_seen() {
    let Some(bao) = Bao::dev("an_engine_that_changes_is_seen") else { return };
    let vault = root(&bao);
    bao.mount("team", &json!({ "type": "kv", "options": { "version": "1" } }));
    bao.api("POST", "team/a", json!({ "key": "first" }));
    assert_eq!(field(&vault.read("team/a", None).await.unwrap(), "key"), "first");
    bao.api("DELETE", "sys/mounts/team", serde_json::Value::Null);
    failed(vault.read("team/a", None).await, VaultErrorKind::NoMount, &[]);
    bao.mount("team", &json!({ "type": "kv", "options": { "version": "2" } }));
    super::until("the new engine is ready", || async { bao.api_as(bao.root_token(), "GET", "team/config", &json!(null)).0.eq(&200).then_some(()) })
        .await;
    bao.put("team/a", &[("key", "second")]);
    assert_eq!(field(&vault.read("team/a", None).await.unwrap(), "key"), "second");
}

#[tokio::test(flavor = "multi_thread")]
async fn folders_and_metadata() {
    let Some(bao) = Bao::dev("folders_and_metadata") else { return };
    let vault = root(&bao);
    for path in ["secret/keyhatch/openrouter", "secret/keyhatch/github", "secret/keyhatch/team/a%20b"] {
        bao.put(path, &[("key", "sixteen-bytes-long")]);
    }
    bao.custom_metadata("secret/keyhatch/github", &[("allowed_domains", "api.github.com"), ("type", "bearer")]);
    for folder in ["secret/keyhatch", "secret/keyhatch/"] {
        assert_eq!(vault.list(folder).await.unwrap(), ["github", "openrouter", "team/"]);
    }
    assert_eq!(vault.list("secret").await.unwrap(), ["keyhatch/"]);
    assert!(vault.list("secret/empty").await.unwrap().is_empty());
    assert_eq!(vault.read("secret/keyhatch/team/a b", None).await.unwrap().version, Some(1), "a space is no matter");
    failed(vault.list("elsewhere/a").await, VaultErrorKind::NoMount, &[]);

    let metadata = vault.metadata("secret/keyhatch/github").await.unwrap();
    assert_eq!((metadata.version, metadata.gone, metadata.custom["type"].as_str()), (1, false, "bearer"));
    assert_eq!(metadata.custom["allowed_domains"], "api.github.com");
    assert!(vault.metadata("secret/keyhatch/openrouter").await.unwrap().custom.is_empty());
    bao.mount("old", &json!({ "type": "kv", "options": { "version": "1" } }));
    bao.api("POST", "old/b/c", json!({ "key": "v" }));
    assert_eq!(vault.list("old").await.unwrap(), ["b/"]);
    failed(vault.metadata("old/b/c").await, VaultErrorKind::Settings, &[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_is_made_once() {
    let Some(bao) = Bao::dev("a_secret_is_made_once") else { return };
    let vault = root(&bao);
    let (first, second) = (Secret::from_opened("a \"quoted\" \\ \n ü".as_bytes()), Secret::from_opened(b"second"));
    assert!(vault.create("secret/ca", &[("certificate", &first), ("private_key", &second)]).await.unwrap());
    assert!(!vault.create("secret/ca", &[("certificate", &second)]).await.unwrap());
    let read = vault.read("secret/ca", None).await.unwrap();
    assert_eq!((field(&read, "certificate"), field(&read, "private_key")), ("a \"quoted\" \\ \n ü".into(), "second".into()));
    assert_eq!(read.version, Some(1));
    bao.delete("secret/ca");
    assert!(!vault.create("secret/ca", &[("certificate", &second)]).await.unwrap(), "a deleted one counts");
    failed(vault.create("secret/x", &[("a", &Secret::from_opened(&[0xff]))]).await, VaultErrorKind::Settings, &[]);
}

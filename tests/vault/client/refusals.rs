//! A 403: whether it is the policy's or the token's, and what is said of it.

use keyhatch::vault::hashicorp::VaultErrorKind;

use super::{failed, token, vault};
use crate::support::{Bao, fresh_key};

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_names_the_line_that_the_policy_lacks() {
    let Some(bao) = Bao::dev("a_refusal_names_the_line_that_the_policy_lacks") else { return };
    let key = fresh_key();
    bao.put("secret/openrouter", &[("api_key", &key)]);
    bao.put("secret/github", &[("token", &key)]);
    bao.policy("one", "path \"secret/data/github\" { capabilities = [\"read\"] }");
    let own = bao.token(&["one"], "1h", None);
    let client = vault(&bao, token(&own));
    assert!(client.read("secret/github", None).await.is_ok());
    let said = failed(client.read("secret/openrouter", None).await, VaultErrorKind::Denied, &[&own, &key]);
    assert_eq!(
        said,
        "Vault refuses \"read\" on secret/data/openrouter: the token's policy needs  path \"secret/data/openrouter\" { capabilities = [\"read\"] }"
    );
    let said = failed(client.metadata("secret/github").await, VaultErrorKind::Denied, &[&own]);
    assert!(said.contains("path \"secret/metadata/github\" { capabilities = [\"read\"] }"), "{said}");
    let said = failed(client.list("secret/keyhatch").await, VaultErrorKind::Denied, &[&own]);
    assert!(said.contains("path \"secret/metadata/keyhatch\" { capabilities = [\"list\"] }"), "{said}");
    let said = failed(client.create("secret/new", &[]).await, VaultErrorKind::Denied, &[&own]);
    assert!(said.contains("path \"secret/data/new\" { capabilities = [\"create\"] }"), "{said}");
    assert!(client.read("secret/github", None).await.is_ok(), "a refusal of one path is none of another");

    // The line that is named is the one that helps.
    bao.policy("one", "path \"secret/data/*\" { capabilities = [\"read\"] }");
    assert!(client.read("secret/openrouter", None).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mount_that_the_token_cannot_see_is_told_both_ways() {
    let Some(bao) = Bao::dev("a_mount_that_the_token_cannot_see_is_told_both_ways") else { return };
    let own = bao.token(&["default"], "1h", None);
    let client = vault(&bao, token(&own));
    for path in ["secret/openrouter", "nowhere/openrouter"] {
        let said = failed(client.read(path, None).await, VaultErrorKind::Denied, &[&own]);
        let (mount, _) = path.split_once('/').unwrap();
        assert!(said.contains(&format!("path \"{mount}/data/openrouter\" {{ capabilities = [\"read\"] }}")), "{said}");
        assert!(said.contains("`vault secrets list`"), "{said}");
    }
    // What it says works: with the line the mount shows.
    bao.put("secret/openrouter", &[("api_key", "sixteen-bytes-long")]);
    bao.policy("one", "path \"secret/data/openrouter\" { capabilities = [\"read\"] }");
    assert!(vault(&bao, token(&bao.token(&["one"], "1h", None))).read("secret/openrouter", None).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_over_is_an_outage_and_no_refusal_of_the_path() {
    let Some(bao) = Bao::dev("a_token_that_is_over_is_an_outage_and_no_refusal_of_the_path") else { return };
    bao.put("secret/a", &[("key", "sixteen-bytes-long")]);
    bao.policy("one", "path \"secret/data/a\" { capabilities = [\"read\"] }");
    let own = bao.token(&["one"], "1h", None);
    let client = vault(&bao, token(&own));
    assert!(client.read("secret/a", None).await.is_ok());
    bao.revoke(&own);
    let said = failed(client.read("secret/a", None).await, VaultErrorKind::LoginRefused, &[&own]);
    assert!(said.contains("VAULT_TOKEN") && said.contains("expired or revoked"), "{said}");
    assert!(VaultErrorKind::LoginRefused.is_outage());
    // From the start too.
    failed(vault(&bao, token(&own)).read("secret/a", None).await, VaultErrorKind::LoginRefused, &[&own]);
    let said = failed(vault(&bao, token("s.never\u{e9}")).read("secret/a", None).await, VaultErrorKind::LoginRefused, &["s.never"]);
    assert!(!said.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_may_not_look_itself_up_works() {
    let Some(bao) = Bao::dev("a_token_that_may_not_look_itself_up_works") else { return };
    bao.put("secret/a", &[("key", "sixteen-bytes-long")]);
    bao.policy("one", "path \"secret/data/a\" { capabilities = [\"read\"] }");
    let made = bao.api("POST", "auth/token/create", serde_json::json!({ "policies": ["one"], "no_default_policy": true, "ttl": "1h" }));
    let own = made["auth"]["client_token"].as_str().unwrap();
    let client = vault(&bao, token(own));
    assert!(client.read("secret/a", None).await.is_ok());
    failed(client.read("secret/b", None).await, VaultErrorKind::Denied, &[own]);
    bao.revoke(own);
    failed(client.read("secret/a", None).await, VaultErrorKind::LoginRefused, &[own]);
}

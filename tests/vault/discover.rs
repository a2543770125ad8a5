//! `[vault] discover`: each entry of a folder is a credential of its name.

use serde_json::json;

use super::fleet::{Fleet, INTERNAL, OPENROUTER, SOON, bare, refused};
use crate::support::{Bao, fresh_key, holds, within};

const DISCOVER: &str = "discover = \"secret/keyhatch\"\n";
const ENTRY: &str = "secret/keyhatch/internal";

/// A folder with the entry `internal` for one host.
fn internal(bao: &Bao, more: &[(&str, &str)]) -> String {
    let key = fresh_key();
    bao.custom_metadata(ENTRY, &[&[("allowed_domains", INTERNAL)], more].concat());
    bao.put(ENTRY, &[("api_key", &key)]);
    key
}

#[test]
fn a_provider_in_a_folder_that_was_not_there_needs_nothing_else() {
    let Some(bao) = Bao::dev("vault::discover::a_provider_in_a_folder_that_was_not_there_needs_nothing_else") else { return };
    let fleet = Fleet::one(bao, DISCOVER);
    assert_eq!(fleet.ask(OPENROUTER, "/api/v1/models"), bare());
    let mut blind = fleet.agent().open("openrouter.ai:443");
    assert!(!blind.intercepted());
    let key = fresh_key();
    fleet.bao.run(&["kv", "put", "secret/keyhatch/openrouter", &format!("api_key={key}")]);
    fleet.carries(OPENROUTER, &key);
    assert!(blind.closes_within(SOON), "a blind tunnel whose decision is another is closed");
    assert_eq!(fleet.ask(OPENROUTER, "/api/v1/keys"), refused(403));
    assert_eq!(fleet.ask(OPENROUTER, "/api/v1/auth/keys/x"), refused(403));
    let next = fresh_key();
    fleet.bao.put("secret/keyhatch/openrouter", &[("api_key", &next)]);
    fleet.carries(OPENROUTER, &next);
    // Vault is asked as often as the refresh time says, however many requests there are.
    let before = fleet.bao.requests("secret/data/");
    (0..50).for_each(|_| assert_eq!(fleet.ask(OPENROUTER, "/api/v1/models").0, 200));
    assert!(fleet.bao.requests("secret/data/") <= before + 1, "the value was read again");
    let log = fleet.replicas[0].serve.log();
    assert!(!log.contains(&key) && !log.contains(&next));
    assert!(fleet.replicas[0].home.files().iter().all(|(_, bytes)| !holds(bytes, &key)), "nothing is copied to disk");
}

#[test]
fn custom_metadata_says_the_terms() {
    let Some(bao) = Bao::dev("vault::discover::custom_metadata_says_the_terms") else { return };
    let key = internal(
        &bao,
        &[
            ("type", "header"),
            ("header", "X-Token"),
            ("prefix", "Token "),
            ("paths", "/v1/**"),
            ("deny_paths", "/v1/admin/**"),
            ("methods", "GET,PUT"),
            ("owner", "somebody"),
        ],
    );
    let fleet = Fleet::one(bao, DISCOVER);
    let agent = fleet.agent();
    assert_eq!(agent.get(INTERNAL, "/v1/x").status, 200);
    assert_eq!(fleet.origin.last().value("x-token"), format!("Token {key}"));
    fleet.origin.forget();
    for (line, code) in [("GET /v2/x", "path_denied"), ("GET /v1/ADMIN/x", "path_denied"), ("DELETE /v1/x", "method_denied")] {
        let request = format!("{line} HTTP/1.1\r\nHost: {INTERNAL}\r\n\r\n");
        let reply = agent.open(&format!("{INTERNAL}:443")).ask(request);
        reply.expect_own(if code == "method_denied" { 405 } else { 403 }, code);
    }
    assert!(fleet.origin.recorded().is_empty(), "{:?}", fleet.origin.recorded());
    // Granted to somebody else: to this agent the host is nobody's.
    fleet.bao.custom_metadata(ENTRY, &[("allowed_domains", INTERNAL), ("agents", "builder")]);
    fleet.answers(INTERNAL, &bare());
    fleet.reports(&[ENTRY, "no agent `builder`"]);
    fleet.bao.custom_metadata(ENTRY, &[("allowed_domains", INTERNAL), ("agents", "default")]);
    fleet.carries(INTERNAL, &key);
}

#[test]
fn changed_metadata_is_felt_inside_an_open_connection() {
    let Some(bao) = Bao::dev("vault::discover::changed_metadata_is_felt_inside_an_open_connection") else { return };
    let key = internal(&bao, &[]);
    let fleet = Fleet::one(bao, DISCOVER);
    let mut conn = fleet.agent().open(&format!("{INTERNAL}:443"));
    assert_eq!(conn.get(INTERNAL, "/").status, 200);
    assert_eq!(fleet.origin.last().value("authorization"), format!("Bearer {key}"));
    let change = |more: &[(&str, &str)]| fleet.bao.custom_metadata(ENTRY, more);
    change(&[("allowed_domains", INTERNAL), ("type", "header"), ("header", "x-key")]);
    within(SOON, "another header carries it", || {
        assert_eq!(conn.get(INTERNAL, "/").status, 200);
        (fleet.origin.last().values("x-key") == [key.as_str()]).then_some(())
    });
    assert!(fleet.origin.last().values("authorization").is_empty());
    change(&[("allowed_domains", INTERNAL), ("paths", "/v1/**")]);
    within(SOON, "a path rule holds", || Some(conn.get(INTERNAL, "/")).filter(|r| r.status != 200)).expect_own(403, "path_denied");
    assert_eq!(conn.get(INTERNAL, "/v1/x").status, 200);
    change(&[("allowed_domains", "example.net")]);
    let reply = within(SOON, "its host is another", || Some(conn.get(INTERNAL, "/v1/x")).filter(|r| r.status != 200));
    reply.expect_own(503, "credential_unavailable");
    assert!(conn.closes_within(SOON));
    fleet.carries("example.net", &key);
    for got in fleet.origin.recorded() {
        assert!(got.values("authorization").iter().all(|v| *v == format!("Bearer {key}")), "{got:?}");
    }
}

#[test]
fn a_deleted_value_is_refused_and_never_left_out_and_a_removed_entry_is_over() {
    let Some(bao) = Bao::dev("vault::discover::a_deleted_value_is_refused_and_never_left_out_and_a_removed_entry_is_over") else { return };
    let key = internal(&bao, &[]);
    bao.put("secret/keyhatch/openrouter", &[("apiKey", &key)]);
    let mut fleet = Fleet::one(bao, DISCOVER);
    for (entry, host) in [(ENTRY, INTERNAL), ("secret/keyhatch/openrouter", OPENROUTER)] {
        fleet.carries(host, &key);
        fleet.bao.delete(entry);
        let mut seen = Vec::new();
        within(SOON, "it is refused", || {
            let got = fleet.ask(host, "/api/v1/models");
            seen.push(got.clone());
            (got == refused(503)).then_some(())
        });
        assert!(!seen.contains(&bare()), "{host}: {seen:?}");
    }
    fleet.reports(&[ENTRY, "deleted"]);
    // A replica that never saw the value guards the hosts as well.
    fleet.start(1);
    let young = fleet.replicas[1].agent();
    assert_eq!((fleet.ask_as(&young, INTERNAL, "/"), fleet.ask_as(&young, OPENROUTER, "/api/v1/models")), (refused(503), refused(503)));
    fleet.bao.undelete(ENTRY, 1);
    fleet.bao.undelete("secret/keyhatch/openrouter", 1);
    fleet.carries(INTERNAL, &key);
    fleet.carries(OPENROUTER, &key);
    fleet.bao.destroy(ENTRY, 1);
    fleet.answers(INTERNAL, &refused(503));
    let mut conn = fleet.agent().open("openrouter.ai:443");
    assert_eq!(conn.get(OPENROUTER, "/api/v1/models").status, 200);
    fleet.bao.purge("secret/keyhatch/openrouter");
    let reply = within(SOON, "it is over", || Some(conn.get(OPENROUTER, "/api/v1/models")).filter(|r| r.status != 200));
    reply.expect_own(503, "credential_unavailable");
    fleet.answers(OPENROUTER, &bare());
}

#[test]
fn what_cannot_be_understood_is_named_and_leaves_the_others_alone() {
    let Some(bao) = Bao::dev("vault::discover::what_cannot_be_understood_is_named_and_leaves_the_others_alone") else { return };
    let (key, secret) = (internal(&bao, &[]), fresh_key());
    let entry = |name: &str, custom: &[(&str, &str)]| {
        bao.put(&format!("secret/keyhatch/{name}"), &[("api_key", &secret)]);
        bao.custom_metadata(&format!("secret/keyhatch/{name}"), custom);
    };
    entry("nowhere", &[("owner", "x")]);
    entry("broad", &[("allowed_domains", "*.com")]);
    entry("slip", &[("allowed_domains", "example.net"), ("deny_path", "/x")]);
    entry("-dash", &[("allowed_domains", "example.net")]);
    entry("with%20space", &[("allowed_domains", "example.net")]);
    entry("a%3fb%23c", &[("allowed_domains", "example.net")]);
    entry("sub/deep", &[("allowed_domains", "example.net")]);
    let fleet = Fleet::one(bao, DISCOVER);
    fleet.reports(&["secret/keyhatch/nowhere", "allowed_domains"]);
    fleet.reports(&["secret/keyhatch/broad", "*.com"]);
    fleet.reports(&["secret/keyhatch/slip", "write `deny_paths`"]);
    fleet.reports(&["secret/keyhatch: `-dash`"]);
    fleet.reports(&["secret/keyhatch: `with space`"]);
    fleet.reports(&["secret/keyhatch: `a?b#c`"]);
    fleet.reports(&["secret/keyhatch/sub", "folder"]);
    assert!(!fleet.replicas[0].serve.log().contains(&secret));
    assert_eq!(fleet.replicas[0].readyz().1.matches("secret/keyhatch/broad").count(), 1, "each is named once");
    // One whose hosts can be understood was meant to go there: nothing goes there bare.
    assert_eq!(fleet.ask("example.net", "/"), refused(503));
    fleet.bao.purge("secret/keyhatch/slip");
    fleet.answers("example.net", &bare());
    fleet.carries(INTERNAL, &key);
    let looked = |name: &str| fleet.bao.asked().iter().any(|a| !a.own && a.path.contains(name));
    assert!(looked("broad") && !looked("-dash") && !looked("sub/deep") && !looked("space"), "what is none by its name is not read");
    // A good one that turns bad is refused, since its host was to be guarded.
    fleet.bao.custom_metadata(ENTRY, &[("allowed_domains", "*")]);
    fleet.answers(INTERNAL, &refused(503));
    fleet.reports(&[ENTRY, "`*` covers every host"]);
    fleet.bao.custom_metadata(ENTRY, &[("allowed_domains", INTERNAL)]);
    fleet.carries(INTERNAL, &key);
    within(SOON, "it is no longer reported", || (!fleet.replicas[0].readyz().1.contains(ENTRY)).then_some(()));
}

#[test]
fn discover_allow_caps_what_may_be_found() {
    let Some(bao) = Bao::dev("vault::discover::discover_allow_caps_what_may_be_found") else { return };
    let (key, other) = (internal(&bao, &[]), fresh_key());
    bao.put("secret/keyhatch/openrouter", &[("api_key", &other)]);
    let fleet = Fleet::one(bao, &format!("{DISCOVER}discover_allow = [\"*.example.com\"]\n"));
    fleet.carries(INTERNAL, &key);
    assert_eq!(fleet.ask(OPENROUTER, "/api/v1/models"), bare());
    fleet.reports(&["secret/keyhatch/openrouter", "discover_allow"]);
    fleet.bao.custom_metadata(ENTRY, &[("allowed_domains", "api.example.com, example.net")]);
    fleet.answers(INTERNAL, &refused(503));
    assert_eq!(fleet.ask("example.net", "/"), bare());
    fleet.bao.custom_metadata("secret/keyhatch/openrouter", &[("allowed_domains", INTERNAL), ("paths", "/**")]);
    fleet.bao.purge(ENTRY);
    fleet.carries(INTERNAL, &other);
}

#[test]
fn fields_of_the_value_count_with_discover_fields_only() {
    let Some(bao) = Bao::dev("vault::discover::fields_of_the_value_count_with_discover_fields_only") else { return };
    let key = fresh_key();
    bao.put("secret/keyhatch/named", &[("api_key", &key), ("allowed_domains", INTERNAL)]);
    bao.put("secret/keyhatch/openrouter", &[("api_key", &key), ("deny_paths", "/api/v1/models")]);
    let mut fleet = Fleet::one(bao, DISCOVER);
    assert_eq!(fleet.ask(INTERNAL, "/"), bare());
    fleet.reports(&["secret/keyhatch/named", "allowed_domains"]);
    fleet.carries(OPENROUTER, &key);
    fleet.reports(&["secret/keyhatch/openrouter", "`deny_paths` of its value does not count", "discover_fields"]);
    fleet.replicas.clear();
    let fleet = Fleet::one(fleet.bao, &format!("{DISCOVER}discover_fields = true\n"));
    fleet.carries(INTERNAL, &key);
    fleet.answers(OPENROUTER, &refused(403));
    assert_eq!(fleet.ask(OPENROUTER, "/api/v1/x").0, 200);
    fleet.bao.put("secret/keyhatch/named", &[("api_key", &key), ("allowed_domains", "example.net")]);
    fleet.carries("example.net", &key);
    assert_eq!(fleet.ask(INTERNAL, "/"), bare());
    // What custom metadata says comes first.
    fleet.bao.custom_metadata("secret/keyhatch/named", &[("allowed_domains", INTERNAL)]);
    fleet.carries(INTERNAL, &key);
    fleet.bao.delete("secret/keyhatch/named");
    fleet.answers(INTERNAL, &refused(503));
}

#[test]
fn a_value_goes_by_the_terms_that_came_with_it() {
    let Some(bao) = Bao::dev("vault::discover::a_value_goes_by_the_terms_that_came_with_it") else { return };
    let hosts = [INTERNAL, "example.net"];
    let put = |bao: &Bao, round: usize| {
        let key = fresh_key();
        bao.put("secret/keyhatch/named", &[("api_key", &key), ("allowed_domains", hosts[round % 2])]);
        key
    };
    let mut keys = vec![put(&bao, 0)];
    let fleet = Fleet::one(bao, &format!("{DISCOVER}discover_fields = true\n"));
    fleet.carries(hosts[0], &keys[0]);
    for round in 1..8 {
        let (old, new) = (hosts[(round - 1) % 2], hosts[round % 2]);
        keys.push(put(&fleet.bao, round));
        within(SOON, "the new key goes to its host", || {
            let before = fleet.ask(old, "/").1.unwrap_or_default();
            assert!(!before.contains(&keys[round]), "round {round}: a key went to the host of the one before it");
            fleet.ask(new, "/").1.unwrap_or_default().contains(&keys[round]).then_some(())
        });
    }
}

#[test]
fn openclaws_own_layout_is_a_folder_too() {
    let Some(bao) = Bao::dev("vault::discover::openclaws_own_layout_is_a_folder_too") else { return };
    let key = fresh_key();
    bao.put("secret/providers/openrouter", &[("apiKey", &key)]);
    let fleet = Fleet::as_root(bao, "discover = \"secret/providers\"\n");
    fleet.carries(OPENROUTER, &key);
}

#[test]
fn kv_version_1_has_no_metadata() {
    let Some(bao) = Bao::dev("vault::discover::kv_version_1_has_no_metadata") else { return };
    bao.mount("old", &json!({ "type": "kv", "options": { "version": "1" } }));
    let (key, next) = (fresh_key(), fresh_key());
    bao.api("POST", "old/keyhatch/openrouter", json!({ "api_key": key }));
    bao.api("POST", "old/keyhatch/named", json!({ "token": key, "allowed_domains": INTERNAL }));
    let fleet = Fleet::as_root(bao, "discover = \"old/keyhatch\"\ndiscover_fields = true\n");
    fleet.carries(OPENROUTER, &key);
    fleet.carries(INTERNAL, &key);
    fleet.bao.api("POST", "old/keyhatch/openrouter", json!({ "api_key": next }));
    fleet.bao.api("POST", "old/keyhatch/named", json!({ "token": next, "allowed_domains": "example.net" }));
    fleet.carries(OPENROUTER, &next);
    fleet.carries("example.net", &next);
    fleet.bao.api("DELETE", "old/keyhatch/openrouter", json!(null));
    fleet.answers(OPENROUTER, &bare());
}

#[test]
fn the_stores_own_credential_of_the_same_name_counts() {
    let Some(bao) = Bao::dev("vault::discover::the_stores_own_credential_of_the_same_name_counts") else { return };
    let (there, own) = (fresh_key(), fresh_key());
    bao.put("secret/keyhatch/openrouter", &[("api_key", &there)]);
    let fleet = Fleet::one(bao, DISCOVER);
    fleet.carries(OPENROUTER, &there);
    fleet.replicas[0].home.ok_with(&["credential", "add", "openrouter"], &own);
    fleet.carries(OPENROUTER, &own);
    fleet.reports(&["secret/keyhatch/openrouter", "there is a credential `openrouter` already"]);
    fleet.replicas[0].home.ok(&["credential", "remove", "openrouter"]);
    fleet.carries(OPENROUTER, &there);
}

#[test]
fn what_was_found_stays_while_vault_is_sealed() {
    let Some(bao) = Bao::dev("vault::discover::what_was_found_stays_while_vault_is_sealed") else { return };
    let key = internal(&bao, &[]);
    let fleet = Fleet::one(bao, DISCOVER);
    fleet.carries(INTERNAL, &key);
    fleet.bao.seal();
    fleet.reports(&["stays", "sealed"]);
    assert_eq!(fleet.ask(INTERNAL, "/"), (200, Some(format!("Bearer {key}"))));
    fleet.bao.unseal();
    let next = internal(&fleet.bao, &[]);
    within(crate::support::raw::PATIENCE, "it goes on", || (fleet.ask(INTERNAL, "/").1 == Some(format!("Bearer {next}"))).then_some(()));
}

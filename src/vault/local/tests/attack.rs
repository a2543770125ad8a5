//! What someone can do who writes the file with `sqlite3` but cannot unlock it.

use super::*;
use crate::vault::local::{StoreError, StoreErrorKind};

/// Loads and says which faults there are; the credentials that are not named still work.
fn after(fixture: &Fixture) -> (Vec<String>, StoreState, Opened) {
    let (state, vault) = loaded(&fixture.open());
    (names(&state), state, vault)
}

fn works(state: &StoreState, vault: &Opened, name: &str, value: &str) {
    assert_eq!(fetch(vault, state, name), Ok(format!("Bearer {value}")), "{name}");
}

fn refused(state: &StoreState, vault: &Opened, name: &str, domain: &str) {
    let entry = state.roster.credentials.iter().find(|c| c.name.as_str() == name).expect("it stays in the roster");
    assert_eq!(entry.terms, terms(domain), "its terms are as sealed");
    assert!(entry.broken.is_some());
    assert_eq!(fetch(vault, state, name).map_err(|e| e.reason), Err("does_not_open"));
}

#[test]
fn every_column_of_every_row_counts() {
    for table in crate::store::Table::ALL.into_iter().skip(1) {
        for column in table.columns() {
            let fixture = Fixture::new();
            let set =
                format!("{column} = CASE typeof({column}) WHEN 'integer' THEN {column} + 1 WHEN 'null' THEN 1 WHEN 'text' THEN {column} || 'x'");
            fixture.sql(&format!("UPDATE {0} SET {set} ELSE CAST({column} || x'00' AS BLOB) END WHERE rowid = 1", table.name()));
            let (faults, ..) = after(&fixture);
            let what = table.name().trim_end_matches('s');
            assert!(faults.iter().any(|f| f.starts_with(what)), "{}.{column}: {faults:?}", table.name());
        }
    }
}

#[test]
fn a_secret_cannot_be_pointed_at_another_host() {
    let fixture = Fixture::new();
    fixture.sql(r#"UPDATE credentials SET allowed_domains = '["evil.example"]' WHERE name = 'alpha'"#);
    let (faults, state, vault) = after(&fixture);
    assert_eq!(faults, ["credential alpha"]);
    refused(&state, &vault, "alpha", "*.openrouter.ai");
    works(&state, &vault, "beta", SECRET_B);
    assert!(state.faults[0].why.contains("changed outside keyhatch") && state.faults[0].why.contains("credential rotate alpha"));
}

#[test]
fn ciphertexts_and_whole_rows_cannot_be_swapped() {
    let swap = |column: &str| {
        format!(
            "CREATE TEMP TABLE t AS SELECT name, {column} AS v FROM credentials;
             UPDATE credentials SET {column} = COALESCE((SELECT v FROM t WHERE t.name > credentials.name ORDER BY name LIMIT 1),
               (SELECT v FROM t ORDER BY name LIMIT 1))"
        )
    };
    for column in ["sealed", "id", "name", "allowed_domains", "version"] {
        let fixture = Fixture::new();
        fixture.sql(&swap(column));
        let (faults, state, vault) = after(&fixture);
        for (name, domain) in [("alpha", "*.openrouter.ai"), ("beta", "api.example.com"), ("vaulted", "v.example.com")] {
            assert!(faults.contains(&format!("credential {name}")), "{column}: {faults:?}");
            refused(&state, &vault, name, domain);
        }
    }
    let fixture = Fixture::new();
    fixture.sql("UPDATE credentials SET sealed = previous WHERE name = 'alpha'");
    refused(&after(&fixture).1, &after(&fixture).2, "alpha", "*.openrouter.ai");
    let fixture = Fixture::new();
    fixture.sql(&swap("sealed").replace("credentials", "agents").replace("sealed", "token"));
    let (faults, state, _) = after(&fixture);
    assert_eq!(faults, ["agent ci", "agent default"]);
    assert!(state.roster.agents.is_empty() && state.agents.iter().all(|a| a.broken.is_some()));
}

#[test]
fn a_deleted_row_shows() {
    for (table, expected) in [
        ("credentials", &["credential alpha", "credential beta", "credential vaulted"][..]),
        ("agents", &["agent ci", "agent default"]),
        ("grants", &["grant ci alpha", "grant ci vaulted", "grant default alpha", "grant default beta"]),
        ("usage", &["usage alpha", "usage beta", "usage ci", "usage default", "usage vaulted"]),
    ] {
        let fixture = Fixture::new();
        let grants = fixture.open().load().expect("loads").roster.grants;
        fixture.sql(&format!("DELETE FROM {table}"));
        let (faults, state, vault) = after(&fixture);
        assert_eq!(faults, expected);
        assert_eq!(state.roster.grants, grants, "a grant whose row is gone does not turn a request into a bare one");
        assert_eq!(state.roster.credentials.len(), 3);
        if table == "credentials" {
            refused(&state, &vault, "alpha", "*.openrouter.ai");
        } else {
            works(&state, &vault, "alpha", SECRET_A);
        }
    }
}

#[test]
fn the_frame_of_the_store_is_an_error_of_the_whole() {
    for statement in [
        "DELETE FROM meta WHERE name = 'manifest'",
        "DELETE FROM meta WHERE name = 'key-record'",
        "UPDATE meta SET value = x'00' WHERE name = 'manifest'",
        "UPDATE meta SET value = CAST(substr(value, 1, length(value) - 1) || x'00' AS BLOB) WHERE name = 'key-record'",
        "UPDATE meta SET value = (SELECT value FROM meta WHERE name = 'item/ca') WHERE name = 'manifest'",
        "INSERT INTO meta SELECT * FROM meta WHERE name = 'key-record'",
        "DELETE FROM meta",
        "DROP TABLE grants",
        "ALTER TABLE grants RENAME COLUMN agent TO agents",
        "CREATE VIEW v AS SELECT 1; CREATE TRIGGER t AFTER INSERT ON agents BEGIN DELETE FROM grants; END",
        "PRAGMA application_id = 1",
        "PRAGMA user_version = 0",
    ] {
        let fixture = Fixture::new();
        fixture.sql(statement);
        let error = LocalStore::open(&fixture.path(), &key(1)).err().unwrap_or_else(|| panic!("{statement}: opened"));
        assert_eq!(error.kind(), StoreErrorKind::Failed, "{statement}: {error}");
        assert!(error.to_string().contains("store.db is damaged"), "{statement}: {error}");
    }
}

#[test]
fn an_older_credential_shows() {
    let fixture = Fixture::new();
    fixture.keep("credentials");
    fixture.open().rotate_credential(&credential("alpha"), &stored("sk-or-v1-test-new-new-new-new")).expect("rotated");
    fixture.open().set_enabled(&credential("beta"), false).expect("disabled");
    fixture.put_back("credentials", "true");
    let (faults, state, vault) = after(&fixture);
    assert_eq!(faults, ["credential alpha", "credential beta"]);
    assert!(state.faults.iter().all(|f| f.why.contains("an older row")), "{:?}", state.faults);
    assert_eq!(fetch(&vault, &state, "alpha").map_err(|e| e.reason), Err("does_not_open"));
    assert_eq!(fetch(&vault, &state, "beta").map_err(|e| e.reason), Err("does_not_open"));
    assert!(!state.roster.credentials.iter().find(|c| c.name.as_str() == "beta").expect("there").terms.enabled);
}

#[test]
fn an_older_agent_shows_and_its_token_is_dead() {
    let fixture = Fixture::new();
    fixture.keep("agents");
    fixture.open().rotate_agent(&agent("ci"), &token(9)).expect("rotated");
    fixture.open().remove_agent(&agent("default")).expect("removed");
    fixture.put_back("agents", "true");
    let (faults, state, _) = after(&fixture);
    assert_eq!(faults, ["agent ci", "agent default"]);
    assert!(state.roster.agents.is_empty());
    assert_eq!(state.agents.len(), 1, "the removed one is no agent again");
}

#[test]
fn an_older_grant_is_not_given_back() {
    let fixture = Fixture::new();
    let alpha = fixture.open().load().expect("loads").credentials[0].entry.id;
    fixture.keep("grants");
    fixture.keep("meta");
    fixture.open().revoke(&agent("ci"), &credential("alpha")).expect("revoked");
    fixture.put_back("grants", "true");
    let (faults, state, _) = after(&fixture);
    assert_eq!(faults.len(), 1);
    assert!(faults[0].starts_with("grant ci "), "{faults:?}");
    assert!(state.roster.grants.iter().all(|(agent, id)| agent.as_str() == "default" || *id != alpha));
    // The old manifest beside the new one changes nothing.
    fixture.sql("INSERT INTO meta SELECT * FROM kept_meta WHERE name = 'manifest'");
    let (faults, state, _) = after(&fixture);
    assert!(faults.contains(&"item manifest".to_owned()), "{faults:?}");
    assert!(state.roster.grants.iter().all(|(agent, id)| agent.as_str() == "default" || *id != alpha));
}

#[test]
fn an_older_item_shows() {
    let fixture = Fixture::new();
    fixture.keep("meta");
    fixture.open().put_item("ca", &secret("another")).expect("kept");
    fixture.put_back("meta", "name = 'item/ca'");
    assert_eq!(after(&fixture).0, ["item ca"]);
    assert!(matches!(fixture.open().item("ca"), Err(StoreError::Broken { .. })));
    assert!(fixture.open().audit_key().is_ok(), "the others open");
    fixture.sql("UPDATE meta SET value = (SELECT value FROM meta WHERE name = 'item/audit-key') WHERE name = 'item/ca'");
    assert!(matches!(fixture.open().item("ca"), Err(StoreError::Broken { .. })));
}

#[test]
fn an_added_row_is_ignored_and_goes_with_the_next_change() {
    let fixture = Fixture::new();
    fixture.sql(
        "INSERT INTO credentials SELECT randomblob(16), 'evil', version, type, header, prefix, allowed_domains, allow_paths, deny_paths, methods,
         auth_headers, auth_query, provider, scrub, allow_plaintext, enabled, source, fingerprint, created_at, rotated_at, sealed, previous
         FROM credentials WHERE name = 'alpha';
         INSERT INTO agents VALUES ('evil', 1, zeroblob(32), 1, zeroblob(32));
         INSERT INTO grants SELECT 'evil', credential, granted_at, mac FROM grants;
         INSERT INTO usage VALUES ('agent', 'evil', 1, NULL, zeroblob(32));
         INSERT INTO meta VALUES ('item/evil', zeroblob(64))",
    );
    let (faults, state, vault) = after(&fixture);
    for what in ["credential evil", "agent evil", "item item/evil"] {
        assert!(faults.contains(&what.to_owned()), "{what}: {faults:?}");
    }
    assert_eq!(faults.iter().filter(|f| f.starts_with("grant evil")).count(), 4);
    assert!(state.roster.credentials.len() == 3 && state.roster.agents.len() == 2 && state.roster.grants.len() == 4);
    works(&state, &vault, "alpha", SECRET_A);
    fixture.open().grant(&agent("ci"), &credential("beta")).expect("granted");
    assert_eq!(after(&fixture).0, Vec::<String>::new());
}

#[test]
fn usage_is_authentic_or_named() {
    let fixture = Fixture::new();
    fixture.sql("UPDATE usage SET last_used_at = 1700000000, last_status = 200 WHERE kind = 'credential'");
    let (faults, state, _) = after(&fixture);
    assert_eq!(faults, ["usage alpha", "usage beta", "usage vaulted"]);
    assert!(state.credentials.iter().all(|c| c.last_used_at.is_none() && c.last_origin_status.is_none()));
    fixture.sql("UPDATE meta SET value = CAST(value || x'00' AS BLOB) WHERE name = 'audit-checkpoint'");
    assert!(fixture.open().audit_checkpoint().is_err());
}

#[test]
fn a_broken_row_is_mended_by_giving_its_content_anew() {
    let fixture = Fixture::new();
    fixture.sql(
        "UPDATE credentials SET sealed = zeroblob(60) WHERE name = 'alpha';
         UPDATE agents SET token = zeroblob(32) WHERE name = 'ci';
         DELETE FROM grants WHERE agent = 'ci' AND credential = (SELECT id FROM credentials WHERE name = 'alpha')",
    );
    assert_eq!(after(&fixture).0, ["agent ci", "credential alpha", "grant ci alpha"]);
    let store = fixture.open();
    assert!(matches!(store.set_enabled(&credential("alpha"), false), Err(StoreError::Broken { .. })));
    assert!(matches!(store.rollback_credential(&credential("alpha")), Err(StoreError::Broken { .. })));
    store.rotate_credential(&credential("alpha"), &stored(SECRET_B)).expect("rotated");
    store.rotate_agent(&agent("ci"), &token(3)).expect("rotated");
    assert!(!store.grant(&agent("ci"), &credential("alpha")).expect("granted"), "it held all the while");
    let (state, vault) = loaded(&store);
    assert_eq!(state.faults, []);
    works(&state, &vault, "alpha", SECRET_B);
    assert!(!state.credentials[0].has_previous, "of a broken row nothing is kept");
}

#[test]
fn an_older_store_put_under_an_open_one_shows() {
    let fixture = Fixture::new();
    let store = fixture.open();
    fixture.keep("meta");
    fixture.open().put_item("x", &secret("y")).expect("kept");
    store.load().expect("loads");
    fixture.put_back("meta", "true");
    let text = store.load().err().expect("it went back").to_string();
    assert!(text.contains("went back"), "{text}");
}

#[test]
fn a_change_that_would_break_something_else_is_not_committed() {
    let fixture = Fixture::new();
    fixture.sql(
        "PRAGMA writable_schema = ON;
         UPDATE sqlite_schema SET rootpage = (SELECT rootpage FROM sqlite_schema WHERE name = 'agents') WHERE name = 'grants'",
    );
    let store = fixture.open();
    let before = seen(&store).0;
    let text = store.add_agent(&agent("late"), &token(3), &[]).expect_err("its row would be a grant as well").to_string();
    assert!(text.contains("did not read back as written; nothing was changed"), "{text}");
    assert_eq!(seen(&store).0, before);
}

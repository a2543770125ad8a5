//! The store in hostile hands and on failing disks (CONTRACT 7): never a wrong value, a lost row, a bare request or a panic.

mod disks;
mod references;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use rusqlite::Connection;
use rusqlite::types::Value;

use crate::support::world::{HOSTS, configuration};
use crate::support::{Agent, Home, Origin, Said, Serve, fresh_key, within};

/// What one can see of a store through the commands: each credential's and each agent's row.
fn picture(home: &Home) -> (Said, BTreeMap<String, serde_json::Value>) {
    let credentials = home.say(&["credential", "list", "--json"], "");
    let agents = home.say(&["agent", "list", "--json"], "");
    let mut rows = BTreeMap::new();
    for (kind, said) in [("credential", &credentials), ("agent", &agents)] {
        said.expect_no_panic();
        for row in serde_json::from_str::<serde_json::Value>(&said.stdout).ok().iter().filter_map(|v| v.as_array()).flatten() {
            rows.insert(format!("{kind} {}", row["name"].as_str().unwrap_or_default()), row.clone());
        }
    }
    (credentials, rows)
}

/// A store with four credentials, one of them in Vault, and two agents. By a key file, so that the hundreds of commands below are quick.
fn stocked() -> Home {
    let home = Home::with_key_file("");
    home.add_key("first", &["openrouter.ai"], &fresh_key());
    home.add_key("second", &["api.example.com"], &fresh_key());
    home.ok_with(
        &["credential", "add", "third", "--type", "header", "--header", "X-Key", "--allow", "example.net", "--path", "/v1/**"],
        &fresh_key(),
    );
    home.ok(&["credential", "add", "fourth", "--allow", "v.example.com", "--vault", "secret/fourth#api_key"]);
    home.ok(&["agent", "add", "worker", "--grant", "first"]);
    home.ok_with(&["credential", "rotate", "second"], &fresh_key());
    home
}

/// Everything of the store is in its one file.
fn checkpoint(home: &Home) {
    let db = Connection::open(home.store()).unwrap();
    db.pragma_update(None, "wal_checkpoint", "TRUNCATE").unwrap();
}

/// A changed store either shows what it showed, or says by name what is wrong.
#[track_caller]
fn expect_same_or_named(home: &Home, before: &BTreeMap<String, serde_json::Value>, what: &str) {
    let verify = home.say(&["store", "verify"], "");
    verify.expect_no_panic();
    let (said, after) = picture(home);
    let complaint = format!("{}{}{}{}", said.stderr, said.stdout, verify.stderr, verify.stdout);
    for (name, row) in before {
        let short = name.split(' ').nth(1).unwrap();
        match after.get(name) {
            Some(now) if now == row => {}
            // The whole store is refused: nothing is lost silently.
            None if said.code != 0 => {}
            _ => assert!(
                verify.code != 0 && complaint.contains(short) || said.code != 0,
                "{what}: {name} changed without a word: {row} -> {:?}; verify: {verify:?}",
                after.get(name)
            ),
        }
    }
    for name in after.keys() {
        assert!(before.contains_key(name) || verify.code != 0, "{what}: {name} came from nowhere");
    }
    if said.code != 0 {
        assert!(said.stderr.lines().count() >= 1 && matches!(said.code, 1 | 3), "{what}: {said:?}");
    }
}

#[test]
fn a_flipped_byte_anywhere_alters_nothing_or_is_named() {
    let home = stocked();
    checkpoint(&home);
    let whole = std::fs::read(home.store()).unwrap();
    let (_, before) = picture(&home);
    checkpoint(&home);
    // The head of the file closely, the rest in steps that share no factor with the page size; non-zero bytes only, since
    // most of a page is empty.
    let used = whole.iter().enumerate().filter(|(_, b)| **b != 0).map(|(at, _)| at).collect::<Vec<_>>();
    let step = (used.len() / 150).max(1);
    let places = (0..100).step_by(7).chain(used.iter().copied().step_by(step));
    for at in places {
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << (at % 8);
        replace(&home, &bytes);
        expect_same_or_named(&home, &before, &format!("byte {at} of {}", whole.len()));
    }
    replace(&home, &whole);
    assert_eq!(picture(&home).1, before);
}

#[test]
fn a_truncated_store_is_a_clear_error_and_stays_as_it_was() {
    let home = stocked();
    checkpoint(&home);
    let whole = std::fs::read(home.store()).unwrap();
    for length in [0, 1, 15, 16, 100, 4095, 4096, whole.len() / 2, whole.len() - 1] {
        replace(&home, &whole[..length]);
        let said = home.say(&["credential", "list"], "");
        assert!(matches!(said.code, 1 | 3), "{length}: {said:?}");
        said.expect_no_panic();
        assert_eq!(std::fs::read(home.store()).unwrap(), &whole[..length], "{length}: the file is as it was");
    }
    std::fs::remove_file(home.store()).unwrap();
    let said = home.say(&["credential", "list"], "");
    assert!(said.code != 0 && said.stderr.contains("init"), "{said:?}");
}

fn replace(home: &Home, bytes: &[u8]) {
    for more in ["-wal", "-shm"] {
        let _ = std::fs::remove_file(format!("{}{more}", home.store().display()));
    }
    std::fs::write(home.store(), bytes).unwrap();
}

/// Every value of every row of every table, changed as somebody with SQLite at hand would.
#[test]
fn an_edited_value_in_any_row_alters_nothing_or_is_named() {
    let home = stocked();
    checkpoint(&home);
    let whole = std::fs::read(home.store()).unwrap();
    let (_, before) = picture(&home);
    checkpoint(&home);
    let mut edits = 0;
    for (table, column, row) in cells(&home.store()) {
        replace(&home, &whole);
        let db = Connection::open(home.store()).unwrap();
        let old: Value = db.query_row(&format!("SELECT \"{column}\" FROM \"{table}\" WHERE rowid = ?1"), [row], |r| r.get(0)).unwrap();
        let new = match old {
            Value::Null => Value::Integer(1),
            Value::Integer(n) => Value::Integer(if n == 0 || n == 1 { 1 - n } else { n + 1 }),
            Value::Real(n) => Value::Real(n + 1.0),
            Value::Text(text) => Value::Text(text.replace("openrouter.ai", "evil.example") + if text.contains("openrouter.ai") { "" } else { "x" }),
            Value::Blob(mut bytes) => {
                let middle = bytes.len() / 2;
                bytes[middle] ^= 1;
                Value::Blob(bytes)
            }
        };
        db.execute(&format!("UPDATE \"{table}\" SET \"{column}\" = ?1 WHERE rowid = ?2"), (new, row)).unwrap();
        drop(db);
        edits += 1;
        expect_same_or_named(&home, &before, &format!("{table}.{column} of row {row}"));
    }
    assert!(edits > 60, "{edits} values were changed");
}

#[test]
fn a_deleted_row_shows() {
    let home = stocked();
    checkpoint(&home);
    let whole = std::fs::read(home.store()).unwrap();
    for table in ["credentials", "agents", "grants"] {
        replace(&home, &whole);
        let db = Connection::open(home.store()).unwrap();
        assert_eq!(db.execute(&format!("DELETE FROM {table} WHERE rowid = (SELECT max(rowid) FROM {table})"), []).unwrap(), 1);
        drop(db);
        let said = home.say(&["store", "verify"], "");
        assert_eq!(said.code, 1, "{table}: {said:?}");
        said.expect_no_panic();
    }
}

fn cells(store: &Path) -> Vec<(String, String, i64)> {
    let db = Connection::open(store).unwrap();
    let names = |sql: &str| -> Vec<String> { db.prepare(sql).unwrap().query_map([], |r| r.get(0)).unwrap().map(Result::unwrap).collect() };
    let mut out = Vec::new();
    for table in names("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'") {
        let columns = names(&format!("SELECT name FROM pragma_table_info('{table}')"));
        let rows: Vec<i64> =
            db.prepare(&format!("SELECT rowid FROM \"{table}\"")).unwrap().query_map([], |r| r.get(0)).unwrap().map(Result::unwrap).collect();
        for row in rows {
            out.extend(columns.iter().map(|c| (table.clone(), c.clone(), row)));
        }
    }
    out
}

/// Two credentials of a running proxy, whose rows are then attacked.
struct Attacked {
    serve: Option<Serve>,
    origin: Origin,
    home: Home,
    keys: [String; 2],
}

impl Attacked {
    fn new() -> Self {
        let home = Home::bare("");
        let origin = Origin::agreeable(&HOSTS);
        home.configure(&configuration(&home, &origin, ""));
        home.ok(&["init"]);
        let keys = [fresh_key(), fresh_key()];
        home.add_key("good", &["api.example.com"], &keys[0]);
        home.add_key("target", &["openrouter.ai"], &keys[1]);
        Self { serve: None, origin, home, keys }
    }

    fn sql(&self, sql: &str) -> usize {
        let db = Connection::open(self.home.store()).unwrap();
        db.busy_timeout(Duration::from_secs(5)).unwrap();
        db.execute(sql, []).unwrap()
    }

    /// The attacked credential's requests are refused, also where they would now match another host; the other one works on.
    #[track_caller]
    fn expect_contained(&mut self, what: &str) {
        let said = self.home.say(&["store", "verify"], "");
        assert_eq!(said.code, 1, "{what}: {said:?}");
        assert!(format!("{}{}", said.stdout, said.stderr).contains("target"), "{what}: by name: {said:?}");
        let serve = self.serve.get_or_insert_with(|| Serve::start(&self.home));
        let agent = Agent::new(&self.home, serve);
        let reply = within(Duration::from_secs(2), what, || Some(agent.get("openrouter.ai", "/")).filter(|r| r.status != 200));
        reply.expect_own(503, "credential_unavailable");
        // Until the change was felt, requests went out with the key: never without.
        for got in self.origin.recorded() {
            assert_eq!(got.values("authorization"), [format!("Bearer {}", self.keys[1])], "{what}: {got:?}");
        }
        self.origin.forget();
        let _ = agent.try_open("openrouter.ai:443").map(|mut conn| conn.get("openrouter.ai", "/"));
        for host in ["openrouter.aix", "evilopenrouter.ai", "example.net"] {
            let _ = agent.try_open(&format!("{host}:443")).map(|mut conn| conn.get(host, "/"));
        }
        assert_eq!(agent.get("api.example.com", "/").status, 200, "{what}: the others work on");
        for got in self.origin.recorded() {
            let values = got.values("authorization");
            let good = got.sni.as_deref() == Some("api.example.com");
            assert!(if good { values == [format!("Bearer {}", self.keys[0])] } else { values.is_empty() }, "{what}: {got:?}");
            assert_ne!(got.sni.as_deref(), Some("openrouter.ai"), "{what}: a bare request went out");
        }
        assert!(!serve.log().contains("panicked"), "{}", serve.log());
    }
}

#[test]
fn a_swapped_ciphertext_fails_to_open_and_is_named() {
    let mut attacked = Attacked::new();
    assert_eq!(attacked.sql("UPDATE credentials SET sealed = (SELECT sealed FROM credentials WHERE name = 'good') WHERE name = 'target'"), 1);
    attacked.expect_contained("swapped ciphertext");
}

#[test]
fn edited_allowed_domains_point_the_key_nowhere() {
    let mut attacked = Attacked::new();
    assert_eq!(
        attacked.sql("UPDATE credentials SET allowed_domains = replace(allowed_domains, 'openrouter.ai', 'openrouter.aix') WHERE name = 'target'"),
        1
    );
    let said = attacked.home.say(&["store", "verify"], "");
    assert_eq!(said.code, 1, "{said:?}");
    assert!(format!("{}{}", said.stdout, said.stderr).contains("target"), "{said:?}");
    let serve = Serve::start(&attacked.home);
    let agent = Agent::new(&attacked.home, &serve);
    for host in ["openrouter.aix", "openrouter.ai", "example.net"] {
        let _ = agent.try_open(&format!("{host}:443")).map(|mut conn| conn.get(host, "/"));
    }
    assert_eq!(agent.get("api.example.com", "/").status, 200);
    for got in attacked.origin.recorded() {
        assert!(!crate::support::holds(&got.head, &attacked.keys[1]), "{got:?}");
        assert_ne!(got.sni.as_deref(), Some("openrouter.ai"), "a bare request went to the key's own host");
    }
    drop(serve);
    attacked.serve = None;
}

#[test]
fn edits_under_a_running_serve_are_contained_too() {
    let mut attacked = Attacked::new();
    attacked.serve = Some(Serve::start(&attacked.home));
    let agent = Agent::new(&attacked.home, attacked.serve.as_ref().unwrap());
    assert_eq!(agent.get("openrouter.ai", "/").status, 200);
    attacked.sql("UPDATE credentials SET scrub = 1 - scrub, enabled = 0 WHERE name = 'target'");
    attacked.expect_contained("edited flags");
}

#[test]
fn an_older_row_played_back_is_named() {
    let mut attacked = Attacked::new();
    attacked.sql("CREATE TABLE kept AS SELECT * FROM credentials WHERE name = 'target'");
    attacked.home.ok_with(&["credential", "rotate", "target"], &fresh_key());
    attacked.sql("DELETE FROM credentials WHERE name = 'target'");
    attacked.sql("INSERT INTO credentials SELECT * FROM kept");
    attacked.sql("DROP TABLE kept");
    attacked.expect_contained("older row");
}

#[test]
fn a_grant_that_was_taken_away_cannot_be_given_back() {
    let attacked = Attacked::new();
    attacked.sql("CREATE TABLE kept AS SELECT * FROM grants");
    attacked.home.ok(&["agent", "revoke", "default", "target"]);
    attacked.sql("DELETE FROM grants");
    attacked.sql("INSERT INTO grants SELECT * FROM kept");
    attacked.sql("DROP TABLE kept");
    assert_eq!(attacked.home.say(&["store", "verify"], "").code, 1);
    let serve = Serve::start(&attacked.home);
    let agent = Agent::new(&attacked.home, &serve);
    let _ = agent.try_open("openrouter.ai:443").map(|mut conn| conn.get("openrouter.ai", "/"));
    for got in attacked.origin.recorded() {
        assert!(!crate::support::holds(&got.head, &attacked.keys[1]), "the grant is gone: {got:?}");
    }
}

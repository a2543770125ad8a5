//! `deploy/vault/` against a real server: the script, and each line of the policies.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::support::home::{Said, said};
use crate::support::{Bao, package_dir};

fn shipped(name: &str) -> PathBuf {
    package_dir().join("deploy/vault").join(name)
}

/// Runs the script in the server's directory.
fn script(bao: &Bao, args: &[&str], variables: &[(&str, &str)]) -> Said {
    let mut command = Command::new("sh");
    command.arg(shipped("setup-approle.sh")).args(args).current_dir(bao.dir());
    bao.dress(&mut command);
    command.env("VAULT", Bao::binary().unwrap()).envs(variables.iter().copied());
    said(command, b"")
}

/// The role id that it printed and the secret id that its file wraps.
#[track_caller]
fn set_up(bao: &Bao, args: &[&str]) -> (String, String) {
    let said = script(bao, args, &[]);
    assert_eq!(said.code, 0, "{said:?}");
    assert_eq!(said.stdout.lines().count(), 1, "the role id alone: {said:?}");
    let file = bao.dir().join("keyhatch-secret-id");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o7777, 0o600);
    let wrapped = std::fs::read_to_string(&file).unwrap().trim().to_owned();
    assert!(!format!("{said:?}").contains(&wrapped), "the wrapping token is in the file only");
    let (status, answer) = bao.api_as(&wrapped, "POST", "sys/wrapping/unwrap", &Value::Null);
    assert_eq!(status, 200, "{answer}");
    assert_eq!(bao.api_as(&wrapped, "POST", "sys/wrapping/unwrap", &Value::Null).0, 400, "it unwraps once");
    (said.stdout.trim().to_owned(), answer["data"]["secret_id"].as_str().unwrap().to_owned())
}

#[test]
fn the_script_can_be_run_twice_and_its_secret_id_logs_in() {
    let Some(bao) = Bao::dev("the_script_can_be_run_twice_and_its_secret_id_logs_in") else { return };
    bao.put("secret/openrouter", &[("api_key", "one")]);
    bao.put("secret/other", &[("api_key", "two")]);
    let (role, first) = set_up(&bao, &[]);
    let (same, second) = set_up(&bao, &[]);
    assert!(role == same && first != second);
    assert_eq!(files(bao.dir()), ["keyhatch-secret-id"], "nothing else is left behind");
    let about = bao.api("GET", "auth/approle/role/keyhatch", Value::Null)["data"].clone();
    let ninety_days = 90 * 24 * 3600;
    assert_eq!(about["secret_id_ttl"], ninety_days, "{about}");
    let id = bao.api("POST", "auth/approle/role/keyhatch/secret-id/lookup", json!({ "secret_id": second }));
    assert_eq!((&id["data"]["secret_id_ttl"], &id["data"]["secret_id_num_uses"]), (&json!(ninety_days), &json!(0)), "{id}");
    for secret in [first, second.clone(), second] {
        let token = bao.login(&role, &secret);
        let ask = |method: &str, path: &str, body: Value| bao.api_as(&token, method, path, &body).0;
        let about = bao.api_as(&token, "GET", "auth/token/lookup-self", &Value::Null).1;
        assert_eq!((&about["data"]["policies"], &about["data"]["renewable"]), (&json!(["keyhatch"]), &json!(true)), "{about}");
        assert_eq!((&about["data"]["creation_ttl"], &about["data"]["type"]), (&json!(1200), &json!("service")), "{about}");
        // What `credential add --vault secret/openrouter#api_key` needs.
        assert_eq!(ask("GET", "sys/internal/ui/mounts/secret/openrouter", Value::Null), 200);
        assert_eq!(ask("GET", "secret/data/openrouter", Value::Null), 200);
        assert_eq!(ask("GET", "secret/metadata/openrouter", Value::Null), 200);
        assert_eq!(ask("POST", "auth/token/renew-self", Value::Null), 200);
        // What it does not.
        assert_eq!(ask("GET", "secret/data/other", Value::Null), 403);
        assert_eq!(ask("GET", "secret/metadata/other", Value::Null), 403);
        assert_eq!(ask("LIST", "secret/metadata", Value::Null), 403);
        assert_eq!(ask("POST", "secret/data/openrouter", json!({ "data": { "api_key": "mine" } })), 403);
        assert_eq!(ask("DELETE", "secret/data/openrouter", Value::Null), 403);
        assert_eq!(ask("POST", "auth/token/create", Value::Null), 403);
        assert_eq!(ask("POST", "auth/approle/role/keyhatch/secret-id", Value::Null), 403);
        assert_eq!(ask("POST", "auth/token/revoke-self", Value::Null), 204);
        assert_eq!(ask("GET", "secret/data/openrouter", Value::Null), 403);
    }
}

fn files(dir: &Path) -> Vec<String> {
    let names = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.contains("secret-id")).collect()
}

#[test]
fn the_script_obeys_its_options() {
    let Some(bao) = Bao::dev("the_script_obeys_its_options") else { return };
    let policy = shipped("keyhatch-discover-policy.hcl").display().to_string();
    let own =
        ["--mount", "machines/", "--role", "fleet-1", "--policy", &policy, "--token-ttl", "20s", "--token-max-ttl", "60s", "--secret-id-ttl", "0"];
    let (role, secret) = set_up(&bao, &own);
    let wanted = json!({ "role_id": role, "secret_id": secret });
    let (status, answer) = bao.api_as("", "POST", "auth/machines/login", &wanted);
    assert_eq!((status, &answer["auth"]["lease_duration"], &answer["auth"]["policies"]), (200, &json!(20), &json!(["fleet-1"])), "{answer}");
    let written = bao.api("GET", "sys/policies/acl/fleet-1", Value::Null)["data"]["policy"].clone();
    assert_eq!(written.as_str().unwrap().trim(), std::fs::read_to_string(&policy).unwrap().trim());
    // Addresses: this machine is not among them, then it is, then all are.
    let (role, secret) = set_up(&bao, &["--cidr", "192.0.2.0/24,198.51.100.7/32"]);
    let wanted = json!({ "role_id": role, "secret_id": secret });
    assert_ne!(bao.api_as("", "POST", "auth/approle/login", &wanted).0, 200);
    let about = bao.api("GET", "auth/approle/role/keyhatch", Value::Null)["data"].clone();
    assert_eq!(
        (&about["token_bound_cidrs"], &about["secret_id_bound_cidrs"]),
        (&json!(["192.0.2.0/24", "198.51.100.7"]), &json!(["192.0.2.0/24", "198.51.100.7/32"]))
    );
    let (role, secret) = set_up(&bao, &["--cidr", "192.0.2.0/24,127.0.0.0/8"]);
    bao.login(&role, &secret);
    let (role, secret) = set_up(&bao, &[]);
    bao.login(&role, &secret);
    let about = bao.api("GET", "auth/approle/role/keyhatch", Value::Null)["data"].clone();
    assert!([&about["token_bound_cidrs"], &about["secret_id_bound_cidrs"]].iter().all(|c| c.is_null() || **c == json!([])), "{about}");
    // The file is replaced whole, whatever its mode was, and lies where it was asked for.
    let elsewhere = bao.dir().join("user/id");
    std::fs::write(&elsewhere, "old").unwrap();
    let said = script(&bao, &["--out", elsewhere.to_str().unwrap()], &[]);
    assert_eq!((said.code, std::fs::metadata(&elsewhere).unwrap().permissions().mode() & 0o777), (0, 0o600), "{said:?}");
    assert_ne!(std::fs::read_to_string(&elsewhere).unwrap(), "old");
}

#[test]
fn the_script_says_what_is_wrong_and_leaves_nothing_behind() {
    let Some(bao) = Bao::dev("the_script_says_what_is_wrong_and_leaves_nothing_behind") else { return };
    let expect = |code: i32, word: &str, args: &[&str], variables: &[(&str, &str)]| {
        let said = script(&bao, args, variables);
        assert_eq!(said.code, code, "{args:?}: {said:?}");
        assert!(said.stderr.contains(word) && said.stdout.is_empty(), "{args:?}: {said:?}");
        assert!(files(bao.dir()).is_empty(), "{args:?}");
    };
    let help = script(&bao, &["--help"], &[("VAULT", "/nonexistent")]);
    assert!(help.code == 0 && help.stdout.contains("usage: setup-approle.sh"), "{help:?}");
    expect(2, "unknown argument", &["--rolle", "x"], &[]);
    expect(2, "needs a value", &["--role"], &[]);
    expect(2, "are allowed", &["--role", "../../sys/x"], &[]);
    expect(2, "are allowed", &["--role", ""], &[]);
    expect(2, "no such file", &["--policy", "/nonexistent/policy.hcl"], &[]);
    expect(2, "is a directory", &["--out", "user"], &[]);
    expect(1, "VAULT=bao", &[], &[("VAULT", "/nonexistent")]);
    expect(1, "auth list", &[], &[("BAO_TOKEN", "wrong")]);
    expect(1, "auth list", &[], &[("BAO_ADDR", "http://127.0.0.1:1"), ("BAO_MAX_RETRIES", "0")]);
    bao.api("POST", "sys/auth/people", json!({ "type": "userpass" }));
    expect(1, "userpass", &["--mount", "people"], &[]);
    // The last step fails: the temporary file goes.
    expect(1, "never", &["--wrap-ttl", "never"], &[]);
    let bad = bao.dir().join("bad.hcl");
    std::fs::write(&bad, "path {").unwrap();
    expect(2, "policy", &["--policy", bad.to_str().unwrap()], &[]);
    for option in ["--role", "--policy", "--mount", "--out", "--cidr", "--token-ttl", "--token-max-ttl", "--secret-id-ttl", "--wrap-ttl"] {
        assert!(help.stdout.contains(&format!("  {option} ")), "{option} is in the help");
    }
}

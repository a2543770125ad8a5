//! What tests put into a server, and what they ask of its audit log.

use serde_json::{Map, Value, json};

use super::Bao;

/// A request that the server took in, from its audit log. `sys/health` and calls while it is sealed do not stand there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// `read`, `list`, `update`, `create`, `delete`.
    pub operation: String,
    /// `secret/data/openrouter`, `auth/approle/login`.
    pub path: String,
    /// The display name of the token: `root`, `approle`, `token`; empty before a log-in.
    pub by: String,
    /// Whether a test's own [`Bao::api`] asked (a command of `bao` counts as another's).
    pub own: bool,
}

impl Bao {
    /// `kv put` in a KV v2 engine: `put("secret/openrouter", &[("api_key", "…")])`; the version that it made.
    #[track_caller]
    pub fn put(&self, path: &str, fields: &[(&str, &str)]) -> u64 {
        let answer = self.api("POST", &split(path, "data"), json!({ "data": object(fields) }));
        answer["data"]["version"].as_u64().unwrap_or_else(|| panic!("a version: {answer}"))
    }

    /// The current value in a KV v2 engine, with its metadata.
    #[track_caller]
    pub fn get(&self, path: &str) -> Value {
        self.api("GET", &split(path, "data"), Value::Null)["data"].clone()
    }

    /// `kv metadata put`: the custom metadata of a KV v2 entry, the whole of it. Makes the entry where there is none.
    #[track_caller]
    pub fn custom_metadata(&self, path: &str, entries: &[(&str, &str)]) {
        self.api("POST", &split(path, "metadata"), json!({ "custom_metadata": object(entries) }));
    }

    /// `kv delete`: the current version is soft-deleted.
    #[track_caller]
    pub fn delete(&self, path: &str) {
        self.api("DELETE", &split(path, "data"), Value::Null);
    }

    /// `kv undelete` of a version.
    #[track_caller]
    pub fn undelete(&self, path: &str, version: u64) {
        self.api("POST", &split(path, "undelete"), json!({ "versions": [version] }));
    }

    /// `kv destroy` of a version: it can never be had again.
    #[track_caller]
    pub fn destroy(&self, path: &str, version: u64) {
        self.api("POST", &split(path, "destroy"), json!({ "versions": [version] }));
    }

    /// `kv metadata delete`: the entry is gone, with all versions.
    #[track_caller]
    pub fn purge(&self, path: &str) {
        self.api("DELETE", &split(path, "metadata"), Value::Null);
    }

    /// `secrets enable`: `mount("old", &json!({"type": "kv", "options": {"version": "1"}}))`.
    #[track_caller]
    pub fn mount(&self, path: &str, what: &Value) {
        self.api("POST", &format!("sys/mounts/{path}"), what.clone());
    }

    /// `policy write`.
    #[track_caller]
    pub fn policy(&self, name: &str, text: &str) {
        self.api("POST", &format!("sys/policies/acl/{name}"), json!({ "policy": text }));
    }

    /// `token create -orphan` with these policies (and `default`); lives as "20s", "1h" say. No `max_ttl`: the system's.
    #[track_caller]
    pub fn token(&self, policies: &[&str], ttl: &str, max_ttl: Option<&str>) -> String {
        let mut wanted = json!({ "policies": policies, "ttl": ttl, "no_parent": true });
        if let Some(max) = max_ttl {
            wanted["explicit_max_ttl"] = json!(max);
        }
        text(&self.api("POST", "auth/token/create", wanted)["auth"]["client_token"])
    }

    /// `token revoke`.
    #[track_caller]
    pub fn revoke(&self, token: &str) {
        self.api("POST", "auth/token/revoke", json!({ "token": token }));
    }

    /// An AppRole of this name under `auth/approle`, which is enabled where it is not: role id and secret id.
    #[track_caller]
    pub fn approle(&self, name: &str, policies: &[&str], ttl: &str, max_ttl: &str) -> (String, String) {
        if self.api_as(self.root_token(), "GET", "sys/mounts/auth/approle", &Value::Null).0 != 200 {
            self.api("POST", "sys/auth/approle", json!({ "type": "approle" }));
        }
        let role = format!("auth/approle/role/{name}");
        self.api("POST", &role, json!({ "token_policies": policies, "token_ttl": ttl, "token_max_ttl": max_ttl }));
        let role_id = text(&self.api("GET", &format!("{role}/role-id"), Value::Null)["data"]["role_id"]);
        (role_id, self.secret_id(name))
    }

    /// A further secret id of the role.
    #[track_caller]
    pub fn secret_id(&self, name: &str) -> String {
        text(&self.api("POST", &format!("auth/approle/role/{name}/secret-id"), Value::Null)["data"]["secret_id"])
    }

    /// A further secret id of the role, response-wrapped: the wrapping token, which unwraps once.
    #[track_caller]
    pub fn wrapped_secret_id(&self, name: &str) -> String {
        let path = format!("auth/approle/role/{name}/secret-id");
        let said = self.json(&["write", "-f", "-wrap-ttl=5m", &path]);
        text(&said["wrap_info"]["token"])
    }

    /// Logs in as the AppRole: its token.
    #[track_caller]
    pub fn login(&self, role_id: &str, secret_id: &str) -> String {
        let (status, answer) = self.api_as("", "POST", "auth/approle/login", &json!({ "role_id": role_id, "secret_id": secret_id }));
        assert_eq!(status, 200, "{answer}");
        text(&answer["auth"]["client_token"])
    }

    /// What a token may do at a path (`secret/data/a`): `["read"]`, `["deny"]`, in order of the alphabet.
    #[track_caller]
    pub fn capabilities(&self, token: &str, path: &str) -> Vec<String> {
        let answer = self.api("POST", "sys/capabilities", json!({ "token": token, "paths": [path] }));
        let mut found = answer["data"][path].as_array().unwrap_or_else(|| panic!("{path}: {answer}")).iter().map(text).collect::<Vec<_>>();
        found.sort();
        found
    }

    /// Everything that the server was asked so far, in order, the tests' own calls included.
    #[track_caller]
    pub fn asked(&self) -> Vec<Asked> {
        let log = std::fs::read_to_string(self.audit_file()).unwrap_or_default();
        // The last line may still be in the writing.
        let whole = log.rfind('\n').map_or("", |end| &log[..end]);
        let entries = whole.lines().map(|line| serde_json::from_str::<Value>(line).unwrap_or_else(|e| panic!("{e}: {line}")));
        let requests = entries.filter(|entry| entry["type"] == "request");
        let asked = requests.map(|entry| Asked {
            operation: text(&entry["request"]["operation"]),
            path: text(&entry["request"]["path"]),
            by: entry["auth"]["display_name"].as_str().unwrap_or_default().to_owned(),
            own: entry["request"]["headers"].get(super::wire::MARK).is_some(),
        });
        asked.collect()
    }

    /// How many requests for paths that begin so (`secret/data/`, `auth/`) came from others than the test itself.
    #[track_caller]
    pub fn requests(&self, front: &str) -> usize {
        self.asked().iter().filter(|asked| !asked.own && asked.path.starts_with(front)).count()
    }
}

/// `secret/a/b` -> `secret/data/a/b`: the mount is the first segment.
#[track_caller]
fn split(path: &str, between: &str) -> String {
    let (mount, rest) = path.split_once('/').unwrap_or_else(|| panic!("mount/path: {path}"));
    format!("{mount}/{between}/{rest}")
}

fn object(entries: &[(&str, &str)]) -> Map<String, Value> {
    entries.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect()
}

#[track_caller]
fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("a string: {value}")).to_owned()
}

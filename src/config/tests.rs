use std::path::{Path, PathBuf};
use std::time::Duration;

use super::*;

fn read(text: &str) -> Result<Config, ConfigError> {
    parse(Path::new("/etc/k/keyhatch.toml"), text)
}

fn message(text: &str) -> String {
    let message = read(text).expect_err(text).to_string();
    assert!(!message.contains('\n'), "{message}");
    message
}

#[test]
fn nothing_means_the_defaults() {
    assert_eq!(read("").expect("valid"), Config::default());
    assert_eq!(read("[limits]\n[limits.per_agent]\n[resolve]\n[proxy]\n").expect("valid"), Config::default());
}

#[test]
fn every_key_is_read() {
    let c = read(
        r#"
[proxy]
listen = "unix:run/k.sock"
tls_listen = "0.0.0.0:8443"
tls_cert = "tls/c.pem"
tls_key = "/abs/k.pem"
tls_names = ["proxy.example", "10.0.0.1"]
advertise = "https://proxy.example:8443/"
auth = "required"
allow_cleartext = true
[admin]
listen = "0.0.0.0:8879"
token_file = "t"
[egress]
default = "deny"
allow_hosts = ["*.pypi.org", "h:8443"]
deny_hosts = ["evil.example:*"]
ports = [80, 443, 22]
private_addresses = "allow"
allow_cidrs = ["10.0.0.0/8", "::1"]
[resolve]
"OpenRouter.ai.:443" = "127.0.0.1:8443"
[upstream]
extra_ca_files = ["ca.pem"]
crl_files = ["crl.pem"]
[timeouts]
connect = "1s"
tls = "2s"
request_head = "500ms"
idle = "24h"
drain = "0s"
[limits]
connections = 1_000
requests = 2
tunnels = 3
head_bytes = "32KiB"
per_agent = { connections = 4, requests = 5, tunnels = 6, head_bytes = "1KiB" }
[store]
unlock = "key-file"
key_file = "../key"
[audit]
max_size = "1MiB"
keep = 3
on_failure = "deny"
"#,
    )
    .expect("valid");
    assert_eq!(c.proxy.listen, ListenAddr::Unix("/etc/k/run/k.sock".into()));
    assert_eq!(c.proxy.tls_cert, Some(("/etc/k/tls/c.pem".into(), "/abs/k.pem".into())));
    assert_eq!(c.proxy.advertise.as_deref(), Some("https://proxy.example:8443"));
    assert_eq!(c.proxy.tls_names, ["proxy.example", "10.0.0.1"]);
    assert_eq!(c.admin.token_file, Some(PathBuf::from("/etc/k/t")));
    assert!(!c.egress.allow_by_default && c.egress.allow_private);
    assert_eq!(c.egress.allow_hosts[1].to_string(), "h:8443");
    assert_eq!(c.egress.ports, [80, 443, 22]);
    assert_eq!(c.egress.allow_cidrs[1].to_string(), "::1/128");
    assert_eq!(c.resolve[0].0.to_string(), "openrouter.ai:443");
    assert_eq!(c.timeouts.request_head, Duration::from_millis(500));
    assert_eq!((c.limits.connections, c.limits.head_bytes, c.limits.per_agent.tunnels), (1000, 32 << 10, 6));
    assert_eq!(c.store.unlock, Some(UnlockMethod::KeyFile));
    assert_eq!((c.audit.max_size, c.audit.keep, c.audit.deny_on_failure), (1 << 20, 3, true));
}

#[test]
fn an_unknown_key_names_file_line_key_and_the_known_ones() {
    assert_eq!(
        message("[egress]\n# a comment\ndefualt = \"deny\"\n"),
        "/etc/k/keyhatch.toml:3: key `egress.defualt`: this version knows no such key; \
         allowed: default, allow_hosts, deny_hosts, ports, private_addresses, allow_cidrs"
    );
    assert!(
        message("\n[cloud]\naddress = \"x\"\n").starts_with("/etc/k/keyhatch.toml:2: key `cloud`: this version knows no such table; allowed: proxy")
    );
    assert!(message("top = 1").contains(":1: key `top`: "));
    assert!(message("[limits.per_agent]\nconns = 1").contains(":2: key `limits.per_agent.conns`: "));
}

#[test]
fn a_bad_value_names_the_values_allowed() {
    for (text, want) in [
        ("[egress]\ndefault = \"dny\"", ":2: key `egress.default`: \"dny\" is not a value of it; allowed: \"allow\", \"deny\""),
        ("[egress]\ndefault = true", ":2: key `egress.default`: the value is of the wrong type (boolean); allowed: \"allow\", \"deny\""),
        ("[egress]\nports = [\n 80,\n 0]", ":4: key `egress.ports`: 0 is out of range; allowed: a whole number from 1 to 65535"),
        ("[egress]\nallow_hosts = [\"a.*.b\"]", ":2: key `egress.allow_hosts`: \"a.*.b\": pattern `a.*.b`, at character 3: "),
        ("[egress]\nallow_cidrs = [\"10.1.0.0/8\"]", "bits set beyond its prefix"),
        ("[timeouts]\nidle = \"10\"", ":2: key `timeouts.idle`: \"10\": this is no duration; allowed: a number and a unit"),
        ("[timeouts]\nidle = 10", "the value is of the wrong type (integer); allowed: a number and a unit"),
        ("[timeouts]\nconnect = \"0s\"", "allowed: more than \"0s\""),
        ("[limits]\nhead_bytes = \"64K\"", "this is no size; allowed: a number and a unit"),
        ("[limits]\nconnections = 0", "0 is out of range; allowed: a whole number from 1 to"),
        ("[limits]\nconnections = -5", "-5 is out of range"),
        ("[limits]\nconnections = 1e3", "wrong type (float)"),
        ("[store]\nunlock = \"tpm\"", "\"tpm\" is not a value of it; allowed: \"passphrase\", \"key-file\", \"vault-transit\""),
        ("[store]\nunlock = \"vault-transit\"", ":2: key `store.unlock`: \"vault-transit\" needs `transit_key` beside it"),
        ("[store]\ntransit_key = \"k\"\nunlock = \"key-file\"", ":2: key `store.transit_key`: it is for unlock = \"vault-transit\""),
        ("[store]\nunlock = \"vault-transit\"\ntransit_key = \"a b\"", "this is no key's name"),
        ("[vault]\naddress = \"vault.example:8200\"", ":2: key `vault.address`: \"vault.example:8200\": an address begins with its scheme"),
        ("[vault]\naddress = \"https://v.example:x/v1\"", "no HOST or HOST:PORT; allowed: a URL such as"),
        ("[vault]\naddress = \"https://me:pw@v.example\"", "it holds `?`, `#` or `@`"),
        ("[vault]\ndiscover = \"secret\"", "\"secret\": this is no MOUNT/PATH; allowed: a path in Vault"),
        ("[vault]\ndiscover_fields = true", ":2: key `vault.discover_fields`: it does nothing without `discover`"),
        ("[vault]\nclient_key = \"k\"", ":2: key `vault.client_key`: a client certificate needs its key"),
        ("[vault]\nauth = { method = \"ldap\" }", "\"ldap\" is not a value of it; allowed: \"token\", \"approle\", \"kubernetes\", \"jwt\""),
        ("[vault]\nauth = { method = \"approle\" }", "key `vault.auth.role_id`: it is missing"),
        ("[vault]\nauth = { method = \"approle\", role_id = \"r\", wrapped = true }", "it is about what `secret_id_file` holds"),
        (
            "[vault]\nauth = { method = \"approle\", role_id = \"r\", secret_id = \"s\" }",
            "key `vault.auth.secret_id`: this version knows no such key",
        ),
        ("[vault]\nauth = { method = \"jwt\", role = \"r\" }", "key `vault.auth.jwt_file`: it is missing"),
        ("[vault]\ntoken = \"s\"", "key `vault.token`: this version knows no such key"),
        ("[resolve]\n\"h\" = \"127.0.0.1:1\"", ":2: key `resolve.\"h\"`: the port is missing"),
        ("[resolve]\n\"h:1\" = \"x\"", "allowed: \"HOST:PORT\" = \"HOST:PORT\""),
        ("[resolve]\n\"h:1\" = \"a:1\"\n\"H.:1\" = \"b:1\"", ":3: key `resolve.\"H.:1\"`: h:1 has an entry already"),
        ("[proxy]\nlisten = \"localhost:1\"", "this is no IP address and port"),
        ("[proxy]\nadvertise = \"socks5://h:1\"", "the scheme is neither http nor https"),
        ("[proxy]\nadvertise = \"http://u@h:1\"", "user information"),
        ("proxy = 1", ":1: key `proxy`: the value is of the wrong type (integer); allowed: a table"),
        ("[proxy]\nlisten = \"127.0.0.1:1\"\nlisten = \"127.0.0.1:2\"", ":3: this is no TOML: duplicate key"),
        ("[proxy\n", ":1: this is no TOML: "),
    ] {
        let message = message(text);
        assert!(message.contains(want), "{message}\nlacks\n{want}");
    }
}

#[test]
fn what_must_hold_between_keys() {
    for (text, want) in [
        ("[proxy]\nlisten = \"0.0.0.0:1\"", ":2: key `proxy.listen`: the address is not on loopback"),
        ("[proxy]\nauth = \"off\"\nlisten = \"0.0.0.0:1\"\nallow_cleartext = true", ":2: key `proxy.auth`: \"off\" is refused"),
        ("[proxy]\ntls_listen = \"127.0.0.1:1\"", ":2: key `proxy.tls_listen`: it has no certificate and no name"),
        ("[limits]\nhead_bytes = \"1B\"", ":2: key `limits.head_bytes`: the size is out of range; allowed: from \"1KiB\" to \"16MiB\""),
        ("[proxy]\nauth = \"off\"\ntls_listen = \"[::]:1\"", ":2: key `proxy.auth`: \"off\" is refused"),
        ("[proxy]\ntls_cert = \"c\"", ":2: key `proxy.tls_cert`: it needs `tls_key` beside it"),
        ("[proxy]\n\ntls_key = \"c\"", ":3: key `proxy.tls_key`: it needs `tls_cert` beside it"),
        ("[admin]\nlisten = \"10.0.0.1:1\"", ":2: key `admin.listen`: the address is not on loopback, and there is no `token_file`"),
        ("[store]\nunlock = \"passphrase\"\nkey_file = \"k\"", ":3: key `store.key_file`: it does nothing"),
    ] {
        let message = message(text);
        assert!(message.contains(want), "{message}\nlacks\n{want}");
    }
    for text in [
        "[proxy]\nlisten = \"0.0.0.0:1\"\nallow_cleartext = true",
        "[proxy]\nauth = \"off\"\nlisten = \"127.5.0.1:0\"",
        "[proxy]\nauth = \"off\"\nlisten = \"[::1]:0\"",
        "[proxy]\ntls_listen = \"0.0.0.0:1\"\ntls_names = [\"proxy.example\"]",
        "[limits]\nhead_bytes = \"1KiB\"",
        "[admin]\nlisten = \"\"",
    ] {
        assert!(read(text).is_ok(), "{text}");
    }
}

#[test]
fn a_named_file_must_exist() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("k.toml");
    assert_eq!(Config::load(&file, false).expect("absent"), Config::default());
    assert!(Config::load(&file, true).expect_err("named").to_string().contains("cannot be read"));
    std::fs::write(&file, b"[proxy]\n\xff").expect("written");
    assert!(Config::load(&file, true).expect_err("not UTF-8").to_string().contains("not UTF-8"));
    std::fs::write(&file, "[audit]\nkeep = 2\n").expect("written");
    assert_eq!(Config::load(&file, true).expect("valid").audit.keep, 2);
}

#[test]
fn a_value_that_turns_out_bad_in_use_has_its_line() {
    let dir = tempfile::tempdir().expect("temp dir");
    let file = dir.path().join("keyhatch.toml");
    std::fs::write(&file, "[upstream]\n\ncrl_files = [\"x\"]\n[proxy]\n").expect("written");
    let text = |key: &str| ConfigError::in_use(&file, key, "it is not there".to_owned()).to_string();
    assert!(text("upstream.crl_files").ends_with(":3: key `upstream.crl_files`: it is not there; allowed: PEM files with revocation lists"));
    assert!(
        text("proxy.tls_key")
            .ends_with("keyhatch.toml: key `proxy.tls_key`: it is not there; allowed: a PEM file with the certificate's private key")
    );
}

#[test]
fn what_vault_holds_lies_apart() {
    for (keys, want) in [
        ("signing_key = \"secret/k/keys\"", ":3: key `vault.signing_key`: it lies in the folder of `discover`"),
        ("signing_key = \"secret/k\"", ":3: key `vault.signing_key`: it is the folder of `discover` as well; allowed: a path outside of it"),
        ("ca = \"secret/k/a/b\"", ":3: key `vault.ca`: it lies in the folder of `discover`"),
        ("discover_agents = \"secret/k\"", ":3: key `vault.discover_agents`: it is the folder of `discover` as well"),
        ("discover_agents = \"secret/k/agents\"", ":3: key `vault.discover_agents`: it lies in the folder"),
        ("discover_agents = \"secret/a\"\nca = \"secret/a/ca\"", ":4: key `vault.ca`: it lies in the folder of `discover_agents`"),
        ("ca = \"secret/one\"\nsigning_key = \"secret/one\"", ":4: key `vault.signing_key`: it is the entry of `ca` as well"),
    ] {
        let message = message(&format!("[vault]\ndiscover = \"secret/k\"\n{keys}\n"));
        assert!(message.contains(want), "{message}\nlacks\n{want}");
    }
    let inside = message("[vault]\ndiscover = \"secret/a/b\"\ndiscover_agents = \"secret/a\"\n");
    assert!(inside.contains(":2: key `vault.discover`: it lies in the folder of `discover_agents`"), "{inside}");
    let apart = "[vault]\ndiscover = \"secret/k\"\ndiscover_agents = \"secret/k-agents\"\nca = \"secret/k-ca\"\nsigning_key = \"secret/keys\"\n";
    assert!(parse(Path::new("k"), apart).is_ok());
}

#[test]
fn the_table_about_vault() {
    let text = "[vault]\naddress = \"https://v.example:8200/\"\nrefresh = \"5s\"\nmax_stale = \"0s\"\ndiscover = \"secret/keyhatch/\"\n\
                discover_allow = [\"*.corp.example\"]\nauth = { method = \"kubernetes\", role = \"keyhatch\" }\nca = \"pki/root/sign-intermediate\"\n";
    let v = parse(Path::new("/etc/k/keyhatch.toml"), text).expect("good").vault;
    assert_eq!((v.address.as_deref(), v.discover.as_deref()), (Some("https://v.example:8200"), Some("secret/keyhatch")));
    assert_eq!((v.refresh, v.max_stale), (Duration::from_secs(5), Duration::ZERO));
    let jwt_file = "/var/run/secrets/kubernetes.io/serviceaccount/token".into();
    assert_eq!(v.auth, Some(VaultAuth::Jwt { mount: "kubernetes".into(), role: "keyhatch".into(), jwt_file }));
    assert_eq!((VaultConfig::default().refresh, VaultConfig::default().max_stale), (Duration::from_secs(30), Duration::from_secs(600)));
}

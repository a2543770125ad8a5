//! `run` and `env`, from every place that people start them in.

use std::collections::BTreeMap;
use std::process::Command;

use crate::support::clients::Client;
use crate::support::home::{PASSPHRASE, said, set_mode};
use crate::support::world::{HOSTS, configuration};
use crate::support::{Home, Origin, Serve, World, binary, fresh_key};

/// What the child of `run` prints of itself: its environment and its descriptors.
const LOOK: &str = "env; echo '--fds--'; for f in /proc/self/fd/*; do echo \"${f##*/} $(readlink $f 2>/dev/null)\"; done; echo '--own--'; tr '\\0' '\\n' < /proc/$$/environ; tr '\\0' ' ' < /proc/$$/cmdline";

fn environment(text: &str) -> BTreeMap<String, String> {
    let lines = text.split("--fds--").next().unwrap().lines();
    lines.filter_map(|l| l.split_once('=')).map(|(n, v)| (n.to_owned(), v.to_owned())).collect()
}

#[test]
fn env_prints_lines_for_each_shell_and_sets_what_the_contract_lists() {
    let world = World::new();
    let env = &world.serve.env;
    for name in ["HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "https_proxy", "http_proxy", "all_proxy"] {
        assert!(env[name].starts_with("http://default:") && env[name].contains(&format!("@{}", world.serve.proxy())), "{name}: {}", env[name]);
    }
    for name in ["NO_PROXY", "no_proxy"] {
        assert_eq!(env[name], "127.0.0.1,localhost,::1");
    }
    let replacing = [
        "SSL_CERT_FILE",
        "CURL_CA_BUNDLE",
        "REQUESTS_CA_BUNDLE",
        "GIT_SSL_CAINFO",
        "PIP_CERT",
        "CARGO_HTTP_CAINFO",
        "AWS_CA_BUNDLE",
        "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",
    ];
    let ours = std::fs::read_to_string(world.home.path().join("ca.pem")).unwrap();
    for name in replacing {
        let bundle = std::fs::read_to_string(&env[name]).unwrap_or_else(|e| panic!("{name} {}: {e}", env[name]));
        assert!(bundle.contains(ours.trim()), "{name} holds our CA");
    }
    assert!(std::fs::read_to_string(&env["NODE_EXTRA_CA_CERTS"]).unwrap().contains(ours.trim()));
    assert!(env.contains_key("DENO_CERT") && env["NODE_USE_ENV_PROXY"] == "1");
    assert!(!env.keys().any(|n| n.starts_with("KEYHATCH_")));

    for (shell, line) in [("sh", "export HTTPS_PROXY='"), ("fish", "set -gx HTTPS_PROXY '"), ("dotenv", "HTTPS_PROXY=")] {
        let text = world.home.ok(&["env", "--format", shell]);
        assert!(text.lines().any(|l| l.starts_with(line)), "{shell}: {text}");
    }
    let mut command = Command::new("sh");
    command.args(["-c", &format!("eval \"$('{}' env)\" && env", binary().display())]);
    world.home.dress(&mut command);
    let said = said(command, b"");
    assert_eq!(said.code, 0, "{said:?}");
    assert!(environment(&said.stdout)["HTTPS_PROXY"].starts_with("http://default:"), "{said:?}");
    let other = world.home.json_env(&["--proxy-url", "http://proxy.internal:3128", "--ca", "/etc/keyhatch/ca.pem"]);
    assert!(other["HTTPS_PROXY"].as_str().unwrap().ends_with("@proxy.internal:3128"), "{other}");
    assert_eq!(other["NODE_EXTRA_CA_CERTS"], "/etc/keyhatch/ca.pem");
}

#[test]
fn env_with_serve_down_exits_1_and_says_what_to_do() {
    let home = Home::new("");
    let said = home.say(&["env"], "");
    said.expect_error(1);
    assert!(said.stderr.contains("keyhatch serve") && said.stdout.is_empty(), "{said:?}");
    // Also after a serve that was killed, whose socket is still there.
    Serve::start(&home).kill();
    home.say(&["env"], "").expect_error(1);
}

#[test]
fn env_and_run_need_no_passphrase_beside_a_running_serve() {
    let mut world = World::new();
    world.home.set("KEYHATCH_PASSPHRASE", None);
    assert_eq!(world.home.say(&["env"], "").code, 0);
    let said = world.home.say(&["run", "--", "sh", "-c", LOOK], "");
    assert_eq!(said.code, 0, "{said:?}");
    let url = environment(&said.stdout)["HTTPS_PROXY"].clone();
    assert!(url.contains(&world.serve.proxy().to_string()), "run uses the serve that runs");
    // Its token dies with the command.
    let agent = crate::support::Agent::from_url(&world.home, &world.serve, &url);
    crate::support::within(std::time::Duration::from_secs(1), "run's token is dead", || {
        (agent.connect("example.net:443").0.status == 407).then_some(())
    });
}

#[test]
fn run_without_a_serve_has_a_proxy_of_its_own() {
    let key = fresh_key();
    let home = Home::bare("");
    let origin = Origin::demanding(&HOSTS, &key);
    home.configure(&configuration(&home, &origin, ""));
    home.ok(&["init"]);
    home.add_key("openrouter", &["*.openrouter.ai"], &key);
    let curl = Client::Curl.path().expect("curl");
    let said = home.say(&["run", "--", curl.to_str().unwrap(), "-sS", "--max-time", "20", "https://openrouter.ai/api/v1/auth/key"], "");
    assert_eq!((said.code, said.stdout.trim()), (0, "{\"ok\":true}"), "{said:?}");
    assert_eq!(origin.last().values("authorization"), [format!("Bearer {key}")]);
    assert_eq!(home.say(&["audit", "verify"], "").code, 0);
    let audit = std::fs::read_to_string(home.path().join("audit.jsonl")).unwrap();
    assert!(audit.contains("\"injected\""), "{audit}");
}

#[test]
fn run_exits_as_its_command_did_and_passes_its_streams() {
    let world = World::new();
    for code in [0, 1, 7, 42, 255] {
        assert_eq!(world.home.say(&["run", "--", "sh", "-c", &format!("exit {code}")], "").code, code);
    }
    assert_eq!(world.home.say(&["run", "--", "sh", "-c", "kill -TERM $$"], "").code, 128 + 15);
    let said = world.home.say(&["run", "cat"], "through\n");
    assert_eq!((said.code, said.stdout.as_str()), (0, "through\n"));
    let said = world.home.say(&["run", "--", "/no/such/program"], "");
    assert!(matches!(said.code, 126 | 127) && said.stderr.contains("/no/such/program"), "{said:?}");
}

/// The child of `run` finds no secret in its environment, its descriptors or `/proc` of its own.
#[test]
fn the_child_of_run_finds_no_secret() {
    let mut home = Home::bare("");
    let key = fresh_key();
    home.ok(&["init"]);
    home.set("OPENROUTER_API_KEY", Some(&key));
    home.ok(&["credential", "add", "openrouter", "--from-env", "OPENROUTER_API_KEY"]);
    let directory = home.outside().join("credentials");
    std::fs::create_dir(&directory).unwrap();
    std::fs::write(directory.join("keyhatch-passphrase"), PASSPHRASE).unwrap();
    for (name, value) in [
        ("CREDENTIALS_DIRECTORY", directory.to_str().unwrap()),
        ("VAULT_TOKEN", "hvs.vault-token-of-the-operator"),
        ("VAULT_ADDR", "http://127.0.0.1:8200"),
        ("BAO_TOKEN", "s.bao-token-of-the-operator"),
        ("KEYHATCH_ANYTHING", "operators-own"),
        ("SOME_COPY", &key),
        ("ORDINARY", "stays"),
    ] {
        home.set(name, Some(value));
    }
    // Both with a proxy of run's own (which unlocks the store itself) and beside a serve.
    for beside in [false, true] {
        let serve = beside.then(|| Serve::start(&home));
        let said = home.say(&["run", "--", "sh", "-c", LOOK], "");
        assert_eq!(said.code, 0, "{said:?}");
        let env = environment(&said.stdout);
        assert!(
            !env.keys().any(|n| n.starts_with("KEYHATCH_") || n.starts_with("VAULT_") || n.starts_with("BAO_") || n == "CREDENTIALS_DIRECTORY"),
            "{env:?}"
        );
        assert_eq!(env["OPENROUTER_API_KEY"], "sk-or-keyhatch-placeholder-openrouter");
        assert_eq!(env["ORDINARY"], "stays");
        assert!(env["HTTPS_PROXY"].starts_with("http://default:"), "{env:?}");
        for secret in [PASSPHRASE, "hvs.vault-token-of-the-operator", "s.bao-token-of-the-operator", "operators-own"] {
            assert!(!said.stdout.contains(secret), "beside a serve: {beside}: {secret}");
        }
        if !beside {
            assert!(!said.stdout.contains(&key), "run unlocked the store itself, so a variable with a stored value goes");
        }
        let descriptors = said.stdout.split("--fds--").nth(1).unwrap().split("--own--").next().unwrap();
        for line in descriptors.lines().filter(|l| !l.trim().is_empty()) {
            let (number, place) = line.split_once(' ').unwrap_or((line, ""));
            assert!(number.parse::<u32>().is_ok_and(|n| n <= 2) || place.contains("/proc/") || place.is_empty(), "descriptor {line}");
            assert!(!place.contains("store.db") && !place.contains("audit.jsonl"), "descriptor {line}");
        }
        drop(serve);
    }
}

#[test]
fn a_serve_of_another_user_is_not_used_and_it_says_what_to_do() {
    if !rustix::process::geteuid().is_root() || Command::new("setpriv").arg("--version").output().is_err() {
        crate::support::skip("a_serve_of_another_user", "not root, or no setpriv");
        return;
    }
    let world = World::new();
    // Somebody else, with a copy of the program that they may execute, and a home that they may enter.
    let place = tempfile::TempDir::new().unwrap();
    set_mode(place.path(), 0o755);
    let copy = place.path().join("keyhatch");
    std::fs::copy(binary(), &copy).unwrap();
    set_mode(world.home.outside(), 0o755);
    set_mode(&world.home.path(), 0o755);
    for args in [&["env"][..], &["run", "--", "true"], &["credential", "list"]] {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]).arg(&copy).args(args);
        world.home.dress(&mut command);
        let said = said(command, b"");
        said.expect_no_panic();
        assert!((1..=3).contains(&said.code), "{args:?}: {said:?}");
        assert!(said.stderr.contains("root") || said.stderr.contains("user") || said.stderr.contains("ermission"), "{args:?}: {said:?}");
        assert!(!said.stdout.contains("@127.0.0.1"), "no token: {said:?}");
    }
}

#[test]
fn run_passes_signals_on_and_leaves_no_process() {
    let world = World::new();
    let mut command = world.home.command(&["run", "--", "sh", "-c", "echo $$; exec sleep 60"]);
    command.stdout(std::process::Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(child.stdout.take().unwrap()), &mut line).unwrap();
    let inner = rustix::process::Pid::from_raw(line.trim().parse().unwrap()).unwrap();
    let outer = rustix::process::Pid::from_raw(child.id().cast_signed()).unwrap();
    rustix::process::kill_process(outer, rustix::process::Signal::TERM).unwrap();
    let status = child.wait().unwrap();
    assert_eq!(status.code(), Some(128 + 15), "{status}");
    crate::support::within(std::time::Duration::from_secs(2), "the command is gone", || {
        rustix::process::test_kill_process(inner).is_err().then_some(())
    });
}

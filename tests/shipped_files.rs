//! What is shipped beside the program does what it says: README, providers, licences, CI.

use std::collections::BTreeSet;
use std::process::Command;

use crate::support::clients::found;
use crate::support::{Home, fresh_key, package_dir, skip, target_dir};

/// The scripts of the repository.
const SCRIPTS: [&str; 5] = [".ci/run", "tests/run", "fuzz/run", "deploy/build", "deploy/vault/setup-approle.sh"];

fn read(name: &str) -> String {
    std::fs::read_to_string(package_dir().join(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

/// The lines of the README's code blocks that call `keyhatch`.
fn commands(text: &str) -> Vec<String> {
    let mut inside = false;
    let mut out = Vec::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            inside = !inside;
        } else if inside {
            let line = line.trim().trim_start_matches("$ ");
            let line = line.split(" #").next().unwrap_or(line);
            let parts = line.split([';', '|', '(', ')', '&']).map(|part| part.trim().trim_start_matches("sudo "));
            out.extend(parts.filter(|part| part.starts_with("keyhatch ")).map(str::to_owned));
        }
    }
    out
}

#[test]
fn every_command_and_flag_of_the_readme_is_in_the_help() {
    let home = Home::bare("");
    let commands = commands(&read("README.md"));
    assert!(commands.len() >= 8, "{commands:?}");
    for line in commands {
        // What follows `run` is another program's.
        let line = if line.starts_with("keyhatch run") { line.split(" -- ").next().unwrap().to_owned() } else { line };
        let words = line.split_ascii_whitespace().skip(1).collect::<Vec<_>>();
        let names =
            words.iter().take_while(|w| w.bytes().all(|b| b.is_ascii_lowercase() || b == b'-') && !w.starts_with('-')).copied().collect::<Vec<_>>();
        // `credential add openrouter`: the longest front that is a command.
        let help = (1..=names.len().min(2)).rev().find_map(|n| {
            let said = home.say(&[&names[..n], &["--help"]].concat(), "");
            (said.code == 0 && said.stdout.contains(&format!("keyhatch {}", names[..n].join(" ")))).then_some(said.stdout)
        });
        if words.first().is_some_and(|w| w.starts_with('-')) {
            continue;
        }
        let help = help.unwrap_or_else(|| panic!("`{line}` is a command"));
        for flag in words.iter().filter(|w| w.starts_with("--") && w.len() > 2) {
            let flag = flag.split('=').next().unwrap();
            assert!(help.contains(flag), "`{line}`: {flag} is in the help");
        }
    }
}

#[test]
fn every_configuration_key_of_the_readme_is_known() {
    let readme = read("README.md");
    let sample = readme.split("```toml").skip(1).map(|rest| rest.split("```").next().unwrap()).filter(|block| block.contains("[proxy]"));
    let sections = ["proxy", "admin", "egress", "resolve", "upstream", "timeouts", "limits", "store", "audit"];
    let mut whole = 0;
    for block in sample {
        let home = Home::new("");
        let block = block.replace("127.0.0.1:8877", "127.0.0.1:0").replace("127.0.0.1:8879", "127.0.0.1:0");
        std::fs::write(home.path().join("keyhatch.toml"), &block).unwrap();
        let said = home.say(&["credential", "list"], "");
        assert_eq!(said.code, 0, "{said:?}\n{block}");
        whole += usize::from(sections.iter().all(|s| block.contains(&format!("[{s}]"))));
    }
    assert_eq!(whole, 1, "the README shows the whole configuration once");
}

#[test]
fn every_provider_file_loads() {
    let home = Home::with_key_file("");
    let mut names = BTreeSet::new();
    for entry in std::fs::read_dir(package_dir().join("policy/providers")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let file: toml::Table = toml::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        let secret = if file["type"].as_str() == Some("basic") { format!("user:{}", fresh_key()) } else { fresh_key() };
        home.ok_with(&["credential", "add", &name], &secret);
        let shown = home.json(&["credential", "show", &name]);
        assert_eq!(shown["type"], serde_json::json!(file["type"].as_str()), "{name}");
        assert_eq!(shown["allowed_domains"].as_array().unwrap().len(), file["allowed_domains"].as_array().unwrap().len(), "{name}");
        names.insert(name);
    }
    for shipped in ["openrouter", "openai", "anthropic", "github"] {
        assert!(names.contains(shipped), "{shipped}");
    }
}

#[test]
fn every_licence_of_the_dependencies_is_on_the_list() {
    let deny: toml::Table = toml::from_str(&read("deny.toml")).unwrap();
    let allowed = deny["licenses"]["allow"].as_array().unwrap().iter().map(|l| l.as_str().unwrap()).collect::<BTreeSet<_>>();
    let output =
        Command::new(env!("CARGO")).args(["metadata", "--format-version", "1", "--offline", "--locked"]).current_dir(package_dir()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    for package in metadata["packages"].as_array().unwrap() {
        let (name, licence) = (&package["name"], package["license"].as_str().unwrap_or_default());
        // SPDX: every part of an AND, one part of an OR. `/` is the old way to say OR.
        let one = |part: &str| allowed.contains(part.trim().trim_matches(['(', ')']).trim());
        let fine = licence.replace('/', " OR ").split(" AND ").all(|part| part.split(" OR ").any(one));
        assert!(fine, "{name}: {licence:?} is not on deny.toml's list");
    }
}

/// The targets are judged with the code that is shipped. Their own lock has libFuzzer beside it, whose licence (NCSA) is not on the
/// list, and need not be: it is linked into nothing that is shipped.
#[test]
fn the_fuzz_targets_are_built_of_the_same_dependencies() {
    let lock = |name: &str| {
        let lock: toml::Table = toml::from_str(&read(name)).unwrap();
        let text = |package: &toml::Value, key: &str| package[key].as_str().unwrap().to_owned();
        lock["package"].as_array().unwrap().iter().map(|p| (text(p, "name"), text(p, "version"))).collect::<BTreeSet<_>>()
    };
    let (ours, theirs) = (lock("Cargo.lock"), lock("fuzz/Cargo.lock"));
    let own = ["keyhatch-fuzz", "libfuzzer-sys", "arbitrary"];
    let other = theirs.difference(&ours).filter(|(name, _)| !own.contains(&name.as_str())).collect::<Vec<_>>();
    let manifest: toml::Table = toml::from_str(&read("Cargo.toml")).unwrap();
    let missing = manifest["dependencies"].as_table().unwrap().keys().filter(|name| !theirs.iter().any(|(n, _)| n == *name)).collect::<Vec<_>>();
    let mend = "cp Cargo.lock fuzz/ && cargo metadata --manifest-path fuzz/Cargo.toml --format-version 1 >/dev/null";
    assert!(other.is_empty() && missing.is_empty(), "fuzz/Cargo.lock has {other:?} and lacks {missing:?}: `{mend}`");
}

#[test]
fn the_papers_of_the_house_are_there() {
    for (name, word) in [
        ("README.md", "keyhatch run"),
        ("ARCHITECTURE.md", "ring"),
        ("SECURITY.md", "boundary"),
        ("CHANGELOG.md", "### Added"),
        ("LICENSE-APACHE", "Apache License"),
        ("LICENSE-MIT", "Permission is hereby granted"),
        (".ci/run", "tests/run"),
        ("deploy/vault/README.md", "vault kv put secret/openrouter"),
        ("deploy/vault/keyhatch-policy.hcl", "secret/data/openrouter"),
        ("deploy/vault/keyhatch-discover-policy.hcl", "secret/data/keyhatch/+"),
    ] {
        assert!(read(name).contains(word), "{name} has {word:?}");
    }
    for script in SCRIPTS {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = std::fs::metadata(package_dir().join(script)).unwrap().permissions().mode();
        assert!(mode & 0o111 != 0, "{script} can be run");
        // Read by the shell that its first line names.
        let shell = read(script).lines().next().unwrap().rsplit(['/', ' ']).next().unwrap().to_owned();
        assert!(Command::new(shell).arg("-n").arg(package_dir().join(script)).status().unwrap().success(), "{script}");
    }
}

#[test]
fn shellcheck_has_nothing_to_say_of_the_scripts() {
    let Some(shellcheck) = Some(target_dir().join("venv/bin/shellcheck")).filter(|p| p.exists()).or_else(|| found("shellcheck")) else {
        return skip("shellcheck_has_nothing_to_say_of_the_scripts", "no shellcheck on this machine");
    };
    let output = Command::new(shellcheck).args(SCRIPTS).current_dir(package_dir()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn what_the_papers_link_to_is_there() {
    for paper in ["README.md", "CONTRIBUTING.md", "deploy/vault/README.md"] {
        let text = read(paper);
        let links = text.split("](").skip(1).map(|rest| rest.split([')', '#']).next().unwrap());
        let files = links.filter(|link| !link.is_empty() && !link.contains(':')).collect::<Vec<_>>();
        assert!(!files.is_empty(), "{paper} links to files");
        for file in files {
            assert!(package_dir().join(paper).parent().unwrap().join(file).exists(), "{paper} links to {file}");
        }
    }
}

#[test]
fn every_dependency_says_what_it_is_for() {
    let manifest = read("Cargo.toml");
    let mut inside = false;
    for line in manifest.lines() {
        if line.starts_with('[') {
            inside = line.contains("dependencies]");
        } else if inside && line.contains('=') && !line.starts_with('#') {
            assert!(line.contains(" # "), "{line}");
        }
    }
}

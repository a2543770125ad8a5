//! `policy/vectors/*.toml`: request -> expected decision, asked of the real binary by `policy explain --json`.

use std::collections::BTreeSet;

use crate::support::{Home, fresh_key, package_dir};

/// A file of vectors: one home, many requests.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    configuration: String,
    #[serde(default)]
    credentials: Vec<Credential>,
    #[serde(default)]
    agents: Vec<String>,
    vector: Vec<Vector>,
}

/// A `credential add`: its name and further arguments.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Credential {
    name: String,
    #[serde(default)]
    args: Vec<String>,
    #[serde(default)]
    disabled: bool,
}

/// A request, and what must become of it. What is left out is not asked about; `credential = ""` means none.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Vector {
    /// `METHOD URL`
    request: String,
    agent: Option<String>,
    decision: String,
    credential: Option<String>,
    pattern: Option<String>,
    reason: Option<String>,
}

fn run(name: &str) {
    let path = package_dir().join("policy/vectors").join(format!("{name}.toml"));
    let file: File = toml::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let home = Home::with_key_file(&file.configuration);
    for agent in &file.agents {
        home.ok(&["agent", "add", agent]);
    }
    for credential in &file.credentials {
        let args = ["credential", "add", &credential.name].into_iter().chain(credential.args.iter().map(String::as_str)).collect::<Vec<_>>();
        home.ok_with(&args, &fresh_key());
        if credential.disabled {
            home.ok(&["credential", "disable", &credential.name]);
        }
    }
    let mut wrong = Vec::new();
    for vector in &file.vector {
        let (method, url) = vector.request.split_once(' ').unwrap();
        let mut args = vec!["policy", "explain", "--json"];
        if let Some(agent) = &vector.agent {
            args.extend(["--agent", agent]);
        }
        args.extend([method, url]);
        let said = home.say(&args, "");
        let Ok(got) = serde_json::from_str::<serde_json::Value>(&said.stdout) else {
            wrong.push(format!("{}: no JSON: {said:?}", vector.request));
            continue;
        };
        let wanted = [
            ("decision", Some(&vector.decision)),
            ("credential", vector.credential.as_ref()),
            ("pattern", vector.pattern.as_ref()),
            ("reason", vector.reason.as_ref()),
        ];
        for (field, wanted) in wanted.into_iter().filter_map(|(f, w)| Some((f, w?))) {
            if got[field].as_str().unwrap_or_default() != wanted {
                wrong.push(format!("{}: {field} should be {wanted:?}: {got}", vector.request));
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {} vectors of {name}.toml:\n{}", wrong.len(), file.vector.len(), wrong.join("\n"));
}

macro_rules! files {
    ($($name:ident),*) => {
        $(#[test] fn $name() { run(stringify!($name)); })*

        #[test]
        fn every_file_of_vectors_is_run() {
            let run = BTreeSet::from([$(concat!(stringify!($name), ".toml")),*].map(str::to_owned));
            let there = std::fs::read_dir(package_dir().join("policy/vectors")).unwrap();
            let there = there.map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect::<BTreeSet<_>>();
            assert_eq!(run, there);
        }
    };
}

files!(hosts, patterns, paths, openrouter, egress, grants);

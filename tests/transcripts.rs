//! Transcripts: `tests/cmd/*.toml`, one file a topic. The steps of a file run in order in one throw-away home, and what each
//! says is compared to the letter, but for what varies. `TRANSCRIPTS=overwrite` writes what was said into the files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::support::home::said;
use crate::support::{Home, package_dir};

/// One file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Transcript {
    /// What it is about.
    about: String,
    /// How its home begins: "bare", "passphrase" or "key-file".
    home: String,
    step: Vec<Step>,
}

/// One command.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Step {
    /// `keyhatch` and its arguments, split at spaces; `[HOME]` and `[DIR]`, here and below, are the home and the directory it is in.
    run: String,
    #[serde(default)]
    stdin: String,
    #[serde(default)]
    env: BTreeMap<String, String>,
    /// Files to write first, by path.
    #[serde(default)]
    files: BTreeMap<String, String>,
    /// Only so many lines of standard output count (completions, manual pages).
    lines: Option<usize>,
    #[serde(default)]
    code: i32,
    #[serde(default)]
    stdout: String,
    #[serde(default)]
    stderr: String,
}

#[test]
fn transcripts() {
    let overwrite = std::env::var_os("TRANSCRIPTS").is_some_and(|v| v == "overwrite");
    let mut files: Vec<PathBuf> = std::fs::read_dir(package_dir().join("tests/cmd")).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty());
    let runs: Vec<_> = files.into_iter().map(|file| std::thread::spawn(move || play(&file, overwrite))).collect();
    let faults: Vec<String> = runs.into_iter().flat_map(|run| run.join().unwrap()).collect();
    assert!(faults.is_empty(), "{}\nIf that is as it should be: TRANSCRIPTS=overwrite", faults.join("\n"));
}

/// Runs the steps of a file; what was not as expected.
fn play(file: &Path, overwrite: bool) -> Vec<String> {
    let text = std::fs::read_to_string(file).unwrap();
    let mut transcript: Transcript = toml::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    let home = match transcript.home.as_str() {
        "bare" => Home::bare(""),
        "passphrase" => Home::new(""),
        "key-file" => Home::with_key_file(""),
        other => panic!("{}: home = {other:?}", file.display()),
    };
    let mut faults = Vec::new();
    for step in &mut transcript.step {
        let (code, stdout, stderr) = perform(&home, step);
        let place = format!("{}: {}", file.file_name().unwrap().display(), step.run);
        assert!(!format!("{stdout}{stderr}").contains("sk-or-v1-test"), "{place}: a secret in the output");
        if (code, &stdout, &stderr) != (step.code, &step.stdout, &step.stderr) {
            faults.push(format!("{place}\n--- expected ({})\n{}{}--- said ({code})\n{stdout}{stderr}", step.code, step.stdout, step.stderr));
        }
        (step.code, step.stdout, step.stderr) = (code, stdout, stderr);
    }
    if overwrite {
        std::fs::write(file, render(&transcript)).unwrap();
        faults.clear();
    }
    faults
}

/// Runs one step: its exit code and texts, with what varies replaced.
fn perform(home: &Home, step: &Step) -> (i32, String, String) {
    let (inside, outside) = (home.path().display().to_string(), home.outside().display().to_string());
    let fill = |text: &str| text.replace("[HOME]", &inside).replace("[DIR]", &outside);
    for (path, content) in &step.files {
        std::fs::write(fill(path), fill(content)).unwrap();
    }
    let line = fill(step.run.strip_prefix("keyhatch").expect("a step runs keyhatch"));
    let mut command = home.command(&line.split_whitespace().collect::<Vec<_>>());
    command.envs(step.env.iter().map(|(name, value)| (name, fill(value)))).current_dir(&outside);
    let out = said(command, fill(&step.stdin).as_bytes());
    let plain = |text: &str| settled(&text.replace(&inside, "[HOME]").replace(&outside, "[DIR]"));
    let stdout = match step.lines {
        Some(lines) => out.stdout.lines().take(lines).map(|l| format!("{l}\n")).collect(),
        None => out.stdout,
    };
    (out.code, plain(&stdout), plain(&out.stderr))
}

/// The text with certificates, times, tokens, fingerprints and ports replaced by their names.
fn settled(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while !rest.is_empty() {
        if rest.starts_with("-----BEGIN CERTIFICATE") {
            let end = rest.find("-----END CERTIFICATE-----\n").map_or(rest.len(), |at| at + 26);
            out.push_str("[PEM]\n");
            rest = &rest[end..];
            continue;
        }
        let word = rest.find(|c: char| !c.is_ascii_alphanumeric() && !"_-:.".contains(c)).unwrap_or(rest.len());
        if word == 0 {
            let next = rest.chars().next().map_or(1, char::len_utf8);
            out.push_str(&rest[..next]);
            rest = &rest[next..];
            continue;
        }
        out.push_str(&named(&rest[..word]));
        rest = &rest[word..];
    }
    out
}

/// What stands for one word.
fn named(word: &str) -> String {
    let bare = word.trim_end_matches(['.', ':']);
    let tail = &word[bare.len()..];
    let hex = |length: usize| bare.len() == length && bare.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    let time = bare.len() >= 20 && bare.ends_with('Z') && bare.as_bytes()[10] == b'T' && bare[..4].bytes().all(|b| b.is_ascii_digit());
    if let Some((before, _)) = bare.split_once(".replaced-") {
        return format!("{before}.replaced-[TIME]{tail}");
    }
    let name = match bare {
        _ if bare.starts_with("kha_") && bare.len() == 47 => "[TOKEN]",
        _ if time => "[TIME]",
        _ if hex(8) => "[FPR]",
        _ if hex(64) => "[MAC]",
        _ if bare.starts_with("127.0.0.1:") && bare != "127.0.0.1:8877" => "127.0.0.1:[PORT]",
        _ => bare,
    };
    format!("{name}{tail}")
}

/// The file anew.
fn render(transcript: &Transcript) -> String {
    let mut out = format!("about = {}\nhome = {}\n", quoted(&transcript.about), quoted(&transcript.home));
    for step in &transcript.step {
        out.push_str(&format!("\n[[step]]\nrun = {}\n", quoted(&step.run)));
        if !step.stdin.is_empty() {
            out.push_str(&format!("stdin = {}\n", quoted(&step.stdin)));
        }
        for (table, entries) in [("env", &step.env), ("files", &step.files)] {
            for (name, value) in entries {
                out.push_str(&format!("{table}.{} = {}\n", quoted(name), quoted(value)));
            }
        }
        if let Some(lines) = step.lines {
            out.push_str(&format!("lines = {lines}\n"));
        }
        out.push_str(&format!("code = {}\n", step.code));
        for (name, text) in [("stdout", &step.stdout), ("stderr", &step.stderr)] {
            if !text.is_empty() {
                out.push_str(&format!("{name} = {}\n", quoted(text)));
            }
        }
    }
    out
}

/// A TOML string: over several lines where the text is.
fn quoted(text: &str) -> String {
    match text.contains('\n') && !text.contains("'''") && !text.ends_with('\'') {
        true => format!("'''\n{text}'''"),
        false => toml::Value::String(text.to_owned()).to_string(),
    }
}

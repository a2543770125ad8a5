//! The fuzz targets in the ordinary test run: each of its kept inputs, then a few seconds of changed ones.
//!
//! libFuzzer, which sees what a change reaches, is for longer runs: `fuzz/run`. What it found is in the corpus, and this only
//! looks round there. See CONTRIBUTING.md.

#[path = "../../fuzz/targets/mod.rs"]
mod targets;

mod mutator;

use std::collections::BTreeSet;
use std::hash::BuildHasher as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::support::{package_dir, target_dir};
use mutator::Mutator;
use targets::TARGETS;

/// How long a target is given, in seconds, where not the default.
const SECONDS: &str = "KEYHATCH_FUZZ_SECONDS";
/// Repeats the run of a failure.
const SEED: &str = "KEYHATCH_FUZZ_SEED";
const DEFAULT_SECONDS: u64 = 2;
/// No one input may take longer; a machine with nothing to spare has to be allowed for.
const LONGEST: Duration = Duration::from_secs(10);

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

fn run(name: &str) {
    let (_, target) = TARGETS.into_iter().find(|(n, _)| *n == name).unwrap();
    let corpus = corpus(name);
    assert!(!corpus.is_empty(), "fuzz/corpus/{name} has inputs");
    for (path, input) in &corpus {
        attempt(name, target, input, &path.display().to_string());
    }
    let seed = number(SEED).unwrap_or_else(|| std::collections::hash_map::RandomState::new().hash_one(name));
    let mut mutator = Mutator::new(seed, corpus.into_iter().map(|(_, input)| input).collect(), words(name));
    let until = Instant::now() + Duration::from_secs(number(SECONDS).unwrap_or(DEFAULT_SECONDS));
    let mut runs = 0_u64;
    while Instant::now() < until {
        let input = mutator.next();
        attempt(name, target, &input, &format!("run {runs} of {SEED}={seed}"));
        runs += 1;
    }
    println!("{name}: {runs} inputs, {SEED}={seed}");
}

/// Runs one input; one that fails is kept in a file that the message names.
fn attempt(name: &str, target: targets::Target, input: &[u8], what: &str) {
    let began = Instant::now();
    let outcome = catch_unwind(AssertUnwindSafe(|| target(input)));
    let slow = began.elapsed() > LONGEST;
    if outcome.is_ok() && !slow {
        return;
    }
    let path = target_dir().join(format!("fuzz-{name}-failed"));
    std::fs::write(&path, input).unwrap();
    let how = if slow { format!("takes {:?}", began.elapsed()) } else { "fails".to_owned() };
    panic!(
        "{what} {how}; its input is in {0}: see it again with `fuzz/run {name} {0}`, and keep it in fuzz/corpus/{name} once it is mended",
        path.display()
    );
}

/// The kept inputs, by name.
fn corpus(name: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let dir = package_dir().join("fuzz/corpus").join(name);
    let mut files: Vec<PathBuf> = std::fs::read_dir(&dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display())).map(|e| e.unwrap().path()).collect();
    files.sort();
    files.into_iter().map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
}

/// The words of the target's dictionary, where it has one: libFuzzer's form, `"word"` a line, with `\xNN`, `\"` and `\\`.
fn words(name: &str) -> Vec<Vec<u8>> {
    let text = std::fs::read_to_string(package_dir().join(format!("fuzz/dictionaries/{name}.dict"))).unwrap_or_default();
    let quoted = text.lines().filter(|l| !l.starts_with('#')).filter_map(|l| l.trim().strip_prefix('"')?.strip_suffix('"'));
    quoted.map(unescaped).collect()
}

fn unescaped(text: &str) -> Vec<u8> {
    let (mut out, mut rest) = (Vec::new(), text.as_bytes());
    while let Some((&byte, after)) = rest.split_first() {
        let hex = || u8::from_str_radix(std::str::from_utf8(after.get(1..3)?).ok()?, 16).ok();
        (out, rest) = match (byte, after.first()) {
            (b'\\', Some(b'x')) => ([out, vec![hex().unwrap()]].concat(), &after[3..]),
            (b'\\', Some(&quoted)) => ([out, vec![quoted]].concat(), &after[1..]),
            _ => ([out, vec![byte]].concat(), after),
        };
    }
    out
}

macro_rules! fuzzed {
    ($($name:ident),+ $(,)?) => {
        $(#[test] fn $name() { run(stringify!($name)); })+

        #[test]
        fn every_target_is_run() {
            let named = |dir: &str| {
                let entries = std::fs::read_dir(package_dir().join("fuzz").join(dir)).unwrap();
                entries.map(|e| Path::new(&e.unwrap().file_name()).file_stem().unwrap().to_string_lossy().into_owned()).collect::<BTreeSet<_>>()
            };
            let run = BTreeSet::from([$(stringify!($name).to_owned()),+]);
            assert_eq!(run, TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect());
            assert_eq!(run, named("fuzz_targets"), "each has a binary");
            assert_eq!(run, named("corpus"), "each has a corpus");
            assert!(named("dictionaries").is_subset(&run));
        }
    };
}

fuzzed!(
    admin,
    audit_log,
    authority,
    compressed,
    configuration,
    connect_preface,
    database,
    envelope,
    fields,
    path_rules,
    pattern,
    proxy_authorization,
    record,
    request_head,
    scrub,
    sse,
    vault_answer,
);

#[test]
fn the_corpus_is_small() {
    for (name, _) in TARGETS {
        let corpus = corpus(name);
        let bytes = corpus.iter().map(|(_, input)| input.len()).sum::<usize>();
        assert!(corpus.len() <= 300 && bytes <= 200_000, "fuzz/corpus/{name}: {} files, {bytes} bytes; `fuzz/run --minimise {name}`", corpus.len());
    }
}
